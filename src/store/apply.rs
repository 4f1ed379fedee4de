//! Applying a command: from the state and a command to changes and an outcome, the same on every replica.
//!
//! Invariants:
//! - Nothing but the state, the command and constants is consulted. To change what is computed here, or in
//!   `wire::validate`, is to raise [`APPLY_VERSION`](crate::limits::APPLY_VERSION).
//! - A transaction runs on changes of its own, which the store takes when it is done: a refusal
//!   leaves nothing.
//! - No transaction that would grow the store leaves it with more than its quota.
//! - The revision grows by one for a command that changes something, and all its changes share that revision.

#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;

use super::Store;
use super::digest::counts_do_not_hold;
use super::layers::{Changes, Overlay, scan_merged};
use super::map::{KeyRange, Map};
use super::meta::Meta;
use super::record::{Record, RecordRef};
use super::remembered::{Remembered, RequestId, decode_verdict, encode_verdict};
use crate::error::{Result, refusal};
use crate::limits::{DELETE_RANGE_KEYS_MAX, DELETE_RANGE_LEN_MAX, RESULT_LEN_MAX};
use crate::planted::{Bug, planted};
use crate::wire::client::{
    Code, Compare, DeleteRange, DeleteResult, Error as Refusal, GetResult, Op, OpResult, Put,
    PutResult, Txn, TxnResult, Write, compare, op, op_result,
};
use crate::wire::log::Command;
use crate::wire::validate;

/// What became of a command, alike on every replica.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was applied, now or by an earlier attempt.
    Done {
        /// The revision after it.
        revision: u64,
        /// What it found and did.
        result: TxnResult,
    },
    /// It was not applied, and left nothing.
    Refused(Refusal),
}

/// What was found when a transaction ran, as it is remembered.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Done {
        revision: u64,
        result: TxnResult,
    },
    ResultTooLarge,
    /// The store had `used` bytes of the `max_bytes` that it may have, and would have had `needed`.
    OverQuota {
        used: u64,
        needed: u64,
        max_bytes: u64,
    },
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Outcome {
        match verdict {
            Verdict::Done { revision, result } => Outcome::Done { revision, result },
            Verdict::ResultTooLarge => Outcome::Refused(refusal(
                Code::TooLarge,
                format!(
                    "the result would have more than {RESULT_LEN_MAX} bytes: read fewer keys in one transaction, or \
                     use a range read"
                ),
            )),
            Verdict::OverQuota { used, needed, max_bytes } => Outcome::Refused(refusal(
                Code::NoSpace,
                format!(
                    "the store holds {used} bytes of keys and values and may hold {max_bytes} (MAX_BYTES), and this write \
                     would make it {needed}: delete keys, or raise MAX_BYTES on every node and start them anew one by \
                     one; then send the write again as a new one"
                ),
            )),
        }
    }
}

impl<M: Map> Store<M> {
    pub(super) fn apply_command(&mut self, index: u64, command: &Command) -> Result<Outcome> {
        self.meta.time_ms = self.meta.time_ms.max(command.time_ms);
        match (&command.write, command.max_bytes) {
            (Some(write), None) => self.apply_write(index, write),
            (None, Some(max_bytes)) => {
                self.meta.max_bytes = max_bytes;
                self.refused_growth = self.refused_growth.filter(|_| self.is_full());
                let revision = self.meta.revision;
                Ok(Outcome::Done { revision, result: TxnResult::default() })
            }
            (None, None) | (Some(_), Some(_)) => {
                let message = "the command has no write and no quota, or both";
                Ok(Outcome::Refused(refusal(Code::Invalid, message)))
            }
        }
    }

    fn apply_write(&mut self, index: u64, write: &Write) -> Result<Outcome> {
        // Checked at the door already. Here it makes applying total: no entry of the log can be one
        // that LMDB would refuse.
        if let Err(invalid) = validate::write(write) {
            return Ok(Outcome::Refused(invalid));
        }
        let (Some(txn), Ok(id)) = (&write.txn, RequestId::try_from(&write.request_id[..])) else {
            unreachable!("validate::write requires a transaction and the length of the id");
        };
        if let Some(outcome) = self.window.outcome(&id).filter(|_| !planted(Bug::ApplyRetry)) {
            return Ok(decode_verdict(outcome)?.into());
        }
        let floor = if planted(Bug::ApplyConsultsDisk) { self.durable.index } else { 0 };
        let is_known_since = !self.window.may_have_forgotten(write.since) && write.since >= floor;
        if !is_known_since && !planted(Bug::IgnoreSince) {
            return Ok(Outcome::Refused(outcome_unknown(write.since)));
        }
        if write.since >= index {
            return Ok(Outcome::Refused(another_history(write.since, index)));
        }
        let verdict = self.apply_txn(txn, write)?;
        let remembered = Remembered { index, id, outcome: encode_verdict(&verdict) };
        self.layers.active.remember(remembered.clone());
        self.window.remember(remembered, &mut self.meta.rows);
        Ok(verdict.into())
    }

