//! The search for an order: Wing and Gong's, with Lowe's improvements.
//!
//! All calls and answers lie in a list, in the order of time. Whatever is called before the first answer in the list can
//! come next; an answer that is reached without having found a way means that the last choice was wrong. An operation
//! that has its place leaves the list, and comes back into it when its choice is taken back.
//!
//! - Lowe: what was placed and the state that it led to are remembered, and never looked at twice.
//! - What changes nothing and has its answer takes its place at once, and is no choice: wherever else it could stand,
//!   it could stand here, since it makes no difference to any other.
//! - An open write is placed where it changes something, or not at all. Nobody waits for it: when all answers are
//!   explained, the search is over.
//! - Where answers tell revisions, [`Facts`] refuse most choices before they are made.

use std::collections::HashSet;

use super::model::{Changes, Model, Step, fingerprint};
use super::revisions::Facts;
use super::{Job, Stuck};

/// How a search ended.
pub(super) enum Found {
    Order,
    /// None explains the answers: the jobs of the longest that was found, and those that could have come next.
    Nothing {
        prefix: Vec<usize>,
        stuck: Vec<Stuck>,
    },
    /// The steps ran out.
    OutOfSteps,
}

/// Searches for an order of the jobs that explains their answers, counting the steps down.
pub(super) fn search(jobs: &[Job], facts: Option<&Facts>, steps_left: &mut u64) -> Found {
    Search::new(jobs, facts).run(steps_left)
}

/// A job's call or answer in the list.
#[derive(Clone, Copy)]
struct Event {
    job: usize,
    is_answer: bool,
}

/// The events that are left, doubly linked. 0 is the list's beginning and end.
struct List {
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Of each job, where its call and its answer are.
    places: Vec<(usize, Option<usize>)>,
}

impl List {
    fn new(jobs: &[Job]) -> List {
        let calls = jobs.iter().enumerate().map(|(job, it)| (it.called_at, false, job));
        let answers = jobs.iter().enumerate().filter_map(|(job, it)| {
            let answered = it.answered.as_ref()?;
            Some((answered.at, true, job))
        });
        // Of one time, calls first: what touches overlaps.
        let mut in_time: Vec<_> = calls.chain(answers).collect();
        in_time.sort_unstable();
        let mut places = vec![(0, None); jobs.len()];
        let mut events = vec![Event { job: 0, is_answer: true }];
        for (_, is_answer, job) in in_time {
            match is_answer {
                true => places[job].1 = Some(events.len()),
                false => places[job].0 = events.len(),
            }
            events.push(Event { job, is_answer });
        }
        let count = events.len();
        let next = (0..count).map(|at| (at + 1) % count).collect();
        let previous = (0..count).map(|at| (at + count - 1) % count).collect();
        List { events, next, previous, places }
    }

    fn remove(&mut self, job: usize) {
        let (call, answer) = self.places[job];
        for at in [Some(call), answer].into_iter().flatten() {
            let (previous, next) = (self.previous[at], self.next[at]);
            (self.next[previous], self.previous[next]) = (next, previous);
        }
    }

    /// Undoes the last [`List::remove`] that was not undone.
    fn restore(&mut self, job: usize) {
        let (call, answer) = self.places[job];
        for at in [answer, Some(call)].into_iter().flatten() {
            let (previous, next) = (self.previous[at], self.next[at]);
            (self.next[previous], self.previous[next]) = (at, at);
        }
    }

    /// The jobs that can come next: those called before the first answer.
    fn candidates(&self) -> impl Iterator<Item = usize> {
        let from = |at: usize| (!self.events[at].is_answer).then_some(at);
        std::iter::successors(from(self.next[0]), move |at| from(self.next[*at]))
            .map(|at| self.events[at].job)
    }
}

/// A job in its place.
struct Placed {
    job: usize,
    undo: Changes,
}

