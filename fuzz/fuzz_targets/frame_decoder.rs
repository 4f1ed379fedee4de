//! Bytes of a connection: see [`bodies::frame_decoder`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::frame_decoder::run(data));
