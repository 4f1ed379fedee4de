//! A snapshot on its way in: chunk after chunk, into a map of its own.
//!
//! Invariants:
//! - What is taken over is what its sender's map held, row by row: each chunk is checked against the checksum, the rows
//!   against what a store can hold, and the whole against its header.
//! - The rows of meta data are committed last, together with the last of the others: a map without them is never taken for
//!   whole.
//! - Memory holds one batch, whatever comes.
//! - A disk that would be filled up is met beforehand: the reserve for what the node itself writes is left alone.

#![forbid(unsafe_code)]

use bytes::Bytes;

use super::super::map::{Batch, Map, Table, room_of_commit};
use super::super::record::RecordRef;
use super::super::{Figures, Store, Tally, WindowBounds};
use super::chunk::{Refused, Row, TRANSFER_FORMAT, is_intact};
use crate::error::Error;
use crate::limits::{
    APPLY_VERSION, DISK_RESERVE, KEY_LEN_MAX, SNAPSHOT_BATCH_LEN, SNAPSHOT_BATCH_ROWS,
    SNAPSHOT_META_LEN_MAX, VALUE_LEN_MAX,
};
use crate::wire::snapshot::{Chunk, Header};

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

/// See the [module](self).
pub struct Target<M: Map> {
    map: M,
    bounds: WindowBounds,
    header: Option<Header>,
    /// The chunk that is due.
    due: u64,
    /// The checksum up to there.
    crc: u32,
    is_complete: bool,
    batch: Batch,
    batch_len: usize,
    counted: Counted,
    tally: Tally,
}

/// What was seen of the rows so far.
#[derive(Default)]
struct Counted {
    last: Option<(Table, Bytes)>,
    remembered: usize,
    remembered_len: usize,
    meta_len: usize,
}

impl<M: Map> Target<M> {
    /// A target that fills an empty map. `bounds` are replicated state: those of the store that it will be.
    pub fn new(map: M, bounds: WindowBounds) -> Target<M> {
        Target {
            map,
            bounds,
            header: None,
            due: 0,
            crc: 0,
            is_complete: false,
            batch: Batch::default(),
            batch_len: 0,
            counted: Counted::default(),
            tally: Tally::default(),
        }
    }

    /// The chunk that is due.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Whether the last chunk is in: then it is to be [finished](Target::finish).
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Takes in the chunk that is due. Blocks.
    pub fn add(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        if chunk.number != self.due || self.is_complete {
            return Err(Refused::Number { due: self.due, found: chunk.number }.into());
        }
        if !is_intact(self.crc, chunk) {
            return Err(Refused::Checksum(chunk.number).into());
        }
        match (&self.header, &chunk.header) {
            (None, Some(header)) => {
                check_header(header)?;
                self.header = Some(header.clone());
            }
            (Some(_), None) => {}
            _ => return Err(Refused::Header("is not in chunk 0 alone".to_owned()).into()),
        }
        let mut rest = &chunk.rows[..];
        while !rest.is_empty() {
            let row = Row::take(&mut rest)?;
            self.counted.take_in(row, &chunk.rows, &self.bounds)?;
            self.tally.add(row.table, row.key, row.value)?;
            self.take_in(row, &chunk.rows)?;
        }
        self.due += 1;
        self.crc = chunk.crc;
        self.is_complete = chunk.is_last;
        Ok(())
    }

    fn take_in(&mut self, row: Row<'_>, rows: &Bytes) -> Result<(), Failure> {
        let is_full =
            self.batch_len >= SNAPSHOT_BATCH_LEN || self.batch.changes.len() >= SNAPSHOT_BATCH_ROWS;
        // Meta data goes with the last batch, all of it: it is short.
        if is_full && row.table != Table::Meta {
            self.commit()?;
        }
        self.batch_len += row.encoded_len();
        self.batch.put(row.table, rows.slice_ref(row.key), rows.slice_ref(row.value));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let changes = self.batch.changes.len();
        check_room(&self.map, room_of_commit(changes, self.batch_len))?;
        if !self.map.reserve(changes, self.batch_len)? {
            return Err(no_room("the disk is full").into());
        }
        self.map.commit(&self.batch)?;
        self.batch = Batch::default();
        self.batch_len = 0;
        Ok(())
    }

