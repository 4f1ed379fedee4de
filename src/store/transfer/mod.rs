//! How the state of a store travels: out of one map in chunks, and into another.
//!
//! ```text
//!   Store --> Source --> chunk 0 (header), 1, 2, ... --> Target --> Store, in a map beside the old one
//! ```
//!
//! Snapshots for nodes that are far behind go this way, and so do backups. Pure: [`Source`] and [`Target`] know nothing of
//! where the chunks go. [`Transfers`] is what a thread runs of both, for a node. [`mod@file`] is how a backup lies on disk, and
//! [`Restore`] makes a store of one, with a history of its own.
//!
//! What it promises:
//! - **All or nothing.** A store comes out at the end only if it is, row by row, what went in.
//! - **Nothing else is disturbed.** A snapshot that is refused leaves the state that the node has as it was, and is removed.
//! - **It can be resumed.** A chunk is the same however often it is read.

#![forbid(unsafe_code)]

mod audit;
mod chunk;
pub mod file;
mod inspect;
mod jobs;
mod restore;
mod source;
mod target;
#[cfg(test)]
mod tests;

pub use chunk::{Refused, TRANSFER_FORMAT};
pub use inspect::{Inspection, check_header};
pub use jobs::{Incoming, Job, News, Outgoing, Transfers};
pub use restore::Restore;
pub use source::Source;
pub use target::{Failure, Target};

use bytes::Bytes;

use super::Store;
use super::digest;
use super::map::{Map, Snapshot};
use super::meta::{self, Meta};
use super::remembered::FLOOR;
use crate::error::Result;
use crate::limits::APPLY_VERSION;
use crate::wire::log::Membership;
use crate::wire::snapshot::Header;

/// What a map holds durably, with the header and the membership as of then.
pub struct Durable<S: Snapshot> {
    /// To be read.
    pub snapshot: S,
    /// What it is.
    pub header: Header,
    /// `None` before the first.
    pub membership: Option<Membership>,
}

impl<M: Map> Store<M> {
    /// Opens what the map holds durably, for a transfer. Costs a few lookups.
    pub fn durable_snapshot(&self, cluster_id: &Bytes) -> Result<Durable<M::Snapshot>> {
        let snapshot = self.map.snapshot()?;
        let meta = Meta::load(&snapshot)?;
        let floor = meta::read_number(&snapshot, FLOOR)?.unwrap_or(0);
        let digest = digest::digest(&meta, floor);
        let header = Header {
            format: TRANSFER_FORMAT,
            apply: APPLY_VERSION,
            cluster_id: cluster_id.clone(),
            index: meta.applied.index,
            term: meta.applied.term,
            revision: meta.revision,
            time_ms: meta.time_ms,
            keys: meta.keys,
            logical_bytes: meta.logical_bytes,
            digest: Bytes::copy_from_slice(&digest),
        };
        let membership = meta.membership.map(|membership| Membership::clone(&membership));
        Ok(Durable { snapshot, header, membership })
    }

    /// Goes through a snapshot that was refused, or goes on with that.
    pub fn audit(&self, id: u64) -> Job<M> {
        Job::Audit(id, self.window.bounds())
    }

    /// Where a snapshot is to be built that may take this store's place: beside its map.
    pub fn incoming(&self, state: u64) -> Incoming<M> {
        Incoming { beside: self.map.clone(), state, bounds: self.window.bounds() }
    }

    /// Removes the map, and all that it holds. Blocks.
    pub fn remove(self) -> Result<()> {
        // Its own snapshot would keep the map open.
        let Store { map, snapshot, .. } = self;
        drop(snapshot);
        map.remove()
    }
}
