//! Phalanx: a strongly consistent, replicated key-value store.

pub mod cli;
pub mod client;
pub mod error;
pub mod limits;
pub mod wire;
