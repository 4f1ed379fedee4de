//! The model against the real state machine: both answer random operations alike.

use fastrand::Rng;

use super::super::model::Model;
use super::*;
use crate::sim::history::{delete, put};
use crate::store::mem_map::MemMap;
use crate::store::{Outcome, Store};
use crate::wire::client::{Compare, DeleteRange, GetOp, Op, Range, Txn, Write, compare, op};
use crate::wire::log::Command;

fn key(rng: &mut Rng) -> Bytes {
    format!("{}", rng.u8(..4)).into()
}

/// Bounds of a range, in any order, the upper one sometimes open.
fn range(rng: &mut Rng) -> (Bytes, Bytes) {
    let to = if rng.u8(..4) == 0 { Bytes::new() } else { key(rng) };
    (key(rng), to)
}

fn compare(rng: &mut Rng) -> Compare {
    let number = rng.u64(..6);
    let target = match rng.u8(..4) {
        0 => compare::Target::Value(key(rng)),
        1 => compare::Target::Version(number),
        2 => compare::Target::CreateRevision(number),
        _ => compare::Target::ModRevision(number),
    };
    Compare { key: key(rng), operator: rng.i32(0..4), target: Some(target) }
}

fn op(rng: &mut Rng) -> Op {
    match rng.u8(..8) {
        0..=2 => put(key(rng), key(rng)),
        3 => delete(key(rng)),
        4 => {
            let (from, to) = range(rng);
            Op { op: Some(op::Op::DeleteRange(DeleteRange { from, to })) }
        }
        _ => Op { op: Some(op::Op::Get(GetOp { key: key(rng) })) },
    }
}

fn txn(rng: &mut Rng) -> Txn {
    let ops = |rng: &mut Rng| (0..rng.usize(..4)).map(|_| op(rng)).collect::<Vec<_>>();
    let (success, failure) = (ops(rng), ops(rng));
    Txn { compares: (0..rng.usize(..3)).map(|_| compare(rng)).collect(), success, failure }
}

fn list(rng: &mut Rng) -> Range {
    let (from, to) = range(rng);
    let (keys_only, count_only) = (rng.u8(..4) == 0, rng.u8(..4) == 0);
    Range { from, to, limit: rng.u32(..3), keys_only, count_only, stale: false }
}

/// What the store answers, with the revision.
fn ask(store: &mut Store<MemMap>, asked: &Asked, request: u64) -> (u64, Answer) {
    let revision = store.revision();
    match asked {
        Asked::Get(key) => (revision, Answer::got(store.get(key).unwrap())),
        Asked::Range(range) => {
            let commit = store.begin_commit(std::time::Duration::ZERO, true);
            if let Some(commit) = commit {
                drop(store.committed(commit.run().unwrap()));
            }
            let scanned = store.scan(range).unwrap().unwrap().run().unwrap();
            (scanned.revision, Answer::Range(scanned.result))
        }
        Asked::Write(txn) => {
            let request_id = Bytes::copy_from_slice(&u128::from(request).to_be_bytes());
            let write = Write { request_id, since: 0, txn: Some(txn.clone()) };
            let command = Command { write: Some(write), ..Command::default() };
            match store.apply(store.applied().index + 1, 1, &command).unwrap() {
                Outcome::Done { revision, result } => (revision, Answer::Write(result)),
                Outcome::Refused(refusal) => panic!("{asked}: {}", refusal.message),
            }
        }
    }
}

#[test]
fn the_model_answers_as_the_store_does() {
    for seed in 0..20 {
        let mut rng = Rng::with_seed(seed);
        let mut store = Store::open(MemMap::default()).unwrap();
        let mut model = Model::new(true);
        for request in 0..500 {
            let asked = match rng.u8(..4) {
                0 => Asked::Get(key(&mut rng)),
                1 => Asked::Range(list(&mut rng)),
                _ => Asked::Write(txn(&mut rng)),
            };
            let (revision, answer) = ask(&mut store, &asked, request);
            let step = model.step(&asked);
            assert!(step.answers(&asked, &answer), "{asked} -> {answer}, not {}", step.answer);
            assert_eq!(step.revision, revision, "{asked} -> {answer}");
            assert_eq!(!step.changes.is_empty(), answer.tells_of_change(), "{asked} -> {answer}");
            let undo = model.take(step.changes.clone());
            model.take_back(undo);
            model.take(step.changes);
        }
    }
}
