//! The log against disks that fail, through its public interface.

mod crash;
mod damage;
mod golden;
mod torn;
mod write;

use bytes::Bytes;

use super::format::{BLOCK_LEN, SECTOR_LEN};
use super::{Disk, Log, MemDisk, Place, Recovery, prepare, recover, segment};
use crate::error::Result;
use crate::wire::log::{Entry, HardState, Record, Standing};

/// Segments of four blocks: a few batches fill one.
const SMALL: usize = 4 * BLOCK_LEN;

fn open(disk: &MemDisk, segment_len: usize, generation: u32) -> Recovery {
    recover(disk, segment_len, generation).unwrap_or_else(|error| panic!("recovery: {error}"))
}

fn prepare_all(disk: &MemDisk, log: &mut Log) {
    while let Some(wish) = log.next_to_prepare() {
        prepare(disk, &wish).unwrap();
        log.prepared(wish.ordinal);
    }
}

/// A batch as the shell would hand it to the disk.
struct Write {
    place: Place,
    sequence: u64,
    bytes: Vec<u8>,
}

impl Write {
    /// The next batch of the log, with a segment prepared for it.
    fn of(disk: &MemDisk, log: &mut Log, record: &Record) -> Write {
        prepare_all(disk, log);
        let append = log.append(record).unwrap();
        let mut bytes = vec![0xaa; append.len_bytes()];
        append.seal_into(&mut bytes);
        Write { place: append.place, sequence: append.sequence, bytes }
    }

    fn file(&self) -> String {
        segment::file_name(self.place.ordinal)
    }

    fn sectors(&self) -> usize {
        self.bytes.len() / SECTOR_LEN
    }

    fn complete(&self, disk: &MemDisk) {
        disk.write_at(&self.file(), self.place.offset, &self.bytes).unwrap();
    }

    fn tear(&self, disk: &MemDisk, keep: impl FnMut(usize) -> bool) {
        disk.write_torn(&self.file(), self.place.offset, &self.bytes, keep).unwrap();
    }
}

/// Writes a batch to its end.
fn write(disk: &MemDisk, log: &mut Log, record: &Record) -> Write {
    let write = Write::of(disk, log, record);
    write.complete(disk);
    log.persisted(write.sequence);
    write
}

fn entry(term: u64, index: u64, data: impl Into<Bytes>) -> Entry {
    Entry { term, index, kind: 0, data: data.into() }
}

/// One entry whose data takes `len` bytes.
fn record(index: u64, len: usize) -> Record {
    let data: Vec<u8> = (0..len).map(|i| (i as u64 * 31).wrapping_add(index) as u8).collect();
    Record { entries: vec![entry(1, index, data)], ..Record::default() }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

fn member(byte: u8) -> Standing {
    Standing { cluster_id: vec![byte; 16].into(), ..Standing::default() }
}

/// The error of a recovery that must refuse.
fn refusal(result: Result<Recovery>) -> crate::error::Error {
    match result {
        Ok(recovery) => panic!("it was accepted, with {:?}", recovery.contents),
        Err(error) => error,
    }
}

/// The contents of a log that is to be left as it is.
fn entries(disk: &MemDisk, segment_len: usize) -> Vec<Entry> {
    open(disk, segment_len, 1000).contents.entries
}

fn path(disk: &MemDisk, ordinal: u64) -> std::path::PathBuf {
    disk.path(&segment::file_name(ordinal))
}
