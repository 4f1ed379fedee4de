//! Random histories of writes, torn writes, recycling and restarts, against a model that is a map.

use std::collections::BTreeMap;

use super::*;
use crate::log::Prepare;

const SEGMENT: usize = 16 * BLOCK_LEN;

/// What the log must hold, kept in another way than the log keeps it.
#[derive(Clone, Default, PartialEq, Debug)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    hard_state: HardState,
    standing: Standing,
}

impl Model {
    fn last_index(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(0)
    }

    fn apply(&mut self, record: &Record) {
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
        let last = entries.last().map_or(self.last_index(), |entry| entry.index);
        let commit = rng.u64(self.hard_state.commit..=last);
        Record {
            entries,
            hard_state: rng.bool().then(|| hard_state(rng.u64(..9), rng.u64(..9), commit)),
            standing: (rng.u8(..10) == 0).then(|| member(rng.u8(..))),
            ..Record::default()
        }
    }
}

/// Prepares the segment that the log wants: of the oldest, now and then, if that is not needed.
fn prepare_one(disk: &MemDisk, log: &mut Log, model: &mut Model, rng: &mut fastrand::Rng) {
    let Some(wish) = log.next_to_prepare() else { return };
    let oldest = disk.list().unwrap().into_iter().min().filter(|_| rng.bool());
    let recycle = oldest.filter(|oldest| release(disk, model, oldest));
    prepare(disk, &Prepare { recycle, ..wish.clone() }).unwrap();
    log.prepared(wish.ordinal);
}

/// Whether all that could still be overwritten is in other segments. Then the model begins where
/// those do.
fn release(disk: &MemDisk, model: &mut Model, oldest: &str) -> bool {
    let without = disk.clone();
    without.remove(oldest).unwrap();
    let Ok(recovery) = recover(&without, SEGMENT, 1 << 20) else { return false };
    let first = recovery.contents.entries.first().map(|entry| entry.index);
    let Some(first) = first.filter(|&first| first <= model.hard_state.commit + 1) else {
        return false;
    };
    model.entries = model.entries.split_off(&first);
    true
}

fn history(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let disk = MemDisk::default();
    let mut model = Model::default();
    let mut log = open(&disk, SEGMENT, 1).log;
    let mut generation = 1;
    let mut sectors = vec![7; 9000];
    for step in 0..150 {
        prepare_one(&disk, &mut log, &mut model, &mut rng);
        let record = model.random_record(&mut rng, &sectors);
        let batch = Write::of(&disk, &mut log, &record);
        if rng.u8(..5) != 0 {
            batch.complete(&disk);
            log.persisted(batch.sequence);
            model.apply(&record);
            sectors[..BLOCK_LEN].copy_from_slice(&batch.bytes[..BLOCK_LEN]);
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
        let found = Model {
            entries: recovery.contents.entries.into_iter().map(|e| (e.index, e)).collect(),
            hard_state: recovery.contents.hard_state,
            standing: recovery.contents.standing,
        };
        assert!(found == model, "seed {seed}, step {step}");
        log = recovery.log;
    }
}

#[test]
fn random_histories_lose_nothing() {
    for seed in 0..60 {
        history(seed);
    }
}
