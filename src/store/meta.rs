//! What the state machine knows of itself: how far the log is applied, the membership as of then,
//! counts. Written with every commit, in the same transaction as the data.

#![forbid(unsafe_code)]

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::digest::RowSum;
use super::map::{Batch, KeyRange, Snapshot, Table};
use crate::error::{Error, Result};
use crate::limits::APPLY_VERSION;
use crate::wire::log::Membership;

/// The layout of the tables. Raised when an older server could misread them.
pub const FORMAT_VERSION: u32 = 2;

const FORMAT: &str = "format";
const APPLY: &str = "apply";
const APPLIED: &str = "applied";
const REVISION: &str = "revision";
const TIME_MS: &str = "time_ms";
const KEYS: &str = "keys";
const LOGICAL_BYTES: &str = "logical_bytes";
const MAX_BYTES: &str = "max_bytes";
const DIGEST: &str = "digest";
const MEMBERSHIP: &str = "membership";

/// A position in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// The index of the last entry that was applied, 0 if none was.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
}

/// See the [module](self).
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Meta {
    pub applied: Applied,
    pub revision: u64,
    pub time_ms: u64,
    /// Live keys.
    pub keys: u64,
    /// Lengths of live keys and their values.
    pub logical_bytes: u64,
    /// What they may be at most; 0: no limit.
    pub max_bytes: u64,
    /// Of all rows of data and of remembered requests.
    pub rows: RowSum,
    /// Shared, so that a commit costs no copy of it.
    pub membership: Option<Arc<Membership>>,
}

impl Meta {
    /// Loads it from the map; the default from a map in which nothing was ever committed.
    pub fn load<S: Snapshot>(snapshot: &S) -> Result<Meta> {
        if is_fresh(snapshot)? {
            return Ok(Meta::default());
        }
        check_version(snapshot, FORMAT, "format", FORMAT_VERSION)?;
        check_version(snapshot, APPLY, "apply", APPLY_VERSION)?;
        let need = |name| read_number(snapshot, name)?.ok_or_else(|| damaged(name));
        Ok(Meta {
            applied: read(snapshot, APPLIED, decode_applied)?.ok_or_else(|| damaged(APPLIED))?,
            revision: need(REVISION)?,
            time_ms: need(TIME_MS)?,
            keys: need(KEYS)?,
            logical_bytes: need(LOGICAL_BYTES)?,
            max_bytes: need(MAX_BYTES)?,
            rows: read(snapshot, DIGEST, RowSum::from_bytes)?.ok_or_else(|| damaged(DIGEST))?,
            membership: read(snapshot, MEMBERSHIP, |bytes| Membership::decode(bytes).ok())?
                .map(Arc::new),
        })
    }

    /// Adds its rows to a batch, in the order of their names.
    pub fn write(&self, remembered_floor: u64, batch: &mut Batch) {
        let mut rows = vec![
            (FORMAT, FORMAT_VERSION.to_be_bytes().to_vec()),
            (APPLY, APPLY_VERSION.to_be_bytes().to_vec()),
            (APPLIED, encode_applied(self.applied)),
            (REVISION, self.revision.to_be_bytes().to_vec()),
            (TIME_MS, self.time_ms.to_be_bytes().to_vec()),
            (KEYS, self.keys.to_be_bytes().to_vec()),
            (LOGICAL_BYTES, self.logical_bytes.to_be_bytes().to_vec()),
            (MAX_BYTES, self.max_bytes.to_be_bytes().to_vec()),
            (DIGEST, self.rows.to_bytes().to_vec()),
            (super::remembered::FLOOR, remembered_floor.to_be_bytes().to_vec()),
        ];
        if let Some(membership) = &self.membership {
            rows.push((MEMBERSHIP, membership.encode_to_vec()));
        }
        rows.sort();
        for (name, bytes) in rows {
            batch.put(Table::Meta, Bytes::from_static(name.as_bytes()), bytes);
        }
    }
}

/// Reads a number of the table.
pub(super) fn read_number<S: Snapshot>(snapshot: &S, name: &str) -> Result<Option<u64>> {
    read(snapshot, name, number)
}

/// A big-endian number of exactly eight bytes.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn read<S: Snapshot, T>(
    snapshot: &S,
    name: &str,
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>> {
    let found = snapshot.get(Table::Meta, name.as_bytes(), decode)?;
    found.map(|decoded| decoded.ok_or_else(|| damaged(name))).transpose()
}

/// Whether nothing was ever committed. Rows without a format are not fresh: some other program's.
fn is_fresh<S: Snapshot>(snapshot: &S) -> Result<bool> {
    let mut fresh = true;
    for table in Table::ALL {
        snapshot.scan(table, KeyRange::ALL, |_, _| {
            fresh = false;
            Ok(std::ops::ControlFlow::Break(()))
        })?;
    }
    Ok(fresh)
}

fn check_version<S: Snapshot>(snapshot: &S, name: &str, what: &str, known: u32) -> Result<()> {
    let decode = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
    match read(snapshot, name, decode)? {
        Some(version) if version == known => Ok(()),
        Some(version) => Err(Error::Store(format!(
            "it was written with {what} version {version}, and this server knows version {known} only: start \
             the server version that wrote it"
        ))),
        None => Err(damaged(name)),
    }
}

fn encode_applied(applied: Applied) -> Vec<u8> {
    [applied.index.to_be_bytes(), applied.term.to_be_bytes()].concat()
}

fn decode_applied(bytes: &[u8]) -> Option<Applied> {
    let (index, term) = bytes.split_first_chunk()?;
    Some(Applied { index: u64::from_be_bytes(*index), term: number(term)? })
}

fn damaged(name: &str) -> Error {
    Error::Store(format!(
        "its row {name:?} is missing or cannot be read: the file is damaged, move the data directory away and \
         let the node join anew with an empty one"
    ))
}
