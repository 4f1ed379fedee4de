//! The tail of the raft log in memory, as raft-rs reads it.
//!
//! Invariants:
//! - Entries are contiguous: `entries[i]` has index `first_index + i`.
//! - What is here is in the write-ahead log, or is about to be: raft-rs is told that an entry counts only when the log's
//!   write returned ([`super::Replica::persisted`]).

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Entries {
    /// State as of the start; raft-rs reads it once.
    initial: RaftState,
    first_index: u64,
    entries: std::collections::VecDeque<Entry>,
}

impl Entries {
    /// The state of a node that starts: `entries` begin at index 1.
    pub(super) fn new(
        hard_state: HardState,
        conf_state: ConfState,
        entries: Vec<Entry>,
    ) -> Entries {
        let mut tail = Entries {
            initial: RaftState::new(hard_state, conf_state),
            first_index: 1,
            entries: Default::default(),
        };
        tail.append(entries);
        tail
    }

    pub(super) fn first_index(&self) -> u64 {
        self.first_index
    }

    pub(super) fn last_index(&self) -> u64 {
        self.first_index + self.entries.len() as u64 - 1
    }

    /// Adds entries; those at indexes that exist replace them and all after them.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(first.index >= self.first_index, "an entry before the log's first");
        assert!(first.index <= self.last_index() + 1, "a gap before entry {}", first.index);
        self.entries.truncate((first.index - self.first_index) as usize);
        self.entries.extend(entries);
    }

    fn get(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.first_index)?;
        self.entries.get(offset as usize)
    }
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
        if low < self.first_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last_index() + 1, "raft asks for entries up to {high}, past the end");
        let range = (low - self.first_index) as usize..(high - self.first_index) as usize;
        let max_len = max_size.into().unwrap_or(u64::MAX);
        let mut len = 0;
        let mut found = Vec::with_capacity(range.len().min(64));
        for entry in self.entries.range(range) {
            len += entry.data.len() as u64 + entry.context.len() as u64;
            if len > max_len && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == 0 {
            return Ok(0);
        }
        match self.get(index) {
            Some(entry) => Ok(entry.term),
            None if index < self.first_index => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first_index)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last_index())
    }

    /// The whole log is kept, so that no follower needs one.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
