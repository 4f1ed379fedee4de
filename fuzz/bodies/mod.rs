//! What is fuzzed, and what must hold of it: one body for each target, from the bytes of one input to a panic or none.
//!
//! They run twice: guided by coverage in `fuzz/fuzz_targets/`, and as ordinary tests in `tests/fuzz.rs`, over the stored
//! corpus and inputs mutated from it. Both include these files; neither has a check of its own.
//!
//! Invariant: a body is a pure function of its input, so that an input is all that a finding needs.

pub mod frame_decoder;
pub mod gossip_packet;
pub mod http_request;
pub mod input;
pub mod log_recovery;
pub mod snapshot_stream;
