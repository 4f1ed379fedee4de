//! The state machine against a naive model, and its promises one by one.

#![forbid(unsafe_code)]

mod digest;
mod exactly_once;
mod lmdb;
mod model;
mod pipeline;
mod quota;
mod random;
mod scans;
mod txns;

use std::time::Duration;

use bytes::Bytes;

use super::map::{KeyRange, Map, Snapshot, Table};
use super::mem_map::MemMap;
use super::{Outcome, Store, WindowBounds};
use crate::wire::client::{
    Compare, Delete, DeleteRange, GetOp, Op, OpResult, Put, Txn, TxnResult, Write, compare, op,
    op_result,
};
use crate::wire::log::Command;

const NOW: Duration = Duration::ZERO;

fn open() -> Store<MemMap> {
    Store::open_with(MemMap::default(), small_window()).unwrap()
}

/// The real window reserves room for its many entries, which hundreds of stores do not need.
pub(super) fn small_window() -> WindowBounds {
    WindowBounds { entries_max: 64, len_bytes_max: 4096 }
}

pub(super) fn id(number: u64) -> Bytes {
    Bytes::copy_from_slice(&u128::from(number).to_be_bytes())
}

pub(super) fn put(key: &[u8], value: &[u8]) -> Op {
    let put = Put { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) };
    Op { op: Some(op::Op::Put(put)) }
}

pub(super) fn delete(key: &[u8]) -> Op {
    Op { op: Some(op::Op::Delete(Delete { key: Bytes::copy_from_slice(key) })) }
}

fn delete_range(from: &[u8], to: &[u8]) -> Op {
    let (from, to) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
    Op { op: Some(op::Op::DeleteRange(DeleteRange { from, to })) }
}

pub(super) fn get(key: &[u8]) -> Op {
    Op { op: Some(op::Op::Get(GetOp { key: Bytes::copy_from_slice(key) })) }
}

fn compare(key: &[u8], operator: compare::Operator, target: compare::Target) -> Compare {
    let key = Bytes::copy_from_slice(key);
    Compare { key, operator: operator.into(), target: Some(target) }
}

pub(super) fn ops(success: Vec<Op>) -> Txn {
    Txn { success, ..Txn::default() }
}

pub(super) fn command(request_id: Bytes, since: u64, txn: Txn) -> Command {
    Command { write: Some(Write { request_id, since, txn: Some(txn) }), ..Command::default() }
}

/// Applies a transaction under a request id of its own.
fn apply<M: Map>(store: &mut Store<M>, txn: Txn) -> Outcome {
    let index = store.applied().index + 1;
    store.apply(index, 1, &command(id(index), index - 1, txn)).unwrap()
}

/// The revision and the results of a transaction that is to succeed.
pub(super) fn done<M: Map>(store: &mut Store<M>, txn: Txn) -> (u64, Vec<op_result::Result>) {
    match apply(store, txn) {
        Outcome::Done { revision, result: TxnResult { results, .. } } => {
            (revision, results.into_iter().map(|OpResult { result }| result.unwrap()).collect())
        }
        Outcome::Refused(refusal) => panic!("refused: {}", refusal.message),
    }
}

/// Commits all that was applied.
pub(super) fn commit<M: Map>(store: &mut Store<M>) {
    if let Some(commit) = store.begin_commit(NOW, true) {
        drop(store.committed(commit.run().unwrap()));
    }
    assert_eq!(store.durable(), store.applied());
    assert_eq!(store.buffer_len(), 0);
}

/// All rows of a map.
pub(super) fn rows<M: Map>(map: &M) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let snapshot = map.snapshot().unwrap();
    let mut rows = Vec::new();
    for table in Table::ALL {
        let visit = |key: &[u8], value: &[u8]| {
            rows.push((table, key.to_vec(), value.to_vec()));
            Ok(std::ops::ControlFlow::Continue(()))
        };
        snapshot.scan(table, KeyRange::ALL, visit).unwrap();
    }
    rows
}
