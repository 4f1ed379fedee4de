//! The window of remembered requests: what it holds, when it evicts, and what a retry is told.

use super::super::map::Map;
use super::super::mem_map::MemMap;
use super::super::{Outcome, Store, WindowBounds};
use super::{command, commit, get, id, open, ops, put};
use crate::limits::RESULT_LEN_MAX;
use crate::wire::client::{Code, Txn};

fn window(entries_max: usize, len_bytes_max: usize) -> Store<MemMap> {
    let bounds = WindowBounds { entries_max, len_bytes_max };
    Store::open_with(MemMap::default(), bounds).unwrap()
}

fn send<M: Map>(store: &mut Store<M>, request: u64, since: u64, txn: Txn) -> Outcome {
    let index = store.applied().index + 1;
    store.apply(index, 1, &command(id(request), since, txn)).unwrap()
}

fn code(outcome: Outcome) -> Option<Code> {
    match outcome {
        Outcome::Done { .. } => None,
        Outcome::Refused(refusal) => Some(refusal.code()),
    }
}

fn value<M: Map>(store: &Store<M>) -> Option<(Vec<u8>, u64)> {
    store.get(b"k").unwrap().map(|kv| (kv.value.to_vec(), kv.version))
}

#[test]
fn a_retry_gets_the_first_outcome_and_is_not_applied() {
    let mut store = open();
    let first = send(&mut store, 1, 0, ops(vec![put(b"k", b"1"), get(b"k")]));
    send(&mut store, 2, 0, ops(vec![put(b"k", b"2")]));
    for committed in [false, true] {
        if committed {
            commit(&mut store);
        }
        assert_eq!(send(&mut store, 1, 0, ops(vec![put(b"k", b"1"), get(b"k")])), first);
        assert_eq!(value(&store), Some((b"2".to_vec(), 2)));
        assert_eq!(store.revision(), 2);
    }
}

#[test]
fn the_same_id_with_other_content_gets_the_outcome_of_the_first() {
    let mut store = open();
    let first = send(&mut store, 1, 0, ops(vec![put(b"k", b"1")]));
    assert_eq!(send(&mut store, 1, 0, ops(vec![put(b"k", b"other"), get(b"k")])), first);
    assert_eq!(value(&store), Some((b"1".to_vec(), 1)));
}

#[test]
fn since_below_at_and_above_the_floor() {
    let mut store = window(2, 1 << 20);
    for request in 1..=2 {
        send(&mut store, request, 0, ops(vec![put(b"k", b"v")]));
        // None was evicted yet: whoever began at 0 is still served.
        assert_eq!(store.window.floor(), 0);
    }
    send(&mut store, 3, 0, ops(vec![put(b"k", b"v")]));
    // Request 1 stood at index 1, and was evicted.
    assert_eq!(store.window.floor(), 1);
    assert_eq!(code(send(&mut store, 9, 0, ops(vec![]))), Some(Code::OutcomeUnknown));
    assert_eq!(store.window.floor(), 1, "a refusal of this kind is not remembered");
    assert_eq!(code(send(&mut store, 10, 1, ops(vec![]))), None, "at the floor nothing is hidden");
    assert_eq!(code(send(&mut store, 11, 4, ops(vec![]))), None);
}

#[test]
fn a_retry_after_its_eviction_is_refused_and_never_applied() {
    for restarted in [false, true] {
        let mut store = window(3, 1 << 20);
        send(&mut store, 1, 0, ops(vec![put(b"k", b"first")]));
        for request in 2..=4 {
            let since = store.applied().index;
            send(&mut store, request, since, ops(vec![put(b"other", b"")]));
        }
        if restarted {
            commit(&mut store);
            store = Store::open_with(
                store.map.clone(),
                WindowBounds { entries_max: 3, len_bytes_max: 1 << 20 },
            )
            .unwrap();
        }
        let retried = send(&mut store, 1, 0, ops(vec![put(b"k", b"first")]));
        assert_eq!(code(retried), Some(Code::OutcomeUnknown));
        assert_eq!(value(&store), Some((b"first".to_vec(), 1)));
        // Those in the window are answered, although their `since` is below its floor by then.
        assert_eq!(code(send(&mut store, 2, 0, ops(vec![]))), None);
        assert_eq!(store.revision(), 4);
    }
}

#[test]
fn results_are_evicted_by_their_bytes() {
    let mut store = window(1000, 1000);
    send(&mut store, 1, 0, ops(vec![put(b"k", &[7; 300])]));
    // Each is sent when all before it were applied: request n stands at index n.
    for request in 2..=10 {
        send(&mut store, request, request - 1, ops(vec![get(b"k")]));
    }
    // Three results of a little over 300 bytes fit into 1,000.
    assert_eq!(store.window.floor(), 7);
    for request in 8..=10 {
        assert_eq!(code(send(&mut store, request, request - 1, ops(vec![]))), None);
    }
    assert_eq!(code(send(&mut store, 7, 6, ops(vec![]))), Some(Code::OutcomeUnknown));
}

#[test]
fn an_outcome_larger_than_the_window_is_forgotten_at_once() {
    let mut store = window(10, 100);
    send(&mut store, 1, 0, ops(vec![put(b"k", &[7; 300])]));
    assert_eq!(code(send(&mut store, 2, 1, ops(vec![get(b"k")]))), None);
    assert_eq!(store.window.floor(), 2);
    assert_eq!(code(send(&mut store, 2, 1, ops(vec![get(b"k")]))), Some(Code::OutcomeUnknown));
}

#[test]
fn what_was_refused_for_its_result_stays_refused() {
    let mut store = open();
    let half = vec![7; RESULT_LEN_MAX / 2];
    for (request, key) in [(1, b"a"), (2, b"b")] {
        send(&mut store, request, 0, ops(vec![put(key, &half)]));
    }
    let txn = ops(vec![put(b"k", b"v"), get(b"a"), get(b"b")]);
    let refused = send(&mut store, 3, 2, txn.clone());
    assert_eq!(code(refused.clone()), Some(Code::TooLarge));
    // It would fit by now. But the client may have been told.
    send(&mut store, 4, 2, ops(vec![put(b"a", b"short")]));
    assert_eq!(send(&mut store, 3, 2, txn), refused);
    assert_eq!(value(&store), None);
}

#[test]
fn a_since_that_the_log_has_not_reached_is_of_another_history() {
    let mut store = open();
    send(&mut store, 1, 0, ops(vec![put(b"k", b"first")]));
    for since in [2, 3, u64::MAX] {
        let index = store.applied().index + 1;
        let outcome = send(&mut store, 2, since.max(index), ops(vec![put(b"k", b"other")]));
        assert_eq!(code(outcome), Some(Code::OutcomeUnknown));
    }
    assert_eq!(value(&store), Some((b"first".to_vec(), 1)));
    // Not remembered: of a request that was not applied nothing is known. One that is known is answered in any case.
    let last = store.applied().index;
    assert_eq!(code(send(&mut store, 2, last, ops(vec![put(b"k", b"other")]))), None);
    assert_eq!(code(send(&mut store, 1, u64::MAX, ops(vec![]))), None);
    assert_eq!(value(&store), Some((b"other".to_vec(), 2)));
}
