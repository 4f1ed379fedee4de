//! What a transaction computes.

use bytes::Bytes;

use super::super::Outcome;
use super::{
    apply, command, commit, compare, delete, delete_range, done, get, id, open, ops, put, rows,
};
use crate::limits::{
    DELETE_RANGE_KEYS_MAX, DELETE_RANGE_LEN_MAX, KEY_LEN_MAX, RESULT_LEN_MAX, TXN_OPS_MAX,
    VALUE_LEN_MAX,
};
use crate::wire::client::compare::{Operator, Target};
use crate::wire::client::{
    Code, Compare, DeleteResult, GetResult, KeyValue, Op, PutResult, Txn, Write, op_result,
};
use crate::wire::log::Command;

fn refused(outcome: Outcome) -> Code {
    match outcome {
        Outcome::Refused(refusal) => refusal.code(),
        Outcome::Done { .. } => panic!("it was applied"),
    }
}

fn deleted(result: &op_result::Result) -> (u64, &[u8]) {
    match result {
        op_result::Result::Delete(DeleteResult { deleted, next }) => (*deleted, next),
        other => panic!("not a delete: {other:?}"),
    }
}

#[test]
fn revisions_and_versions_over_the_life_of_a_key() {
    let mut store = open();
    let record = |create_revision, mod_revision, version, value: &'static [u8]| KeyValue {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(value),
        create_revision,
        mod_revision,
        version,
    };
    assert_eq!(done(&mut store, ops(vec![put(b"x", b"")])).0, 1);
    assert_eq!(done(&mut store, ops(vec![put(b"k", b"1")])).0, 2);
    assert_eq!(store.get(b"k").unwrap(), Some(record(2, 2, 1, b"1")));
    assert_eq!(done(&mut store, ops(vec![put(b"k", b"1")])).0, 3, "a put always changes");
    assert_eq!(store.get(b"k").unwrap(), Some(record(2, 3, 2, b"1")));
    let twice = vec![put(b"k", b"2"), put(b"k", b"3")];
    assert_eq!(done(&mut store, ops(twice)).0, 4, "one transaction, one revision");
    assert_eq!(store.get(b"k").unwrap(), Some(record(2, 4, 4, b"3")));
    assert_eq!(done(&mut store, ops(vec![delete(b"k")])).0, 5);
    assert_eq!(store.get(b"k").unwrap(), None);
    assert_eq!(done(&mut store, ops(vec![delete(b"k"), get(b"k")])).0, 5, "nothing changed");
    assert_eq!(done(&mut store, ops(vec![put(b"k", b"")])).0, 6);
    assert_eq!(store.get(b"k").unwrap(), Some(record(6, 6, 1, b"")));
    assert_eq!((store.keys(), store.logical_bytes()), (2, 2));
}

#[test]
fn a_transaction_sees_its_own_effects() {
    let mut store = open();
    done(&mut store, ops(vec![put(b"b", b"old")]));
    commit(&mut store);
    let txn = ops(vec![
        put(b"a", b"1"),
        put(b"b", b"2"),
        get(b"a"),
        delete(b"a"),
        get(b"a"),
        put(b"a", b"3"),
        delete_range(b"a", b""),
        get(b"b"),
        put(b"b", b"4"),
    ]);
    let (revision, results) = done(&mut store, txn);
    let kv = KeyValue {
        key: Bytes::from_static(b"a"),
        value: Bytes::from_static(b"1"),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
    };
    let put = |replaced| op_result::Result::Put(PutResult { replaced });
    let got = |kv| op_result::Result::Get(GetResult { kv });
    let del = |deleted| op_result::Result::Delete(DeleteResult { deleted, next: Bytes::new() });
    let expected = [
        put(false),
        put(true),
        got(Some(kv)),
        del(1),
        got(None),
        put(false),
        del(2),
        got(None),
        put(false),
    ];
    assert_eq!((revision, &results[..]), (2, &expected[..]));
    let left = store.get(b"b").unwrap().unwrap();
    assert_eq!((left.create_revision, left.version, &left.value[..]), (2, 1, &b"4"[..]));
    assert_eq!((store.keys(), store.logical_bytes()), (1, 2));
}

