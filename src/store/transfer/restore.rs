//! A backup becomes the state of a new cluster.
//!
//! Invariants:
//! - The data are those of the backup, row by row; revision and time go on from there.
//! - Nothing of the old cluster is left beside: its members are not those of the new one, and its remembered requests belong
//!   to clients that knew another log. The window begins where the backup ends, so that a request which was first sent before
//!   is refused and never applied: whether the backup has it, nobody can tell any more.
//! - A map that is not finished has no meta data, and is never taken for a store.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::super::digest::{RowSum, row_hash};
use super::super::map::{Map, Table};
use super::super::meta::Meta;
use super::super::{Figures, WindowBounds};
use super::inspect::Inspection;
use super::target::{Failure, Rows};
use crate::wire::log::Membership;
use crate::wire::snapshot::{Chunk, Header};

/// Makes the state of a new cluster of a backup, chunk by chunk.
pub struct Restore<M: Map> {
    map: M,
    inspection: Inspection,
    rows: Rows,
    /// Of the data alone.
    sum: RowSum,
}

impl<M: Map> Restore<M> {
    /// Fills an empty map.
    pub fn new(map: M) -> Restore<M> {
        let inspection = Inspection::new(WindowBounds::default());
        Restore { map, inspection, rows: Rows::default(), sum: RowSum::default() }
    }

    /// Takes in the next chunk. Blocks.
    pub fn add(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        let Restore { map, inspection, rows, sum } = self;
        inspection.take_in(chunk, |row| {
            if row.table != Table::Data {
                return Ok(());
            }
            sum.add(row_hash(row.table, row.key, [row.value, &[]]));
            rows.take_in(row, &chunk.rows, map)
        })
    }

    /// Whether the last chunk is in.
    pub fn is_complete(&self) -> bool {
        self.inspection.is_complete()
    }

    /// Makes it the state of a cluster with these members, durably. Gives what the backup says of itself. Blocks.
    ///
    /// # Panics
    /// If the last chunk is not in.
    pub fn finish(mut self, membership: Membership) -> Result<Header, Failure> {
        let (header, figures) = self.inspection.finish()?;
        let Figures { applied, revision, time_ms, keys, logical_bytes, max_bytes, .. } = figures;
        let membership = Some(Arc::new(membership));
        let rows = self.sum;
        let meta =
            Meta { applied, revision, time_ms, keys, logical_bytes, max_bytes, rows, membership };
        meta.write(applied.index, &mut self.rows.batch);
        self.rows.commit(&self.map)?;
        Ok(header)
    }
}
