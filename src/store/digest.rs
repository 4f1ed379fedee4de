//! What a state amounts to: 16 bytes that two replicas compare in place of all their rows.
//!
//! Each row of the tables of data and of remembered requests has a hash (XXH3-128 over table, key and value), and their sum
//! modulo 2^128 is kept beside the state: a change takes the old row's hash out and puts the new one's in. So it costs as
//! much as the change, not as the state, and does not depend on the order in which the rows came. What is told to others is
//! the hash of that sum and of what the state machine knows of itself: revision, time, counts, window, quota, membership.
//!
//! Invariants:
//! - The sum is that of the rows as of the same entry, in memory and in each commit of the map. [`Tally`] checks it against
//!   all rows of a map, or of a snapshot.
//! - Two states with the same digest are taken for equal. The hash guards against faults, not against an enemy.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use prost::Message;
use twox_hash::XxHash3_128;

use super::map::{Batch, KeyRange, Map, Snapshot, Table};
use super::mem_map::MemMap;
use super::meta::{self, Applied, Meta};
use super::record::RecordRef;
use super::remembered::FLOOR;
use crate::error::{Error, Result};

/// The digest of a state.
pub type Digest = [u8; DIGEST_LEN];

/// Its length, in bytes.
pub const DIGEST_LEN: usize = 16;

/// The hash of one row. The value may come in two pieces.
pub(super) fn row_hash(table: Table, key: &[u8], value: [&[u8]; 2]) -> u128 {
    let mut row = Vec::with_capacity(5 + key.len() + value[0].len() + value[1].len());
    row.push(table as u8);
    row.extend_from_slice(&(key.len() as u32).to_be_bytes());
    row.extend_from_slice(key);
    row.extend_from_slice(value[0]);
    row.extend_from_slice(value[1]);
    XxHash3_128::oneshot(&row)
}

/// The sum of the hashes of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RowSum(u128);

impl RowSum {
    pub fn add(&mut self, row_hash: u128) {
        self.0 = self.0.wrapping_add(row_hash);
    }

    pub fn remove(&mut self, row_hash: u128) {
        self.0 = self.0.wrapping_sub(row_hash);
    }

    pub fn to_bytes(self) -> [u8; DIGEST_LEN] {
        self.0.to_be_bytes()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<RowSum> {
        bytes.try_into().ok().map(|bytes| RowSum(u128::from_be_bytes(bytes)))
    }
}

/// The digest of the state that `meta` and the window's floor belong to.
pub(super) fn digest(meta: &Meta, remembered_floor: u64) -> Digest {
    let Meta { applied: _, revision, time_ms, keys, logical_bytes, max_bytes, rows, membership } =
        meta;
    let mut bytes = rows.to_bytes().to_vec();
    for number in [*revision, *time_ms, *keys, *logical_bytes, *max_bytes, remembered_floor] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    if let Some(membership) = membership {
        bytes.extend_from_slice(&membership.encode_to_vec());
    }
    XxHash3_128::oneshot(&bytes).to_be_bytes()
}

/// A state in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// How far the log is applied in it.
    pub applied: Applied,
    /// How many commands have changed something.
    pub revision: u64,
    /// The state machine's time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Live keys.
    pub keys: u64,
    /// Lengths of live keys and their values, added up.
    pub logical_bytes: u64,
    /// What they may be at most; 0: no limit.
    pub max_bytes: u64,
    /// What the state amounts to.
    pub digest: Digest,
}

/// Goes through all rows of a state, and finds out whether they are what the state says of itself.
#[derive(Debug, Default)]
pub struct Tally {
    rows: RowSum,
    keys: u64,
    logical_bytes: u64,
    meta: Batch,
}

impl Tally {
    /// Takes in a row. Any order will do, and each row once.
    pub fn add(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        match table {
            Table::Meta => {
                self.meta.put(table, key.to_vec(), value.to_vec());
                return Ok(());
            }
            Table::Data => {
                self.keys += 1;
                self.logical_bytes += (key.len() + RecordRef::decode(value)?.value.len()) as u64;
            }
            Table::Remembered => {}
        }
        self.rows.add(row_hash(table, key, [value, &[]]));
        Ok(())
    }

    /// The state in figures, once it has all rows. An error if the rows are not what the state says of itself.
    pub fn finish(self) -> Result<Figures> {
        let map = MemMap::default();
        map.commit(&self.meta)?;
        let snapshot = map.snapshot()?;
        let meta = Meta::load(&snapshot)?;
        let floor = meta::read_number(&snapshot, FLOOR)?.unwrap_or(0);
        let found = (self.keys, self.logical_bytes, self.rows);
        if found != (meta.keys, meta.logical_bytes, meta.rows) {
            return Err(Error::Store(format!(
                "its rows are not what it says of itself: {} keys with {} bytes were found, {} with {} are told{}: it is \
                 damaged, or was made from a store that is",
                self.keys,
                self.logical_bytes,
                meta.keys,
                meta.logical_bytes,
                if self.rows == meta.rows { "" } else { ", and the sums of the rows differ" },
            )));
        }
        let Meta { applied, revision, time_ms, keys, logical_bytes, max_bytes, .. } = meta;
        let digest = digest(&meta, floor);
        Ok(Figures { applied, revision, time_ms, keys, logical_bytes, max_bytes, digest })
    }
}

/// [`Tally`] of all that a map shows. Takes as long as there is to read.
pub fn tally<S: Snapshot>(snapshot: &S) -> Result<Figures> {
    let mut tally = Tally::default();
    for table in Table::ALL {
        snapshot.scan(table, KeyRange::ALL, |key, value| {
            tally.add(table, key, value)?;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    tally.finish()
}

/// That a change would take more out of the state than is in it.
pub(super) fn counts_do_not_hold() -> Error {
    Error::Store(
        "the lengths of its rows are not what it has counted: the file is damaged, move the data directory away and let \
         the node join anew with an empty one"
            .into(),
    )
}
