//! The commit pipeline: what a store thread does with the write buffer.
//!
//! One commit is one transaction of the map: the newest change of each key, the remembered
//! requests, and the meta data as of the last of them. So the map always shows the state as of one
//! index of the log, and says which.

#![forbid(unsafe_code)]

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::layers::{Layer, Overlay};
use super::map::{Batch, KeyRange, Map, Snapshot, Table};
use super::meta::{Applied, Meta};
use super::remembered::Remembered;
use crate::error::Result;
use crate::planted::{Bug, planted};
use crate::wire::log::Membership;

/// Changes on their way to the map. A commit that fails stops the node: it is never retried.
pub struct Commit<M: Map> {
    pub(super) map: M,
    /// Oldest first.
    pub(super) layers: Vec<Arc<Layer>>,
    pub(super) meta: Meta,
    pub(super) remembered_floor: u64,
}

/// The receipt of a [`Commit`] that is durable.
#[derive(Debug)]
#[must_use = "the store keeps the changes in memory until it is told"]
pub struct Committed {
    pub(super) applied: Applied,
    pub(super) membership: Option<Arc<Membership>>,
    pub(super) layers: usize,
}

/// Layers that nobody needs any more. To drop them is to free as many allocations as they had changes: best
/// done on a store thread.
#[derive(Debug)]
#[must_use = "drop it on a store thread, not on the reactor"]
pub struct Retired {
    pub(super) _layers: Vec<Arc<Layer>>,
}

impl<M: Map> fmt::Debug for Commit<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commit(up to {})", self.meta.applied.index)
    }
}

impl<M: Map> Commit<M> {
    /// How far the log is applied in what this commits.
    pub fn applied(&self) -> Applied {
        self.meta.applied
    }

    /// Makes sure that the disk has the room that this commit may take. False if it has not: nothing is changed, and the
    /// commit may be tried later. Blocks.
    pub fn reserve(&self) -> Result<bool> {
        let changes: usize =
            self.layers.iter().map(|layer| layer.changes.len() + layer.remembered.len()).sum();
        let len_bytes: usize = self.layers.iter().map(|layer| layer.len_bytes()).sum();
        self.map.reserve(changes, len_bytes)
    }

    /// Commits. Blocks, so it runs on a store thread; one at a time.
    pub fn run(self) -> Result<Committed> {
        let mut batch = Batch::default();
        self.add_data(&mut batch);
        self.add_remembered(&mut batch)?;
        self.meta.write(self.remembered_floor, &mut batch);
        self.map.commit(&batch)?;
        Ok(Committed {
            applied: self.meta.applied,
            membership: self.meta.membership,
            layers: self.layers.len(),
        })
    }

    fn add_data(&self, batch: &mut Batch) {
        let newest_first = self.layers.iter().rev().map(|layer| &layer.changes);
        for (key, change) in Overlay::new(newest_first, KeyRange::ALL) {
            match change {
                Some(record) => batch.put(Table::Data, key.clone(), record.as_ref().encode()),
                None => batch.delete(Table::Data, key.clone()),
            }
        }
    }

    /// Deletes what the window evicted since the last commit, and adds what it took and still has.
    fn add_remembered(&self, batch: &mut Batch) -> Result<()> {
        if planted(Bug::ForgetRemembered) {
            return Ok(());
        }
        let above_floor = Remembered::key(self.remembered_floor + 1);
        let evicted = KeyRange { from: &[], to: &above_floor };
        self.map.snapshot()?.scan(Table::Remembered, evicted, |key, _| {
            batch.delete(Table::Remembered, key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        for entry in self.layers.iter().flat_map(|layer| &layer.remembered) {
            if entry.index > self.remembered_floor {
                batch.put(Table::Remembered, Remembered::key(entry.index), entry.encode());
            }
        }
        Ok(())
    }
}