    /// Makes a store of it, if all that is there fits together. Blocks.
    ///
    /// # Panics
    /// If the last chunk is not in.
    pub fn finish(&mut self) -> Result<Store<M>, Failure> {
        assert!(self.is_complete, "a snapshot is finished before its last chunk");
        let Some(header) = self.header.take() else {
            return Err(Refused::Header("is missing".to_owned()).into());
        };
        let of_state = |error: Error| Refused::State(error.to_string());
        let figures = std::mem::take(&mut self.tally).finish().map_err(of_state)?;
        check_figures(&header, &figures)?;
        self.commit()?;
        // What the map does not read back as a store was never one: it is the snapshot that is at fault.
        let store = Store::open_with(self.map.clone(), self.bounds).map_err(of_state)?;
        assert_eq!(store.digest(), figures.digest, "a store is not what its rows amount to");
        Ok(store)
    }

    /// The map, to be removed.
    pub fn into_map(self) -> M {
        self.map
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

/// Whether this server can read what has that header.
pub fn check_header(header: &Header) -> Result<(), Refused> {
    let known = [
        ("snapshot format", header.format, TRANSFER_FORMAT),
        ("apply version", header.apply, APPLY_VERSION),
    ];
    for (what, found, known) in known {
        if found != known {
            return Err(Refused::Header(format!(
                "says {what} {found}, and this server knows {known} only"
            )));
        }
    }
    Ok(())
}

impl Counted {
    /// Checks one row by itself, and against those before it.
    fn take_in(
        &mut self,
        row: Row<'_>,
        rows: &Bytes,
        bounds: &WindowBounds,
    ) -> Result<(), Refused> {
        let place = (row.table, row.key);
        if self.last.as_ref().is_some_and(|(table, key)| (*table, &key[..]) >= place) {
            return Err(Refused::Row("is out of order"));
        }
        if !(1..=KEY_LEN_MAX).contains(&row.key.len()) {
            return Err(Refused::Row("has no key, or one over the limit"));
        }
        match row.table {
            Table::Data => {
                let record = RecordRef::decode(row.value)
                    .map_err(|_| Refused::Row("holds no record of a key"))?;
                if record.value.len() > VALUE_LEN_MAX {
                    return Err(Refused::Row("holds a value over the limit"));
                }
            }
            Table::Remembered => {
                self.remembered += 1;
                self.remembered_len += row.value.len();
                let ids_len = self.remembered * crate::wire::validate::REQUEST_ID_LEN;
                if self.remembered > bounds.entries_max
                    || self.remembered_len > bounds.len_bytes_max + ids_len
                {
                    return Err(Refused::Row("is one more than a store remembers"));
                }
            }
            Table::Meta => {
                self.meta_len += row.encoded_len();
                if self.meta_len > SNAPSHOT_META_LEN_MAX {
                    return Err(Refused::Row("makes the meta data longer than it can be"));
                }
            }
        }
        self.last = Some((row.table, rows.slice_ref(row.key)));
        Ok(())
    }
}

/// What the header said, and what the rows amount to, must be the same.
fn check_figures(header: &Header, figures: &Figures) -> Result<(), Refused> {
    let Figures { applied, revision, time_ms, keys, logical_bytes, digest } = *figures;
    let numbers = [
        ("index", header.index, applied.index),
        ("term", header.term, applied.term),
        ("revision", header.revision, revision),
        ("time", header.time_ms, time_ms),
        ("number of keys", header.keys, keys),
        ("number of bytes", header.logical_bytes, logical_bytes),
    ];
    for (what, said, is) in numbers {
        if said != is {
            return Err(Refused::State(format!("its header says {what} {said}, and it is {is}")));
        }
    }
    match header.digest[..] == digest {
        true => Ok(()),
        false => Err(Refused::State("its digest is not the one that its header says".to_owned())),
    }
}
