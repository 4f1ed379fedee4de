//! What the revisions in the answers tell of the order, before any search.
//!
//! The revision grows by one with each write that changes something. So an answer with a revision says where in the
//! order its operation stands: a write that changed something is the one of its revision, anything else stands between
//! that revision and the next. What is left open is only which unanswered write has which of the other revisions.
//!
//! [`Facts::gather`] refuses what no order can explain: two writes of one revision, a revision that goes back in real
//! time, two answers that disagree about what a revision wrote, a request applied twice, a write out of nowhere. It
//! takes a sort of the history. What it leaves is for the search, which has little to choose, and checks the rest: that
//! each answer is what the store would have said at its place.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::model::Step;
use super::{Answered, Job};
use crate::sim::history::{Asked, bytes};
use crate::wire::client::{KeyValue, Op, op};

/// Why no order explains the answers, and the jobs that show it.
pub(super) struct Conflict {
    pub reason: String,
    pub jobs: Vec<usize>,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Facts {
    /// By revision, the job that was answered to be its write.
    writers: HashMap<u64, usize>,
    /// The revisions of all answers, sorted.
    answered: Vec<u64>,
    /// By revision and key, what a read found that it wrote, and the job of the read.
    written: HashMap<u64, BTreeMap<Bytes, (KeyValue, usize)>>,
    /// By key, the spans of revisions (after the first, up to the second) in which nobody wrote it: sorted, disjoint.
    quiet: HashMap<Bytes, Vec<(u64, u64)>>,
    /// The revision of an unanswered write whose effect was read, and that nobody else can have had.
    pinned: HashMap<usize, u64>,
}

impl Facts {
    /// Of jobs whose answers all have revisions.
    pub fn gather(jobs: &[Job]) -> Result<Facts, Conflict> {
        let mut answered: Vec<u64> = answers(jobs).map(|(_, it)| it.revision).collect();
        answered.sort_unstable();
        let mut facts = Facts { answered, ..Facts::default() };
        facts.find_writers(jobs)?;
        check_real_time(jobs)?;
        for (job, answered) in answers(jobs) {
            facts.take_records(jobs, job, answered)?;
        }
        facts.merge_quiet();
        facts.check_gaps(jobs)?;
        facts.pin(jobs)?;
        Ok(facts)
    }

    /// Whether the job may stand next, as far as can be told without the state. `explained`: how many jobs with an answer
    /// stand already.
    pub fn may_be_next(&self, at: usize, job: &Job, revision: u64, explained: usize) -> bool {
        let next = revision + 1;
        match &job.answered {
            Some(answered) if !answered.changes => answered.revision == revision,
            // From here on the revision grows, and whoever saw the present one must stand before that.
            _ if self.answered.partition_point(|it| *it <= revision) != explained => false,
            Some(answered) => answered.revision == next,
            None => {
                self.answered.last().is_some_and(|last| next <= *last)
                    && !self.writers.contains_key(&next)
                    && self.pinned.get(&at).is_none_or(|pinned| *pinned == next)
            }
        }
    }

    /// Whether a step changes no key that was seen unchanged, and makes what was seen of its revision.
    pub fn fit(&self, step: &Step) -> bool {
        if step.changes.is_empty() {
            return true;
        }
        let written = self.written.get(&step.revision).into_iter().flatten();
        written.into_iter().all(|(key, (seen, _))| {
            step.changes.get(key).is_some_and(|change| change.as_ref() == Some(seen))
        }) && step.changes.keys().all(|key| !self.is_quiet(key, step.revision))
    }

    fn is_quiet(&self, key: &Bytes, revision: u64) -> bool {
        let spans = self.quiet.get(key).map_or(&[][..], |spans| spans);
        let at = spans.partition_point(|(_, until)| *until < revision);
        spans.get(at).is_some_and(|(after, _)| *after < revision)
    }

    fn find_writers(&mut self, jobs: &[Job]) -> Result<(), Conflict> {
        for (job, Answered { revision, .. }) in answers(jobs).filter(|(_, it)| it.changes) {
            let revision = *revision;
            if let Some(other) = self.writers.insert(revision, job) {
                let reason = format!("two writes have revision {revision}");
                return Err(Conflict { reason, jobs: vec![other, job] });
            }
            if revision == 0 {
                let reason = "a write changed something and left the revision at 0".to_owned();
                return Err(Conflict { reason, jobs: vec![job] });
            }
        }
        Ok(())
    }

    /// Takes note of what an answer tells of the writers of the records in it.
    fn take_records(&mut self, jobs: &[Job], job: usize, told: &Answered) -> Result<(), Conflict> {
        // The values are left out, or it may be what the transaction itself had written that far.
        let keys_only = matches!(jobs[job].asked, Asked::Range(range) if range.keys_only);
        let own = told.changes.then_some(told.revision);
        let until = told.revision - u64::from(told.changes);
        for record in told.answer.records().filter(|it| Some(it.mod_revision) != own) {
            let KeyValue { key, mod_revision, .. } = record;
            if *mod_revision > until {
                let reason =
                    format!("revision {mod_revision} was read in a state of revision {until}");
                return Err(Conflict { reason, jobs: vec![job] });
            }
            self.quiet.entry(key.clone()).or_default().push((*mod_revision, until));
            if keys_only {
                continue;
            }
            let written = self.written.entry(*mod_revision).or_default();
            let (seen, other) = written.entry(key.clone()).or_insert((record.clone(), job));
            if seen != record {
                let key = bytes(key);
                let reason = format!("what revision {mod_revision} wrote under {key} has changed");
                return Err(Conflict { reason, jobs: vec![*other, job] });
            }
        }
        Ok(())
    }

