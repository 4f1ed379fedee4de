//! The write buffer: changes that were applied and are not yet in the map, and the view over both.
//!
//! Layers of an LSM kind. One is active and takes the changes; older ones are sealed, immutable and
//! shared, oldest first. The newest layer that knows a key decides, the map is asked last.
//!
//! Invariants:
//! - A sealed layer never changes: scans and commits read it on other threads.
//! - A layer is dropped only when the map has durably taken it. Until then it stands before the
//!   map, so it does not matter whether a snapshot was taken before or after that commit.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque, btree_map};
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::map::{KeyRange, Snapshot, Table};
use super::record::{Record, RecordRef};
use super::remembered::Remembered;
use crate::error::Result;

/// Keys and what became of them: a record, or `None` for deleted.
pub(super) type Changes = BTreeMap<Bytes, Option<Record>>;

/// What one entry costs in memory beside its bytes, roughly: map node, record, reference counts.
const ENTRY_OVERHEAD: usize = 128;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub changes: Changes,
    /// In index order.
    pub remembered: Vec<Remembered>,
    len_bytes: usize,
}

impl Layer {
    /// Takes the changes of one write. Values and keys are slices of the frame that brought them and keep it
    /// alive, so the write counts with its whole length, also where it overwrites what the layer had.
    pub fn take(&mut self, changes: Changes, write_len: usize) {
        if changes.is_empty() {
            return;
        }
        self.len_bytes += write_len;
        for (key, change) in changes {
            self.len_bytes += key.len() + ENTRY_OVERHEAD;
            self.changes.insert(key, change);
        }
    }

    /// Takes the outcome of one write.
    pub fn remember(&mut self, remembered: Remembered) {
        self.len_bytes += remembered.outcome.len() + ENTRY_OVERHEAD;
        self.remembered.push(remembered);
    }

    /// Bytes of memory that the layer takes, roughly.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.remembered.is_empty()
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub active: Layer,
    sealed: VecDeque<Arc<Layer>>,
    sealed_len_bytes: usize,
}

impl Layers {
    /// Makes the active layer immutable, and begins a new one. An empty one stays.
    pub fn seal(&mut self) {
        if !self.active.is_empty() {
            let layer = std::mem::take(&mut self.active);
            self.sealed_len_bytes += layer.len_bytes;
            self.sealed.push_back(Arc::new(layer));
        }
    }

    /// The sealed layers, oldest first.
    pub fn sealed(&self) -> Vec<Arc<Layer>> {
        self.sealed.iter().cloned().collect()
    }

    pub fn sealed_count(&self) -> usize {
        self.sealed.len()
    }

    /// Takes out the oldest `count` sealed layers, which the map holds now.
    pub fn retire(&mut self, count: usize) -> Vec<Arc<Layer>> {
        assert!(count <= self.sealed.len(), "layers are retired that were never sealed");
        let retired: Vec<_> = self.sealed.drain(..count).collect();
        self.sealed_len_bytes -= retired.iter().map(|layer| layer.len_bytes).sum::<usize>();
        retired
    }

    pub fn len_bytes(&self) -> usize {
        self.active.len_bytes + self.sealed_len_bytes
    }

    /// What the buffer knows of a key; `None` if it knows nothing and the map is to be asked.
    pub fn get(&self, key: &[u8]) -> Option<&Option<Record>> {
        self.newest_first().find_map(|changes| changes.get(key))
    }

    /// The changes of all layers, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Changes> {
        let sealed = self.sealed.iter().rev().map(|layer| &layer.changes);
        std::iter::once(&self.active.changes).chain(sealed)
    }
}

/// Walks several layers at once, in key order: each key once, with what the newest of them says.
pub(super) struct Overlay<'a> {
    /// Newest first.
    layers: Vec<Peekable<btree_map::Range<'a, Bytes, Option<Record>>>>,
}

impl<'a> Overlay<'a> {
    /// `newest_first` are the layers in that order.
    pub fn new(
        newest_first: impl IntoIterator<Item = &'a Changes>,
        range: KeyRange<'_>,
    ) -> Overlay<'a> {
        if range.is_empty() {
            return Overlay { layers: Vec::new() };
        }
        let of_range = |changes: &'a Changes| changes.range::<[u8], _>(range.bounds()).peekable();
        Overlay { layers: newest_first.into_iter().map(of_range).collect() }
    }
}

impl<'a> Iterator for Overlay<'a> {
    type Item = (&'a Bytes, &'a Option<Record>);

    fn next(&mut self) -> Option<Self::Item> {
        let smallest =
            self.layers.iter_mut().filter_map(|l| l.peek().map(|(key, _)| *key)).min()?;
        let mut newest = None;
        for layer in &mut self.layers {
            if let Some(entry) = layer.next_if(|(key, _)| *key == smallest) {
                newest.get_or_insert(entry);
            }
        }
        newest
    }
}

/// Visits the live records of a range in key order, as an overlay over a map shows them, until the
/// visitor breaks.
pub(super) fn scan_merged<S: Snapshot>(
    overlay: Overlay<'_>,
    snapshot: &S,
    range: KeyRange<'_>,
    mut visit: impl FnMut(&[u8], RecordRef<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let mut overlay = overlay.peekable();
    let mut flow = ControlFlow::Continue(());
    snapshot.scan(Table::Data, range, |key, bytes| {
        // What only the overlay has, up to this key.
        while let Some((key, change)) = overlay.next_if(|(overlaid, _)| overlaid[..] < *key) {
            if let Some(record) = change {
                flow = visit(key, record.as_ref());
            }
            if flow.is_break() {
                return Ok(flow);
            }
        }
        flow = match overlay.next_if(|(overlaid, _)| overlaid[..] == *key) {
            Some((_, Some(record))) => visit(key, record.as_ref()),
            Some((_, None)) => ControlFlow::Continue(()),
            None => visit(key, RecordRef::decode(bytes)?),
        };
        Ok(flow)
    })?;
    if flow.is_continue() {
        for (key, change) in overlay {
            if let Some(record) = change
                && visit(key, record.as_ref()).is_break()
            {
                break;
            }
        }
    }
    Ok(())
}
