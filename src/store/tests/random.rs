//! Random commands, commits, scans and restarts, compared with the model at every step.

use bytes::Bytes;
use fastrand::Rng;

use super::super::lmdb::LmdbMap;
use super::super::map::Map;
use super::super::mem_map::MemMap;
use super::super::{Committed, Outcome, Scan, ScanResult, Store, WindowBounds, tally};
use super::model::Model;
use super::{NOW, command, commit, compare, delete, delete_range, get, ops, put, rows};
use crate::limits::LAYERS_MAX;
use crate::wire::client::compare::{Operator, Target};
use crate::wire::client::{Code, Compare, Op, Range, Txn};
use crate::wire::log::{Command, Membership};

const BOUNDS: WindowBounds = WindowBounds { entries_max: 12, len_bytes_max: 400 };

enum Entry {
    Blank,
    Membership(Membership),
    /// With the outcome that every replica has to give, at every replay.
    Command(Command, Outcome),
}

struct World<M: Map> {
    rng: Rng,
    map: M,
    store: Store<M>,
    model: Model,
    log: Vec<Entry>,
    membership: Option<Membership>,
    /// A commit that is durable, and the store does not know yet.
    receipt: Option<Committed>,
    /// Scans that were begun, with what they must find.
    scans: Vec<(Scan<M>, ScanResult)>,
    refused: usize,
    over_quota: usize,
    repeated: usize,
}

impl<M: Map> World<M> {
    fn new(seed: u64, map: M) -> World<M> {
        World {
            rng: Rng::with_seed(seed),
            store: Store::open_with(map.clone(), BOUNDS).unwrap(),
            map,
            model: Model::new(BOUNDS),
            log: Vec::new(),
            membership: None,
            receipt: None,
            scans: Vec::new(),
            refused: 0,
            over_quota: 0,
            repeated: 0,
        }
    }

    fn step(&mut self) {
        match self.rng.u32(..100) {
            0..60 => self.apply(),
            60..70 => self.begin_commit(),
            70..78 => self.end_commit(),
            78..90 => self.begin_scan(),
            90..97 => self.run_scan(),
            _ => self.restart(),
        }
        self.check();
    }

    fn apply(&mut self) {
        let index = self.log.len() as u64 + 1;
        let entry = match self.rng.u32(..20) {
            0 => Entry::Blank,
            1 => {
                // Some of them are too small for what is there already.
                let max_bytes = Some(self.rng.u64(..300)).map(|max| max.saturating_sub(60));
                let time_ms = self.rng.u64(..1 << 40);
                let command = Command { time_ms, max_bytes, ..Command::default() };
                let outcome = self.model.apply(index, &command);
                Entry::Command(command, outcome)
            }
            2 => {
                let membership = Membership { expect: self.rng.u32(1..9), ..Membership::default() };
                self.membership = Some(membership.clone());
                Entry::Membership(membership)
            }
            _ => {
                let command = self.command();
                let outcome = self.model.apply(index, &command);
                Entry::Command(command, outcome)
            }
        };
        self.log.push(entry);
        self.replay(index);
    }

    /// Applies an entry of the log to the store.
    fn replay(&mut self, index: u64) {
        match &self.log[index as usize - 1] {
            Entry::Blank => self.store.apply_blank(index, 1),
            Entry::Membership(membership) => {
                self.store.apply_membership(index, 1, membership.clone());
            }
            Entry::Command(command, expected) => {
                let outcome = self.store.apply(index, 1, command).unwrap();
                match (&outcome, expected) {
                    (Outcome::Refused(refusal), Outcome::Refused(expected)) => {
                        assert_eq!(refusal.code(), expected.code());
                        self.refused += 1;
                        self.over_quota += usize::from(refusal.code() == Code::NoSpace);
                    }
                    _ => assert_eq!(&outcome, expected, "entry {index}"),
                }
            }
        }
    }

    /// A new request, or the retry of an older one: same id, same `since`.
    fn command(&mut self) -> Command {
        let retried = (self.rng.u32(..5) == 0)
            .then(|| self.log.len().saturating_sub(1 + self.rng.usize(..40)))
            .and_then(|at| self.log.get(at));
        if let Some(Entry::Command(command, _)) = retried {
            self.repeated += 1;
            return command.clone();
        }
        // Now and then one that this history has not reached.
        let ahead = if self.rng.u32(..20) == 0 { self.rng.u64(..3) } else { 0 };
        let since = (self.log.len() as u64 + ahead).saturating_sub(self.rng.u64(..16));
        let txn = self.txn();
        let request_id = Bytes::copy_from_slice(&self.rng.u128(..).to_be_bytes());
        Command { time_ms: self.rng.u64(..1 << 40), ..command(request_id, since, txn) }
    }

    fn txn(&mut self) -> Txn {
        let mut list = |count: usize| (0..count).map(|_| self.op()).collect::<Vec<_>>();
        let (success, failure) = (list(3), list(2));
        if self.rng.bool() {
            return ops(success[..1 + self.rng.usize(..3)].to_vec());
        }
        let compares = (0..self.rng.usize(1..3)).map(|_| self.compare()).collect();
        Txn { compares, success, failure }
    }

    fn op(&mut self) -> Op {
        let (key, other) = (self.key(), self.key());
        match self.rng.u32(..10) {
            0..5 => put(&key, &self.value()),
            5..7 => delete(&key),
            7..9 => get(&key),
            // The bounds may be the wrong way round: nothing lies between them.
            _ => delete_range(&key, &other),
        }
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let small = self.rng.u64(..4);
        let target = match self.rng.u32(..4) {
            0 => Target::Value(self.value().into()),
            1 => Target::Version(small),
            2 => Target::CreateRevision(self.model.revision.saturating_sub(small)),
            _ => Target::ModRevision(self.model.revision.saturating_sub(small)),
        };
        compare(&key, Operator::try_from(self.rng.i32(0..4)).unwrap(), target)
    }