    fn apply_txn(&mut self, txn: &Txn, write: &Write) -> Result<Verdict> {
        let mut execution = Execution::new(self);
        let Some(result) = execution.run(txn)? else {
            return Ok(Verdict::ResultTooLarge);
        };
        let Execution { changes, meta, .. } = execution;
        let Meta { logical_bytes: used, max_bytes, .. } = self.meta;
        // What shrinks the store passes, though it be over its quota still.
        if max_bytes != 0 && meta.logical_bytes > max_bytes.max(used) {
            let needed = meta.logical_bytes;
            let least = self.refused_growth.unwrap_or(u64::MAX);
            self.refused_growth = Some(least.min(needed - used));
            return Ok(Verdict::OverQuota { used, needed, max_bytes });
        }
        if !changes.is_empty() {
            self.meta = meta;
            self.refused_growth = self.refused_growth.filter(|_| self.is_full());
            self.layers.active.take(changes, write.encoded_len());
        }
        Ok(Verdict::Done { revision: self.meta.revision, result })
    }
}

fn outcome_unknown(since: u64) -> Refusal {
    refusal(
        Code::OutcomeUnknown,
        format!(
            "the request was first sent at index {since}, longer ago than requests are remembered, and may have \
             been applied since: read to find out, then send it anew with a new request id"
        ),
    )
}

/// A client never names an index that its cluster has not reached. Applied here, the request could not be told from one that
/// it is not remembered for: it would stand below its `since`.
fn another_history(since: u64, index: u64) -> Refusal {
    refusal(
        Code::OutcomeUnknown,
        format!(
            "the request was first sent at index {since}, and the log of this cluster is only now at {index}: its client \
             comes from another history (was the cluster restored from a backup?). It was not applied here: connect \
             anew, read to find out what is there, and send it with a new request id"
        ),
    )
}

/// A transaction on its way: what it changes, in front of the store.
struct Execution<'a, M: Map> {
    store: &'a Store<M>,
    /// Not empty exactly if the transaction has changed something.
    changes: Changes,
    /// The store's, with the revision and the counts as they will be.
    meta: Meta,
    /// How many keys may still be deleted by ranges.
    range_deletes_left: usize,
    /// How many bytes they may have, but for the last of them.
    range_bytes_left: u64,
}

