//! Random histories of writes, torn writes, snapshots, released segments and restarts, against a model that is a map.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::*;
use crate::log::{Contents, Prepare};
use crate::wire::log::{EntryId, Snapshot};

const SEGMENT: usize = 16 * BLOCK_LEN;

/// What the log must hold, kept in another way than the log keeps it.
#[derive(Clone, Default, Debug)]
struct Model {
    /// All that there ever were and that count.
    entries: BTreeMap<u64, Entry>,
    /// What they follow.
    base: EntryId,
    hard_state: HardState,
    standing: Standing,
    /// Of the last snapshot.
    state: Option<u64>,
    /// Up to where they need not be found again.
    released: u64,
}

impl Model {
    fn last_index(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(self.base.index)
    }

    fn id(&self, index: u64) -> EntryId {
        let term = self.entries.get(&index).map_or(self.base.term, |entry| entry.term);
        EntryId { index, term }
    }

    fn apply(&mut self, record: &Record) {
        if let Some(snapshot) = record.snapshot {
            self.entries.clear();
            self.base = snapshot.last.unwrap();
            self.state = Some(snapshot.state);
            self.released = self.base.index;
        }
        for entry in &record.entries {
            self.entries.split_off(&entry.index);
            self.entries.insert(entry.index, entry.clone());
        }
        self.hard_state = record.hard_state.unwrap_or(self.hard_state);
        self.standing = record.standing.clone().unwrap_or(self.standing.clone());
    }

    fn random_record(&self, rng: &mut fastrand::Rng, sectors: &[u8]) -> Record {
        let mut index = self.last_index() + 1;
        if rng.u8(..8) == 0 {
            index = rng.u64(self.hard_state.commit + 1..=index);
        }
        let snapshot = (rng.u8(..20) == 0).then(|| {
            index = rng.u64(self.hard_state.commit + 1..=self.last_index() + 5);
            let last = EntryId { index, term: rng.u64(1..9) };
            index += 1;
            Snapshot { last: Some(last), state: self.state.unwrap_or(1) + 1 }
        });
        let committed = snapshot.map_or(self.hard_state.commit, |_| index - 1);
        let before = snapshot.map_or(self.last_index(), |_| index - 1);
        let mut entries = Vec::new();
        for _ in 0..rng.u64(..4) {
            let len_max = if rng.bool() { 100 } else { 9000 };
            let len = rng.usize(..len_max);
            // Now and then, what is on the disk already.
            let data = match rng.u8(..3) {
                0 => sectors[..len.min(sectors.len())].to_vec(),
                _ => std::iter::repeat_with(|| rng.u8(..)).take(len).collect(),
            };
            entries.push(entry(rng.u64(1..9), index, data));
            index += 1;
        }
        let last = entries.last().map_or(before, |entry| entry.index);
        let commit = rng.u64(committed..=last);
        let with_hard_state = rng.bool() || snapshot.is_some();
        Record {
            entries,
            hard_state: with_hard_state.then(|| hard_state(rng.u64(..9), rng.u64(..9), commit)),
            standing: (rng.u8(..10) == 0).then(|| member(rng.u8(..))),
            snapshot,
            carried: None,
        }
    }

    /// Holds what was recovered against what must be there.
    fn check(&self, found: &Contents, context: &str) {
        let kept = self.entries.range(found.base.index + 1..).map(|(_, entry)| entry);
        assert!(kept.eq(&found.entries), "entries, {context}");
        assert!(found.base.index <= self.released.max(self.base.index), "the base, {context}");
        assert_eq!(found.last(), self.id(self.last_index()), "the last, {context}");
        assert_eq!(found.hard_state, self.hard_state, "the hard state, {context}");
        assert_eq!(found.standing, self.standing, "the standing, {context}");
        assert_eq!(found.state, self.state.unwrap_or(1), "the state, {context}");
        // The state machine has applied what was released at least, and what is committed at most.
        for applied in [self.released, self.hard_state.commit.max(self.released)] {
            let start = found.clone().start(self.id(applied)).unwrap();
            assert!(start.base.index <= applied, "a gap, {context}");
            let is_known = self.entries.contains_key(&start.base.index) || start.base == self.base;
            assert!(is_known && start.base == self.id(start.base.index), "{:?}", start.base);
            let after = self.entries.range(start.base.index + 1..).map(|(_, entry)| entry);
            assert!(after.eq(&start.entries), "what consensus starts from, {context}");
        }
    }
}

