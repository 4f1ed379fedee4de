//! The bytes on a log's disk: see [`bodies::log_recovery`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::log_recovery::run(data));
