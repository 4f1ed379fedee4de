//! Bytes to frames to typed messages, and back. Pure and incremental: no socket, no clock, no state beyond a
//! connection's own buffer.
//!
//! - [`client`], [`peer`], [`log`], [`gossip`], [`snapshot`]: the types, generated from `proto/` (whose comments are the reference).
//! - [`frame`]: the length prefix, and the incremental decoder that every connection feeds.
//! - [`validate`]: what is checked of a request before anything else sees it.

#![forbid(unsafe_code)]

pub mod frame;
pub mod validate;

#[allow(clippy::large_enum_variant)]
/// The client protocol: `proto/client.proto`.
#[allow(missing_docs)]
pub mod client {
    include!(concat!(env!("OUT_DIR"), "/phalanx.client.rs"));
}

/// The protocol between nodes: `proto/peer.proto`.
#[allow(missing_docs)]
pub mod peer {
    include!(concat!(env!("OUT_DIR"), "/phalanx.peer.rs"));
}

/// What is on disk: `proto/log.proto`.
#[allow(missing_docs)]
pub mod log {
    include!(concat!(env!("OUT_DIR"), "/phalanx.log.rs"));
}

/// The packets of the mesh: `proto/gossip.proto`.
#[allow(missing_docs)]
pub mod gossip {
    include!(concat!(env!("OUT_DIR"), "/phalanx.gossip.rs"));
}

/// The state of a store, as it travels and is backed up: `proto/snapshot.proto`.
#[allow(missing_docs)]
pub mod snapshot {
    include!(concat!(env!("OUT_DIR"), "/phalanx.snapshot.rs"));
}

/// The protocol version that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
