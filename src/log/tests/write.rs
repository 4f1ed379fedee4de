//! What goes where, and comes back.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;

use super::*;
use crate::log::{Full, Prepare, is_no_space};
use crate::wire::log::{EntryId, Snapshot};

#[test]
fn an_empty_directory_is_an_empty_log() {
    let disk = MemDisk::default();
    let recovery = open(&disk, SMALL, 1);
    assert_eq!(recovery.contents, Default::default());
    assert_eq!(recovery.torn, None);
    let mut log = recovery.log;
    assert_eq!(log.append(&Record::default()).unwrap_err(), Full, "nothing is prepared yet");
    let first = write(&disk, &mut log, &record(1, 10));
    assert_eq!((first.sequence, first.place), (1, Place { ordinal: 1, offset: 0 }));
}

#[test]
fn batches_follow_one_another_and_move_on_where_they_do_not_fit() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    let mut places = Vec::new();
    for (index, blocks) in [(1, 1), (2, 2), (3, 2), (4, 2), (5, 4), (6, 1)] {
        let data_len = (blocks - 1) * BLOCK_LEN + 100;
        let written = write(&disk, &mut log, &record(index, data_len));
        assert_eq!(written.bytes.len(), blocks * BLOCK_LEN);
        places.push((written.place.ordinal, written.place.offset / BLOCK_LEN as u64));
    }
    assert_eq!(places, [(1, 0), (1, 1), (2, 0), (2, 2), (3, 0), (4, 0)]);
    let found = entries(&disk, SMALL);
    assert_eq!(found.iter().map(|e| e.index).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_log_goes_on_where_it_ended_and_its_prepared_segments_stay_prepared() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    write(&disk, &mut log, &record(1, 10));
    prepare_all(&disk, &mut log);
    let mut log = open(&disk, SMALL, 2).log;
    assert_eq!(log.next_to_prepare(), None, "segment 2 is there");
    let second = write(&disk, &mut log, &record(2, 10));
    assert_eq!(second.sequence, 2);
    assert_eq!(second.place, Place { ordinal: 1, offset: BLOCK_LEN as u64 });
    let far = write(&disk, &mut log, &record(3, 3 * BLOCK_LEN));
    assert_eq!(far.place, Place { ordinal: 2, offset: 0 });
    assert_eq!(entries(&disk, SMALL).len(), 3);
}

#[test]
fn a_wish_for_a_segment_is_told_once_and_when_the_active_one_is_the_last() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    let wish = log.next_to_prepare().unwrap();
    assert_eq!((wish.ordinal, wish.len_bytes, &wish.recycle), (1, SMALL as u64, &None));
    assert_eq!(log.next_to_prepare(), None);
    prepare(&disk, &wish).unwrap();
    log.prepared(1);
    assert_eq!(log.next_to_prepare(), None, "segment 1 is ahead of the first batch");
    log.append(&record(1, 10)).unwrap();
    assert_eq!(log.next_to_prepare().map(|wish| wish.ordinal), Some(2));
}

#[test]
fn a_full_log_changes_nothing_and_takes_the_record_later() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    write(&disk, &mut log, &record(1, 3 * BLOCK_LEN));
    let refused = Record { hard_state: Some(hard_state(7, 7, 0)), ..record(2, BLOCK_LEN) };
    assert_eq!(log.append(&refused).unwrap_err(), Full);
    let accepted = write(&disk, &mut log, &record(2, BLOCK_LEN));
    assert_eq!((accepted.sequence, accepted.place.ordinal), (2, 2));
    let contents = open(&disk, SMALL, 2).contents;
    assert_eq!(contents.hard_state, HardState::default(), "what was refused left nothing");
}