    fn merge_quiet(&mut self) {
        for spans in self.quiet.values_mut() {
            spans.sort_unstable();
            spans.dedup_by(|next, merged| {
                let joins = next.0 <= merged.1;
                if joins {
                    merged.1 = merged.1.max(next.1);
                }
                joins
            });
        }
    }

    /// There are as many unanswered writes as revisions without a writer, and each was called in time.
    fn check_gaps(&self, jobs: &[Job]) -> Result<(), Conflict> {
        let last = self.answered.last().copied().unwrap_or(0);
        let mut called: Vec<u64> =
            jobs.iter().filter(|it| it.answered.is_none()).map(|it| it.called_at).collect();
        called.sort_unstable();
        // By the first answer of its revision or a later one, a revision's write had been called.
        let mut by_revision: Vec<_> =
            answers(jobs).map(|(job, it)| (it.revision, it.at, job)).collect();
        by_revision.sort_unstable();
        for at in (1..by_revision.len()).rev() {
            let (_, until, job) = by_revision[at];
            if until < by_revision[at - 1].1 {
                (by_revision[at - 1].1, by_revision[at - 1].2) = (until, job);
            }
        }
        let gaps = (1..=last).filter(|revision| !self.writers.contains_key(revision));
        for (filled, gap) in gaps.enumerate() {
            let at = by_revision.partition_point(|(revision, ..)| *revision < gap);
            // There is one, since no gap is above the last.
            let (_, until, job) = by_revision[at];
            if called.get(filled).is_none_or(|called| *called > until) {
                let reason =
                    format!("revision {gap} is of no write that was recorded by time {until}");
                return Err(Conflict { reason, jobs: vec![job] });
            }
        }
        Ok(())
    }

    /// Finds the unanswered writes whose revision is known by what was read.
    fn pin(&mut self, jobs: &[Job]) -> Result<(), Conflict> {
        let mut writers_of: HashMap<(&Bytes, &Bytes), Vec<usize>> = HashMap::new();
        for (at, job) in jobs.iter().enumerate().filter(|(_, job)| job.answered.is_none()) {
            for put in puts(job.asked) {
                let writers = writers_of.entry(put).or_default();
                if writers.last() != Some(&at) {
                    writers.push(at);
                }
            }
        }
        let mut unanswered: Vec<_> =
            self.written.iter().filter(|(it, _)| !self.writers.contains_key(it)).collect();
        unanswered.sort_unstable_by_key(|(revision, _)| **revision);
        for (revision, key, seen, reader) in unanswered
            .into_iter()
            .flat_map(|(at, seen)| seen.iter().map(move |(key, it)| (*at, key, &it.0, it.1)))
        {
            match writers_of.get(&(key, &seen.value)).map_or(&[][..], |writers| writers) {
                [] => {
                    let (key, value) = (bytes(key), bytes(&seen.value));
                    let reason = format!(
                        "revision {revision} put {value} under {key}, which no write of that revision can have done"
                    );
                    return Err(Conflict { reason, jobs: vec![reader] });
                }
                [writer] => {
                    let pinned = *self.pinned.entry(*writer).or_insert(revision);
                    if pinned != revision {
                        let reason = format!("one write has revisions {pinned} and {revision}");
                        return Err(Conflict { reason, jobs: vec![*writer, reader] });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn answers<'a>(jobs: &'a [Job<'a>]) -> impl Iterator<Item = (usize, &'a Answered<'a>)> {
    jobs.iter().enumerate().filter_map(|(at, job)| Some((at, job.answered.as_ref()?)))
}

/// What a write would put, whichever branch is executed.
fn puts(asked: &Asked) -> impl Iterator<Item = (&Bytes, &Bytes)> {
    let (success, failure): (&[Op], &[Op]) = match asked {
        Asked::Write(txn) => (&txn.success, &txn.failure),
        Asked::Get(_) | Asked::Range(_) => (&[], &[]),
    };
    success.iter().chain(failure).filter_map(|op| match &op.op {
        Some(op::Op::Put(put)) => Some((&put.key, &put.value)),
        _ => None,
    })
}

/// What was called after an answer stands after it, in revisions too.
fn check_real_time(jobs: &[Job]) -> Result<(), Conflict> {
    let mut by_call: Vec<_> = answers(jobs).collect();
    by_call.sort_unstable_by_key(|(job, _)| jobs[*job].called_at);
    let mut by_answer = by_call.clone();
    by_answer.sort_unstable_by_key(|(_, answered)| answered.at);
    let mut ended = by_answer.into_iter().peekable();
    let mut newest: Option<(u64, usize)> = None;
    for (job, told) in by_call {
        let called_at = jobs[job].called_at;
        while let Some((before, it)) = ended.next_if(|(_, it)| it.at < called_at) {
            newest = newest.max(Some((it.revision, before)));
        }
        let Some((revision, before)) = newest else { continue };
        if told.revision < revision + u64::from(told.changes) {
            let reason = format!(
                "revision {revision} had been answered before this was called, which tells of revision {}",
                told.revision
            );
            return Err(Conflict { reason, jobs: vec![before, job] });
        }
    }
    Ok(())
}
