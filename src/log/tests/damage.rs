//! Faults that are no torn write: recovery refuses, and says where.

use prost::Message;

use super::*;
use crate::error::Error;
use crate::log::format::{self, Header, Stamp};
use crate::wire::log::{Carried, EntryId, Snapshot};

const SEQUENCE_LAST: u64 = 4;

/// Four batches over two segments: blocks 0, 1..3 and 3 of the first, block 0 of the second.
fn four_batches() -> MemDisk {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    for (index, len) in [(1, 10), (2, 4000), (3, 2000), (SEQUENCE_LAST, 700)] {
        write(&disk, &mut log, &record(index, len));
    }
    prepare_all(&disk, &mut log);
    disk
}

fn assert_corrupt(error: Error, expected: (&std::path::Path, u64), says: &str) {
    let message = error.to_string();
    let Error::Corrupt { file, offset, .. } = error else { panic!("not corruption: {message}") };
    assert_eq!((file.as_path(), offset), expected, "{message}");
    assert!(message.contains(says), "{message}");
    assert!(message.contains("move this data directory away"), "{message}");
}

#[test]
fn every_single_flipped_bit_of_every_batch_is_refused_and_named() {
    let disk = four_batches();
    for (ordinal, blocks) in [(1, 4), (2, 1)] {
        let name = segment::file_name(ordinal);
        for bit in 0..blocks * BLOCK_LEN * 8 {
            disk.flip_bit(&name, bit);
            let error = refusal(recover(&disk, SMALL, 2));
            let Error::Corrupt { file, offset, .. } = &error else { panic!("bit {bit}: {error}") };
            assert_eq!(*file, path(&disk, ordinal), "bit {bit}: {error}");
            assert_eq!(*offset, (bit / 8 / SECTOR_LEN * SECTOR_LEN) as u64, "bit {bit}: {error}");
            disk.flip_bit(&name, bit);
        }
    }
    assert_eq!(entries(&disk, SMALL).len() as u64, SEQUENCE_LAST);
}

#[test]
fn a_bit_flipped_elsewhere_loses_nothing() {
    let disk = four_batches();
    let before = entries(&disk, SMALL);
    let mut refused = Vec::new();
    for bit in BLOCK_LEN * 8..SMALL * 8 {
        disk.flip_bit(&segment::file_name(2), bit);
        match recover(&disk, SMALL, 2) {
            Ok(recovery) => assert_eq!(recovery.contents.entries, before),
            Err(_) => refused.push(bit / 8 / SECTOR_LEN),
        }
        disk.flip_bit(&segment::file_name(2), bit);
    }
    refused.dedup();
    assert_eq!(refused, [BLOCK_LEN / SECTOR_LEN], "only where the next batch might have begun");
}

#[test]
fn a_batch_that_is_gone_from_the_middle_is_a_hole() {
    let zeros = vec![0; BLOCK_LEN];
    for block in 0..4 {
        let disk = four_batches();
        disk.write_at(&segment::file_name(1), (block * BLOCK_LEN) as u64, &zeros).unwrap();
        if block == 2 {
            // The second half of a batch: told by the batches after it.
            let error = refusal(recover(&disk, SMALL, 2)).to_string();
            assert!(error.contains("batch 2"), "{error}");
            continue;
        }
        let error = refusal(recover(&disk, SMALL, 2));
        let message = error.to_string();
        assert!(matches!(error, Error::Corrupt { .. }), "{message}");
        assert!(message.contains("missing"), "{message}");
    }
}

#[test]
fn a_segment_that_is_gone_from_the_middle_is_missed() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    for index in 1..=3 {
        write(&disk, &mut log, &record(index, 3 * BLOCK_LEN));
    }
    prepare_all(&disk, &mut log);
    for gone in 2..=3 {
        let disk = disk.clone();
        disk.remove(&segment::file_name(gone)).unwrap();
        let error = refusal(recover(&disk, SMALL, 2));
        assert_corrupt(error, (&path(&disk, gone), 0), "the file is missing");
    }
}

/// Writes the sector at `from` of segment 1 to `to` as well, in numbers of sectors.
fn misdirect(disk: &MemDisk, from: usize, to: usize) {
    let name = segment::file_name(1);
    let mut sector = [0; SECTOR_LEN];
    disk.read_at(&name, (from * SECTOR_LEN) as u64, &mut sector).unwrap();
    disk.write_at(&name, (to * SECTOR_LEN) as u64, &sector).unwrap();
}

#[test]
fn intact_sectors_in_the_wrong_place_are_refused() {
    // Batch 1 has the sectors 0..8, batch 2 has 8..24, batch 3 has 24..32.
    for (from, to, says) in [
        (1, 0, "holds sector 1 of batch 1"),
        (9, 8, "holds sector 1 of batch 2"),
        (12, 11, "holds sector 4 of a batch, not 3"),
        (25, 12, "batch 2, which was durable before it, is missing"),
        (24, 8, "batch 2, which was durable before it, is missing"),
    ] {
        let disk = four_batches();
        misdirect(&disk, from, to);
        let error = refusal(recover(&disk, SMALL, 2));
        assert_corrupt(error, (&path(&disk, 1), (to * SECTOR_LEN) as u64), says);
    }
}

