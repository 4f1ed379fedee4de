//! What the state machine should do, as plainly as it can be said: no layers, no commits, no window.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use prost::Message;

use super::{Outcome, WindowBounds};
use crate::error::refusal;
use crate::wire::client::{
    Code, Compare, DeleteResult, GetResult, KeyValue, Op, OpResult, PutResult, Range, RangeResult,
    Txn, TxnResult, compare, op, op_result,
};
use crate::wire::log::Command;

pub struct Model {
    pub data: BTreeMap<Bytes, KeyValue>,
    pub revision: u64,
    pub time_ms: u64,
    pub max_bytes: u64,
    bounds: WindowBounds,
    /// Every application there ever was: index, id, outcome.
    applications: Vec<(u64, Bytes, Outcome)>,
    ids: HashSet<Bytes>,
}

impl Model {
    pub fn new(bounds: WindowBounds) -> Model {
        let data = BTreeMap::new();
        let (applications, ids) = (Vec::new(), HashSet::new());
        Model { data, revision: 0, time_ms: 0, max_bytes: 0, bounds, applications, ids }
    }

    pub fn logical_bytes(&self) -> u64 {
        self.data.values().map(|kv| (kv.key.len() + kv.value.len()) as u64).sum()
    }

    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        self.time_ms = self.time_ms.max(command.time_ms);
        if let Some(max_bytes) = command.max_bytes {
            self.max_bytes = max_bytes;
            let result = TxnResult::default();
            return Outcome::Done { revision: self.revision, result };
        }
        let write = command.write.as_ref().unwrap();
        let (floor, window) = self.window();
        if let Some((.., outcome)) = window.iter().find(|(_, id, _)| *id == write.request_id) {
            return outcome.clone();
        }
        if write.since < floor || write.since >= index {
            return Outcome::Refused(refusal(Code::OutcomeUnknown, ""));
        }
        assert!(self.ids.insert(write.request_id.clone()), "applied twice");
        let before = (self.data.clone(), self.revision, self.logical_bytes());
        let result = self.txn(write.txn.as_ref().unwrap());
        let mut outcome = Outcome::Done { revision: self.revision, result };
        let after = self.logical_bytes();
        if self.max_bytes > 0 && after > self.max_bytes && after > before.2 {
            (self.data, self.revision, _) = before;
            outcome = Outcome::Refused(refusal(Code::NoSpace, ""));
        }
        self.applications.push((index, write.request_id.clone(), outcome.clone()));
        outcome
    }

    /// The floor, and the applications above it: the longest tail within the bounds.
    fn window(&self) -> (u64, &[(u64, Bytes, Outcome)]) {
        let mut len_bytes = 0;
        let mut start = self.applications.len();
        while start > 0 && self.applications.len() - start < self.bounds.entries_max {
            len_bytes += match &self.applications[start - 1].2 {
                Outcome::Done { result, .. } => 9 + result.encoded_len(),
                // The kind, and three numbers.
                Outcome::Refused(_) => 25,
            };
            if len_bytes > self.bounds.len_bytes_max {
                break;
            }
            start -= 1;
        }
        let floor = if start == 0 { 0 } else { self.applications[start - 1].0 };
        (floor, &self.applications[start..])
    }

    fn txn(&mut self, txn: &Txn) -> TxnResult {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let revision = self.revision + 1;
        let mut changed = false;
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let results = ops.iter().map(|op| self.op(op, revision, &mut changed)).collect();
        self.revision += u64::from(changed);
        TxnResult { succeeded, results }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.data.get(&compare.key);
        let ordering = match compare.target.as_ref().unwrap() {
            compare::Target::Value(value) => kv.map(|kv| &kv.value).cmp(&Some(value)),
            compare::Target::Version(v) => kv.map_or(0, |kv| kv.version).cmp(v),
            compare::Target::CreateRevision(r) => kv.map_or(0, |kv| kv.create_revision).cmp(r),
            compare::Target::ModRevision(r) => kv.map_or(0, |kv| kv.mod_revision).cmp(r),
        };
        match compare.operator() {
            compare::Operator::Equal => ordering.is_eq(),
            compare::Operator::NotEqual => !ordering.is_eq(),
            compare::Operator::Less => ordering.is_lt(),
            compare::Operator::Greater => ordering.is_gt(),
        }
    }

    fn op(&mut self, op: &Op, revision: u64, changed: &mut bool) -> OpResult {
        let result = match op.op.as_ref().unwrap() {
            op::Op::Put(put) => {
                *changed = true;
                let old = self.data.remove(&put.key);
                let kv = KeyValue {
                    key: put.key.clone(),
                    value: put.value.clone(),
                    create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                    mod_revision: revision,
                    version: old.as_ref().map_or(1, |old| old.version + 1),
                };
                self.data.insert(put.key.clone(), kv);
                op_result::Result::Put(PutResult { replaced: old.is_some() })
            }
            op::Op::Get(get) => {
                op_result::Result::Get(GetResult { kv: self.data.get(&get.key).cloned() })
            }
            op::Op::Delete(delete) => {
                let deleted = u64::from(self.data.remove(&delete.key).is_some());
                *changed |= deleted > 0;
                op_result::Result::Delete(DeleteResult { deleted, next: Bytes::new() })
            }
            op::Op::DeleteRange(range) => {
                let before = self.data.len();
                self.data.retain(|key, _| !in_range(key, &range.from, &range.to));
                let deleted = (before - self.data.len()) as u64;
                *changed |= deleted > 0;
                op_result::Result::Delete(DeleteResult { deleted, next: Bytes::new() })
            }
        };
        OpResult { result: Some(result) }
    }

    /// The answer to a range read, for ranges that are within the limit of bytes.
    pub fn scan(&self, range: &Range) -> RangeResult {
        let mut kvs = self.data.values().filter(|kv| in_range(&kv.key, &range.from, &range.to));
        if range.count_only {
            return RangeResult { count: kvs.count() as u64, ..RangeResult::default() };
        }
        let limit = if range.limit == 0 { usize::MAX } else { range.limit as usize };
        let mut page: Vec<_> = kvs.by_ref().take(limit).cloned().collect();
        if range.keys_only {
            page.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        let next = kvs.next().map(|kv| kv.key.clone()).unwrap_or_default();
        RangeResult { count: page.len() as u64, kvs: page, next }
    }
}

fn in_range(key: &[u8], from: &[u8], to: &[u8]) -> bool {
    key >= from && (to.is_empty() || key < to)
}
