//! The parts of a history that share no key, and can be judged apart.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Job;
use super::model::is_within;
use crate::sim::history::Asked;
use crate::wire::client::op;

/// Splits jobs into parts, in the order of their first jobs. Whatever touches two keys, or the range that holds them,
/// makes them one part.
pub(super) fn split(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let touched: Vec<Touched> = jobs.iter().map(|job| Touched::of(job.asked)).collect();
    let keys: BTreeSet<&Bytes> = touched.iter().flat_map(|it| it.keys.iter().copied()).collect();
    let mut groups = Groups::new(jobs.len());
    let mut first_of: BTreeMap<&Bytes, usize> = BTreeMap::new();
    for (job, touched) in touched.iter().enumerate() {
        let is_in = |key: &Bytes| touched.ranges.iter().any(|(from, to)| is_within(key, from, to));
        let in_ranges = keys.iter().copied().filter(|key| is_in(key));
        for key in touched.keys.iter().copied().chain(in_ranges) {
            groups.join(*first_of.entry(key).or_insert(job), job);
        }
    }
    let mut parts: BTreeMap<usize, Vec<Job>> = BTreeMap::new();
    for (at, job) in jobs.into_iter().enumerate() {
        parts.entry(groups.first(at)).or_default().push(job);
    }
    parts.into_values().collect()
}

/// What an operation reads or writes, in either branch.
#[derive(Default)]
struct Touched<'a> {
    keys: Vec<&'a Bytes>,
    ranges: Vec<(&'a Bytes, &'a Bytes)>,
}

impl<'a> Touched<'a> {
    fn of(asked: &'a Asked) -> Touched<'a> {
        let mut touched = Touched::default();
        match asked {
            Asked::Get(key) => touched.keys.push(key),
            Asked::Range(range) => touched.ranges.push((&range.from, &range.to)),
            Asked::Write(txn) => {
                touched.keys.extend(txn.compares.iter().map(|compare| &compare.key));
                for op in txn.success.iter().chain(&txn.failure).filter_map(|op| op.op.as_ref()) {
                    match op {
                        op::Op::Put(put) => touched.keys.push(&put.key),
                        op::Op::Delete(delete) => touched.keys.push(&delete.key),
                        op::Op::DeleteRange(range) => touched.ranges.push((&range.from, &range.to)),
                        op::Op::Get(get) => touched.keys.push(&get.key),
                    }
                }
            }
        }
        touched
    }
}

/// Disjoint sets, each named by its first element.
struct Groups(Vec<usize>);

impl Groups {
    fn new(count: usize) -> Groups {
        Groups((0..count).collect())
    }

    fn first(&mut self, of: usize) -> usize {
        let mut first = of;
        while self.0[first] != first {
            self.0[first] = self.0[self.0[first]];
            first = self.0[first];
        }
        first
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first(a), self.first(b));
        self.0[a.max(b)] = a.min(b);
    }
}
