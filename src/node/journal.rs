//! What waits to be made durable, and what follows when it is.
//!
//! Records are pushed as they arise and written in that order. While one write is in flight all that arrives gathers, and
//! goes out together with the next: the slower the disk, the larger its batches.
//!
//! Invariants:
//! - What follows from a record happens after the write that held it, and every write before it, has returned.
//! - A record that installs a snapshot begins a batch: it voids all entries before it, and those of its batch come after it.

use std::collections::VecDeque;

use prost::Message;

use crate::limits::BATCH_PAYLOAD_MAX;
use crate::log::{Full, Log, Place, Prepare};
use crate::wire::log::Record;

/// A write of the log: `bytes` are to be durable at `place`.
#[derive(Debug, PartialEq, Eq)]
pub struct LogWrite {
    /// To be reported when it has returned.
    pub sequence: u64,
    /// The segment, and the offset in it.
    pub place: Place,
    /// A whole number of blocks.
    pub bytes: Vec<u8>,
}

/// See the [module](self). `T` is what follows.
pub(super) struct Journal<T> {
    log: Log,
    waiting: VecDeque<(Record, T)>,
    in_flight: Vec<T>,
}

impl<T> Journal<T> {
    pub fn new(log: Log) -> Journal<T> {
        Journal { log, waiting: VecDeque::new(), in_flight: Vec::new() }
    }

    pub fn push(&mut self, record: Record, then: T) {
        self.waiting.push_back((record, then));
    }

    /// Whether a write is under way.
    pub fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether everything that was pushed is durable.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// The next write, if there is something to write, nothing is in flight, and a segment has room.
    pub fn next_write(&mut self) -> Option<LogWrite> {
        if self.waiting.is_empty() || !self.in_flight.is_empty() {
            return None;
        }
        let (batch, count) = self.gather();
        let write = match self.log.append(&batch) {
            Ok(append) => {
                let mut bytes = vec![0; append.len_bytes()];
                append.seal_into(&mut bytes);
                LogWrite { sequence: append.sequence, place: append.place, bytes }
            }
            Err(Full) => return None,
        };
        self.in_flight.extend(self.waiting.drain(..count).map(|(_, then)| then));
        Some(write)
    }

    /// The records from the front that fit one batch, as one record, and how many they are.
    fn gather(&self) -> (Record, usize) {
        let mut batch = Record::default();
        let mut len = 0;
        let mut count = 0;
        for (record, _) in &self.waiting {
            len += record.encoded_len();
            // A standing that a later one replaced in the same batch would never have been on disk, and follow it did.
            let replaces = batch.standing.is_some() && record.standing.is_some();
            let voids = record.snapshot.is_some();
            if count > 0 && (len > BATCH_PAYLOAD_MAX || replaces || voids) {
                break;
            }
            count += 1;
            batch.snapshot = record.snapshot.or(batch.snapshot);
            batch.entries.extend(record.entries.iter().cloned());
            batch.hard_state = record.hard_state.or(batch.hard_state);
            batch.standing = record.standing.clone().or(batch.standing);
        }
        (batch, count)
    }

    /// The write of that sequence returned: what follows, in order.
    pub fn persisted(&mut self, sequence: u64) -> Vec<T> {
        self.log.persisted(sequence);
        std::mem::take(&mut self.in_flight)
    }

    /// Entries up to this index are not needed any more.
    pub fn release(&mut self, index: u64) {
        self.log.release(index);
    }

    /// The length of the log on disk.
    pub fn log_len(&self) -> u64 {
        self.log.len_bytes()
    }

    /// A segment that the log wants to have ready.
    pub fn next_to_prepare(&mut self) -> Option<Prepare> {
        self.log.next_to_prepare()
    }

    /// The segment of that ordinal is ready.
    pub fn prepared(&mut self, ordinal: u64) {
        self.log.prepared(ordinal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::format::BLOCK_LEN;
    use crate::log::{MemDisk, prepare, recover};
    use crate::wire::log::{Entry, EntryId, HardState, Snapshot};

    const SEGMENT_LEN: usize = 16 * BLOCK_LEN;

    /// Were it written with the entries before it, they would be taken for what comes after it.
    #[test]
    fn a_snapshot_begins_a_batch_and_what_follows_may_go_with_it() {
        let disk = MemDisk::default();
        let mut journal = Journal::new(recover(&disk, SEGMENT_LEN, 1).unwrap().log);
        let entry = |index| Record {
            entries: vec![Entry { term: 1, index, ..Entry::default() }],
            ..Record::default()
        };
        let snapshot = |index, state| Record {
            snapshot: Some(Snapshot { last: Some(EntryId { index, term: 1 }), state }),
            hard_state: Some(HardState { commit: index, ..HardState::default() }),
            ..Record::default()
        };
        let records = [entry(1), entry(2), snapshot(9, 2), entry(10), snapshot(19, 3), entry(20)];
        for (number, record) in records.into_iter().enumerate() {
            journal.push(record, number);
        }
        let wish = journal.next_to_prepare().unwrap();
        prepare(&disk, &wish).unwrap();
        journal.prepared(wish.ordinal);
        let mut followed = Vec::new();
        while let Some(write) = journal.next_write() {
            let name = crate::log::segment::file_name(write.place.ordinal);
            disk.write_at(&name, write.place.offset, &write.bytes).unwrap();
            followed.push(journal.persisted(write.sequence));
        }
        assert_eq!(followed, [vec![0, 1], vec![2, 3], vec![4, 5]]);
        let contents = recover(&disk, SEGMENT_LEN, 2).unwrap().contents;
        assert_eq!((contents.base, contents.state), (EntryId { index: 19, term: 1 }, 3));
        assert_eq!(contents.last_index(), 20);
    }
}
