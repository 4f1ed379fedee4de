//! Phalanx: a strongly consistent, replicated key-value store.
//!
//! To use a cluster from Rust, see [`client`]. What follows is for those who work on the server.
//!
//! ```text
//!      client's frame        peer's frame
//!            |                    |
//!            v                    v
//!   shell:  bytes in  --------> wire: frames, types, checks at the door
//!     ^                           |
//!     |                           v
//!     |     Effects <--- node: requests, deadlines, the order between the rooms below
//!     |                    |           |            |
//!     |                    v           v            v
//!     |                 replica       log         store
//!     |                (consensus)  (durable)  (state machine)
//!     |                                             |
//!     +---- frames, one write to the log,           v
//!           commits and range reads on threads     LMDB
//! ```
//!
//! In the order in which a write meets them:
//!
//! - [`config`]: flags and environment to settings that are valid.
//! - [`shell`]: sockets, disk, threads and clock: the only room that knows the reactor.
//! - [`wire`]: bytes to frames to typed messages, and back.
//! - [`node`]: the rooms below joined, and the requests that pass through them.
//! - [`replica`] agrees on the order of writes: consensus.
//! - [`log`]: the write-ahead log.
//! - [`store`]: the state machine, and LMDB under it.
//! - [`gossip`]: who is there, who has died, how far away each is.
//! - [`http`], [`metrics`]: what a node tells of itself.
//! - [`limits`], [`error`]: every bound, and the one error type.
//! - [`sim`]: whole nodes in a seeded world, what must hold of them, and the judges of what clients saw. [`planted`]: bugs
//!   for it to find.
//! - [`client`], [`cli`]: the other end: the client library, and the command line over it.
//!
//! ARCHITECTURE.md has the way of a write file by file, the invariants, and what was chosen against what.

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
pub mod planted;
pub mod replica;
pub mod shell;
pub mod sim;
pub mod store;
pub mod wire;
