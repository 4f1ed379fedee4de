//! What comes to a node of a mesh: see [`bodies::gossip_packet`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::gossip_packet::run(data));
