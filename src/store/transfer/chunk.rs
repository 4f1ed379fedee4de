//! What a chunk is made of: rows, and a checksum that runs through all chunks. The layout is in `proto/snapshot.proto`.

#![forbid(unsafe_code)]

use std::fmt;

use prost::Message;

use super::super::map::Table;
use crate::wire::snapshot::{Chunk, Header};

/// The layout of chunks and rows. Another one is refused.
pub const TRANSFER_FORMAT: u32 = 1;

/// Table, length of the key, length of the value.
const ROW_HEADER_LEN: usize = 1 + 2 + 4;

/// Why a snapshot is not taken over. It concerns that snapshot alone: what was built of it is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not the chunk after the last.
    Number {
        /// The one that is due.
        due: u64,
        /// The one that came.
        found: u64,
    },
    /// The checksum of that chunk, or of one before it, is not that of its bytes.
    Checksum(u64),
    /// The header is missing, in the wrong place, or not one that this server can read.
    Header(String),
    /// A row cannot be read, or cannot be one of a store.
    Row(&'static str),
    /// All is there, and does not fit together.
    State(String),
    /// The disk has no room for it.
    NoRoom(String),
}

impl Refused {
    /// Whether it was so before it was sent: the checksums are right, and the rows are not.
    pub fn is_unsound(&self) -> bool {
        matches!(self, Refused::Row(_) | Refused::State(_))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Number { due, found } => {
                write!(f, "chunk {found} came where chunk {due} is due")
            }
            Refused::Checksum(number) => {
                write!(f, "the checksum of chunk {number} is not that of its bytes")
            }
            Refused::Header(what) => write!(f, "its header {what}"),
            Refused::Row(what) => write!(f, "a row {what}"),
            Refused::State(what) | Refused::NoRoom(what) => f.write_str(what),
        }
    }
}

/// A row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub table: Table,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> Row<'a> {
    pub fn encoded_len(&self) -> usize {
        ROW_HEADER_LEN + self.key.len() + self.value.len()
    }

    /// Adds it to the rows of a chunk.
    ///
    /// # Panics
    /// If it is longer than anything that a store holds.
    pub fn put(&self, rows: &mut Vec<u8>) {
        let key_len = u16::try_from(self.key.len()).expect("keys are bounded at the door");
        let value_len = u32::try_from(self.value.len()).expect("values are bounded at the door");
        rows.push(self.table as u8);
        rows.extend_from_slice(&key_len.to_be_bytes());
        rows.extend_from_slice(&value_len.to_be_bytes());
        rows.extend_from_slice(self.key);
        rows.extend_from_slice(self.value);
    }

    /// Takes the first row off `rows`.
    pub fn take(rows: &mut &'a [u8]) -> Result<Row<'a>, Refused> {
        let cut_short = Refused::Row("is cut short");
        let Some((header, rest)) = rows.split_first_chunk::<ROW_HEADER_LEN>() else {
            return Err(cut_short);
        };
        let [table, k0, k1, v0, v1, v2, v3] = *header;
        let Some(table) = Table::ALL.into_iter().find(|known| *known as u8 == table) else {
            return Err(Refused::Row("is of a table that is not known"));
        };
        let key_len = usize::from(u16::from_be_bytes([k0, k1]));
        let value_len = u32::from_be_bytes([v0, v1, v2, v3]) as usize;
        let Some((key, rest)) = rest.split_at_checked(key_len) else { return Err(cut_short) };
        let Some((value, rest)) = rest.split_at_checked(value_len) else { return Err(cut_short) };
        *rows = rest;
        Ok(Row { table, key, value })
    }
}

/// The checksum of a chunk that comes after one with the checksum `before`.
pub(super) fn checksum(before: u32, header: Option<&Header>, rows: &[u8]) -> u32 {
    let header = header.map(Message::encode_to_vec).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c_append(before, &header), rows)
}

/// Whether the checksum of a chunk, after one with the checksum `before`, is right.
pub(super) fn is_intact(before: u32, chunk: &Chunk) -> bool {
    checksum(before, chunk.header.as_ref(), &chunk.rows) == chunk.crc
}
