//! Phalanx: a strongly consistent, replicated key-value store.

pub mod cli;
pub mod client;
pub mod config;
pub mod error;
pub mod gossip;
pub mod http;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod node;
pub mod replica;
pub mod shell;
pub mod store;
pub mod wire;