struct Search<'a> {
    jobs: &'a [Job<'a>],
    facts: Option<&'a Facts>,
    list: List,
    model: Model,
    placed: Vec<Placed>,
    /// Of the set of placed jobs.
    placed_fingerprint: u128,
    seen: HashSet<u128>,
    /// Jobs with an answer, and those among them that have no place yet.
    answered: usize,
    unexplained: usize,
    fewest_unexplained: usize,
    prefix: Vec<usize>,
    stuck: Vec<Stuck>,
}

impl<'a> Search<'a> {
    fn new(jobs: &'a [Job<'a>], facts: Option<&'a Facts>) -> Search<'a> {
        let answered = jobs.iter().filter(|job| job.answered.is_some()).count();
        Search {
            jobs,
            facts,
            list: List::new(jobs),
            model: Model::new(facts.is_some()),
            placed: Vec::new(),
            placed_fingerprint: 0,
            seen: HashSet::new(),
            answered,
            unexplained: answered,
            fewest_unexplained: usize::MAX,
            prefix: Vec::new(),
            stuck: Vec::new(),
        }
    }

    fn run(mut self, steps_left: &mut u64) -> Found {
        let mut at = self.list.next[0];
        while self.unexplained > 0 {
            let Event { job, is_answer } = self.list.events[at];
            if is_answer {
                self.note_stuck();
                let Some(after) = self.take_back() else {
                    return Found::Nothing { prefix: self.prefix, stuck: self.stuck };
                };
                at = after;
                continue;
            }
            if !self.may_be_next(job) {
                at = self.list.next[at];
                continue;
            }
            let Some(left) = steps_left.checked_sub(1) else { return Found::OutOfSteps };
            *steps_left = left;
            let step = self.model.step(self.jobs[job].asked);
            at = match self.is_right(job, &step) && self.place(job, step) {
                true => self.list.next[0],
                false => self.list.next[at],
            };
        }
        Found::Order
    }

    /// What can be told without looking at the state.
    fn may_be_next(&self, job: usize) -> bool {
        let explained = self.answered - self.unexplained;
        self.facts.is_none_or(|facts| {
            facts.may_be_next(job, &self.jobs[job], self.model.revision(), explained)
        })
    }

    fn is_right(&self, job: usize, step: &Step) -> bool {
        let fits = self.facts.is_none_or(|facts| facts.fit(step));
        match &self.jobs[job].answered {
            Some(answered) => fits && self.jobs[job].explains(step, answered),
            None => fits && !step.changes.is_empty(),
        }
    }

    /// Gives the job its place, unless the same jobs led to the same state before.
    fn place(&mut self, job: usize, step: Step) -> bool {
        let undo = self.model.take(step.changes);
        let with_it = self.placed_fingerprint ^ fingerprint(("job", job));
        if !self.seen.insert(with_it ^ self.model.fingerprint()) {
            self.model.take_back(undo);
            return false;
        }
        self.placed_fingerprint = with_it;
        self.list.remove(job);
        self.unexplained -= usize::from(self.jobs[job].answered.is_some());
        self.placed.push(Placed { job, undo });
        true
    }

    /// Takes back all up to the last choice, and gives the place in the list after it.
    fn take_back(&mut self) -> Option<usize> {
        loop {
            let Placed { job, undo } = self.placed.pop()?;
            let was_choice = !undo.is_empty();
            self.model.take_back(undo);
            self.placed_fingerprint ^= fingerprint(("job", job));
            self.list.restore(job);
            self.unexplained += usize::from(self.jobs[job].answered.is_some());
            if was_choice {
                return Some(self.list.next[self.list.places[job].0]);
            }
        }
    }

    /// Keeps how far it went, if it never went further.
    fn note_stuck(&mut self) {
        if self.unexplained >= self.fewest_unexplained {
            return;
        }
        self.fewest_unexplained = self.unexplained;
        self.prefix = self.placed.iter().map(|placed| placed.job).collect();
        let stuck = self.list.candidates().filter_map(|job| {
            self.jobs[job].answered.as_ref()?;
            let step = self.model.step(self.jobs[job].asked);
            Some(Stuck { job, there: step.answer, revision: step.revision })
        });
        self.stuck = stuck.collect();
    }
}
