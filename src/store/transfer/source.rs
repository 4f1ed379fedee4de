//! A snapshot on its way out: chunk after chunk, from a read transaction.
//!
//! Invariants:
//! - A chunk that was read once is read again the same, byte for byte, however often, so that a receiver whose connection
//!   broke goes on where it was.
//! - Of as many chunks as can be asked for again, it is remembered where they begin; of those before not any more
//!   ([`SNAPSHOT_STARTS_MAX`]).

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::map::{KeyRange, Snapshot, Table};
use super::chunk::{Row, checksum};
use crate::error::Result;
use crate::limits::SNAPSHOT_STARTS_MAX;
use crate::wire::snapshot::{Chunk, Header};

/// A snapshot that is read chunk by chunk. It keeps what the snapshot shows from being reused on disk: not to be kept long.
pub struct Source<S: Snapshot> {
    snapshot: S,
    header: Header,
    chunk_len: usize,
    /// Where chunk `first + i` begins, for each of which that is known.
    starts: VecDeque<Start>,
    first: u64,
}

/// A row, by its table and key. An empty key: the first row of the table.
type Place = (Table, Bytes);

/// The first row of a chunk, and the checksum up to there.
struct Start {
    row: Place,
    crc: u32,
}

impl<S: Snapshot> Source<S> {
    /// A snapshot with its header, in chunks of that many bytes of rows unless a single row is longer.
    pub fn new(snapshot: S, header: Header, chunk_len: usize) -> Source<S> {
        let crc = checksum(0, Some(&header), &[]);
        let start = Start { row: (Table::Data, Bytes::new()), crc };
        Source { snapshot, header, chunk_len, starts: VecDeque::from([start]), first: 1 }
    }

    /// The same snapshot, to be read from its chunk 0 on.
    pub fn from_the_start(self) -> Source<S> {
        Source::new(self.snapshot, self.header, self.chunk_len)
    }

    /// The chunk of that number. `None`: there is none after the last, or it is not known where it begins, since one before
    /// it was never read, or too many after it were. Blocks.
    pub fn read(&mut self, number: u64) -> Result<Option<Chunk>> {
        if number == 0 {
            let header = Some(self.header.clone());
            let crc = checksum(0, header.as_ref(), &[]);
            return Ok(Some(Chunk { header, crc, ..Chunk::default() }));
        }
        let place = number.checked_sub(self.first);
        let Some(start) = place.and_then(|place| self.starts.get(place as usize)) else {
            return Ok(None);
        };
        let (rows, next) = self.rows_from(&start.row)?;
        let crc = checksum(start.crc, None, &rows);
        let is_last = next.is_none();
        if let Some(row) = next
            && self.first + self.starts.len() as u64 == number + 1
        {
            self.starts.push_back(Start { row, crc });
            if self.starts.len() > SNAPSHOT_STARTS_MAX {
                self.starts.pop_front();
                self.first += 1;
            }
        }
        Ok(Some(Chunk { number, header: None, rows: rows.into(), is_last, crc }))
    }

    /// The rows of a chunk that begins there, and the first row of the next, if there is one.
    fn rows_from(&self, (first, key): &Place) -> Result<(Vec<u8>, Option<Place>)> {
        let mut rows = Vec::with_capacity(self.chunk_len);
        let mut next = None;
        for table in Table::ALL.into_iter().filter(|table| table >= first) {
            let from = if table == *first { &key[..] } else { &[] };
            self.snapshot.scan(table, KeyRange { from, to: &[] }, |key, value| {
                let row = Row { table, key, value };
                if !rows.is_empty() && rows.len() + row.encoded_len() > self.chunk_len {
                    next = Some((table, Bytes::copy_from_slice(key)));
                    return Ok(ControlFlow::Break(()));
                }
                row.put(&mut rows);
                Ok(ControlFlow::Continue(()))
            })?;
            if next.is_some() {
                break;
            }
        }
        Ok((rows, next))
    }
}
