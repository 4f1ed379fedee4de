//! Exactly once: the window of remembered requests.
//!
//! The outcomes of the last writes are kept under their request ids, so that a retry is answered
//! with the first outcome and not applied again. The window is replicated state: what it holds, and
//! what it evicts, depends on nothing but the log.
//!
//! Invariants:
//! - At most one request is remembered for one index of the log, and indexes ascend.
//! - The window holds every request that was remembered above its floor, and none at or below it.
//!   The floor is the largest index that was evicted, and only grows.
//! - Hence: an application of a request can only stand above its `since`. With `since` at or above
//!   the floor, an unknown id means that it was never applied. Below the floor nothing can be said:
//!   [`Window::may_have_forgotten`].

#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::apply::Verdict;
use super::digest::{RowSum, row_hash};
use super::map::{KeyRange, Snapshot, Table};
use super::meta::{self, number};
use crate::error::{Error, Result};
use crate::limits::{REMEMBERED_LEN_MAX, REMEMBERED_MAX};
use crate::wire::client::TxnResult;
use crate::wire::validate::REQUEST_ID_LEN;

/// The name of the floor in the table of meta data.
pub(super) const FLOOR: &str = "remembered_floor";

/// The random name of a write.
pub(super) type RequestId = [u8; REQUEST_ID_LEN];

/// How much is remembered. Replicated state: all replicas have the same bounds.
#[derive(Debug, Clone, Copy)]
pub struct WindowBounds {
    /// Requests.
    pub entries_max: usize,
    /// Bytes of their outcomes, as encoded.
    pub len_bytes_max: usize,
}

impl Default for WindowBounds {
    fn default() -> WindowBounds {
        WindowBounds { entries_max: REMEMBERED_MAX, len_bytes_max: REMEMBERED_LEN_MAX }
    }
}

/// One remembered request.
#[derive(Debug, Clone)]
pub(super) struct Remembered {
    /// Where it was applied.
    pub index: u64,
    pub id: RequestId,
    /// Encoded, as it is on disk.
    pub outcome: Arc<[u8]>,
}

impl Remembered {
    pub fn key(index: u64) -> Bytes {
        Bytes::copy_from_slice(&index.to_be_bytes())
    }

    pub fn encode(&self) -> Bytes {
        [&self.id, &self.outcome[..]].concat().into()
    }