/// A disk whose machine stops after so many operations. It holds the log to touching one name after the other: what a power
/// cut takes of names that are not durable is then no more than the last.
struct Cut<'a> {
    disk: &'a MemDisk,
    operations_left: Cell<usize>,
    is_pending: Cell<bool>,
}

impl Cut<'_> {
    fn operate(&self) -> io::Result<()> {
        let left = self.operations_left.get();
        self.operations_left.set(left.checked_sub(1).ok_or(io::ErrorKind::Other)?);
        Ok(())
    }

    fn touch(&self) -> io::Result<()> {
        assert!(!self.is_pending.replace(true), "two names in doubt");
        self.operate()
    }
}

impl Disk for Cut<'_> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn len_bytes(&self, name: &str) -> io::Result<u64> {
        self.disk.len_bytes(name)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(name, offset, buffer)
    }

    fn create_zeroed(&self, name: &str, len_bytes: u64) -> io::Result<()> {
        self.operate()?;
        self.disk.create_zeroed(name, len_bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.touch()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.touch()?;
        self.disk.remove(name)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.disk.sync(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.operate()?;
        self.is_pending.set(false);
        self.disk.sync_dir()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
}

/// Prepares the segment that the log wants. A machine that stopped at any point of it would find all that it must. Gives how
/// many files went or were made anew.
fn prepare_one(disk: &MemDisk, log: &mut Log, model: &Model, generation: u32) -> usize {
    let Some(wish) = log.next_to_prepare() else { return 0 };
    for operations in 0.. {
        let stopped = disk.clone();
        let cut = Cut {
            disk: &stopped,
            operations_left: Cell::new(operations),
            is_pending: Cell::new(false),
        };
        let is_done = prepare(&cut, &wish).is_ok();
        let recovery = open(&stopped, SEGMENT, generation + 1);
        model.check(&recovery.contents, &format!("stopped after {operations} steps of {wish:?}"));
        if is_done {
            break;
        }
    }
    prepare(disk, &wish).unwrap();
    log.prepared(wish.ordinal);
    let Prepare { recycle, remove, .. } = wish;
    recycle.iter().count() + remove.len()
}

/// How much was recycled or removed, and how many snapshots were installed.
#[derive(Default)]
struct Tally {
    given_up: usize,
    snapshots: usize,
}

fn history(seed: u64, tally: &mut Tally) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let disk = MemDisk::default();
    let mut model = Model::default();
    let mut log = open(&disk, SEGMENT, 1).log;
    let mut generation = 1;
    let mut sectors = vec![7; 9000];
    // Some state machines hardly ever get on, others always do.
    let keenness = rng.f64();
    for step in 0..150 {
        tally.given_up += prepare_one(&disk, &mut log, &model, generation);
        let record = model.random_record(&mut rng, &sectors);
        let batch = Write::of(&disk, &mut log, &record);
        if rng.u8(..5) != 0 {
            batch.complete(&disk);
            log.persisted(batch.sequence);
            model.apply(&record);
            tally.snapshots += usize::from(record.snapshot.is_some());
            sectors[..BLOCK_LEN].copy_from_slice(&batch.bytes[..BLOCK_LEN]);
            if rng.f64() < keenness {
                let commit = model.hard_state.commit.max(model.released);
                model.released = rng.u64(model.released..=commit);
                log.release(model.released);
            }
            if rng.u8(..10) != 0 {
                continue;
            }
        } else {
            let density = rng.f64();
            let mut all = true;
            batch.tear(&disk, |_| {
                let kept = rng.f64() < density;
                all &= kept;
                kept
            });
            if all {
                model.apply(&record);
            }
        }
        generation += 1;
        let recovery = open(&disk, SEGMENT, generation);
        model.check(&recovery.contents, &format!("seed {seed}, step {step}"));
        log = recovery.log;
        // The state machine tells again how far it is.
        log.release(model.released);
    }
}

#[test]
fn random_histories_lose_nothing() {
    let mut tally = Tally::default();
    for seed in 0..60 {
        history(seed, &mut tally);
    }
    let Tally { given_up, snapshots } = tally;
    assert!(given_up > 600 && snapshots > 200, "{given_up} files, {snapshots} snapshots");
}
