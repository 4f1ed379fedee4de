//! What the store promises, in its simplest form: a sorted map, asked by one client at a time.
//!
//! Written from `proto/client.proto` and not from `store::apply`, which it judges. A step is computed beside the state
//! and taken afterwards, and what is taken can be taken back: the search tries one operation after the other.
//!
//! The fingerprint stands for the state wherever states are remembered. It is kept with each change, at a cost that
//! does not depend on how much there is; two states have the same one by an accident of 1 in 2^128.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;

use bytes::Bytes;

use crate::limits::{DELETE_RANGE_KEYS_MAX, DELETE_RANGE_LEN_MAX};
use crate::sim::history::{Answer, Asked};
use crate::wire::client::{
    Compare, DeleteRange, DeleteResult, GetResult, KeyValue, Op, OpResult, PutResult, Range,
    RangeResult, Txn, TxnResult, compare, op, op_result,
};

/// New records by key; `None`: deleted.
pub(super) type Changes = BTreeMap<Bytes, Option<KeyValue>>;

/// A hash of 128 bits, the same in every run.
pub(super) fn fingerprint(of: impl Hash) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, &of).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Model {
    records: BTreeMap<Bytes, KeyValue>,
    revision: u64,
    /// Without, all revisions are 0.
    counts_revisions: bool,
    fingerprint: u128,
}

/// An operation at its place in the order.
pub(super) struct Step {
    /// What the store answers there. A range read's whole range: see [`Step::answers`].
    pub answer: Answer,
    /// What it changes.
    pub changes: Changes,
    /// The revision after it.
    pub revision: u64,
}

impl Model {
    /// The empty store.
    pub fn new(counts_revisions: bool) -> Model {
        Model { counts_revisions, ..Model::default() }
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn fingerprint(&self) -> u128 {
        self.fingerprint ^ u128::from(self.revision)
    }

    /// What the operation would do now.
    pub fn step(&self, asked: &Asked) -> Step {
        let mut execution = self.execution();
        let answer = match asked {
            Asked::Get(key) => Answer::got(self.records.get(key).cloned()),
            Asked::Range(range) => Answer::Range(self.list(range)),
            Asked::Write(txn) => Answer::Write(execution.run(txn)),
        };
        let changes = execution.changes;
        let grows = self.counts_revisions && !changes.is_empty();
        Step { answer, changes, revision: self.revision + u64::from(grows) }
    }

    /// Makes the changes of a step, and gives what undoes them with [`Model::take_back`].
    pub fn take(&mut self, changes: Changes) -> Changes {
        self.revision += u64::from(self.counts_revisions && !changes.is_empty());
        self.swap(changes)
    }

    pub fn take_back(&mut self, undo: Changes) {
        self.revision -= u64::from(self.counts_revisions && !undo.is_empty());
        self.swap(undo);
    }

    fn swap(&mut self, changes: Changes) -> Changes {
        let swap = |(key, new): (Bytes, Option<KeyValue>)| {
            self.fingerprint ^= new.as_ref().map_or(0, fingerprint);
            let old = match new {
                Some(record) => self.records.insert(key.clone(), record),
                None => self.records.remove(&key),
            };
            self.fingerprint ^= old.as_ref().map_or(0, fingerprint);
            (key, old)
        };
        changes.into_iter().map(swap).collect()
    }

    fn execution(&self) -> Execution<'_> {
        let revision = if self.counts_revisions { self.revision + 1 } else { 0 };
        let changes = Changes::new();
        Execution {
            model: self,
            changes,
            revision,
            range_deletes_left: DELETE_RANGE_KEYS_MAX,
            range_bytes_left: DELETE_RANGE_LEN_MAX,
        }
    }

    fn list(&self, Range { from, to, .. }: &Range) -> RangeResult {
        let kvs: Vec<KeyValue> = match is_empty(from, to) {
            true => Vec::new(),
            false => {
                self.records.range::<[u8], _>(bounds(from, to)).map(|(_, it)| it.clone()).collect()
            }
        };
        RangeResult { count: kvs.len() as u64, kvs, next: Bytes::new() }
    }
}

/// Only for a range that is not [empty](is_empty): the map panics at bounds in the wrong order.
fn bounds<'a>(from: &'a [u8], to: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let to = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
    (Bound::Included(from), to)
}

fn is_empty(from: &[u8], to: &[u8]) -> bool {
    !to.is_empty() && to <= from
}

/// Whether a key lies in [from, to), of which an empty `to` is no bound.
pub(super) fn is_within(key: &[u8], from: &[u8], to: &[u8]) -> bool {
    key >= from && (to.is_empty() || key < to)
}

impl Step {
    /// Whether what a client was answered is the answer of this step.
    pub fn answers(&self, asked: &Asked, answer: &Answer) -> bool {
        match (asked, &self.answer, answer) {
            (Asked::Range(range), Answer::Range(whole), Answer::Range(page)) => {
                is_page(range, whole, page)
            }
            (_, computed, answer) => computed == answer,
        }
    }
}

