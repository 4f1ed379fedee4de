//! What clients asked and were answered, and when: the record that a run is judged by.
//!
//! What the judges rely on:
//! - The record is of one cluster from its first revision on, and has every write of every client. A write that is
//!   missing looks like one that the cluster made up.
//! - Reads that asked for `stale` are not in it: they promise nothing that is judged here.
//! - One operation is all attempts at one request: called with the first, answered with the last. A refusal without
//!   `maybe_applied` speaks of its attempt alone: the operation has [failed](History::fail) if no attempt can have been
//!   applied, else it stays open.
//!
//! Times are any integers that grow: nanoseconds of a monotonic clock of the machine that all clients run on, or a
//! counter of a simulation's events. Operations whose times touch count as overlapping, so a world whose clock stands
//! still between two events better counts them. Threads record each for itself, and [`History::join`] makes one of all.

mod text;

use bytes::Bytes;

pub(super) use text::bytes;

use crate::wire::client::{
    Compare, Delete, DeleteResult, GetResult, KeyValue, Op, OpResult, Put, PutResult, Range,
    RangeResult, Txn, TxnResult, compare, op, op_result, response,
};

/// What a client asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// The value under this key.
    Get(Bytes),
    /// The keys of a range, or their first page.
    Range(Range),
    /// Any write.
    Write(Txn),
}

