//! The tail of the raft log in memory, as raft-rs reads it.
//!
//! Invariants:
//! - Entries are contiguous: `entries[i]` has index `base.index + 1 + i`, and the term of `base` is known.
//! - What is here is in the write-ahead log, or is about to be: raft-rs is told that an entry counts only when the log's
//!   write returned ([`super::Replica::persisted`]).
//! - The snapshot that raft-rs may count on is one that followers can go on from: not before `base`.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::wire::log::EntryId;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Entries {
    /// State as of the start; raft-rs reads it once.
    initial: RaftState,
    /// The last entry before those that are kept.
    base: EntryId,
    entries: VecDeque<Entry>,
    len_bytes: usize,
    /// What a snapshot that is made now would be of.
    snapshot: Option<SnapshotMetadata>,
    /// Whether one can be made now.
    pub(super) may_offer: bool,
}

impl Entries {
    /// The state of a node that starts, with the entries after `base`.
    pub(super) fn new(
        hard_state: HardState,
        conf_state: ConfState,
        base: EntryId,
        entries: Vec<Entry>,
    ) -> Entries {
        let mut tail = Entries {
            initial: RaftState::new(hard_state, conf_state),
            base,
            entries: VecDeque::new(),
            len_bytes: 0,
            snapshot: None,
            may_offer: false,
        };
        tail.append(entries);
        tail
    }

    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    pub(super) fn last_index(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Adds entries; those at indexes that exist replace them and all after them.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.base.index, "entry {} is before the log's first", first.index);
        assert!(first.index <= self.last_index() + 1, "a gap before entry {}", first.index);
        let kept = (first.index - self.base.index - 1) as usize;
        self.len_bytes -= self.entries.drain(kept..).map(|entry| len_bytes(&entry)).sum::<usize>();
        self.len_bytes += entries.iter().map(len_bytes).sum::<usize>();
        self.entries.extend(entries);
    }

    /// Drops entries from the front, up to `index` at most, until so many are left and so many bytes.
    pub(super) fn compact(&mut self, index: u64, count_max: usize, len_bytes_max: usize) {
        while (self.entries.len() > count_max || self.len_bytes > len_bytes_max)
            && let Some(entry) = self.entries.front()
            && entry.index <= index
        {
            self.len_bytes -= len_bytes(entry);
            self.base = EntryId { index: entry.index, term: entry.term };
            self.entries.pop_front();
        }
    }

    /// Drops all entries: a snapshot as of `base` is in their place.
    pub(super) fn reset(&mut self, base: EntryId) {
        *self = Entries {
            initial: std::mem::take(&mut self.initial),
            base,
            entries: VecDeque::new(),
            len_bytes: 0,
            snapshot: None,
            may_offer: self.may_offer,
        };
    }

    /// From now on, a snapshot would be of this.
    pub(super) fn set_snapshot(&mut self, snapshot: SnapshotMetadata) {
        assert!(snapshot.index >= self.base.index, "nobody could go on from such a snapshot");
        self.snapshot = Some(snapshot);
    }

    /// The term of the entry, if that is known.
    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let offset = index.checked_sub(self.base.index + 1)?;
        self.entries.get(offset as usize).map(|entry| entry.term)
    }
}

/// What counts of an entry.
fn len_bytes(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len()
}

impl Storage for Entries {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let first = self.base.index + 1;
        if low < first {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last_index() + 1, "raft asks for entries up to {high}, past the end");
        let range = (low - first) as usize..(high - first) as usize;
        let max_len = max_size.into().unwrap_or(u64::MAX);
        let mut len = 0;
        let mut found = Vec::with_capacity(range.len().min(64));
        for entry in self.entries.range(range) {
            len += len_bytes(entry) as u64;
            if len > max_len && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.term_of(index).ok_or(Error::Store(match index < self.base.index {
            true => StorageError::Compacted,
            false => StorageError::Unavailable,
        }))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index())
    }

    /// The place of the snapshot that `to` would get. A receiver that is no member as of then could not use it.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let is_member = |conf_state: &ConfState| {
            let ConfState { voters, learners, voters_outgoing, .. } = conf_state;
            [voters, learners, voters_outgoing].into_iter().any(|ids| ids.contains(&to))
        };
        let usable = self.snapshot.as_ref().filter(|metadata| {
            self.may_offer
                && metadata.index >= request_index
                && is_member(metadata.get_conf_state())
        });
        let metadata = usable.ok_or(Error::Store(StorageError::SnapshotTemporarilyUnavailable))?;
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(metadata.clone());
        Ok(snapshot)
    }
}