#[test]
fn each_segment_begins_with_the_hard_state_and_the_standing() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    let state = hard_state(3, 42, 1);
    let standing = Some(member(9));
    write(&disk, &mut log, &Record { hard_state: Some(state), standing, ..record(1, 10) });
    // Behind a restart as well.
    let mut log = open(&disk, SMALL, 2).log;
    for index in 2..=4 {
        write(&disk, &mut log, &record(index, 3 * BLOCK_LEN));
    }
    for gone in 1..=3 {
        disk.remove(&segment::file_name(gone)).unwrap();
    }
    let contents = open(&disk, SMALL, 3).contents;
    assert_eq!((contents.hard_state, contents.standing), (state, member(9)));
    assert_eq!(contents.entries.iter().map(|e| e.index).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_newer_hard_state_in_the_first_batch_of_a_segment_wins() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    let old = Some(hard_state(3, 42, 1));
    write(&disk, &mut log, &Record { hard_state: old, ..record(1, 2 * BLOCK_LEN) });
    let new = Some(hard_state(4, 43, 2));
    let second = Record { hard_state: new, ..record(2, 2 * BLOCK_LEN) };
    assert_eq!(write(&disk, &mut log, &second).place.ordinal, 2);
    assert_eq!(Some(open(&disk, SMALL, 2).contents.hard_state), new);
}

#[test]
#[should_panic(expected = "still in flight")]
fn a_second_write_in_flight_is_a_mistake() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    Write::of(&disk, &mut log, &record(1, 1));
    Write::of(&disk, &mut log, &record(2, 1));
}

#[test]
#[should_panic(expected = "the batch in flight")]
fn another_batch_than_the_one_in_flight_cannot_be_persisted() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    Write::of(&disk, &mut log, &record(1, 1));
    log.persisted(2);
}

#[test]
fn recovery_syncs_what_it_read_and_removes_leftovers() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    write(&disk, &mut log, &record(1, 3 * BLOCK_LEN));
    write(&disk, &mut log, &record(2, 3 * BLOCK_LEN));
    disk.create_zeroed("0000000000000003.seg.tmp", 100).unwrap();
    disk.create_zeroed("someone-elses.tmp", 100).unwrap();
    assert_eq!(disk.unsynced().len(), 3, "two segments and the directory");
    open(&disk, SMALL, 2);
    assert!(disk.unsynced().is_empty());
    let names = disk.list().unwrap();
    assert_eq!(names, ["0000000000000001.seg", "0000000000000002.seg", "someone-elses.tmp"]);
}

#[test]
fn a_full_disk_is_met_in_prepare_leaves_no_file_and_may_pass() {
    let disk = MemDisk::default();
    disk.set_capacity(SMALL + SMALL / 2);
    let mut log = open(&disk, SMALL, 1).log;
    write(&disk, &mut log, &record(1, 3 * BLOCK_LEN));
    let wish = log.next_to_prepare().unwrap();
    let error = prepare(&disk, &wish).unwrap_err();
    assert!(is_no_space(&error), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("0000000000000002.seg") && message.contains("make space"),
        "{message}"
    );
    assert_eq!(disk.list().unwrap(), ["0000000000000001.seg"]);
    assert_eq!(log.append(&record(2, BLOCK_LEN)).unwrap_err(), Full);

    disk.set_capacity(2 * SMALL);
    prepare(&disk, &wish).unwrap();
    log.prepared(wish.ordinal);
    assert!(disk.unsynced().iter().all(|name| name == "0000000000000001.seg"));
    let append = log.append(&record(2, BLOCK_LEN)).unwrap();
    assert_eq!(append.place.ordinal, 2);
}

/// A disk whose next removals, or syncs of the directory, find no room.
struct Cramped {
    disk: MemDisk,
    removals: Cell<u32>,
    syncs: Cell<u32>,
}

fn meet(failures: &Cell<u32>) -> io::Result<()> {
    match failures.get() {
        0 => Ok(()),
        left => {
            failures.set(left - 1);
            Err(io::ErrorKind::StorageFull.into())
        }
    }
}