#[test]
fn a_lone_sector_after_the_end_is_of_a_torn_write_only_where_that_can_be() {
    // All behind batch 1 is blank, but for one sector of batch 2 or 3.
    let left = |from: usize, to: usize| {
        let disk = four_batches();
        let name = segment::file_name(1);
        let mut kept = [0; SECTOR_LEN];
        disk.read_at(&name, (from * SECTOR_LEN) as u64, &mut kept).unwrap();
        disk.write_at(&name, BLOCK_LEN as u64, &vec![0; SMALL - BLOCK_LEN]).unwrap();
        disk.write_at(&segment::file_name(2), 0, &[0; BLOCK_LEN]).unwrap();
        disk.write_at(&name, (to * SECTOR_LEN) as u64, &kept).unwrap();
        recover(&disk, SMALL, 2)
    };
    let torn = left(9, 9).unwrap().torn.unwrap();
    assert_eq!((torn.offset, torn.sequence), (BLOCK_LEN as u64, 2));
    for (from, to) in [(9, 10), (25, 9), (25, 25), (23, 8)] {
        let error = refusal(left(from, to)).to_string();
        assert!(error.contains("missing") || error.contains("begins here"), "{error}");
    }
}

#[test]
fn a_batch_of_an_earlier_start_than_its_predecessor_is_refused() {
    let [old, new] = [2, 5].map(|generation| {
        let disk = MemDisk::default();
        let mut log = open(&disk, SMALL, generation).log;
        write(&disk, &mut log, &record(1, 10));
        (disk.clone(), write(&disk, &mut log, &record(2, 10)))
    });
    let (disk, second) = (&new.0, &old.1);
    let torn = disk.clone();
    second.complete(disk);
    let error = refusal(recover(disk, SMALL, 9));
    assert_corrupt(error, (&path(disk, 1), second.place.offset), "of an earlier start");

    second.tear(&torn, |sector| sector == 0);
    let error = refusal(recover(&torn, SMALL, 9));
    assert_corrupt(error, (&path(disk, 1), second.place.offset), "of an earlier start");
}

#[test]
fn segments_that_were_swapped_or_cut_are_refused() {
    let disk = four_batches();
    let names = [1, 2, 3].map(segment::file_name);
    let swapped = disk.clone();
    for (from, to) in
        [(&names[0], "x"), (&names[1], &names[0]), ("x", &names[1])] as [(&str, &str); 3]
    {
        swapped.rename(from, to).unwrap();
    }
    let error = refusal(recover(&swapped, SMALL, 2));
    assert_corrupt(error, (&path(&disk, 1), 0), "the file was renamed");

    disk.remove(&names[2]).unwrap();
    disk.create_zeroed(&names[2], 100).unwrap();
    assert_corrupt(refusal(recover(&disk, SMALL, 2)), (&path(&disk, 3), 100), "has 100 bytes");
}

/// A disk with this as its first and only batch.
fn with_batch(version: u32, payload: &[u8]) -> MemDisk {
    let disk = MemDisk::default();
    prepare_all(&disk, &mut open(&disk, SMALL, 1).log);
    let mut content = Vec::new();
    Header { version, payload_len: payload.len() as u32, ordinal: 1 }.write(&mut content);
    content.extend_from_slice(payload);
    let mut bytes = vec![0; format::batch_len(payload.len())];
    format::seal(&content, Stamp { sequence: 1, generation: 1 }, &mut bytes);
    disk.write_at(&segment::file_name(1), 0, &bytes).unwrap();
    disk
}

#[test]
fn an_unknown_version_is_refused_and_is_no_corruption() {
    let first = Record {
        hard_state: Some(HardState::default()),
        standing: Some(Standing::default()),
        ..Record::default()
    };
    assert!(recover(&with_batch(1, &first.encode_to_vec()), SMALL, 2).is_ok());
    let error = refusal(recover(&with_batch(2, &first.encode_to_vec()), SMALL, 2));
    assert!(matches!(error, Error::Environment(_)), "{error}");
    let message = error.to_string();
    assert!(message.contains("format version 2") && message.contains("0001.seg"), "{message}");
}

