//! The chunks of a snapshot: see [`bodies::snapshot_stream`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::snapshot_stream::run(data));
