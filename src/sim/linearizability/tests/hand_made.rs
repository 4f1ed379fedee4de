//! One history for each kind of right and wrong, small enough to be judged by eye.

use super::*;
use crate::sim::history::{delete, put};
use crate::sim::linearizability::judge_within;
use crate::wire::client::{
    DeleteRange, DeleteResult, GetOp, Op, PutResult, Range, RangeResult, Txn, op, op_result,
};

/// A history that begins with a put of "1" under "x", at revision 1, from 0 to 10.
fn begun() -> History {
    let mut history = History::default();
    add(&mut history, 1, (0, 10), Asked::put("x", "1"), Answer::put(false), 1);
    history
}

#[test]
fn nothing_is_linearizable() {
    assert_right(&History::default());
}

#[test]
fn one_client_after_the_other() {
    let mut history = begun();
    add(&mut history, 1, (11, 12), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    add(&mut history, 2, (13, 14), Asked::put("x", "2"), Answer::put(true), 2);
    add(&mut history, 1, (15, 16), Asked::get("x"), got("x", ("2", 1, 2, 2)), 2);
    add(&mut history, 1, (17, 18), Asked::delete("x"), Answer::deleted(true), 3);
    add(&mut history, 2, (19, 20), Asked::delete("x"), Answer::deleted(false), 3);
    add(&mut history, 2, (21, 22), Asked::get("x"), got("x", None), 3);
    add(&mut history, 2, (23, 24), Asked::put("x", "3"), Answer::put(false), 4);
    add(&mut history, 2, (25, 26), Asked::get("x"), got("x", ("3", 4, 4, 1)), 4);
    assert_right(&history);
}

#[test]
fn reads_beside_a_write_see_it_or_not() {
    let mut history = begun();
    add(&mut history, 1, (20, 40), Asked::put("x", "2"), Answer::put(true), 2);
    add(&mut history, 2, (21, 25), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    add(&mut history, 3, (22, 26), Asked::get("x"), got("x", ("2", 1, 2, 2)), 2);
    assert_right(&history);
    // Touching counts as overlapping.
    add(&mut history, 2, (26, 27), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    assert_right(&history);
}

#[test]
fn a_stale_read() {
    let mut history = begun();
    add(&mut history, 1, (20, 30), Asked::put("x", "2"), Answer::put(true), 2);
    let read = add(&mut history, 2, (31, 35), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    assert_wrong(&history, "revision 2 had been answered before this was called");
    let text = violation(&history).explain(&history);
    assert!(text.contains("put \"x\" \"2\"") && text.contains("[31..35] get \"x\""), "{text}");
    let values_only = without_revisions(&history);
    let found = violation(&values_only);
    assert_eq!(found.prefix.len(), 2, "{}", found.explain(&values_only));
    assert_eq!(found.at_fault.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [read]);
}

#[test]
fn reads_that_go_backwards() {
    let mut history = begun();
    add(&mut history, 1, (20, 90), Asked::put("x", "2"), Answer::put(true), 2);
    add(&mut history, 2, (21, 25), Asked::get("x"), got("x", ("2", 1, 2, 2)), 2);
    add(&mut history, 3, (26, 30), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    assert_wrong(&history, "revision 2 had been answered before this was called");
}

#[test]
fn a_lost_write() {
    let mut history = begun();
    add(&mut history, 2, (11, 12), Asked::get("x"), got("x", None), 1);
    assert_wrong(&history, "no order explains");
    let mut history = begun();
    add(&mut history, 2, (11, 12), Asked::put("y", "1"), Answer::put(false), 1);
    let found = violation(&history);
    assert!(found.reason.contains("two writes have revision 1"), "{}", found.reason);
}

#[test]
fn a_write_that_was_applied_twice() {
    let mut history = History::default();
    let twice = history.call(1, 0, Asked::put("x", "1"));
    add(&mut history, 2, (5, 6), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    add(&mut history, 2, (7, 8), Asked::put("x", "2"), Answer::put(true), 2);
    add(&mut history, 2, (9, 10), Asked::get("x"), got("x", ("1", 1, 3, 3)), 3);
    let mut answered = history.clone();
    assert_wrong(&history, "revision 3 is of no write");
    // With another write that could have been the third, but wrote something else.
    history.call(3, 0, Asked::put("x", "other"));
    assert_wrong(&history, "one write has revisions 1 and 3");
    answered.answer(twice, 20, Some(1), Answer::put(false));
    assert_wrong(&answered, "revision 3 is of no write");
}

#[test]
fn a_value_out_of_nowhere() {
    let mut history = begun();
    history.call(3, 0, Asked::put("x", "2"));
    add(&mut history, 2, (11, 12), Asked::get("x"), got("x", ("3", 1, 2, 2)), 2);
    assert_wrong(&history, "which no write of that revision can have done");
}

#[test]
fn a_write_without_an_answer_takes_effect_late_or_never() {
    let mut history = begun();
    history.call(3, 5, Asked::put("x", "2"));
    add(&mut history, 2, (11, 12), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    assert_right(&history);
    add(&mut history, 2, (911, 912), Asked::get("x"), got("x", ("2", 1, 2, 2)), 2);
    assert_right(&history);
    add(&mut history, 2, (913, 914), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    assert_wrong(&history, "revision 2 had been answered before");
}

#[test]
fn a_write_that_nobody_called_yet() {
    let mut history = begun();
    add(&mut history, 2, (11, 12), Asked::get("x"), got("x", ("2", 1, 2, 2)), 2);
    history.call(3, 13, Asked::put("x", "2"));
    assert_wrong(&history, "revision 2 is of no write that was recorded by time 12");
}

#[test]
fn a_refused_write_has_no_effect() {
    let mut history = begun();
    let refused = history.call(3, 5, Asked::put("x", "2"));
    history.fail(refused);
    add(&mut history, 2, (11, 12), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    assert_right(&history);
    add(&mut history, 2, (13, 14), Asked::get("x"), got("x", ("2", 1, 2, 2)), 2);
    assert_wrong(&history, "revision 2 is of no write");
}

#[test]
fn compare_and_swap_of_two() {
    let won = || Answer::written(true, [op_result::Result::Put(PutResult { replaced: true })]);
    let swap = |to: &'static str| Asked::compare_and_swap("x", "1", to);
    let mut history = begun();
    add(&mut history, 1, (11, 20), swap("a"), won(), 2);
    add(&mut history, 2, (11, 20), swap("b"), Answer::written(false, []), 2);
    assert_right(&history);
    let mut history = begun();
    add(&mut history, 1, (11, 20), swap("a"), won(), 2);
    add(&mut history, 2, (11, 20), swap("b"), won(), 3);
    assert_wrong(&history, "no order explains");
}

#[test]
fn a_transaction_is_seen_whole() {
    let both = || Asked::write([put("x", "2"), put("y", "2")]);
    let done = |x| [x, false].map(|replaced| op_result::Result::Put(PutResult { replaced }));
    let mut history = begun();
    add(&mut history, 1, (11, 30), both(), Answer::written(true, done(true)), 2);
    add(&mut history, 2, (12, 13), Asked::get("y"), got("y", ("2", 2, 2, 1)), 2);
    let mut torn = history.clone();
    add(&mut history, 2, (14, 15), Asked::get("x"), got("x", ("2", 1, 2, 2)), 2);
    assert_right(&history);
    add(&mut torn, 2, (14, 15), Asked::get("x"), got("x", ("1", 1, 1, 1)), 2);
    assert_wrong(&torn, "no order explains");
}

#[test]
fn a_transaction_reads_its_own_writes() {
    let read = |key: &'static str| Op { op: Some(op::Op::Get(GetOp { key: key.into() })) };
    let found = |found| {
        let Answer::Get(get) = got("x", found) else { unreachable!("it is a get's") };
        op_result::Result::Get(get)
    };
    let ops = [read("x"), put("x", "a"), read("x"), put("x", "b")];
    let written = op_result::Result::Put(PutResult { replaced: true });
    let (before, within) = (found(Some(("1", 1, 1, 1))), found(Some(("a", 1, 2, 2))));
    let results = [before.clone(), written.clone(), within, written.clone()];
    let mut history = begun();
    let asked = Asked::write(ops);
    add(&mut history, 1, (11, 12), asked.clone(), Answer::written(true, results), 2);
    add(&mut history, 1, (13, 14), Asked::get("x"), got("x", ("b", 1, 2, 3)), 2);
    assert_right(&history);
    let mut history = begun();
    let results = [before.clone(), written.clone(), before, written];
    add(&mut history, 1, (11, 12), asked, Answer::written(true, results), 2);
    assert_wrong(&history, "no order explains");
}

#[test]
fn ranges_are_of_one_state() {
    let list = |kvs: Vec<KeyValue>, next: &'static str| {
        let count = kvs.len() as u64;
        Answer::Range(RangeResult { kvs, count, next: next.into() })
    };
    let all = |limit| Asked::Range(Range { limit, ..Range::default() });
    let (x, y) = (kv("x", ("1", 1, 1, 1)), kv("y", ("1", 2, 2, 1)));
    let mut history = begun();
    add(&mut history, 1, (11, 12), Asked::put("y", "1"), Answer::put(false), 2);
    add(&mut history, 1, (13, 14), all(1), list(vec![x.clone()], "y"), 2);
    add(&mut history, 1, (13, 14), all(0), list(vec![x.clone(), y.clone()], ""), 2);
    let mut holes = history.clone();
    let drop_all = DeleteRange { from: "a".into(), to: "y".into() };
    let dropped = op_result::Result::Delete(DeleteResult { deleted: 1, ..Default::default() });
    let asked = Asked::write([Op { op: Some(op::Op::DeleteRange(drop_all)) }]);
    add(&mut history, 1, (15, 16), asked, Answer::written(true, [dropped]), 3);
    add(&mut history, 1, (17, 18), all(0), list(vec![y], ""), 3);
    assert_right(&history);
    add(&mut holes, 1, (15, 16), all(0), list(vec![x], ""), 2);
    assert_wrong(&holes, "no order explains");
}

#[test]
fn a_revision_that_does_not_fit_is_seen_where_values_would_do() {
    let mut history = begun();
    add(&mut history, 2, (11, 12), Asked::put("y", "1"), Answer::put(false), 3);
    let found = violation(&history);
    assert!(found.reason.contains("revision 2 is of no write"), "{}", found.reason);
    assert_eq!(judge(&without_revisions(&history)), Verdict::Linearizable);
}

#[test]
fn what_revision_a_key_has_does_not_change() {
    let mut history = begun();
    add(&mut history, 2, (5, 12), Asked::get("x"), got("x", ("2", 1, 1, 1)), 1);
    add(&mut history, 2, (13, 14), Asked::get("x"), got("x", ("1", 1, 1, 1)), 1);
    assert_wrong(&history, "what revision 1 wrote under \"x\" has changed");
}

#[test]
fn an_absurd_revision_is_judged_at_once() {
    let mut history = begun();
    add(&mut history, 2, (11, 12), Asked::put("y", "1"), Answer::put(false), u64::MAX);
    assert!(violation(&history).reason.contains("revision 2 is of no write"));
}

#[test]
fn a_search_that_may_not_go_on_says_so() {
    let mut history = History::default();
    for client in 0..8 {
        add(&mut history, client, (0, 10), Asked::delete("x"), Answer::deleted(false), 0);
    }
    assert!(matches!(judge_within(&history, 7), Verdict::Unknown(_)));
    assert_eq!(judge_within(&history, 8), Verdict::Linearizable);
}

#[test]
fn compared_revisions_need_recorded_revisions() {
    let mut history = begun();
    let swap = Txn {
        compares: vec![crate::wire::client::Compare {
            key: "x".into(),
            operator: 0,
            target: Some(crate::wire::client::compare::Target::ModRevision(1)),
        }],
        success: vec![delete("x")],
        failure: Vec::new(),
    };
    add(&mut history, 1, (11, 12), Asked::Write(swap), Answer::deleted(true), 2);
    assert_eq!(judge(&history), Verdict::Linearizable);
    assert!(matches!(judge(&without_revisions(&history)), Verdict::Unknown(_)));
}
