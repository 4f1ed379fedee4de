//! Range reads.

use bytes::Bytes;

use super::super::map::Map;
use super::super::{Store, mem_map::MemMap};
use super::{NOW, commit, delete, done, open, ops, put};
use crate::limits::{LAYERS_MAX, RANGE_BYTES_MAX, RANGE_ENTRIES_MAX, TXN_OPS_MAX, VALUE_LEN_MAX};
use crate::wire::client::{KeyValue, Range, RangeResult};

fn scan<M: Map>(store: &mut Store<M>, range: Range) -> RangeResult {
    store.scan(&range).unwrap().expect("there is room for a layer").run().unwrap().result
}

fn key(n: usize) -> Vec<u8> {
    format!("k{n:05}").into_bytes()
}

/// Keys 0..count, half of them committed, with deleted ones between them.
fn filled(count: usize, value: &[u8]) -> Store<MemMap> {
    let mut store = open();
    for first in (0..count).step_by(TXN_OPS_MAX / 2) {
        let keys = first..count.min(first + TXN_OPS_MAX / 2);
        let both =
            keys.flat_map(|n| [put(&key(n), value), put(&[&key(n)[..], b"x"].concat(), b"")]);
        done(&mut store, ops(both.collect()));
    }
    commit(&mut store);
    for first in (0..count).step_by(TXN_OPS_MAX) {
        let keys = first..count.min(first + TXN_OPS_MAX);
        done(&mut store, ops(keys.map(|n| delete(&[&key(n)[..], b"x"].concat())).collect()));
    }
    done(&mut store, ops((0..count).step_by(50).map(|n| put(&key(n), value)).take(99).collect()));
    store
}

fn pages(store: &mut Store<MemMap>, mut range: Range) -> Vec<RangeResult> {
    let mut pages = Vec::new();
    loop {
        let page = scan(store, range.clone());
        assert_eq!(page.count, page.kvs.len() as u64);
        range.from = page.next.clone();
        pages.push(page);
        if range.from.is_empty() {
            return pages;
        }
    }
}

fn keys(pages: &[RangeResult]) -> Vec<Vec<u8>> {
    pages.iter().flat_map(|page| &page.kvs).map(|kv| kv.key.to_vec()).collect()
}

#[test]
fn pages_put_together_are_the_whole() {
    let count = 2 * RANGE_ENTRIES_MAX + 7;
    let mut store = filled(count, b"v");
    let all: Vec<_> = (0..count).map(key).collect();
    let whole = pages(&mut store, Range::default());
    assert_eq!(keys(&whole), all);
    assert_eq!(whole.iter().map(|page| page.count).collect::<Vec<_>>(), [1000, 1000, 7]);
    for limit in [1, 3, 999] {
        let range = Range { limit, from: key(5).into(), to: key(105).into(), ..Range::default() };
        let some = pages(&mut store, range);
        assert_eq!(keys(&some), all[5..105]);
        assert_eq!(some.len(), 100usize.div_ceil(limit as usize));
    }
    assert_eq!(whole[0].next, key(1000));
}

#[test]
fn a_limit_that_is_just_met_leaves_no_next() {
    let mut store = filled(10, b"v");
    let page = scan(&mut store, Range { limit: 10, ..Range::default() });
    assert_eq!((page.count, &page.next[..]), (10, &b""[..]));
    let page = scan(&mut store, Range { limit: 9, ..Range::default() });
    assert_eq!((page.count, &page.next[..]), (9, &key(9)[..]));
}

#[test]
fn pages_end_at_their_limit_of_bytes() {
    let mut store = open();
    for n in 0..10 {
        done(&mut store, ops(vec![put(&key(n), &[7; RANGE_BYTES_MAX / 4])]));
    }
    let some = pages(&mut store, Range::default());
    assert_eq!(keys(&some), (0..10).map(key).collect::<Vec<_>>());
    assert!(some[..some.len() - 1].iter().all(|page| page.count == 3), "four values, and no key");
    // The values do not count if they are not asked for.
    let page = scan(&mut store, Range { keys_only: true, ..Range::default() });
    assert_eq!((page.count, page.next.is_empty()), (10, true));
    // An entry that is over the limit by itself is a page.
    done(&mut store, ops(vec![put(&[b'a'; 1000], &vec![7; VALUE_LEN_MAX])]));
    let page = scan(&mut store, Range::default());
    assert_eq!((page.count, &page.next[..]), (1, &key(0)[..]));
}

#[test]
fn keys_only_leaves_out_the_values_alone() {
    let mut store = open();
    done(&mut store, ops(vec![put(b"a", b"1")]));
    done(&mut store, ops(vec![put(b"a", b"2")]));
    let page = scan(&mut store, Range { keys_only: true, ..Range::default() });
    let kv = KeyValue {
        key: Bytes::from_static(b"a"),
        value: Bytes::new(),
        create_revision: 1,
        mod_revision: 2,
        version: 2,
    };
    assert_eq!(page, RangeResult { kvs: vec![kv], count: 1, next: Bytes::new() });
}

#[test]
fn count_only_counts_the_whole_range() {
    let mut store = filled(RANGE_ENTRIES_MAX + 50, b"v");
    let count = |store: &mut Store<MemMap>, from: Vec<u8>, to: Vec<u8>| {
        let (from, to) = (from.into(), to.into());
        scan(store, Range { from, to, count_only: true, limit: 1, ..Range::default() })
    };
    let page = count(&mut store, vec![], vec![]);
    assert_eq!(page, RangeResult { kvs: vec![], count: 1050, next: Bytes::new() });
    assert_eq!(count(&mut store, key(10), key(20)).count, 10);
    assert_eq!(count(&mut store, key(20), key(10)).count, 0);
}

#[test]
fn a_scan_shows_the_store_as_it_was_when_it_was_begun() {
    let mut store = open();
    done(&mut store, ops(vec![put(b"a", b"1"), put(b"b", b"1")]));
    commit(&mut store);
    done(&mut store, ops(vec![put(b"a", b"2")]));
    let scan = store.scan(&Range::default()).unwrap().unwrap();
    done(&mut store, ops(vec![put(b"a", b"3"), delete(b"b"), put(b"c", b"3")]));
    commit(&mut store);
    let found = scan.run().unwrap();
    let kvs: Vec<_> = found.result.kvs.iter().map(|kv| (&kv.key[..], &kv.value[..])).collect();
    assert_eq!((found.revision, &kvs[..]), (2, &[(&b"a"[..], &b"2"[..]), (b"b", b"1")][..]));
}

#[test]
fn scans_wait_when_there_are_too_many_layers() {
    let mut store = open();
    let mut scans = Vec::new();
    for n in 0..LAYERS_MAX {
        assert!(store.begin_commit(NOW, false).is_none(), "not due");
        done(&mut store, ops(vec![put(&key(n), b"")]));
        scans.push(store.scan(&Range::default()).unwrap().unwrap());
        // Nothing new: no new layer.
        scans.push(store.scan(&Range::default()).unwrap().unwrap());
        assert_eq!(store.layers.sealed_count(), n + 1);
    }
    done(&mut store, ops(vec![put(b"z", b"")]));
    assert!(store.scan(&Range::default()).unwrap().is_none());
    let commit = store.begin_commit(NOW, false).expect("due for the number of layers");
    drop(store.committed(commit.run().unwrap()));
    assert_eq!(scan(&mut store, Range::default()).count, LAYERS_MAX as u64 + 1);
    for (scan, n) in scans.into_iter().zip(2..) {
        assert_eq!(scan.run().unwrap().result.count, n / 2);
    }
}
