//! Writes of which some sectors reached the disk and others did not.

use super::*;
use crate::log::{Prepare, Torn};

/// A disk with a log of one batch, and that log.
fn begun() -> (MemDisk, Log) {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    write(&disk, &mut log, &record(1, 10));
    prepare_all(&disk, &mut log);
    (disk, log)
}

/// The same, but the next batches go over what other batches left there.
fn recycled() -> (MemDisk, Log) {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    // Sequences 1 to 4, then 5 and 9: as in life, they may differ from the new ones in one bit.
    for index in 1..=4 {
        write(&disk, &mut log, &record(index, 10));
    }
    write(&disk, &mut log, &record(5, 3 * BLOCK_LEN));
    let mut wish = log.next_to_prepare().unwrap();
    wish.recycle = Some(segment::file_name(1));
    prepare(&disk, &wish).unwrap();
    log.prepared(wish.ordinal);
    write(&disk, &mut log, &record(6, 3 * BLOCK_LEN - 300));
    prepare_over(&disk, &mut log, 2);
    (disk, log)
}

fn prepare_over(disk: &MemDisk, log: &mut Log, old: u64) {
    let wish = log.next_to_prepare().unwrap();
    prepare(disk, &Prepare { recycle: Some(segment::file_name(old)), ..wish.clone() }).unwrap();
    log.prepared(wish.ordinal);
}

/// Tears a write, recovers, tears the same or another record's write in a new generation, recovers,
/// and completes one: what was acknowledged is there each time, and the torn write is reported.
fn tear_twice(disk: &MemDisk, first: &Write, masks: [u64; 2], again: &Record) {
    let all = |write: &Write| (1u64 << write.sectors()) - 1;
    let before = entries(disk, SMALL);
    let disk = disk.clone();
    first.tear(&disk, |sector| masks[0] >> sector & 1 == 1);
    let recovery = open(&disk, SMALL, 2);
    if masks[0] == all(first) {
        assert_eq!(recovery.contents.entries.len(), before.len() + 1, "masks {masks:x?}");
        assert_eq!(recovery.torn, None);
        return;
    }
    assert_eq!(recovery.contents.entries, before, "masks {masks:x?}");
    assert_eq!(recovery.torn, (masks[0] != 0).then(|| torn_at(&disk, first)), "masks {masks:x?}");

    let mut log = recovery.log;
    let second = Write::of(&disk, &mut log, again);
    assert_eq!(second.sequence, first.sequence);
    let mask = masks[1] & all(&second);
    second.tear(&disk, |sector| mask >> sector & 1 == 1);
    let recovery = open(&disk, SMALL, 3);
    let mut expected = before;
    if mask == all(&second) {
        expected.extend(again.entries.clone());
        assert_eq!(recovery.torn, None, "masks {masks:x?}");
    } else {
        let last = if mask != 0 { Some(&second) } else { Some(first).filter(|_| masks[0] != 0) };
        assert_eq!(recovery.torn, last.map(|w| torn_at(&disk, w)), "masks {masks:x?}");
    }
    assert_eq!(recovery.contents.entries, expected, "masks {masks:x?}");

    let mut log = recovery.log;
    let third = record(expected.last().unwrap().index + 1, 20);
    write(&disk, &mut log, &third);
    expected.extend(third.entries);
    let recovery = open(&disk, SMALL, 4);
    assert_eq!((recovery.contents.entries, recovery.torn), (expected, None), "masks {masks:x?}");
}

fn torn_at(disk: &MemDisk, write: &Write) -> Torn {
    let file = path(disk, write.place.ordinal);
    Torn { file, offset: write.place.offset, sequence: write.sequence }
}

#[test]
fn every_subset_of_one_block_over_every_subset_of_an_earlier_attempt() {
    let (disk, mut log) = begun();
    // The very same content: an earlier attempt's sectors differ in their stamps alone.
    let again = record(2, 3000);
    let first = Write::of(&disk, &mut log, &again);
    assert_eq!(first.sectors(), 8);
    for mask in 0..=0xffff_u64 {
        tear_twice(&disk, &first, [mask & 0xff, mask >> 8], &again);
    }
}

#[test]
fn every_subset_of_one_block_over_a_recycled_segment() {
    let (disk, mut log) = recycled();
    let next = |len| record(7, len);
    let first = Write::of(&disk, &mut log, &next(100));
    assert_eq!(first.place.offset, 0, "{:?}", first.place);
    for mask in 0..=0xff_u64 {
        tear_twice(&disk, &first, [mask, !mask], &next(3000));
        tear_twice(&disk, &first, [mask, mask.rotate_left(3)], &next(100));
    }
}

#[test]
fn prefixes_and_random_subsets_of_larger_batches() {
    for (disk, mut log) in [begun(), recycled()] {
        let index = open(&disk, SMALL, 1000).contents.last_index() + 1;
        let first = Write::of(&disk, &mut log, &record(index, 2 * BLOCK_LEN));
        assert_eq!(first.sectors(), 24);
        let seed = 11;
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..600_u64 {
            let mask = if round < 25 { (1 << round) - 1 } else { rng.u64(..) & rng.u64(..) };
            let blocks = rng.usize(0..3);
            let again = record(index, blocks * BLOCK_LEN + 50);
            tear_twice(&disk, &first, [mask & 0xff_ffff, rng.u64(..) | rng.u64(..)], &again);
        }
    }
}

#[test]
fn a_torn_write_may_be_followed_in_the_other_of_its_two_places() {
    for (first_len, second_len) in [(10, 3 * BLOCK_LEN), (3 * BLOCK_LEN, 10)] {
        let (disk, mut log) = begun();
        let first = Write::of(&disk, &mut log, &record(2, first_len));
        first.tear(&disk, |sector| sector != 3);
        let recovery = open(&disk, SMALL, 2);
        assert_eq!(recovery.torn, Some(torn_at(&disk, &first)));
        let mut log = recovery.log;
        let second = write(&disk, &mut log, &record(2, second_len));
        assert_ne!(second.place, first.place);
        for index in 3..20 {
            let recovery = open(&disk, SMALL, index as u32);
            assert_eq!(recovery.torn, None);
            assert_eq!(recovery.contents.last_index(), index - 1);
            let mut log = recovery.log;
            write(&disk, &mut log, &record(index, 10));
        }
    }
}

#[test]
fn user_bytes_that_imitate_batches_are_user_bytes() {
    let (disk, mut log) = begun();
    for index in 2..=5 {
        write(&disk, &mut log, &record(index, 10));
    }
    // A later batch, as a client may know it, at every alignment.
    let forged = Write::of(&disk, &mut log, &record(6, 10)).bytes;
    let (disk, _) = begun();
    for shift in 0..SECTOR_LEN {
        let data = [&vec![0; shift][..], &forged, &forged].concat();
        let record = Record { entries: vec![entry(1, 2, data)], ..Record::default() };
        let torn = Write::of(&disk, &mut open(&disk, SMALL, 2).log, &record);
        for missing in [0, 8, 9] {
            let disk = disk.clone();
            torn.tear(&disk, |sector| sector != missing);
            let recovery = open(&disk, SMALL, 3);
            assert_eq!(recovery.contents.last_index(), 1, "shift {shift}");
            assert_eq!(recovery.torn, Some(torn_at(&disk, &torn)), "shift {shift}");
        }
    }
}