#[test]
fn each_operator_on_each_target() {
    let mut store = open();
    done(&mut store, ops(vec![put(b"other", b"")]));
    for value in [b"a", b"m"] {
        done(&mut store, ops(vec![put(b"k", value)]));
    }
    // k: value m, version 2, created at 2, modified at 3.
    let value = |v: &'static [u8]| Target::Value(Bytes::from_static(v));
    let numbers = |n| [Target::Version(n), Target::CreateRevision(n), Target::ModRevision(n)];
    // (key, target, whether the key's own is less, equal, greater)
    let mut cases: Vec<(&[u8], Target, [bool; 3])> = vec![
        (b"k", value(b"z"), [true, false, false]),
        (b"k", value(b"m"), [false, true, false]),
        (b"k", value(b""), [false, false, true]),
        (b"missing", value(b""), [true, false, false]),
    ];
    for (at, own) in [2, 2, 3].into_iter().enumerate() {
        let target = |n| numbers(n)[at].clone();
        cases.push((b"k", target(own + 1), [true, false, false]));
        cases.push((b"k", target(own), [false, true, false]));
        cases.push((b"k", target(own - 1), [false, false, true]));
        cases.push((b"missing", target(0), [false, true, false]));
        cases.push((b"missing", target(1), [true, false, false]));
    }
    for (key, target, [less, equal, greater]) in cases {
        for (operator, holds) in [
            (Operator::Less, less),
            (Operator::Equal, equal),
            (Operator::NotEqual, !equal),
            (Operator::Greater, greater),
        ] {
            let compares = vec![compare(key, operator, target.clone())];
            let (success, failure) = (vec![get(b"k")], vec![get(b"k"), get(b"k")]);
            let Outcome::Done { result, revision: 3 } =
                apply(&mut store, Txn { compares, success, failure })
            else {
                panic!("a compare changes nothing");
            };
            let count = if holds { 1 } else { 2 };
            assert_eq!((result.succeeded, result.results.len()), (holds, count), "{target:?}");
        }
    }
}

#[test]
fn all_compares_must_hold() {
    let mut store = open();
    let absent = |key| compare(key, Operator::Equal, Target::Version(0));
    let there = |key| compare(key, Operator::Greater, Target::Version(0));
    for (compares, expected) in [
        (vec![], true),
        (vec![absent(b"a"), absent(b"b")], true),
        (vec![absent(b"a"), there(b"b")], false),
        (vec![there(b"a"), absent(b"b")], false),
    ] {
        let Outcome::Done { result, .. } = apply(&mut store, Txn { compares, ..Txn::default() })
        else {
            panic!("refused");
        };
        assert_eq!(result.succeeded, expected);
    }
}

#[test]
fn a_result_that_is_too_large_leaves_nothing() {
    let mut store = open();
    let half = vec![7; RESULT_LEN_MAX / 2];
    for key in [b"a", b"b"] {
        done(&mut store, ops(vec![put(key, &half)]));
    }
    let before = (store.revision(), store.keys(), store.logical_bytes());
    let txn = ops(vec![put(b"k", b"v"), delete(b"a"), get(b"b"), put(b"a", &half), get(b"a")]);
    assert_eq!(refused(apply(&mut store, txn)), Code::TooLarge);
    assert_eq!((store.revision(), store.keys(), store.logical_bytes()), before);
    assert_eq!(store.get(b"k").unwrap(), None);
    assert_eq!(store.get(b"a").unwrap().unwrap().version, 1);
    let fits = ops(vec![get(b"a")]);
    assert_eq!(done(&mut store, fits).0, 2);
}