impl<'a, M: Map> Execution<'a, M> {
    fn new(store: &'a Store<M>) -> Execution<'a, M> {
        let mut meta = store.meta.clone();
        meta.revision += 1;
        let changes = Changes::new();
        Execution {
            store,
            changes,
            meta,
            range_deletes_left: DELETE_RANGE_KEYS_MAX,
            range_bytes_left: DELETE_RANGE_LEN_MAX,
        }
    }

    /// The result, or `None` if it is over its limit.
    fn run(&mut self, txn: &Txn) -> Result<Option<TxnResult>> {
        let mut succeeded = true;
        for compare in &txn.compares {
            succeeded = succeeded && self.holds(compare)?;
        }
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut result = TxnResult { succeeded, results: Vec::with_capacity(ops.len()) };
        // Stops before the results take more memory than they may.
        let mut len_bytes = 0;
        for op in ops {
            let op_result = OpResult { result: Some(self.run_op(op)?) };
            len_bytes += op_result.encoded_len();
            if len_bytes > RESULT_LEN_MAX {
                return Ok(None);
            }
            result.results.push(op_result);
        }
        Ok((result.encoded_len() <= RESULT_LEN_MAX).then_some(result))
    }

    fn run_op(&mut self, op: &Op) -> Result<op_result::Result> {
        match &op.op {
            Some(op::Op::Put(put)) => self.put(put).map(op_result::Result::Put),
            Some(op::Op::Delete(delete)) => {
                let deleted = self.delete(&delete.key)?.into();
                Ok(op_result::Result::Delete(DeleteResult { deleted, next: Bytes::new() }))
            }
            Some(op::Op::DeleteRange(range)) => {
                self.delete_range(range).map(op_result::Result::Delete)
            }
            Some(op::Op::Get(get)) => {
                let kv = self.read(&get.key, |record| record.to_key_value(&get.key))?;
                Ok(op_result::Result::Get(GetResult { kv }))
            }
            None => unreachable!("validate::write refuses an operation without a kind"),
        }
    }

    fn read<T>(&self, key: &[u8], read: impl FnOnce(RecordRef<'_>) -> T) -> Result<Option<T>> {
        match self.changes.get(key) {
            Some(change) => Ok(change.as_ref().map(|record| read(record.as_ref()))),
            None => self.store.read(key, read),
        }
    }

    fn holds(&self, compare: &Compare) -> Result<bool> {
        let (Some(target), Ok(operator)) =
            (&compare.target, compare::Operator::try_from(compare.operator))
        else {
            unreachable!("validate::write refuses a compare without target or operator");
        };
        let found = self.read(&compare.key, |record| match target {
            compare::Target::Value(value) => record.value.cmp(&value[..]),
            compare::Target::Version(version) => record.version.cmp(version),
            compare::Target::CreateRevision(revision) => record.create_revision.cmp(revision),
            compare::Target::ModRevision(revision) => record.mod_revision.cmp(revision),
        })?;
        let ordering = found.unwrap_or_else(|| match target {
            compare::Target::Value(_) => Ordering::Less,
            compare::Target::Version(number)
            | compare::Target::CreateRevision(number)
            | compare::Target::ModRevision(number) => 0.cmp(number),
        });
        Ok(match operator {
            compare::Operator::Equal => ordering.is_eq(),
            compare::Operator::NotEqual => ordering.is_ne(),
            compare::Operator::Less => ordering.is_lt(),
            compare::Operator::Greater => ordering.is_gt(),
        })
    }

    fn put(&mut self, put: &Put) -> Result<PutResult> {
        let revision = self.meta.revision;
        let old = self
            .read(&put.key, |old| (old.create_revision, old.version, Counted::of(&put.key, old)))?;
        if let Some((.., counted)) = &old {
            self.take_out(counted)?;
        }
        let (create_revision, version) =
            old.as_ref().map_or((revision, 1), |(created, version, _)| (*created, version + 1));
        let record =
            Record { create_revision, mod_revision: revision, version, value: put.value.clone() };
        let counted = Counted::of(&put.key, record.as_ref());
        self.meta.keys += 1;
        self.meta.logical_bytes += counted.len_bytes;
        self.meta.rows.add(counted.row_hash);
        self.changes.insert(put.key.clone(), Some(record));
        Ok(PutResult { replaced: old.is_some() })
    }

    /// Whether the key was there.
    fn delete(&mut self, key: &Bytes) -> Result<bool> {
        let Some(counted) = self.read(key, |record| Counted::of(key, record))? else {
            return Ok(false);
        };
        self.take_out(&counted)?;
        self.changes.insert(key.clone(), None);
        Ok(true)
    }

    fn delete_range(&mut self, delete: &DeleteRange) -> Result<DeleteResult> {
        let range = KeyRange { from: &delete.from, to: &delete.to };
        let left = self.range_deletes_left;
        let mut bytes_left = self.range_bytes_left;
        let mut found = Vec::new();
        let mut next = Bytes::new();
        let layers = std::iter::once(&self.changes).chain(self.store.layers.newest_first());
        let overlay = Overlay::new(layers, range);
        scan_merged(overlay, self.store.snapshot()?, range, |key, record| {
            let key = Bytes::copy_from_slice(key);
            if found.len() == left || bytes_left == 0 {
                next = key;
                return ControlFlow::Break(());
            }
            let counted = Counted::of(&key, record);
            bytes_left = bytes_left.saturating_sub(counted.len_bytes);
            found.push((key, counted));
            ControlFlow::Continue(())
        })?;
        self.range_deletes_left -= found.len();
        self.range_bytes_left = bytes_left;
        let deleted = found.len() as u64;
        for (key, counted) in found {
            self.take_out(&counted)?;
            self.changes.insert(key, None);
        }
        Ok(DeleteResult { deleted, next })
    }

    /// A record goes, from the counts first. That they have less than that can only be damage.
    fn take_out(&mut self, counted: &Counted) -> Result<()> {
        let less = |count: u64, by| count.checked_sub(by).ok_or_else(counts_do_not_hold);
        self.meta.keys = less(self.meta.keys, 1)?;
        self.meta.logical_bytes = less(self.meta.logical_bytes, counted.len_bytes)?;
        self.meta.rows.remove(counted.row_hash);
        Ok(())
    }
}

/// What a record adds to the counts.
struct Counted {
    len_bytes: u64,
    row_hash: u128,
}

impl Counted {
    fn of(key: &[u8], record: RecordRef<'_>) -> Counted {
        Counted {
            len_bytes: (key.len() + record.value.len()) as u64,
            row_hash: record.row_hash(key),
        }
    }
}