    /// What its row adds to the digest.
    fn row_hash(&self) -> u128 {
        row_hash(Table::Remembered, &self.index.to_be_bytes(), [&self.id, &self.outcome])
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Remembered> {
        let (id, outcome) = value.split_first_chunk::<REQUEST_ID_LEN>()?;
        Some(Remembered { index: number(key)?, id: *id, outcome: outcome.into() })
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Window {
    bounds: WindowBounds,
    outcomes: HashMap<RequestId, Arc<[u8]>>,
    /// Oldest first.
    order: VecDeque<(u64, RequestId)>,
    /// Of all outcomes.
    len_bytes: usize,
    floor: u64,
}

impl Window {
    /// Loads what the map remembers.
    pub fn load<S: Snapshot>(snapshot: &S, bounds: WindowBounds) -> Result<Window> {
        // The whole room at once (untouched, it costs address space only): growing by rehashing would stall
        // the reactor for milliseconds.
        let mut window = Window {
            bounds,
            outcomes: HashMap::with_capacity(bounds.entries_max + 1),
            order: VecDeque::with_capacity(bounds.entries_max + 1),
            len_bytes: 0,
            floor: meta::read_number(snapshot, FLOOR)?.unwrap_or(0),
        };
        snapshot.scan(Table::Remembered, KeyRange::ALL, |key, value| {
            let entry = Remembered::decode(key, value).ok_or_else(|| {
                Error::Store(format!(
                    "the remembered request {key:?} cannot be read: the file is damaged, move the data \
                     directory away and let the node join anew with an empty one"
                ))
            })?;
            if !window.may_push(&entry) {
                return Err(Error::Store(format!(
                    "the request remembered for entry {} is out of order, or remembered twice: the file is damaged, \
                     move the data directory away and let the node join anew with an empty one",
                    entry.index
                )));
            }
            window.push(entry);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(window)
    }

    /// The bounds it was made with.
    pub fn bounds(&self) -> WindowBounds {
        self.bounds
    }

    /// The encoded outcome of a request, if it is remembered.
    pub fn outcome(&self, id: &RequestId) -> Option<&[u8]> {
        self.outcomes.get(id).map(|outcome| &outcome[..])
    }

    /// Whether a request with this `since` may have been applied at an index that was evicted.
    pub fn may_have_forgotten(&self, since: u64) -> bool {
        since < self.floor
    }

    /// The largest index that was evicted, 0 if none was.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Adds the outcome of a request that was applied, and evicts the oldest beyond the bounds. `rows` follows.
    pub fn remember(&mut self, entry: Remembered, rows: &mut RowSum) {
        rows.add(entry.row_hash());
        self.push(entry);
        while self.order.len() > self.bounds.entries_max
            || self.len_bytes > self.bounds.len_bytes_max
        {
            rows.remove(self.evict().row_hash());
        }
    }

    /// Whether a request is above those that are remembered, and not among them.
    fn may_push(&self, entry: &Remembered) -> bool {
        let newest = self.order.back().map_or(self.floor, |(index, _)| *index);
        entry.index > newest && !self.outcomes.contains_key(&entry.id)
    }

    fn push(&mut self, entry: Remembered) {
        let newest = self.order.back().map_or(self.floor, |(index, _)| *index);
        assert!(entry.index > newest, "remembered requests out of order at {}", entry.index);
        self.len_bytes += entry.outcome.len();
        self.order.push_back((entry.index, entry.id));
        let known = self.outcomes.insert(entry.id, entry.outcome);
        assert!(known.is_none(), "the request of entry {} was applied before", entry.index);
    }

    fn evict(&mut self) -> Remembered {
        let Some((index, id)) = self.order.pop_front() else {
            unreachable!("an empty window is within its bounds");
        };
        let Some(outcome) = self.outcomes.remove(&id) else {
            unreachable!("every request of the order has an outcome: `push` adds both");
        };
        self.len_bytes -= outcome.len();
        self.floor = index;
        Remembered { index, id, outcome }
    }
}

const DONE: u8 = 0;
const RESULT_TOO_LARGE: u8 = 1;
const OVER_QUOTA: u8 = 2;

/// The outcome of a write, as it is remembered. Of refusals those that depend on the state: a client that was told one must
/// not find the write applied after all, by a second attempt of it that stands later in the log, when the state has changed.
/// (Every other refusal is the same at each attempt, or leaves the outcome open.)
pub(super) fn encode_verdict(verdict: &Verdict) -> Arc<[u8]> {
    match verdict {
        Verdict::Done { revision, result } => {
            let mut bytes = Vec::with_capacity(1 + size_of::<u64>() + result.encoded_len());
            bytes.push(DONE);
            bytes.extend_from_slice(&revision.to_be_bytes());
            result.encode_raw(&mut bytes);
            bytes.into()
        }
        Verdict::ResultTooLarge => Arc::new([RESULT_TOO_LARGE]),
        Verdict::OverQuota { used, needed, max_bytes } => {
            let numbers = [used, needed, max_bytes].map(|number| number.to_be_bytes());
            [&[OVER_QUOTA], numbers.as_flattened()].concat().into()
        }
    }
}

/// The inverse of [`encode_verdict`].
pub(super) fn decode_verdict(bytes: &[u8]) -> Result<Verdict> {
    let decoded = match bytes.split_first() {
        Some((&DONE, rest)) => rest.split_first_chunk().and_then(|(revision, result)| {
            let revision = u64::from_be_bytes(*revision);
            // Out of a buffer of its own, since the result's values are slices of what it is decoded from.
            let result = TxnResult::decode(Bytes::copy_from_slice(result)).ok()?;
            Some(Verdict::Done { revision, result })
        }),
        Some((&RESULT_TOO_LARGE, [])) => Some(Verdict::ResultTooLarge),
        Some((&OVER_QUOTA, numbers)) => decode_over_quota(numbers),
        _ => None,
    };
    decoded.ok_or_else(|| {
        Error::Store(
            "a remembered outcome cannot be read: the file is damaged, move the data directory away and let the \
             node join anew with an empty one"
                .into(),
        )
    })
}

fn decode_over_quota(bytes: &[u8]) -> Option<Verdict> {
    let numbers: Option<Vec<u64>> = bytes.chunks(size_of::<u64>()).map(number).collect();
    let [used, needed, max_bytes] = numbers?.try_into().ok()?;
    Some(Verdict::OverQuota { used, needed, max_bytes })
}