#[test]
fn ranges_are_deleted_in_steps() {
    let mut store = open();
    let count = 2 * DELETE_RANGE_KEYS_MAX + 100;
    let key = |n: usize| format!("k{n:05}").into_bytes();
    for first in (0..count).step_by(TXN_OPS_MAX) {
        let keys = first..count.min(first + TXN_OPS_MAX);
        done(&mut store, ops(keys.map(|n| put(&key(n), b"v")).collect()));
        if first == 5 * TXN_OPS_MAX {
            commit(&mut store);
        }
    }
    done(&mut store, ops(vec![put(b"a", b""), put(b"z", b"")]));
    let (mut from, mut steps) = (key(10), Vec::new());
    loop {
        // A second range in the transaction shares its bound.
        let txn = ops(vec![delete_range(&from, b"l"), delete_range(&key(3), &key(5))]);
        let (_, results) = done(&mut store, txn);
        let (n, next) = deleted(&results[0]);
        steps.push((n, deleted(&results[1]).0));
        if next.is_empty() {
            break;
        }
        assert_eq!(deleted(&results[1]), (0, &key(3)[..]), "the bound is used up");
        from = next.to_vec();
    }
    assert_eq!(steps, [(1024, 0), (1024, 0), (count as u64 - 10 - 2048, 2)]);
}

#[test]
fn a_step_ends_after_so_many_bytes() {
    let mut store = open();
    let count = 2 * (DELETE_RANGE_LEN_MAX as usize / VALUE_LEN_MAX);
    for n in 0..count as u8 {
        done(&mut store, ops(vec![put(&[b'k', n], &vec![n; VALUE_LEN_MAX])]));
        commit(&mut store);
    }
    let (_, results) =
        done(&mut store, ops(vec![delete_range(b"k", b"l"), delete_range(b"k", b"")]));
    let half = count / 2;
    assert_eq!(deleted(&results[0]), (half as u64, &[b'k', half as u8][..]));
    assert_eq!(deleted(&results[1]), (0, &[b'k', half as u8][..]));
    assert_eq!(store.keys(), half as u64);
}

#[test]
fn a_range_that_is_empty_or_reversed_deletes_nothing() {
    let mut store = open();
    done(&mut store, ops(vec![put(b"m", b"")]));
    commit(&mut store);
    for (from, to) in [(b"z", b"a"), (b"m", b"m"), (b"n", b"z")] {
        let (revision, results) = done(&mut store, ops(vec![delete_range(from, to)]));
        assert_eq!((revision, deleted(&results[0])), (1, (0, &b""[..])));
    }
}

#[test]
fn malformed_commands_are_refused_and_advance_the_index() {
    let mut store = open();
    let bad_compare = Compare { key: Bytes::from_static(b"k"), operator: 0, target: None };
    let commands = [
        Command { time_ms: 1, ..Command::default() },
        Command {
            time_ms: 2,
            write: Some(Write { request_id: id(1), since: 0, txn: None }),
            ..Command::default()
        },
        command(Bytes::from_static(b"short"), 0, ops(vec![put(b"k", b"v")])),
        command(id(2), 0, ops(vec![put(b"k", b"v"), Op { op: None }])),
        command(id(3), 0, ops(vec![put(b"", b"v")])),
        command(id(4), 0, Txn { compares: vec![bad_compare], ..Txn::default() }),
    ];
    for (command, index) in commands.iter().zip(1..) {
        assert_eq!(refused(store.apply(index, 1, command).unwrap()), Code::Invalid);
        assert_eq!(store.applied().index, index);
    }
    let long = ops(vec![put(&[b'k'; KEY_LEN_MAX + 1], b"v")]);
    assert_eq!(refused(apply(&mut store, long)), Code::TooLarge);
    assert_eq!((store.revision(), store.keys(), store.time_ms()), (0, 0, 2));
    commit(&mut store);
    assert!(rows(&store.map).iter().all(|(table, ..)| table.name() == "meta"));
}