#[test]
fn an_intact_batch_that_makes_no_sense_is_refused() {
    let error = refusal(recover(&with_batch(1, &[0xff; 9]), SMALL, 2));
    assert!(error.to_string().contains("no record"), "{error}");
    let error = refusal(recover(&with_batch(1, b""), SMALL, 2));
    assert!(error.to_string().contains("does not repeat"), "{error}");

    let snapshot = |index, term, commit| Record {
        snapshot: Some(Snapshot { last: Some(EntryId { index, term }), state: 2 }),
        hard_state: Some(hard_state(9, 0, commit)),
        ..Record::default()
    };
    let stateless = Snapshot { state: 0, ..snapshot(7, 1, 7).snapshot.unwrap() };
    let carried = Some(Carried { last: None, state: 1 });
    for (second, says) in [
        // Entries 1 to 5 are there, 3 are committed.
        (record(7, 10), "it holds entry 7"),
        (record(3, 10), "it holds entry 3"),
        (record(0, 10), "it holds entry 0"),
        (
            Record { entries: vec![entry(1, 6, ""), entry(1, 8, "")], ..Record::default() },
            "entry 8",
        ),
        (snapshot(0, 1, 7), "as of no entry"),
        (snapshot(7, 0, 7), "as of entry 7 of term 0"),
        (snapshot(2, 1, 7), "entry 3 was committed before"),
        (snapshot(7, 1, 6), "not committed"),
        (Record { hard_state: None, ..snapshot(7, 1, 7) }, "not committed"),
        (Record { snapshot: Some(stateless), ..snapshot(7, 1, 7) }, "installs state 0"),
        (Record { entries: vec![entry(1, 7, "")], ..snapshot(7, 1, 7) }, "it holds entry 7"),
        (Record { carried, ..record(6, 10) }, "not the first of its segment"),
    ] {
        let disk = MemDisk::default();
        let mut log = open(&disk, SMALL, 1).log;
        let entries = (1..=5).map(|index| entry(1, index, "")).collect();
        let hard_state = Some(hard_state(1, 0, 3));
        write(&disk, &mut log, &Record { entries, hard_state, ..Record::default() });
        let second = write(&disk, &mut log, &second);
        let error = refusal(recover(&disk, SMALL, 2));
        assert_corrupt(error, (&path(&disk, 1), second.place.offset), says);
    }
}

/// Two segments that are whole, each of another log: the second does not follow the first.
#[test]
fn a_segment_that_carries_on_another_log_is_refused() {
    let log = |term, data_len: usize| {
        let disk = MemDisk::default();
        let mut log = open(&disk, SMALL, 1).log;
        for index in 1..=2 {
            let entries = vec![entry(term, index, vec![0; data_len])];
            write(&disk, &mut log, &Record { entries, ..Record::default() });
        }
        disk
    };
    let (disk, other) = (log(1, 3 * BLOCK_LEN), log(2, 3 * BLOCK_LEN));
    let mut segment = vec![0; SMALL];
    other.read_at(&segment::file_name(2), 0, &mut segment).unwrap();
    disk.write_at(&segment::file_name(2), 0, &segment).unwrap();
    let error = refusal(recover(&disk, SMALL, 2));
    assert_corrupt(error, (&path(&disk, 2), 0), "it follows entry 1 of term 2");
}

#[test]
fn a_generation_that_is_not_new_is_refused() {
    let disk = four_batches();
    for generation in [0, 1] {
        let error = refusal(recover(&disk, SMALL, generation));
        assert!(matches!(error, Error::Environment(_)), "{error}");
        assert!(error.to_string().contains("identity is older"), "{error}");
    }
    // What a torn write left counts as well.
    let mut log = open(&disk, SMALL, 7).log;
    Write::of(&disk, &mut log, &record(5, 10)).tear(&disk, |sector| sector == 4);
    assert!(recover(&disk, SMALL, 7).is_err());
    assert!(recover(&disk, SMALL, 8).is_ok());
}

#[test]
fn a_commit_beyond_the_last_entry_is_refused() {
    let disk = four_batches();
    for (commit, accepted) in [(SEQUENCE_LAST, true), (SEQUENCE_LAST + 1, false)] {
        let mut log = open(&disk, SMALL, 2 + commit as u32).log;
        let hard_state = Some(hard_state(1, 0, commit));
        write(&disk, &mut log, &Record { hard_state, ..Record::default() });
        assert_eq!(recover(&disk, SMALL, 100).is_ok(), accepted);
    }
    let error = refusal(recover(&disk, SMALL, 100));
    assert!(error.to_string().contains("entry 5 is committed"), "{error}");
}

#[test]
fn no_arrangement_of_sectors_makes_recovery_panic() {
    let original = four_batches();
    let seed = 5;
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let disk = original.clone();
        for _ in 0..rng.usize(1..6) {
            let mut sector = vec![0; SECTOR_LEN];
            let place =
                |rng: &mut fastrand::Rng| (rng.usize(..SMALL / SECTOR_LEN) * SECTOR_LEN) as u64;
            let from = segment::file_name(rng.u64(1..=3));
            disk.read_at(&from, place(&mut rng), &mut sector).unwrap();
            let to = segment::file_name(rng.u64(1..=3));
            disk.write_at(&to, place(&mut rng), &sector).unwrap();
        }
        if let Ok(recovery) = recover(&disk, SMALL, 2) {
            let mut log = recovery.log;
            write(&disk, &mut log, &Record::default());
        }
    }
}
