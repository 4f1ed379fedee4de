//! The ordered map under the state machine: three tables of bytes, read through snapshots and
//! changed by batches.
//!
//! The only thing that the state machine asks of the outside world. LMDB implements it for real, a
//! B-tree in memory for tests and simulation.
//!
//! What an implementation promises:
//! - [`Map::commit`] is atomic over all tables, and durable when it returns.
//! - A [`Snapshot`] shows the map as of one commit, whatever is committed after it.
//! - Keys are in the order of their bytes.
//! - A map lies beside others, each under the number of a state; one is live, and the log says which.

#![forbid(unsafe_code)]

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::error::Result;

/// The tables of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Key to record: what clients stored.
    Data,
    /// Log index (big-endian) to request id and outcome: what a retry is answered with.
    Remembered,
    /// Name to bytes: format, applied index, membership, counts.
    Meta,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 3] = [Table::Data, Table::Remembered, Table::Meta];

    /// The name of the table on disk.
    pub fn name(self) -> &'static str {
        match self {
            Table::Data => "data",
            Table::Remembered => "remembered",
            Table::Meta => "meta",
        }
    }
}

/// The keys of `[from, to)`. An empty `from` is the first key, an empty `to` is no bound.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyRange<'a> {
    /// Inclusive.
    pub from: &'a [u8],
    /// Exclusive, or empty.
    pub to: &'a [u8],
}

impl<'a> KeyRange<'a> {
    /// Every key.
    pub const ALL: KeyRange<'static> = KeyRange { from: &[], to: &[] };

    /// Whether no key can lie within. Asked before [`bounds`](KeyRange::bounds): an ordered map may
    /// panic over a range whose end is before its start.
    pub fn is_empty(&self) -> bool {
        !self.to.is_empty() && self.from >= self.to
    }

    /// The range as standard bounds. An empty start is unbounded, since LMDB knows no empty key.
    pub fn bounds(&self) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
        let start =
            if self.from.is_empty() { Bound::Unbounded } else { Bound::Included(self.from) };
        let end = if self.to.is_empty() { Bound::Unbounded } else { Bound::Excluded(self.to) };
        (start, end)
    }
}

/// One change of a batch.
#[derive(Debug, Clone)]
pub struct Change {
    /// Where.
    pub table: Table,
    /// Which key, never empty.
    pub key: Bytes,
    /// Its new value; `None` deletes it, if it is there.
    pub value: Option<Bytes>,
}

/// Changes that are committed together. Within a table a key occurs at most once, and keys ascend.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In the order in which they were added.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change { table, key: key.into(), value: Some(value.into()) });
    }

    /// Deletes a key.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.changes.push(Change { table, key: key.into(), value: None });
    }
}

/// Room that a commit of so many changes, with so many bytes, may take on disk: each copies a page or two, long values have
/// pages of their own, and every commit writes the list of free pages and the roots of the tables.
pub fn room_of_commit(changes: usize, len_bytes: usize) -> u64 {
    const PAGE_LEN: u64 = 4096;
    const PAGES_MIN: u64 = 1024;
    (2 * changes as u64 + PAGES_MIN) * PAGE_LEN + 2 * len_bytes as u64
}

/// The map: a handle that may be cloned and sent to the thread that commits.
pub trait Map: Clone + Send + 'static {
    /// See [`Snapshot`].
    type Snapshot: Snapshot + Send + 'static;

    /// The map as of the last commit. Cheap enough for the reactor.
    fn snapshot(&self) -> Result<Self::Snapshot>;

    /// Makes sure that a batch of so many changes, with so many bytes, cannot meet a full disk. False if the disk has not
    /// enough room: nothing is changed then. Blocks.
    fn reserve(&self, changes: usize, len_bytes: usize) -> Result<bool>;

    /// How many bytes the disk has free. Blocks.
    fn free_bytes(&self) -> Result<u64>;

    /// A new, empty map beside this one: that of another state, by its number. What was there under that number is removed.
    /// Blocks.
    fn sibling(&self, state: u64) -> Result<Self>;

    /// Removes the map from the disk. What snapshots show stays, as long as they live. Blocks.
    fn remove(self) -> Result<()>;

    /// Makes a batch durable. Blocks, so it runs on a store thread. After an error nothing is known
    /// about the map, and the node stops.
    fn commit(&self, batch: &Batch) -> Result<()>;
}

/// The map as of one commit. Short-lived: what it shows cannot be reused on disk while it lives.
pub trait Snapshot {
    /// Reads the value of a key in place; `None` if there is none.
    fn get<T>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>>;

    /// Visits keys and values of a range in order, until the visitor breaks or fails.
    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()>;
}
