//! Range reads. Begun on the reactor, where they cost a few reference counts, and run on a store thread.
//!
//! Invariant: a [`Scan`] shows the store as it was when the scan was begun, whatever is applied or
//! committed before it runs.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::Arc;

use super::layers::{Layer, Overlay, scan_merged};
use super::map::{KeyRange, Map};
use super::record::RecordRef;
use crate::error::Result;
use crate::limits::{RANGE_BYTES_MAX, RANGE_ENTRIES_MAX};
use crate::wire::client::{Range, RangeResult};

/// A range read that was begun. To be run soon: it holds a snapshot of the map.
pub struct Scan<M: Map> {
    pub(super) range: Range,
    /// Oldest first.
    pub(super) layers: Vec<Arc<Layer>>,
    pub(super) snapshot: M::Snapshot,
    pub(super) revision: u64,
}

/// What a [`Scan`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanResult {
    /// The revision that was read.
    pub revision: u64,
    /// The answer to the client.
    pub result: RangeResult,
}

impl<M: Map> Scan<M> {
    /// Reads the range, or its first page. Blocks, so it runs on a store thread.
    pub fn run(self) -> Result<ScanResult> {
        let range = KeyRange { from: &self.range.from, to: &self.range.to };
        let layers = self.layers.iter().rev().map(|layer| &layer.changes);
        let mut page = Page::new(&self.range);
        scan_merged(Overlay::new(layers, range), &self.snapshot, range, |key, record| {
            page.visit(key, record)
        })?;
        Ok(ScanResult { revision: self.revision, result: page.result })
    }
}

/// The reply as it fills.
struct Page<'a> {
    range: &'a Range,
    limit: usize,
    /// Keys and values so far.
    len_bytes: usize,
    result: RangeResult,
}

impl<'a> Page<'a> {
    fn new(range: &'a Range) -> Page<'a> {
        let limit = match range.limit as usize {
            0 => RANGE_ENTRIES_MAX,
            limit => limit.min(RANGE_ENTRIES_MAX),
        };
        Page { range, limit, len_bytes: 0, result: RangeResult::default() }
    }

    fn visit(&mut self, key: &[u8], record: RecordRef<'_>) -> ControlFlow<()> {
        if self.range.count_only {
            self.result.count += 1;
            return ControlFlow::Continue(());
        }
        let value = if self.range.keys_only { &[] } else { record.value };
        let len_bytes = key.len() + value.len();
        // The first entry always fits, so that pages make progress.
        let full = self.len_bytes > 0 && self.len_bytes + len_bytes > RANGE_BYTES_MAX;
        if full || self.result.kvs.len() == self.limit {
            self.result.next = key.to_vec().into();
            return ControlFlow::Break(());
        }
        self.len_bytes += len_bytes;
        self.result.count += 1;
        self.result.kvs.push(RecordRef { value, ..record }.to_key_value(key));
        ControlFlow::Continue(())
    }
}
