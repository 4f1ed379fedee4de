//! What is checked of a snapshot that comes in, whatever becomes of its rows: each chunk against the checksum, each row
//! against what a store can hold, the whole against its header.
//!
//! Invariant: memory holds the meta data, which is short, and a chunk.

#![forbid(unsafe_code)]

use bytes::Bytes;

use super::super::map::Table;
use super::super::record::RecordRef;
use super::super::{Figures, Tally, WindowBounds};
use super::chunk::{Refused, Row, TRANSFER_FORMAT, is_intact};
use super::target::Failure;
use crate::limits::{APPLY_VERSION, KEY_LEN_MAX, SNAPSHOT_META_LEN_MAX, VALUE_LEN_MAX};
use crate::wire::snapshot::{Chunk, Header};

/// Checks a snapshot as it comes in, chunk by chunk.
pub struct Inspection {
    bounds: WindowBounds,
    header: Option<Header>,
    /// The chunk that is due.
    due: u64,
    /// The checksum up to there.
    crc: u32,
    is_complete: bool,
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

impl Inspection {
    /// Of a store with these bounds, which are replicated state.
    pub fn new(bounds: WindowBounds) -> Inspection {
        Inspection {
            bounds,
            header: None,
            due: 0,
            crc: 0,
            is_complete: false,
            counted: Counted::default(),
            tally: Tally::default(),
        }
    }

    /// The chunk that is due.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Whether the last chunk is in.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// What the snapshot says of itself, once its first chunk is in.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Checks the chunk that is due.
    pub fn add(&mut self, chunk: &Chunk) -> Result<(), Refused> {
        match self.take_in(chunk, |_| Ok(())) {
            Ok(()) => Ok(()),
            Err(Failure::Refused(refused)) => Err(refused),
            Err(Failure::Map(_)) => unreachable!("no map is involved"),
        }
    }

    /// Checks the chunk that is due, and gives its rows to `visit`.
    pub(super) fn take_in<'a>(
        &mut self,
        chunk: &'a Chunk,
        mut visit: impl FnMut(Row<'a>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
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
            let tallied = self.tally.add(row.table, row.key, row.value);
            tallied.map_err(|_| Refused::Row("cannot be read"))?;
            visit(row)?;
        }
        self.due += 1;
        self.crc = chunk.crc;
        self.is_complete = chunk.is_last;
        Ok(())
    }

    /// The header and what the rows amount to, if they are the same.
    ///
    /// # Panics
    /// If the last chunk is not in.
    pub fn finish(&mut self) -> Result<(Header, Figures), Refused> {
        assert!(self.is_complete, "a snapshot is finished before its last chunk");
        let Some(header) = self.header.take() else {
            return Err(Refused::Header("is missing".to_owned()));
        };
        let tally = std::mem::take(&mut self.tally);
        let figures = tally.finish().map_err(|error| Refused::State(error.to_string()))?;
        check_figures(&header, &figures)?;
        Ok((header, figures))
    }
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
    let Figures { applied, revision, time_ms, keys, logical_bytes, max_bytes: _, digest } =
        *figures;
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