/// Whether a page holds the first keys of a range, and says truly whether there are more. Where it ends is the
/// server's choice, within the limit that was asked for.
fn is_page(range: &Range, whole: &RangeResult, page: &RangeResult) -> bool {
    if range.count_only {
        return page.kvs.is_empty() && page.next.is_empty() && page.count == whole.count;
    }
    let listed = page.kvs.len();
    let Some((first, rest)) = whole.kvs.split_at_checked(listed) else { return false };
    let same = |(found, told): (&KeyValue, &KeyValue)| match range.keys_only {
        true => KeyValue { value: Bytes::new(), ..found.clone() } == *told,
        false => found == told,
    };
    let next = rest.first().map_or(&b""[..], |record| &record.key);
    let within = range.limit == 0 || listed as u64 <= u64::from(range.limit);
    within
        && page.count == listed as u64
        && page.next == next
        && first.iter().zip(&page.kvs).all(same)
}

/// A transaction on its way.
struct Execution<'a> {
    model: &'a Model,
    changes: Changes,
    /// Of what is written.
    revision: u64,
    range_deletes_left: usize,
    range_bytes_left: u64,
}

impl Execution<'_> {
    fn run(&mut self, txn: &Txn) -> TxnResult {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let results = ops.iter().map(|op| OpResult { result: self.run_op(op) }).collect();
        TxnResult { succeeded, results }
    }

    fn read(&self, key: &[u8]) -> Option<&KeyValue> {
        match self.changes.get(key) {
            Some(change) => change.as_ref(),
            None => self.model.records.get(key),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let record = self.read(&compare.key);
        let number = |of: fn(&KeyValue) -> u64, operand: &u64| record.map_or(0, of).cmp(operand);
        let ordering = match &compare.target {
            Some(compare::Target::Value(value)) => {
                record.map_or(Ordering::Less, |record| record.value.cmp(value))
            }
            Some(compare::Target::Version(operand)) => number(|it| it.version, operand),
            Some(compare::Target::CreateRevision(operand)) => {
                number(|it| it.create_revision, operand)
            }
            Some(compare::Target::ModRevision(operand)) => number(|it| it.mod_revision, operand),
            None => return false,
        };
        match compare.operator() {
            compare::Operator::Equal => ordering.is_eq(),
            compare::Operator::NotEqual => ordering.is_ne(),
            compare::Operator::Less => ordering.is_lt(),
            compare::Operator::Greater => ordering.is_gt(),
        }
    }

    fn run_op(&mut self, op: &Op) -> Option<op_result::Result> {
        Some(match op.op.as_ref()? {
            op::Op::Put(put) => {
                let replaced = self.put(&put.key, &put.value);
                op_result::Result::Put(PutResult { replaced })
            }
            op::Op::Delete(delete) => {
                let found = self.read(&delete.key).is_some();
                if found {
                    self.changes.insert(delete.key.clone(), None);
                }
                let deleted = found.into();
                op_result::Result::Delete(DeleteResult { deleted, next: Bytes::new() })
            }
            op::Op::DeleteRange(range) => op_result::Result::Delete(self.delete_range(range)),
            op::Op::Get(get) => {
                op_result::Result::Get(GetResult { kv: self.read(&get.key).cloned() })
            }
        })
    }

    fn put(&mut self, key: &Bytes, value: &Bytes) -> bool {
        let (create_revision, version, replaced) = match self.read(key) {
            Some(old) => (old.create_revision, old.version + 1, true),
            None => (self.revision, 1, false),
        };
        let (key, value, mod_revision) = (key.clone(), value.clone(), self.revision);
        let record = KeyValue { key: key.clone(), value, create_revision, mod_revision, version };
        self.changes.insert(key, Some(record));
        replaced
    }

    fn delete_range(&mut self, range: &DeleteRange) -> DeleteResult {
        let DeleteRange { from, to } = range;
        let known = self.model.records.keys().chain(self.changes.keys());
        let mut found: Vec<Bytes> = known
            .filter(|key| is_within(key, from, to) && self.read(key).is_some())
            .cloned()
            .collect();
        found.sort();
        found.dedup();
        let fits = found.iter().take(self.range_deletes_left).take_while(|key| {
            let len = self.read(key).map_or(0, |record| key.len() + record.value.len()) as u64;
            let fits = self.range_bytes_left > 0;
            self.range_bytes_left = self.range_bytes_left.saturating_sub(len);
            fits
        });
        let count = fits.count();
        let left = found.split_off(count);
        self.range_deletes_left -= found.len();
        let deleted = found.len() as u64;
        self.changes.extend(found.into_iter().map(|key| (key, None)));
        DeleteResult { deleted, next: left.into_iter().next().unwrap_or_default() }
    }
}
