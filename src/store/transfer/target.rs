//! A snapshot on its way in: chunk after chunk, into a map of its own.
//!
//! Invariants:
//! - What is taken over is what its sender's map held, row by row: see [`inspect`](super::inspect).
//! - The rows of meta data are committed last, together with the last of the others: a map without them is never taken for
//!   whole.
//! - Memory holds one batch, whatever comes.
//! - A disk that would be filled up is met beforehand: the reserve for what the node itself writes is left alone.

#![forbid(unsafe_code)]

use bytes::Bytes;

use super::super::map::{Batch, Map, Table, room_of_commit};
use super::super::{Store, WindowBounds};
use super::chunk::{Refused, Row};
use super::inspect::Inspection;
use crate::error::Error;
use crate::limits::{DISK_RESERVE, SNAPSHOT_BATCH_LEN, SNAPSHOT_BATCH_ROWS};
use crate::planted::{Bug, planted};
use crate::wire::snapshot::Chunk;

/// What became of a chunk that was not taken in. The target is not to be used any more.
#[derive(Debug)]
pub enum Failure {
    /// The snapshot is not taken over; the node goes on.
    Refused(Refused),
    /// The map failed: the node stops.
    Map(Error),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        Failure::Refused(refused)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Map(error)
    }
}

/// Builds a store of a snapshot, chunk by chunk.
pub struct Target<M: Map> {
    map: M,
    bounds: WindowBounds,
    inspection: Inspection,
    rows: Rows,
}

impl<M: Map> Target<M> {
    /// A target that fills an empty map. `bounds` are replicated state: those of the store that it will be.
    pub fn new(map: M, bounds: WindowBounds) -> Target<M> {
        Target { map, bounds, inspection: Inspection::new(bounds), rows: Rows::default() }
    }

    /// The chunk that is due.
    pub fn due(&self) -> u64 {
        self.inspection.due()
    }

    /// Whether the last chunk is in: then it is to be [finished](Target::finish).
    pub fn is_complete(&self) -> bool {
        self.inspection.is_complete()
    }

    /// Takes in the chunk that is due. Blocks.
    pub fn add(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        let Target { map, inspection, rows, .. } = self;
        inspection.take_in(chunk, |row| match row.table {
            Table::Remembered if planted(Bug::ForgetInSnapshot) => Ok(()),
            _ => rows.take_in(row, &chunk.rows, map),
        })
    }

    /// Makes a store of it, if all that is there fits together. Blocks.
    ///
    /// # Panics
    /// If the last chunk is not in.
    pub fn finish(&mut self) -> Result<Store<M>, Failure> {
        let (_, figures) = self.inspection.finish()?;
        self.rows.commit(&self.map)?;
        // What the map does not read back as a store was never one: it is the snapshot that is at fault.
        let store = Store::open_with(self.map.clone(), self.bounds)
            .map_err(|error| Refused::State(error.to_string()))?;
        assert_eq!(store.digest(), figures.digest, "a store is not what its rows amount to");
        Ok(store)
    }

    /// The map, to be removed.
    pub fn into_map(self) -> M {
        self.map
    }
}

/// Rows on their way into a map, batch by batch.
#[derive(Default)]
pub(super) struct Rows {
    pub batch: Batch,
    len_bytes: usize,
}

impl Rows {
    /// Takes in a row of a chunk, whose rows are `rows`.
    pub fn take_in<M: Map>(&mut self, row: Row<'_>, rows: &Bytes, map: &M) -> Result<(), Failure> {
        let is_full =
            self.len_bytes >= SNAPSHOT_BATCH_LEN || self.batch.changes.len() >= SNAPSHOT_BATCH_ROWS;
        // Meta data goes with the last batch, all of it: it is short.
        if is_full && row.table != Table::Meta {
            self.commit(map)?;
        }
        self.len_bytes += row.encoded_len();
        self.batch.put(row.table, rows.slice_ref(row.key), rows.slice_ref(row.value));
        Ok(())
    }

    /// Commits what has gathered.
    pub fn commit<M: Map>(&mut self, map: &M) -> Result<(), Failure> {
        let changes = self.batch.changes.len();
        check_room(map, room_of_commit(changes, self.len_bytes))?;
        if !map.reserve(changes, self.len_bytes)? {
            return Err(no_room("the disk is full").into());
        }
        map.commit(&self.batch)?;
        *self = Rows::default();
        Ok(())
    }
}

/// Whether so many bytes fit on the map's disk, beside what is reserved for the node's own writes.
pub(super) fn check_room<M: Map>(map: &M, len_bytes: u64) -> Result<(), Failure> {
    let free = map.free_bytes()?;
    match free >= DISK_RESERVE.saturating_add(len_bytes) {
        true => Ok(()),
        false => Err(no_room(&format!(
            "it needs about {} MiB, and of the {} MiB that the disk has free, {} MiB are reserved",
            len_bytes.div_ceil(1 << 20),
            free >> 20,
            DISK_RESERVE >> 20
        ))
        .into()),
    }
}

fn no_room(why: &str) -> Refused {
    Refused::NoRoom(format!("there is no room for it: {why}; make space on the disk"))
}