impl Disk for Cramped {
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
        self.disk.create_zeroed(name, len_bytes)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        meet(&self.removals)?;
        self.disk.remove(name)
    }
    fn sync(&self, name: &str) -> io::Result<()> {
        self.disk.sync(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        meet(&self.syncs)?;
        self.disk.sync_dir()
    }
    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
}

/// Four segments, and the wish to make the fifth of the first, and to remove the two after it.
fn cramped(removals: u32, syncs: u32) -> (Cramped, Prepare) {
    let disk = MemDisk::default();
    (1..=4).for_each(|ordinal| disk.create_zeroed(&segment::file_name(ordinal), 1).unwrap());
    disk.sync_dir().unwrap();
    let wish = Prepare {
        ordinal: 5,
        len_bytes: 1,
        recycle: Some(segment::file_name(1)),
        remove: vec![segment::file_name(2), segment::file_name(3)],
    };
    (Cramped { disk, removals: removals.into(), syncs: syncs.into() }, wish)
}

#[test]
fn a_wish_that_was_half_carried_out_when_the_disk_was_full_is_carried_out_to_its_end() {
    for removals in 1..4 {
        let (disk, wish) = cramped(removals, 0);
        for _ in 0..removals {
            let error = prepare(&disk, &wish).unwrap_err();
            assert!(is_no_space(&error), "{error}");
        }
        prepare(&disk, &wish).unwrap();
        assert_eq!(disk.list().unwrap(), [4, 5].map(segment::file_name));
        // Nor does it matter where the attempt before ended.
        prepare(&disk, &wish).unwrap();
        assert_eq!(disk.list().unwrap(), [4, 5].map(segment::file_name));
    }
    let (disk, wish) = cramped(0, 0);
    let wish = Prepare { recycle: Some(segment::file_name(9)), ..wish };
    assert!(prepare(&disk, &wish).is_err(), "neither the old name is there nor the new one");
}

#[test]
fn a_sync_of_names_that_failed_is_not_tried_again() {
    let (disk, wish) = cramped(0, 1);
    let error = prepare(&disk, &wish).unwrap_err();
    assert!(!is_no_space(&error), "{error}");
}

#[test]
fn names_of_segments() {
    assert_eq!(segment::file_name(0x1a), "000000000000001a.seg");
    assert_eq!(segment::ordinal("000000000000001a.seg"), Some(0x1a));
    for name in
        ["1a.seg", "000000000000001A.seg", "+00000000000001a.seg", "000000000000001a", "LOCK"]
    {
        assert_eq!(segment::ordinal(name), None, "{name}");
    }
}

/// Entries of three blocks, so that each has a segment of its own. After each write all before it is released.
#[test]
fn a_log_that_is_kept_up_with_takes_three_segments() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    for index in 1..50 {
        write(&disk, &mut log, &record(index, 2 * BLOCK_LEN));
        log.release(index);
        prepare_all(&disk, &mut log);
        assert!(disk.list().unwrap().len() <= 3, "{:?}", disk.list());
        assert_eq!(log.len_bytes(), (disk.list().unwrap().len() * SMALL) as u64);
        if index % 7 == 0 {
            log = open(&disk, SMALL, 1 + index as u32).log;
            log.release(index);
        }
    }
    let contents = open(&disk, SMALL, 1000).contents;
    assert_eq!((contents.base, contents.last_index()), (EntryId { index: 48, term: 1 }, 49));
}

#[test]
fn segments_that_were_kept_for_long_go_at_once_the_first_into_the_new_one() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    for index in 1..=6 {
        write(&disk, &mut log, &record(index, 2 * BLOCK_LEN));
    }
    log.release(4);
    let name = segment::file_name;
    assert_eq!(
        log.next_to_prepare(),
        Some(Prepare {
            ordinal: 7,
            len_bytes: SMALL as u64,
            recycle: Some(name(1)),
            remove: vec![name(2), name(3), name(4)],
        })
    );
}

