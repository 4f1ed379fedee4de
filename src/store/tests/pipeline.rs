//! When commits are begun, what they hold, and what is left in memory.

use std::time::Duration;

use super::super::lmdb::LmdbMap;
use super::super::map::{Batch, Map, Table};
use super::super::mem_map::MemMap;
use super::super::{Applied, Commit, Scan, Store};
use super::{NOW, commit, done, open, ops, put, rows, small_window};
use crate::limits::{BUFFER_COMMIT_AGE, BUFFER_COMMIT_LEN, VALUE_LEN_MAX};
use crate::wire::log::Membership;

#[test]
fn a_commit_is_due_by_age() {
    let mut store = open();
    let start = Duration::from_secs(100);
    assert!(store.begin_commit(start, true).is_none(), "there is nothing to commit");
    done(&mut store, ops(vec![put(b"k", b"v")]));
    assert!(store.begin_commit(start, false).is_none(), "first seen");
    assert!(store.begin_commit(start + BUFFER_COMMIT_AGE / 2, false).is_none());
    let commit = store.begin_commit(start + BUFFER_COMMIT_AGE, false).expect("due");
    // While it runs no second one begins, and the next change has an age of its own.
    done(&mut store, ops(vec![put(b"k", b"w")]));
    let later = start + 3 * BUFFER_COMMIT_AGE;
    assert!(store.begin_commit(later, true).is_none(), "one at a time");
    drop(store.committed(commit.run().unwrap()));
    assert_eq!(store.durable(), Applied { index: 1, term: 1 });
    assert!(store.begin_commit(later, false).is_none());
    assert!(store.begin_commit(later + BUFFER_COMMIT_AGE, false).is_some());
}

#[test]
fn a_commit_is_due_by_length() {
    let mut store = open();
    let mut len_bytes = 0;
    while store.begin_commit(NOW, false).is_none() {
        assert!(store.buffer_len() < BUFFER_COMMIT_LEN);
        // The same key again and again: its old values are slices of frames that are still held.
        done(&mut store, ops(vec![put(b"k", &vec![7; VALUE_LEN_MAX / 2])]));
        len_bytes += VALUE_LEN_MAX / 2;
        assert!(store.buffer_len() >= len_bytes);
    }
    assert_eq!(len_bytes, BUFFER_COMMIT_LEN);
}

#[test]
fn blank_entries_and_memberships_are_committed() {
    let mut store = open();
    store.apply_blank(1, 1);
    let membership = Membership { formed: true, ..Membership::default() };
    store.apply_membership(2, 3, membership.clone());
    store.apply_blank(3, 4);
    commit(&mut store);
    let again = Store::open_with(store.map.clone(), small_window()).unwrap();
    assert_eq!(again.applied(), Applied { index: 3, term: 4 });
    assert_eq!(again.durable(), again.applied());
    assert_eq!(again.membership(), Some(&membership));
}

#[test]
fn a_commit_that_never_ran_loses_nothing() {
    let mut store = open();
    done(&mut store, ops(vec![put(b"k", b"v")]));
    drop(store.begin_commit(NOW, true).unwrap());
    assert_eq!(rows(&store.map), []);
    assert_eq!(store.durable(), Applied::default());
    assert!(store.buffer_len() > 0 && store.get(b"k").unwrap().is_some());
}

#[test]
#[should_panic(expected = "entry 3 applied after 1")]
fn a_gap_in_the_log_is_a_bug() {
    let mut store = open();
    store.apply_blank(1, 1);
    store.apply_blank(3, 1);
}

#[test]
#[should_panic(expected = "term 1 applied after 2")]
fn a_term_that_goes_back_is_a_bug() {
    let mut store = open();
    store.apply_blank(1, 2);
    store.apply_blank(2, 1);
}

#[test]
fn other_versions_and_foreign_rows_are_refused() {
    let refused = |table, key: &'static [u8], value: &'static [u8]| {
        let mut store = open();
        done(&mut store, ops(vec![put(b"k", b"v")]));
        commit(&mut store);
        let mut batch = Batch::default();
        batch.put(table, key, value);
        store.map.commit(&batch).unwrap();
        let error = Store::open_with(store.map, small_window()).err().expect("refused");
        assert!(error.stops_node());
        error.to_string()
    };
    let error = refused(Table::Meta, b"format", &[0, 0, 0, 9]);
    assert!(error.contains("format version 9") && error.contains("version 2 only"), "{error}");
    let error = refused(Table::Meta, b"apply", &[0, 0, 0, 9]);
    assert!(error.contains("apply version 9"), "{error}");
    let error = refused(Table::Meta, b"revision", b"short");
    assert!(error.contains("\"revision\""), "{error}");
    let error = refused(Table::Remembered, &[0xff; 8], b"short");
    assert!(error.contains("remembered request"), "{error}");

    let foreign = MemMap::default();
    let mut batch = Batch::default();
    batch.put(Table::Data, &b"k"[..], &b"v"[..]);
    foreign.commit(&batch).unwrap();
    let error = Store::open(foreign).err().expect("data without a format").to_string();
    assert!(error.contains("\"format\""), "{error}");
}

#[test]
fn what_runs_on_a_store_thread_can_be_sent_there() {
    fn sent<T: Send + 'static>() {}
    sent::<Commit<LmdbMap>>();
    sent::<Scan<LmdbMap>>();
    sent::<super::super::Committed>();
    sent::<super::super::Retired>();
}
