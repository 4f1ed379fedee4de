//! Phalanx: a strongly consistent, replicated key-value store.

pub mod error;
pub mod limits;
pub mod store;
pub mod wire;