    fn key(&mut self) -> Vec<u8> {
        (0..self.rng.usize(1..4)).map(|_| self.rng.u8(b'a'..b'e')).collect()
    }

    fn value(&mut self) -> Vec<u8> {
        (0..self.rng.usize(..8)).map(|_| self.rng.u8(..4)).collect()
    }

    /// The store thread does its work at once, and the store learns of it later.
    fn begin_commit(&mut self) {
        let ahead = self.store.applied() != self.store.durable();
        let commit = self.store.begin_commit(NOW, true);
        assert_eq!(commit.is_some(), ahead && self.receipt.is_none());
        if let Some(commit) = commit {
            self.receipt = Some(commit.run().unwrap());
        }
    }

    fn end_commit(&mut self) {
        if let Some(committed) = self.receipt.take() {
            drop(self.store.committed(committed));
            self.check_tally();
        }
    }

    /// The map's rows are what the map says of itself, and what the store says where that is no further.
    fn check_tally(&self) {
        let figures = tally(&self.map.snapshot().unwrap()).unwrap();
        assert_eq!(figures.applied, self.store.durable());
        if figures.applied == self.store.applied() {
            assert_eq!(figures.digest, self.store.digest());
        }
    }

    fn begin_scan(&mut self) {
        let mut range = Range {
            limit: if self.rng.bool() { 0 } else { self.rng.u32(1..6) },
            keys_only: self.rng.bool(),
            count_only: self.rng.u32(..5) == 0,
            ..Range::default()
        };
        if self.rng.bool() {
            range.from = self.key().into();
        }
        if self.rng.bool() {
            range.to = self.key().into();
        }
        let expected =
            ScanResult { revision: self.store.revision(), result: self.model.scan(&range) };
        match self.store.scan(&range).unwrap() {
            Some(scan) => self.scans.push((scan, expected)),
            None => assert!(self.store.layers.sealed_count() >= LAYERS_MAX),
        }
    }

    fn run_scan(&mut self) {
        if !self.scans.is_empty() {
            let (scan, expected) = self.scans.swap_remove(self.rng.usize(..self.scans.len()));
            assert_eq!(scan.run().unwrap(), expected);
        }
    }

    /// A crash: what is in memory is gone, and the log is applied from where the map is.
    fn restart(&mut self) {
        let digest = self.store.digest();
        self.receipt = None;
        self.store = Store::open_with(self.map.clone(), BOUNDS).unwrap();
        assert_eq!(self.store.applied(), self.store.durable());
        for index in self.store.durable().index + 1..=self.log.len() as u64 {
            self.replay(index);
        }
        assert_eq!(self.store.digest(), digest);
    }

    fn check(&mut self) {
        let (store, model) = (&self.store, &self.model);
        assert_eq!(store.applied().index, self.log.len() as u64);
        assert_eq!(store.revision(), model.revision);
        assert_eq!(store.keys(), model.data.len() as u64);
        assert_eq!(store.logical_bytes(), model.logical_bytes());
        assert_eq!(store.time_ms(), model.time_ms);
        assert_eq!(store.max_bytes(), model.max_bytes);
        assert_eq!(store.membership(), self.membership.as_ref());
        let key = self.key();
        assert_eq!(self.store.get(&key).unwrap().as_ref(), self.model.data.get(&key[..]));
    }

    fn finish(mut self) -> M {
        while !self.scans.is_empty() {
            self.run_scan();
        }
        self.end_commit();
        commit(&mut self.store);
        self.check_tally();
        let all = self.store.scan(&Range::default()).unwrap().unwrap().run().unwrap();
        assert_eq!(all.result, self.model.scan(&Range::default()));
        let exercised = [self.repeated, self.refused - self.over_quota, self.over_quota];
        assert!(exercised.iter().all(|count| *count > 0), "too little: {exercised:?}");
        self.map
    }
}

/// Says which seed failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

fn run<M: Map>(seed: u64, steps: usize, map: M) -> M {
    let mut world = World::new(seed, map);
    for _ in 0..steps {
        world.step();
    }
    world.finish()
}

#[test]
fn in_memory_as_the_model() {
    for seed in 0..300 {
        let _seed = Seed(seed);
        run(seed, 600, MemMap::default());
    }
}

#[test]
fn on_disk_as_the_model_and_as_in_memory() {
    for seed in 0..4 {
        let _seed = Seed(seed);
        let dir = tempfile::tempdir().unwrap();
        let on_disk = run(seed, 400, LmdbMap::open(dir.path()).unwrap());
        let in_memory = run(seed, 400, MemMap::default());
        assert_eq!(rows(&on_disk), rows(&in_memory));
    }
}

#[test]
fn replicas_that_commit_at_different_moments_hold_the_same_bytes() {
    for seed in 0..50 {
        let _seed = Seed(seed);
        let mut world = World::new(seed, MemMap::default());
        for _ in 0..600 {
            world.step();
        }
        // A second replica applies the same log, and commits when it likes, or only at the end.
        let mut second = World::new(seed, MemMap::default());
        std::mem::swap(&mut second.log, &mut world.log);
        let often = second.rng.bool();
        for index in 1..=second.log.len() as u64 {
            second.replay(index);
            if often && second.rng.u32(..7) == 0 {
                commit(&mut second.store);
            }
        }
        commit(&mut second.store);
        std::mem::swap(&mut second.log, &mut world.log);
        assert_eq!(rows(&world.finish()), rows(&second.map));
    }
}
