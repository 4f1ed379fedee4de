//! Phalanx: a strongly consistent, replicated key-value store.

pub mod config;
pub mod error;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod replica;
pub mod wire;
pub mod log;
