//! The judge against all orders of all subsets, for histories of up to 6 operations with answers right and wrong.

use fastrand::Rng;

use super::super::model::Model;
use super::super::{Job, judge};
use super::world::{Shape, correct};
use super::*;

/// Whether some order of the jobs explains the answers, found by trying all.
fn explained(jobs: &[Job], model: &mut Model, left: &mut Vec<usize>) -> bool {
    if left.iter().all(|job| jobs[*job].answered.is_none()) {
        return true;
    }
    let first_answer =
        left.iter().filter_map(|job| jobs[*job].answered.as_ref()).map(|it| it.at).min();
    for at in 0..left.len() {
        let job = &jobs[left[at]];
        let step = model.step(job.asked);
        let in_time = first_answer.is_none_or(|first| job.called_at <= first);
        let fits = job.answered.as_ref().is_none_or(|answered| job.explains(&step, answered));
        if in_time && fits {
            let undo = model.take(step.changes);
            let placed = left.remove(at);
            let found = explained(jobs, model, left);
            left.insert(at, placed);
            model.take_back(undo);
            if found {
                return true;
            }
        }
    }
    false
}

fn by_brute_force(history: &History, with_revisions: bool) -> bool {
    let jobs: Vec<Job> =
        history.iter().filter_map(|(id, _)| Job::of(history, id, with_revisions)).collect();
    let mut left = (0..jobs.len()).collect();
    explained(&jobs, &mut Model::new(with_revisions), &mut left)
}

/// The history with answers, revisions and times mixed up a little.
fn disturbed(history: &History, rng: &mut Rng) -> History {
    let mut changed = History::default();
    let answers: Vec<(u64, Answer)> = history
        .operations()
        .iter()
        .filter_map(|it| match &it.end {
            End::Answered { revision: Some(revision), answer, .. } => {
                Some((*revision, answer.clone()))
            }
            _ => None,
        })
        .collect();
    for operation in history.operations() {
        let id = changed.call(operation.client, operation.called_at, operation.asked.clone());
        let End::Answered { at, revision: Some(revision), answer } = &operation.end else {
            continue;
        };
        let at = if rng.u8(..4) == 0 { operation.called_at + rng.u64(..8) } else { *at };
        let (mut revision, mut answer) = (*revision, answer.clone());
        if let (0, Some((other_revision, other))) = (rng.u8(..4), rng.choice(&answers)) {
            let same_kind = std::mem::discriminant(other) == std::mem::discriminant(&answer);
            if same_kind {
                (revision, answer) = (*other_revision, other.clone());
            }
        }
        if rng.u8(..8) == 0 {
            revision = (revision + rng.u64(..3)).saturating_sub(1);
        }
        changed.answer(id, at, Some(revision), answer);
    }
    changed
}

#[test]
fn the_judge_agrees_with_brute_force() {
    let mut verdicts = [[0; 2]; 2];
    for seed in 0..20_000 {
        let mut rng = Rng::with_seed(seed);
        let (clients, keys) = (rng.usize(1..=4), rng.usize(1..=2));
        let shape = Shape { clients, keys, operations: rng.usize(2..=6), open_one_in: 3 };
        let history = disturbed(&correct(seed, &shape), &mut rng);
        for with_revisions in [false, true] {
            let expected = by_brute_force(&history, with_revisions);
            let judged = match with_revisions {
                true => judge(&history),
                false => judge(&without_revisions(&history)),
            };
            match (&judged, expected) {
                (Verdict::Linearizable, true) | (Verdict::Violated(_), false) => {}
                _ => panic!("seed {seed}, {with_revisions}: {expected}, {judged:?}: {history:#?}"),
            }
            verdicts[usize::from(with_revisions)][usize::from(expected)] += 1;
        }
    }
    // Both verdicts are met often, in both ways.
    assert!(verdicts.iter().flatten().all(|count| *count > 2000), "{verdicts:?}");
}
