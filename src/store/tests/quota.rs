//! MAX_BYTES, as it is replicated: what is refused, what passes, and what a retry is told.

use super::super::map::Map;
use super::super::{Outcome, Store};
use super::{apply, command, commit, delete, done, id, open, ops, put, small_window};
use crate::wire::client::{Code, Txn};
use crate::wire::log::Command;

fn set_max_bytes<M: Map>(store: &mut Store<M>, max_bytes: u64) {
    let command = Command { max_bytes: Some(max_bytes), ..Command::default() };
    let outcome = store.apply(store.applied().index + 1, 1, &command).unwrap();
    assert!(matches!(outcome, Outcome::Done { .. }));
    assert_eq!(store.max_bytes(), max_bytes);
}

/// The message of a refusal for want of space; `None` if the transaction was done.
fn no_space<M: Map>(store: &mut Store<M>, txn: Txn) -> Option<String> {
    let before = (store.revision(), store.keys(), store.logical_bytes());
    match apply(store, txn) {
        Outcome::Done { .. } => None,
        Outcome::Refused(refusal) => {
            assert_eq!(refusal.code(), Code::NoSpace);
            assert_eq!((store.revision(), store.keys(), store.logical_bytes()), before);
            Some(refusal.message)
        }
    }
}

#[test]
fn a_transaction_that_would_exceed_it_is_refused_as_a_whole() {
    let mut store = open();
    set_max_bytes(&mut store, 10);
    done(&mut store, ops(vec![put(b"k", &[7; 9])]));
    assert_eq!(store.logical_bytes(), 10, "exactly what it may hold");
    let why = no_space(&mut store, ops(vec![put(b"l", b""), put(b"m", b"")])).expect("refused");
    for told in ["MAX_BYTES", "holds 10 bytes", "may hold 10", "make it 12", "delete keys"] {
        assert!(why.contains(told), "{why}");
    }
    assert_eq!(store.get(b"l").unwrap(), None);
    // What a transaction takes out first makes room for the rest of it, in either order.
    let swap = ops(vec![put(b"l", &[1; 9]), delete(b"k")]);
    assert_eq!(no_space(&mut store, swap), None);
    assert_eq!(store.logical_bytes(), 10);
}

#[test]
fn what_does_not_grow_passes_though_the_store_is_over_it() {
    let mut store = open();
    done(&mut store, ops(vec![put(b"k", &[7; 99]), put(b"l", b"")]));
    set_max_bytes(&mut store, 10);
    assert!(no_space(&mut store, ops(vec![put(b"m", b"")])).is_some());
    assert!(no_space(&mut store, ops(vec![put(b"k", &[7; 100])])).is_some());
    assert_eq!(no_space(&mut store, ops(vec![put(b"k", &[8; 99])])), None, "as long");
    assert_eq!(no_space(&mut store, ops(vec![put(b"k", &[8; 50])])), None, "shorter");
    assert_eq!(no_space(&mut store, ops(vec![delete(b"k")])), None);
    assert_eq!(no_space(&mut store, ops(vec![put(b"m", b"fits")])), None);
    // Raised, or lifted.
    assert!(no_space(&mut store, ops(vec![put(b"n", &[1; 9])])).is_some());
    set_max_bytes(&mut store, 20);
    assert_eq!(no_space(&mut store, ops(vec![put(b"n", &[1; 9])])), None);
    set_max_bytes(&mut store, 0);
    assert_eq!(no_space(&mut store, ops(vec![put(b"n", &[1; 999])])), None);
}

#[test]
fn what_was_refused_for_want_of_space_stays_refused() {
    let mut store = open();
    set_max_bytes(&mut store, 10);
    done(&mut store, ops(vec![put(b"k", &[7; 9])]));
    let grows = command(id(77), 2, ops(vec![put(b"l", b"v")]));
    let refused = store.apply(3, 1, &grows).unwrap();
    done(&mut store, ops(vec![delete(b"k")]));
    // There is room by now. But the client may have been told.
    for restarted in [false, true] {
        if restarted {
            commit(&mut store);
            store = Store::open_with(store.map.clone(), small_window()).unwrap();
            assert_eq!(store.max_bytes(), 10);
        }
        let index = store.applied().index + 1;
        assert_eq!(store.apply(index, 1, &grows).unwrap(), refused);
    }
    assert_eq!(store.get(b"l").unwrap(), None);
    assert_eq!(no_space(&mut store, ops(vec![put(b"l", b"v")])), None, "as a new request");
}

#[test]
fn it_changes_no_revision_and_is_in_the_state_alone() {
    let mut store = open();
    done(&mut store, ops(vec![put(b"k", b"v")]));
    set_max_bytes(&mut store, 5);
    assert_eq!(store.revision(), 1);
    // With a write beside it, it is none of ours.
    let both = Command { max_bytes: Some(9), ..command(id(9), 0, ops(vec![])) };
    let outcome = store.apply(3, 1, &both).unwrap();
    assert!(matches!(outcome, Outcome::Refused(refusal) if refusal.code() == Code::Invalid));
    assert_eq!(store.max_bytes(), 5);
}
