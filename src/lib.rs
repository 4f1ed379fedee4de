//! Phalanx: a strongly consistent, replicated key-value store.

pub mod error;
pub mod limits;
pub mod log;
pub mod wire;