/// What it was answered. Of the same kind as what was [`Asked`].
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Asked::Get`].
    Get(GetResult),
    /// To [`Asked::Range`].
    Range(RangeResult),
    /// To [`Asked::Write`].
    Write(TxnResult),
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// No answer: a write takes effect at some time after its call, or never.
    Open,
    /// Refused, and certain to have no effect.
    Failed,
    /// See the fields.
    Answered {
        /// When the answer was received.
        at: u64,
        /// The revision that the answer told, if any.
        revision: Option<u64>,
        /// The answer.
        answer: Answer,
    },
}

/// One operation of one client.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Any number that tells clients apart.
    pub client: u64,
    /// When it was first sent.
    pub called_at: u64,
    /// What was asked.
    pub asked: Asked,
    /// What became of it.
    pub end: End,
}

/// Names an operation of the history that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(pub(super) usize);

/// See the [module](self).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    operations: Vec<Operation>,
}

impl History {
    /// Records that a request was sent. It is open until [`History::answer`] or [`History::fail`].
    pub fn call(&mut self, client: u64, at: u64, asked: Asked) -> OperationId {
        self.operations.push(Operation { client, called_at: at, asked, end: End::Open });
        OperationId(self.operations.len() - 1)
    }

    /// Records the answer to a request, with the revision that came with it.
    ///
    /// # Panics
    /// If the operation ended before, or the answer is not one to what was asked, or came before it.
    pub fn answer(&mut self, id: OperationId, at: u64, revision: Option<u64>, answer: Answer) {
        let operation = &mut self.operations[id.0];
        let fits = matches!(
            (&operation.asked, &answer),
            (Asked::Get(_), Answer::Get(_))
                | (Asked::Range(_), Answer::Range(_))
                | (Asked::Write(_), Answer::Write(_))
        );
        assert!(fits, "{operation} has an answer of another kind: {answer}");
        assert!(at >= operation.called_at, "{operation} was answered before it was asked, at {at}");
        assert!(operation.end == End::Open, "{operation} ended before it was answered {answer}");
        operation.end = End::Answered { at, revision, answer };
    }

    /// Records that a request is certain to have no effect, now or later.
    ///
    /// # Panics
    /// If the operation ended before.
    pub fn fail(&mut self, id: OperationId) {
        let operation = &mut self.operations[id.0];
        assert!(operation.end == End::Open, "{operation} ended before it failed");
        operation.end = End::Failed;
    }

    /// Takes the operations of another history of the same cluster and clock, whose ids then mean nothing here.
    pub fn join(&mut self, other: History) {
        self.operations.extend(other.operations);
    }

    /// All operations, in the order in which they were recorded.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// All operations with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (OperationId, &Operation)> {
        self.operations.iter().enumerate().map(|(at, operation)| (OperationId(at), operation))
    }
}

impl std::ops::Index<OperationId> for History {
    type Output = Operation;

    fn index(&self, id: OperationId) -> &Operation {
        &self.operations[id.0]
    }
}

impl Asked {
    /// A read of one key.
    pub fn get(key: impl Into<Bytes>) -> Asked {
        Asked::Get(key.into())
    }

    /// A plain put.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Asked {
        Asked::write([put(key, value)])
    }

    /// A plain delete.
    pub fn delete(key: impl Into<Bytes>) -> Asked {
        Asked::write([delete(key)])
    }

    /// Operations without a condition.
    pub fn write(ops: impl IntoIterator<Item = Op>) -> Asked {
        Asked::Write(Txn { success: ops.into_iter().collect(), ..Txn::default() })
    }

    /// A put of `new`, if the value under the key is `old`.
    pub fn compare_and_swap(
        key: impl Into<Bytes>,
        old: impl Into<Bytes>,
        new: impl Into<Bytes>,
    ) -> Asked {
        let key = key.into();
        let holds = Compare {
            key: key.clone(),
            operator: compare::Operator::Equal.into(),
            target: Some(compare::Target::Value(old.into())),
        };
        Asked::Write(Txn {
            compares: vec![holds],
            success: vec![put(key, new)],
            failure: Vec::new(),
        })
    }
}

/// A put, as part of a transaction.
pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Op {
    Op { op: Some(op::Op::Put(Put { key: key.into(), value: value.into() })) }
}

/// A delete, as part of a transaction.
pub fn delete(key: impl Into<Bytes>) -> Op {
    Op { op: Some(op::Op::Delete(Delete { key: key.into() })) }
}

impl Answer {
    /// The answer in a response; `None` for an error, and for what is no answer to a read or a write.
    pub fn of_response(result: &response::Result) -> Option<Answer> {
        match result {
            response::Result::Get(get) => Some(Answer::Get(get.clone())),
            response::Result::Range(range) => Some(Answer::Range(range.clone())),
            response::Result::Txn(txn) => Some(Answer::Write(txn.clone())),
            _ => None,
        }
    }

    /// What was under the key that was read.
    pub fn got(kv: Option<KeyValue>) -> Answer {
        Answer::Get(GetResult { kv })
    }

    /// Of a plain put.
    pub fn put(replaced: bool) -> Answer {
        Answer::written(true, [op_result::Result::Put(PutResult { replaced })])
    }

    /// Of a plain delete.
    pub fn deleted(found: bool) -> Answer {
        let result = DeleteResult { deleted: found.into(), next: Bytes::new() };
        Answer::written(true, [op_result::Result::Delete(result)])
    }

    /// Of a transaction: whether its compares held, and the results of the branch that was executed.
    pub fn written(
        succeeded: bool,
        results: impl IntoIterator<Item = op_result::Result>,
    ) -> Answer {
        let results = results.into_iter().map(|result| OpResult { result: Some(result) });
        Answer::Write(TxnResult { succeeded, results: results.collect() })
    }

    /// Whether it tells of a change, by which the revision grew. (Of a put always, of a delete if there was a key.)
    pub fn tells_of_change(&self) -> bool {
        let Answer::Write(TxnResult { results, .. }) = self else { return false };
        results.iter().any(|it| match &it.result {
            Some(op_result::Result::Put(_)) => true,
            Some(op_result::Result::Delete(delete)) => delete.deleted > 0,
            Some(op_result::Result::Get(_)) | None => false,
        })
    }

    /// The records in it, in order.
    pub fn records(&self) -> impl Iterator<Item = &KeyValue> {
        let (got, listed, written): (Option<&GetResult>, &[KeyValue], &[OpResult]) = match self {
            Answer::Get(get) => (Some(get), &[], &[]),
            Answer::Range(range) => (None, &range.kvs, &[]),
            Answer::Write(txn) => (None, &[], &txn.results),
        };
        let read = written.iter().filter_map(|it| match &it.result {
            Some(op_result::Result::Get(get)) => get.kv.as_ref(),
            _ => None,
        });
        got.and_then(|get| get.kv.as_ref()).into_iter().chain(listed).chain(read)
    }

    /// The same without revisions, for judging by values and versions alone.
    pub(super) fn without_revisions(mut self) -> Answer {
        let strip = |kv: &mut KeyValue| (kv.create_revision, kv.mod_revision) = (0, 0);
        match &mut self {
            Answer::Get(get) => get.kv.iter_mut().for_each(strip),
            Answer::Range(range) => range.kvs.iter_mut().for_each(strip),
            Answer::Write(txn) => {
                for result in &mut txn.results {
                    if let Some(op_result::Result::Get(get)) = &mut result.result {
                        get.kv.iter_mut().for_each(strip);
                    }
                }
            }
        }
        self
    }
}
