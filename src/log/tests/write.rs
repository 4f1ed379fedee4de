//! What goes where, and comes back.

use super::*;
use crate::log::{Full, is_no_space};

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
