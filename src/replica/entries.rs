//! The tail of the raft log in memory, as raft-rs reads it.
//!
//! Invariants:
//! - Entries are contiguous: `entries[i]` has index `base.index + 1 + i`, and the term of `base` is known.
//! - What is here is in the write-ahead log, or is about to be: raft-rs is told that an entry counts only when the log's
//!   write returned ([`super::Replica::persisted`]).
//! - Memory is freed a little at a time ([`Entries::free_some`]): all at once, it would keep the reactor for many
//!   milliseconds.
//! - The snapshot that raft-rs may count on is one that followers can go on from: not before `base`.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::limits::{FREED_ENTRIES_MAX, FREED_LEN_MAX};
use crate::wire::log::EntryId;

/// What is kept: entries above the index, and of those before as many as the bounds let.
#[derive(Debug, Clone, Copy)]
struct Kept {
    above: u64,
    count_max: usize,
    len_bytes_max: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Entries {
    /// State as of the start; raft-rs reads it once.
    initial: RaftState,
    /// The last entry before those that are kept.
    base: EntryId,
    entries: VecDeque<Entry>,
    len_bytes: usize,
    /// What a compaction that is not at its end leaves.
    compaction: Option<Kept>,
    /// Entries that a snapshot took the place of, until they are freed.
    void: VecDeque<Entry>,
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
            compaction: None,
            void: VecDeque::new(),
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

    /// How many bytes there are in entries after that one.
    pub(super) fn len_bytes_after(&self, index: u64) -> usize {
        let after = self.entries.iter().rev().take_while(|entry| entry.index > index);
        after.map(len_bytes).sum()
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

    /// Begins to drop entries from the front, up to `index` at most, until so many are left and so many bytes.
    pub(super) fn compact(&mut self, index: u64, count_max: usize, len_bytes_max: usize) {
        self.compaction = Some(Kept { above: index, count_max, len_bytes_max });
        self.free_some();
    }

    /// What is there now is kept until the next [`Entries::compact`].
    pub(super) fn end_compaction(&mut self) {
        self.compaction = None;
    }

    /// Drops all entries: a snapshot as of `base` is in their place.
    pub(super) fn reset(&mut self, base: EntryId) {
        let mut void = std::mem::take(&mut self.entries);
        // What an earlier snapshot left is hardly ever still there: to move it costs more than to hand on the buffer.
        void.extend(self.void.drain(..));
        *self = Entries {
            initial: std::mem::take(&mut self.initial),
            base,
            entries: VecDeque::new(),
            len_bytes: 0,
            compaction: None,
            void,
            snapshot: None,
            may_offer: self.may_offer,
        };
    }

    /// Goes on with what was dropped and is not freed: as much as may be at once.
    pub(super) fn free_some(&mut self) {
        let (mut count, mut freed_len) = (0, 0);
        while count < FREED_ENTRIES_MAX
            && freed_len < FREED_LEN_MAX
            && let Some(entry) = self.void.pop_front().or_else(|| self.pop_unneeded())
        {
            count += 1;
            freed_len += len_bytes(&entry);
        }
    }

    /// The first entry, if the compaction does not keep it.
    fn pop_unneeded(&mut self) -> Option<Entry> {
        let Kept { above, count_max, len_bytes_max } = self.compaction?;
        let is_over = self.entries.len() > count_max || self.len_bytes > len_bytes_max;
        if !self.entries.front().is_some_and(|entry| is_over && entry.index <= above) {
            self.compaction = None;
            return None;
        }
        let entry = self.entries.pop_front()?;
        self.len_bytes -= len_bytes(&entry);
        self.base = EntryId { index: entry.index, term: entry.term };
        Some(entry)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(indexes: std::ops::RangeInclusive<u64>, data_len: usize) -> Vec<Entry> {
        let data = bytes::Bytes::from(vec![7; data_len]);
        let entry = |index| Entry { index, term: 1, data: data.clone(), ..Entry::default() };
        indexes.map(entry).collect()
    }

    fn tail(count: usize, data_len: usize) -> Entries {
        let (hard_state, conf_state) = Default::default();
        let entries = entries(1..=count as u64, data_len);
        Entries::new(hard_state, conf_state, EntryId::default(), entries)
    }

    #[test]
    fn what_is_dropped_is_freed_a_little_at_a_time() {
        let count = 3 * FREED_ENTRIES_MAX;
        let mut tail = tail(count, 1);
        tail.compact(count as u64 - 5, 10, usize::MAX);
        assert_eq!(tail.count(), 2 * FREED_ENTRIES_MAX);
        assert_eq!(tail.base().index, FREED_ENTRIES_MAX as u64);
        tail.free_some();
        tail.free_some();
        assert_eq!((tail.count(), tail.len_bytes()), (10, 10));
        tail.append(entries(count as u64 + 1..=count as u64 + 9, 1));
        tail.free_some();
        assert_eq!(tail.count(), 19, "it was at its end");

        tail.append(entries(count as u64 + 10..=2 * count as u64, 1));
        let held = tail.count();
        tail.reset(EntryId { index: 3 * count as u64, term: 2 });
        assert_eq!((tail.count(), tail.len_bytes(), tail.void.len()), (0, 0, held));
        tail.append(entries(3 * count as u64 + 1..=3 * count as u64 + 2, 1));
        for _ in 0..held.div_ceil(FREED_ENTRIES_MAX) {
            assert!(!tail.void.is_empty());
            tail.free_some();
        }
        assert_eq!((tail.count(), tail.void.len()), (2, 0));
    }

    #[test]
    fn long_entries_are_freed_by_their_bytes() {
        let mut tail = tail(20, FREED_LEN_MAX / 4);
        tail.compact(20, 0, 0);
        assert_eq!(tail.count(), 16);
        // A snapshot is on its way to somebody who needs them.
        tail.end_compaction();
        tail.free_some();
        assert_eq!(tail.count(), 16);
    }
}
