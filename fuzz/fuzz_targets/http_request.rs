//! Bytes of an HTTP connection: see [`bodies::http_request`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::http_request::run(data));
