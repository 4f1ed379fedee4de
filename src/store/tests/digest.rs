//! The digest: equal for equal states, whatever led there, and different for any that differ.

use super::super::map::{Batch, Map, Table};
use super::super::mem_map::MemMap;
use super::super::{Digest, Store, tally};
use super::{apply, command, commit, delete, delete_range, done, id, open, ops, put, small_window};
use crate::wire::client::Txn;
use crate::wire::log::{Command, Membership};

fn of(txns: &[Txn]) -> Store<MemMap> {
    let mut store = open();
    txns.iter().for_each(|txn| drop(done(&mut store, txn.clone())));
    store
}

fn sum(store: &Store<MemMap>) -> [u8; 16] {
    store.meta.rows.to_bytes()
}

#[test]
fn the_order_of_the_changes_leaves_no_trace() {
    let ops_of = |keys: [&[u8]; 3]| ops(keys.map(|key| put(key, key)).to_vec());
    let (mut one, mut other) =
        (of(&[ops_of([b"a", b"b", b"c"])]), of(&[ops_of([b"c", b"a", b"b"])]));
    assert_eq!(one.digest(), other.digest());
    // Written at once or in two layers, deleted by key or by range: the same rows, of the same revisions.
    commit(&mut one);
    done(&mut one, ops(vec![delete(b"b"), delete(b"c")]));
    done(&mut other, ops(vec![delete_range(b"b", b"z"), put(b"y", b""), delete(b"y")]));
    // The results differ, and they are remembered; the data does not.
    assert_ne!(one.digest(), other.digest());
    let data = |store: &mut Store<MemMap>| {
        commit(store);
        let rows = super::rows(&store.map);
        rows.into_iter().filter(|row| row.0 == Table::Data).collect::<Vec<_>>()
    };
    assert_eq!(data(&mut one), data(&mut other));
}

#[test]
fn an_empty_state_and_one_that_is_empty_again() {
    assert_eq!(sum(&open()), [0; 16]);
    let mut store = open();
    for round in 0..2 {
        done(&mut store, ops(vec![put(b"k", b"v")]));
        assert_ne!(sum(&store), [0; 16], "round {round}");
        done(&mut store, ops(vec![delete(b"k")]));
    }
    commit(&mut store);
    let remembered: u128 = super::rows(&store.map)
        .iter()
        .filter(|row| row.0 == Table::Remembered)
        .map(|(table, key, value)| super::super::digest::row_hash(*table, key, [value, &[]]))
        .fold(0, u128::wrapping_add);
    assert_eq!(sum(&store), remembered.to_be_bytes(), "nothing is left of the data");
}

/// All that states can differ by changes the digest.
#[test]
fn whatever_differs_shows() {
    let base = || of(&[ops(vec![put(b"k", b"v")])]);
    let mut digests: Vec<(&str, Digest)> = vec![("base", base().digest())];
    let mut add = |what, change: &dyn Fn(&mut Store<MemMap>)| {
        let mut store = base();
        change(&mut store);
        digests.push((what, store.digest()));
    };
    let next = |store: &mut Store<MemMap>, command: Command| {
        store.apply(store.applied().index + 1, 1, &command).unwrap();
    };
    add("another value", &|store| *store = of(&[ops(vec![put(b"k", b"w")])]));
    add("another key", &|store| *store = of(&[ops(vec![put(b"l", b"v")])]));
    add("a border moved", &|store| *store = of(&[ops(vec![put(b"kv", b"")])]));
    add("a row more", &|store| drop(apply(store, ops(vec![put(b"l", b"")]))));
    add("a request more", &|store| drop(apply(store, ops(vec![]))));
    add("another request", &|store| {
        *store = open();
        next(store, command(id(99), 0, ops(vec![put(b"k", b"v")])));
    });
    add("time", &|store| {
        next(store, Command { time_ms: 5, max_bytes: Some(0), ..Command::default() });
    });
    add("quota", &|store| next(store, Command { max_bytes: Some(5), ..Command::default() }));
    for expect in [1, 2] {
        let membership = Membership { expect, ..Membership::default() };
        add("membership", &|store| store.apply_membership(2, 1, membership.clone()));
    }
    add("revision", &|store| store.meta.revision += 1);
    add("keys", &|store| store.meta.keys += 1);
    add("logical bytes", &|store| store.meta.logical_bytes += 1);
    for (i, (one, digest)) in digests.iter().enumerate() {
        for (other, another) in &digests[..i] {
            assert_ne!(digest, another, "{one} and {other}");
        }
    }
}