#[test]
fn a_segment_stays_until_a_batch_behind_it_is_durable() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    write(&disk, &mut log, &record(1, 2 * BLOCK_LEN));
    log.release(1);
    // Segment 1 alone tells of what it held, until the first batch of segment 2 is on disk.
    let second = Write::of(&disk, &mut log, &record(2, 2 * BLOCK_LEN));
    let wish = log.next_to_prepare().unwrap();
    assert_eq!((wish.ordinal, wish.recycle), (3, None));
    prepare(&disk, &Prepare { recycle: None, ..wish }).unwrap();
    log.prepared(3);
    second.complete(&disk);
    log.persisted(second.sequence);
    write(&disk, &mut log, &record(3, 2 * BLOCK_LEN));
    assert_eq!(log.next_to_prepare().unwrap().recycle, Some(segment::file_name(1)));
}

/// What another leader replaced does not hold a segment back: its index may be far ahead of what is ever applied.
#[test]
fn entries_that_were_replaced_do_not_count() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    let many: Vec<Entry> = (1..=900).map(|index| entry(1, index, "")).collect();
    write(&disk, &mut log, &Record { entries: many, ..Record::default() });
    log.release(7);
    let replacing =
        Record { entries: vec![entry(2, 8, vec![0; 3 * BLOCK_LEN])], ..Record::default() };
    let replacing = Write::of(&disk, &mut log, &replacing);
    // A crash now would bring them back, and 7 is in no other segment.
    assert_eq!(log.next_to_prepare().unwrap().recycle, None);
    let third = Prepare { ordinal: 3, len_bytes: SMALL as u64, recycle: None, remove: Vec::new() };
    prepare(&disk, &third).unwrap();
    log.prepared(3);
    replacing.complete(&disk);
    log.persisted(replacing.sequence);
    write(&disk, &mut log, &record(9, 3 * BLOCK_LEN));
    prepare_all(&disk, &mut log);
    assert!(!disk.list().unwrap().contains(&segment::file_name(1)));

    // The term of entry 7 went with the segment; the state machine knows it.
    let contents = open(&disk, SMALL, 2).contents;
    assert_eq!(contents.base, EntryId { index: 7, term: 0 });
    let applied = EntryId { index: 7, term: 1 };
    let start = contents.clone().start(applied).unwrap();
    assert_eq!((start.base, start.entries.len()), (applied, 2));
    let applied = EntryId { index: 8, term: 2 };
    let start = contents.clone().start(applied).unwrap();
    assert_eq!((start.base, start.entries.len()), (applied, 1));
    for (index, term, says) in [
        (6, 1, "what is between them is missing"),
        (8, 1, "do not belong together"),
        (10, 2, "a part of the log is missing"),
    ] {
        let refused = contents.clone().start(EntryId { index, term }).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

#[test]
fn a_snapshot_voids_what_was_before_and_names_the_state() {
    let disk = MemDisk::default();
    let mut log = open(&disk, SMALL, 1).log;
    for index in 1..=3 {
        write(&disk, &mut log, &record(index, 2 * BLOCK_LEN));
    }
    let last = EntryId { index: 90, term: 4 };
    let record = Record {
        entries: vec![entry(4, 91, "")],
        hard_state: Some(hard_state(5, 0, 90)),
        snapshot: Some(Snapshot { last: Some(last), state: 2 }),
        ..Record::default()
    };
    write(&disk, &mut log, &record);
    let contents = open(&disk, SMALL, 2).contents;
    assert_eq!((contents.base, contents.state, contents.last_index()), (last, 2, 91));
    assert_eq!(contents.entries.len(), 1);
    assert!(contents.start(EntryId { index: 3, term: 1 }).is_err(), "the old state machine");

    // The segments behind it know of it.
    for index in 92..=96 {
        write(&disk, &mut log, &super::record(index, 2 * BLOCK_LEN));
        log.release(index - 1);
    }
    let contents = open(&disk, SMALL, 3).contents;
    assert_eq!((contents.state, contents.hard_state), (2, hard_state(5, 0, 90)));
    assert!(contents.base.index > 90, "{:?}", contents.base);
}
