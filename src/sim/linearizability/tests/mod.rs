//! Histories with a known verdict: made by hand, by a model that is right, and all tiny ones against brute force.

mod brute_force;
mod hand_made;
mod is_the_store;
mod random;
mod world;

use bytes::Bytes;

use super::{Verdict, Violation, judge};
use crate::sim::history::{Answer, Asked, End, History, OperationId};
use crate::wire::client::KeyValue;

/// What was read: value, create revision, mod revision, version.
type Found = (&'static str, u64, u64, u64);

fn kv(key: &'static str, (value, create_revision, mod_revision, version): Found) -> KeyValue {
    let (key, value) = (Bytes::from(key), Bytes::from(value));
    KeyValue { key, value, create_revision, mod_revision, version }
}

fn got(key: &'static str, found: impl Into<Option<Found>>) -> Answer {
    Answer::got(found.into().map(|found| kv(key, found)))
}

/// Adds an operation that was answered.
fn add(
    history: &mut History,
    client: u64,
    (from, to): (u64, u64),
    asked: Asked,
    answer: Answer,
    revision: u64,
) -> OperationId {
    let id = history.call(client, from, asked);
    history.answer(id, to, Some(revision), answer);
    id
}

fn without_revisions(history: &History) -> History {
    let mut stripped = History::default();
    for operation in history.operations() {
        let id = stripped.call(operation.client, operation.called_at, operation.asked.clone());
        match &operation.end {
            End::Open => {}
            End::Failed => stripped.fail(id),
            End::Answered { at, answer, .. } => stripped.answer(id, *at, None, answer.clone()),
        }
    }
    stripped
}

/// Both ways of judging find it linearizable.
#[track_caller]
fn assert_right(history: &History) {
    for history in [history, &without_revisions(history)] {
        if let Verdict::Violated(violation) = judge(history) {
            panic!("{}", violation.explain(history));
        }
        assert_eq!(judge(history), Verdict::Linearizable);
    }
}

#[track_caller]
fn violation(history: &History) -> Violation {
    match judge(history) {
        Verdict::Violated(violation) => violation,
        other => panic!("{other:?}: {history:#?}"),
    }
}

/// Both ways of judging find it violated, and the one with revisions for a reason with these words.
#[track_caller]
fn assert_wrong(history: &History, words: &str) {
    let found = violation(history);
    assert!(found.reason.contains(words), "{}", found.explain(history));
    violation(&without_revisions(history));
}