#[test]
fn an_entry_that_changes_nothing_leaves_the_digest() {
    let mut store = of(&[ops(vec![put(b"k", b"v")])]);
    let digest = store.digest();
    store.apply_blank(2, 1);
    store.apply(3, 2, &Command::default()).unwrap();
    assert_eq!(store.digest(), digest);
}

#[test]
fn the_window_takes_its_evicted_rows_out() {
    let mut store = open();
    for _ in 0..3 * small_window().entries_max {
        done(&mut store, ops(vec![put(b"k", b"v")]));
    }
    assert!(store.window.floor() > 0);
    commit(&mut store);
    assert_eq!(tally(&store.map.snapshot().unwrap()).unwrap().digest, store.digest());
}

fn changed(table: Table, key: &[u8], value: Option<&[u8]>) -> MemMap {
    let mut store = of(&[ops(vec![put(b"a", b"1"), put(b"b", b"2")])]);
    commit(&mut store);
    let mut batch = Batch::default();
    match value {
        Some(value) => batch.put(table, key.to_vec(), value.to_vec()),
        None => batch.delete(table, key.to_vec()),
    }
    store.map.commit(&batch).unwrap();
    store.map
}

#[test]
fn a_tally_finds_a_row_that_was_changed_added_or_lost() {
    let record = |value: &[u8]| {
        [&1u64.to_be_bytes(), &1u64.to_be_bytes(), &1u64.to_be_bytes(), value].concat()
    };
    let maps = [
        changed(Table::Data, b"a", Some(&record(b"0"))),
        changed(Table::Data, b"a", Some(&record(b"longer"))),
        changed(Table::Data, b"c", Some(&record(b""))),
        changed(Table::Data, b"a", None),
        changed(Table::Remembered, &1u64.to_be_bytes(), None),
        changed(Table::Meta, b"keys", Some(&3u64.to_be_bytes())),
        changed(Table::Meta, b"digest", Some(&[7; 16])),
    ];
    for map in maps {
        let error = tally(&map.snapshot().unwrap()).unwrap_err();
        assert!(error.to_string().contains("not what it says of itself"), "{error}");
    }
    let same = changed(Table::Data, b"a", Some(&record(b"1")));
    assert_eq!(tally(&same.snapshot().unwrap()).unwrap().keys, 2);
}

/// A value that was changed on the disk is noticed when it is overwritten or deleted: what is taken out was never put in.
#[test]
fn a_changed_row_shows_once_it_is_written() {
    let sound = || of(&[ops(vec![put(b"a", b"1"), put(b"b", b"2")])]);
    for op in [put(b"a", b"new"), delete(b"a")] {
        let record =
            [&1u64.to_be_bytes()[..], &1u64.to_be_bytes(), &1u64.to_be_bytes(), b"0"].concat();
        let map = changed(Table::Data, b"a", Some(&record));
        let mut damaged = Store::open_with(map, small_window()).unwrap();
        let mut other = sound();
        assert_eq!(damaged.digest(), other.digest(), "not read, not noticed");
        for store in [&mut damaged, &mut other] {
            done(store, ops(vec![op.clone()]));
        }
        assert_ne!(damaged.digest(), other.digest());
    }
}

#[test]
fn counts_that_cannot_be_stop_the_node() {
    let record =
        [&1u64.to_be_bytes()[..], &1u64.to_be_bytes(), &1u64.to_be_bytes(), &[0; 99]].concat();
    let map = changed(Table::Data, b"a", Some(&record));
    let mut store = Store::open_with(map, small_window()).unwrap();
    let error = store.apply(2, 1, &command(id(9), 1, ops(vec![delete(b"a")]))).unwrap_err();
    assert!(error.stops_node() && error.to_string().contains("damaged"), "{error}");
}
