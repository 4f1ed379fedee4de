//! Which segments hold entries that count, and which are not needed any more.
//!
//! Promises: a segment is given up from the front only; never one with an entry above the index that was released, unless
//! that entry is void; never the one with the last durable batch, or one behind it.
//!
//! Invariant: only durable batches are noted. What a batch voids counts until then: a crash may still bring it back.

use std::collections::VecDeque;

use crate::wire::log::Record;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// Of the segments with a durable batch, in order and without a gap: the ordinal, and the highest index that counts in it.
    segments: VecDeque<(u64, u64)>,
}

/// What a batch does to the entries of the segments.
#[derive(Debug)]
pub(super) struct Touched {
    ordinal: u64,
    /// All entries above this index that were there before are void.
    void_above: u64,
    /// The last entry of the batch; 0 if it has none.
    last_index: u64,
}

impl Touched {
    /// What the batch of this record, in that segment, does.
    pub fn by(ordinal: u64, record: &Record) -> Touched {
        let snapshot = record.snapshot.and_then(|snapshot| snapshot.last);
        let first = record.entries.iter().map(|entry| entry.index).min();
        let void_above = [
            snapshot.map_or(u64::MAX, |last| last.index),
            first.map_or(u64::MAX, |first| first.saturating_sub(1)),
        ];
        Touched {
            ordinal,
            void_above: void_above[0].min(void_above[1]),
            last_index: record.entries.last().map_or(0, |entry| entry.index),
        }
    }
}

impl Holdings {
    /// Takes note of a batch that is durable. They come in their order.
    pub fn note(&mut self, touched: &Touched) {
        for (_, highest) in &mut self.segments {
            *highest = (*highest).min(touched.void_above);
        }
        match self.segments.back_mut() {
            Some((ordinal, highest)) if *ordinal == touched.ordinal => {
                *highest = (*highest).max(touched.last_index);
            }
            before => {
                let follows = before.is_none_or(|(ordinal, _)| *ordinal + 1 == touched.ordinal);
                assert!(follows, "a batch in segment {} came out of order", touched.ordinal);
                self.segments.push_back((touched.ordinal, touched.last_index));
            }
        }
    }

    /// Gives up the segments that are not needed when entries up to that index are not: their ordinals, from the lowest on.
    pub fn take_unneeded(&mut self, released: u64) -> Vec<u64> {
        let mut taken = Vec::new();
        while self.segments.len() > 1
            && let Some(&(ordinal, highest)) = self.segments.front()
            && highest <= released
        {
            self.segments.pop_front();
            taken.push(ordinal);
        }
        taken
    }

    /// The first segment that is needed; `None` before the first batch.
    pub fn first_ordinal(&self) -> Option<u64> {
        self.segments.front().map(|(ordinal, _)| *ordinal)
    }
}
