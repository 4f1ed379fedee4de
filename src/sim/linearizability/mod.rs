//! Linearizability: whether one store, asked by one client at a time, could have given the answers of a history.
//!
//! What the verdict means:
//! - [`Linearizable`](Verdict::Linearizable): there is an order of the operations in which each stands between its call
//!   and its answer, and in which the `model` gives exactly the answers that were given, values, versions and (where
//!   they were recorded) revisions. An operation without an answer stands anywhere after its call, or nowhere.
//! - [`Violated`](Verdict::Violated): there is none.
//! - [`Unknown`](Verdict::Unknown): it was not found out. Neither of the two, and to be counted as such.
//!
//! To find an order is hard in general (Gibbons and Korach, 1997), and easy with a witness. There are two ways:
//!
//! - **Every answer has its revision**, as Phalanx's do. The revision grows by one with each write that changes something,
//!   so it is the order, but for the writes without an answer. The `revisions` are first held against each other and
//!   against real time, in the time of a sort. The search then walks along them over the whole store at once, and chooses
//!   only among the unanswered writes for the revisions that nobody was told.
//! - **Some answer has none.** Linearizability is local (Herlihy and Wing, 1990): what shares no key is judged apart. Keys
//!   that a transaction or a range read touches together are one part. Revisions are left out of the judgement.
//!
//! Both end in the same `search`: J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects" (1993), as improved
//! by G. Lowe, "Testing for Linearizability" (2017), with bounded steps.

mod model;
mod parts;
mod revisions;
mod search;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use self::model::Step;
use self::revisions::{Conflict, Facts};
use self::search::{Found, search};
use super::history::{Answer, Asked, End, History, OperationId};
use crate::limits::JUDGE_STEPS_MAX;
use crate::wire::client::compare;

/// See the [module](self).
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// An order was found.
    Linearizable,
    /// No order explains the answers.
    Violated(Violation),
    /// It was not found out: for a person, why.
    Unknown(String),
}

/// Why there is no order.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// In words.
    pub reason: String,
    /// The longest order that was found before nothing could follow. Empty where the operations at fault are at odds by
    /// themselves.
    pub prefix: Vec<OperationId>,
    /// Those at fault: at odds with each other, or each unable to follow the prefix. With each, what it would have
    /// been answered after the prefix.
    pub at_fault: Vec<(OperationId, Option<String>)>,
}

/// How much of a prefix [`Violation::explain`] shows.
const PREFIX_SHOWN_MAX: usize = 12;

impl Violation {
    /// All that a person needs to see it, some lines.
    pub fn explain(&self, history: &History) -> String {
        let mut text = format!("not linearizable: {}\n", self.reason);
        let shown = &self.prefix[self.prefix.len().saturating_sub(PREFIX_SHOWN_MAX)..];
        if !shown.is_empty() {
            text += &format!("after {} operations, the last of them:\n", self.prefix.len());
        }
        for id in shown {
            text += &format!("    {id} {}\n", history[*id]);
        }
        for (id, instead) in &self.at_fault {
            text += &format!("  ! {id} {}\n", history[*id]);
            if let Some(instead) = instead {
                text += &format!("        here it would be: {instead}\n");
            }
        }
        text
    }
}

/// Judges a history, in at most [`JUDGE_STEPS_MAX`] steps.
pub fn judge(history: &History) -> Verdict {
    judge_within(history, JUDGE_STEPS_MAX)
}

/// Judges a history, in at most so many steps of the search.
pub fn judge_within(history: &History, steps_max: u64) -> Verdict {
    let with_revisions = history
        .operations()
        .iter()
        .all(|it| !matches!(it.end, End::Answered { revision: None, .. }));
    let jobs: Vec<Job> =
        history.iter().filter_map(|(id, _)| Job::of(history, id, with_revisions)).collect();
    if with_revisions {
        return judge_by_revisions(&jobs, steps_max);
    }
    if jobs.iter().any(Job::compares_revisions) {
        return Verdict::Unknown(
            "a transaction compares revisions, and an answer has none: record the revision of every answer".into(),
        );
    }
    judge_by_parts(jobs, steps_max)
}

