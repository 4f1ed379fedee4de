//! The map on disk.

use super::super::Store;
use super::super::lmdb::LmdbMap;
use super::super::map::{Batch, Map, Table};
use super::{commit, done, ops, put, rows, small_window};
use crate::limits::{KEY_LEN_MAX, MAP_LEN, SCANS_MAX, VALUE_LEN_MAX};
use crate::wire::client::Range;

#[test]
fn the_longest_keys_and_values_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let entries = [
        (vec![0], vec![]),
        (vec![0xff; KEY_LEN_MAX], vec![1; VALUE_LEN_MAX]),
        (vec![b'k'; KEY_LEN_MAX], vec![2; 5000]),
    ];
    let mut store = Store::open(LmdbMap::open(dir.path()).unwrap()).unwrap();
    for (key, value) in &entries {
        done(&mut store, ops(vec![put(key, value)]));
    }
    commit(&mut store);
    let before = rows(&store.map);
    drop(store);

    let mut store = Store::open(LmdbMap::open(dir.path()).unwrap()).unwrap();
    assert_eq!(rows(&store.map), before);
    assert_eq!((store.revision(), store.keys(), store.applied().index), (3, 3, 3));
    for (key, value) in &entries {
        assert_eq!(store.get(key).unwrap().unwrap().value, value);
    }
    let scan = store.scan(&Range { keys_only: true, ..Range::default() }).unwrap().unwrap();
    let found: Vec<_> = scan.run().unwrap().result.kvs.into_iter().map(|kv| kv.key).collect();
    assert_eq!(found, [&entries[0].0[..], &entries[2].0, &entries[1].0]);
}

#[test]
fn a_second_open_in_the_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = LmdbMap::open(dir.path()).unwrap();
    let error = LmdbMap::open(dir.path()).err().expect("refused").to_string();
    assert!(error.contains("open already"), "{error}");
    // A snapshot keeps the environment open, the last handle closes it.
    let snapshot = first.snapshot().unwrap();
    drop(first);
    assert!(LmdbMap::open(dir.path()).is_err());
    drop(snapshot);
    LmdbMap::open(dir.path()).unwrap();
}

#[test]
fn a_directory_that_is_missing_and_a_file_that_is_not_ours_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = LmdbMap::open(&dir.path().join("none")).err().expect("refused").to_string();
    assert!(error.contains("none"), "{error}");
    std::fs::write(dir.path().join("data.mdb"), [b'x'; 8192]).unwrap();
    let error = LmdbMap::open(dir.path()).err().expect("refused").to_string();
    assert!(error.contains("damaged or none of ours"), "{error}");
}

#[test]
fn an_unknown_format_on_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let map = LmdbMap::open(dir.path()).unwrap();
    let mut batch = Batch::default();
    batch.put(Table::Meta, &b"format"[..], &[0u8, 0, 0, 9][..]);
    map.commit(&batch).unwrap();
    let error = Store::open_with(map, small_window()).err().expect("refused").to_string();
    assert!(error.contains("format version 9"), "{error}");
}

#[test]
fn as_many_snapshots_as_range_reads_may_wait() {
    let dir = tempfile::tempdir().unwrap();
    let map = LmdbMap::open(dir.path()).unwrap();
    let snapshots: Vec<_> = (0..SCANS_MAX + 1).map(|_| map.snapshot().unwrap()).collect();
    // Of any thread: they are not tied to the one that opened them.
    std::thread::spawn(move || drop(snapshots)).join().unwrap();
    assert_eq!(MAP_LEN % 4096, 0);
}

#[test]
fn a_lookup_between_commits_does_not_make_the_file_grow() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(LmdbMap::open(dir.path()).unwrap(), small_window()).unwrap();
    let file_len = || std::fs::metadata(dir.path().join("data.mdb")).unwrap().len();
    let mut len_after_ten = 0;
    for round in 0..100u32 {
        done(&mut store, ops(vec![put(b"k", &vec![round as u8; 20_000])]));
        // Opens the cached snapshot, which stays while the commit runs.
        store.get(b"missing").unwrap();
        commit(&mut store);
        if round == 10 {
            len_after_ten = file_len();
        }
    }
    assert_eq!(file_len(), len_after_ten, "freed pages are not reused");
}
