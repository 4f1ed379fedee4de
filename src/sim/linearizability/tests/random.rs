//! Random histories that are right are found right; with one fault in them, wrong.

use fastrand::Rng;

use super::world::{Shape, clients, correct};
use super::*;
use crate::sim::linearizability::judge_within;
use crate::wire::client::GetResult;

const SHAPE: Shape = Shape { clients: 5, keys: 3, operations: 60, open_one_in: 12 };

#[test]
fn correct_histories_are_linearizable() {
    for seed in 0..300 {
        let history = correct(seed, &SHAPE);
        assert!(clients(&history).len() >= SHAPE.clients);
        assert_right(&history);
    }
}

#[test]
fn histories_with_a_fault_are_not() {
    let mut planted = [0; FAULTS.len()];
    for seed in 0..300 {
        let history = correct(seed, &SHAPE);
        for (fault, count) in FAULTS.iter().zip(&mut planted) {
            let mut rng = Rng::with_seed(seed);
            let Some(wrong) = fault(&history, &mut rng) else { continue };
            *count += 1;
            violation(&wrong);
        }
    }
    assert!(planted.iter().all(|count| *count > 100), "{planted:?}");
}

/// Plants a fault, if the history has a place for it.
type Fault = fn(&History, &mut Rng) -> Option<History>;

const FAULTS: [Fault; 5] = [read_of_before, lost_effect, made_up, twice, forgotten_write];

fn rebuild(history: &History, mut change: impl FnMut(usize, &mut End)) -> History {
    let mut changed = History::default();
    for (at, operation) in history.operations().iter().enumerate() {
        let id = changed.call(operation.client, operation.called_at, operation.asked.clone());
        let mut end = operation.end.clone();
        change(at, &mut end);
        match end {
            End::Answered { at, revision, answer } => changed.answer(id, at, revision, answer),
            End::Failed => changed.fail(id),
            End::Open => {}
        }
    }
    changed
}

fn answered(history: &History) -> Vec<(usize, u64, u64, u64, Answer)> {
    let operations = history.operations().iter().enumerate();
    operations
        .filter_map(|(index, operation)| match &operation.end {
            End::Answered { at, revision: Some(revision), answer } => {
                Some((index, operation.called_at, *at, *revision, answer.clone()))
            }
            _ => None,
        })
        .collect()
}

/// A read gets the answer of an earlier one of the same key, of before a write that had been answered.
fn read_of_before(history: &History, rng: &mut Rng) -> Option<History> {
    let all = answered(history);
    let mut found = Vec::new();
    for (old, _, _, old_revision, old_answer) in &all {
        for (read, called_at, ..) in &all {
            let same = history.operations()[*old].asked == history.operations()[*read].asked;
            let newer =
                all.iter().any(|(_, _, at, revision, _)| at < called_at && revision > old_revision);
            if matches!(old_answer, Answer::Get(_)) && same && newer {
                found.push((*read, *old_revision, old_answer.clone()));
            }
        }
    }
    let (read, old_revision, old_answer) = rng.choice(found)?;
    Some(rebuild(history, |at, end| {
        if let (true, End::Answered { revision, answer, .. }) = (at == read, end) {
            (*revision, *answer) = (Some(old_revision), old_answer.clone());
        }
    }))
}

/// A read does not find what is there.
fn lost_effect(history: &History, rng: &mut Rng) -> Option<History> {
    let is_read = |answer: &Answer| matches!(answer, Answer::Get(GetResult { kv: Some(_) }));
    let reads: Vec<_> = answered(history).into_iter().filter(|it| is_read(&it.4)).collect();
    let (read, ..) = rng.choice(reads)?;
    Some(rebuild(history, |at, end| {
        if let (true, End::Answered { answer, .. }) = (at == read, end) {
            *answer = Answer::got(None);
        }
    }))
}

/// A read finds what nobody wrote.
fn made_up(history: &History, rng: &mut Rng) -> Option<History> {
    let is_read = |answer: &Answer| matches!(answer, Answer::Get(GetResult { kv: Some(_) }));
    let reads: Vec<_> = answered(history).into_iter().filter(|it| is_read(&it.4)).collect();
    let (read, ..) = rng.choice(reads)?;
    Some(rebuild(history, |at, end| {
        if let (true, End::Answered { answer: Answer::Get(get), .. }) = (at == read, end) {
            get.kv.as_mut().expect("only such reads were chosen").value = "made up".into();
        }
    }))
}

/// A write is answered with the revision of another.
fn twice(history: &History, rng: &mut Rng) -> Option<History> {
    let changes: Vec<_> =
        answered(history).into_iter().filter(|it| it.4.tells_of_change()).collect();
    let (one, other) = (rng.choice(&changes)?, rng.choice(&changes)?);
    (one.0 != other.0).then(|| {
        rebuild(history, |at, end| {
            if let (true, End::Answered { revision, .. }) = (at == one.0, end) {
                *revision = Some(other.3);
            }
        })
    })
}

/// A write that somebody saw is said to have been refused.
fn forgotten_write(history: &History, rng: &mut Rng) -> Option<History> {
    let all = answered(history);
    let seen = |revision: u64| {
        all.iter().any(|it| {
            matches!(it.4, Answer::Get(_)) && it.4.records().any(|kv| kv.mod_revision == revision)
        })
    };
    let writes: Vec<_> = all.iter().filter(|it| it.4.tells_of_change() && seen(it.3)).collect();
    let (write, ..) = rng.choice(writes)?;
    Some(rebuild(history, |at, end| {
        if at == *write {
            *end = End::Failed;
        }
    }))
}

/// Counted in steps, which are the same on every machine: a million take some seconds. With revisions there is little to
/// choose; without, each write that was not answered is a choice all the way.
#[test]
fn a_thousand_operations_take_few_steps() {
    for (open_one_in, steps_max, steps_max_without) in
        [(1000, 2_000, Some(16_000)), (50, 4_000, Some(200_000)), (5, 300_000, None)]
    {
        let shape = Shape { clients: 8, keys: 5, operations: 1000, open_one_in };
        for seed in 0..5 {
            let history = correct(seed, &shape);
            assert_eq!(judge_within(&history, steps_max), Verdict::Linearizable, "seed {seed}");
            if let Some(steps_max) = steps_max_without {
                let judged = judge_within(&without_revisions(&history), steps_max);
                assert_eq!(judged, Verdict::Linearizable, "seed {seed}, without revisions");
            }
        }
    }
}