fn judge_by_revisions(jobs: &[Job], steps_max: u64) -> Verdict {
    let mut steps_left = steps_max;
    match Facts::gather(jobs) {
        Ok(facts) => verdict(jobs, search(jobs, Some(&facts), &mut steps_left), steps_max),
        Err(Conflict { reason, jobs: at_fault }) => Verdict::Violated(Violation {
            reason,
            prefix: Vec::new(),
            at_fault: at_fault.into_iter().map(|job| (jobs[job].id, None)).collect(),
        }),
    }
}

fn judge_by_parts(jobs: Vec<Job>, steps_max: u64) -> Verdict {
    let mut steps_left = steps_max;
    let mut judged = Verdict::Linearizable;
    for part in parts::split(jobs) {
        match verdict(&part, search(&part, None, &mut steps_left), steps_max) {
            Verdict::Linearizable => {}
            violated @ Verdict::Violated(_) => return violated,
            // Another part may still be violated.
            unknown @ Verdict::Unknown(_) => {
                judged = unknown;
                steps_left = steps_left.max(steps_max / 2);
            }
        }
    }
    judged
}

fn verdict(jobs: &[Job], found: Found, steps_max: u64) -> Verdict {
    match found {
        Found::Order => Verdict::Linearizable,
        Found::OutOfSteps => {
            Verdict::Unknown(format!("no order was found in {steps_max} steps, and none excluded"))
        }
        Found::Nothing { prefix, stuck } => {
            let at_fault = stuck.into_iter().map(|Stuck { job, there, revision }| {
                (jobs[job].id, Some(format!("{there} at revision {revision}")))
            });
            Verdict::Violated(Violation {
                reason: "no order explains these answers".to_owned(),
                prefix: prefix.into_iter().map(|job| jobs[job].id).collect(),
                at_fault: at_fault.collect(),
            })
        }
    }
}

/// An operation that is to be explained, or may have had an effect.
struct Job<'a> {
    id: OperationId,
    called_at: u64,
    asked: &'a Asked,
    answered: Option<Answered<'a>>,
}

struct Answered<'a> {
    at: u64,
    /// 0 where revisions are left out.
    revision: u64,
    answer: Cow<'a, Answer>,
    /// Whether it tells of a change.
    changes: bool,
}

/// An operation that could have come next, and what it would have been answered.
struct Stuck {
    job: usize,
    there: Answer,
    revision: u64,
}

impl<'a> Job<'a> {
    /// `None` for what failed, and for reads without an answer.
    fn of(history: &'a History, id: OperationId, with_revisions: bool) -> Option<Job<'a>> {
        let operation = &history[id];
        let answered = match &operation.end {
            End::Failed => return None,
            End::Open if !matches!(operation.asked, Asked::Write(_)) => return None,
            End::Open => None,
            End::Answered { at, revision, answer } => Some(Answered {
                at: *at,
                revision: revision.filter(|_| with_revisions).unwrap_or(0),
                changes: answer.tells_of_change(),
                answer: match with_revisions {
                    true => Cow::Borrowed(answer),
                    false => Cow::Owned(answer.clone().without_revisions()),
                },
            }),
        };
        Some(Job { id, called_at: operation.called_at, asked: &operation.asked, answered })
    }

    /// Whether the answer is that of a step.
    fn explains(&self, step: &Step, answered: &Answered) -> bool {
        step.revision == answered.revision && step.answers(self.asked, &answered.answer)
    }

    fn compares_revisions(&self) -> bool {
        let Asked::Write(txn) = self.asked else { return false };
        txn.compares.iter().any(|it| {
            matches!(
                it.target,
                Some(compare::Target::CreateRevision(_) | compare::Target::ModRevision(_))
            )
        })
    }
}
