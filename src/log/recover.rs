//! From the bytes on disk back to what was written, before the reactor starts. Blocks.
//!
//! Batch `s + 1` is looked for where batch `s` ends, and at the start of the next segment. What is
//! there decides (see [`mod@super::format`] for the three kinds of sector):
//!
//! - Its first sector is blank, or written for an earlier batch: it is not there.
//! - All its sectors are written by one attempt: it is read.
//! - Some are, the others are blank or of an earlier attempt: a torn write. A write that returned
//!   has written all, so it was not acknowledged, and is as if not there.
//! - One of its sectors is damaged: a bit flipped. A torn write leaves whole sectors.
//! - A sector is written for a batch after `s + 1`: then `s + 1` was acknowledged, and is lost.
//!
//! Where a batch is in neither place, the log ends. All other sectors of all segments are looked at
//! too: one that is written for a batch after `s + 1` proves a hole. One written for `s + 1` is left
//! of a torn write, and is reported.
//!
//! In the last two cases of the list, and after a hole, recovery refuses and changes nothing. What it
//! accepts it syncs before it returns: after the process was killed, the page cache shows what a
//! power cut would still take.

use std::path::PathBuf;

use super::contents::{Contents, check_commit};
use super::disk::Disk;
use super::format::{BLOCK_LEN, GENERATION_END, SECTOR_LEN, Sector, Stamp};
use super::holdings::{Holdings, Touched};
use super::image::{Image, corrupt, io_error};
use super::segment;
use super::writer::{Log, Place};
use crate::error::{Error, Result};
use crate::planted::{Bug, planted};
use crate::wire::log::Record;

/// What was found, all of it durable.
#[derive(Debug)]
pub struct Recovery {
    /// What the log holds.
    pub contents: Contents,
    /// The write that was under way when the process or the machine stopped, if it left a trace.
    pub torn: Option<Torn>,
    /// The writing end, which goes on where the log ends.
    pub log: Log,
}

/// A write that was not completed, and therefore not acknowledged. The log ends before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The segment's file.
    pub file: PathBuf,
    /// Where the batch begins.
    pub offset: u64,
    /// The batch.
    pub sequence: u64,
}

/// Reads the log. `generation` is the number of this start of the process, and must be larger than
/// any that has written to the log. All segments have `segment_len` bytes.
///
/// An empty directory is an empty log.
///
/// # Panics
/// If `segment_len` is no multiple of 4,096, or the generation has more than 24 bits.
pub fn recover(disk: &impl Disk, segment_len: usize, generation: u32) -> Result<Recovery> {
    assert!(segment_len.is_multiple_of(BLOCK_LEN), "a segment is a whole number of blocks");
    assert!(generation < GENERATION_END, "the log's generations are used up");
    let names = disk.list().map_err(|e| io_error(disk, "list", "", e))?;
    let ordinals = ordinals(disk, &names)?;

    let first_ordinal = ordinals.first().copied().unwrap_or(1);
    let mut scan = Scan::new(first_ordinal, segment_len);
    for &ordinal in &ordinals {
        scan.segment(&Image::read(disk, ordinal, segment_len)?)?;
    }
    let torn = scan.torn(disk)?;
    scan.check_generation(disk, generation)?;
    check_commit(&scan.contents.hard_state, scan.contents.last_index())?;
    make_durable(disk, &names, &ordinals)?;

    let newest_ordinal = ordinals.last().copied().unwrap_or(scan.end.ordinal);
    let last = Stamp { sequence: scan.last.sequence, generation };
    let Scan { end, holdings, contents, .. } = scan;
    let log = Log::resume(segment_len as u64, last, end, newest_ordinal, holdings, &contents);
    Ok(Recovery { contents, torn, log })
}

/// The segments in order. They have no gap: a segment is added behind the last, or taken from the
/// front.
fn ordinals(disk: &impl Disk, names: &[String]) -> Result<Vec<u64>> {
    let mut ordinals: Vec<u64> = names.iter().filter_map(|name| segment::ordinal(name)).collect();
    ordinals.sort_unstable();
    for pair in ordinals.windows(2) {
        let missing = pair[0] + 1;
        if pair[1] != missing {
            let what = "the file is missing, though there are segments before and after it";
            return Err(corrupt(disk, missing, 0, what));
        }
    }
    if let Some(&ordinal) = ordinals.iter().find(|&&ordinal| ordinal == 0 || ordinal == u64::MAX) {
        return Err(corrupt(disk, ordinal, 0, "no segment was ever given this name"));
    }
    Ok(ordinals)
}

fn make_durable(disk: &impl Disk, names: &[String], ordinals: &[u64]) -> Result<()> {
    for name in names.iter().filter(|name| segment::is_leftover(name)) {
        disk.remove(name).map_err(|e| io_error(disk, "remove", name, e))?;
    }
    for &ordinal in ordinals.iter().filter(|_| !planted(Bug::RecoverWithoutSync)) {
        let name = segment::file_name(ordinal);
        disk.sync(&name).map_err(|e| io_error(disk, "sync", &name, e))?;
    }
    disk.sync_dir().map_err(|e| io_error(disk, "sync", "", e))
}

/// The state of the way through the segments.
struct Scan {
    /// Whether the end of the log is still ahead.
    open: bool,
    /// The last batch that was read; zero before the first.
    last: Stamp,
    /// Where it ends. Before the first: the end of the segment before the first.
    end: Place,
    contents: Contents,
    holdings: Holdings,
    newest: Option<Newest>,
}

/// The sector of the newest attempt of all.
#[derive(Clone, Copy)]
struct Newest {
    stamp: Stamp,
    index: u32,
    place: Place,
}

impl Scan {
    fn new(first_ordinal: u64, segment_len: usize) -> Scan {
        Scan {
            open: true,
            last: Stamp { sequence: 0, generation: 0 },
            end: Place { ordinal: first_ordinal - 1, offset: segment_len as u64 },
            contents: Contents::default(),
            holdings: Holdings::default(),
            newest: None,
        }
    }

    /// Takes in the next segment.
    fn segment<D: Disk>(&mut self, image: &Image<'_, D>) -> Result<()> {
        self.note_newest(image);
        if !self.open {
            return Ok(());
        }
        let mut offset = 0;
        while let Some(batch) = image.batch(offset, self.expected(image))? {
            if batch.stamp.generation < self.last.generation {
                let what = format!(
                    "batch {} is of an earlier start of the process than the batch before it",
                    batch.stamp.sequence
                );
                return Err(image.corrupt(offset, &what));
            }
            self.add(image.ordinal, offset, batch.record).map_err(|what| {
                image.corrupt(offset, &format!("batch {} cannot be: {what}", batch.stamp.sequence))
            })?;
            offset += batch.len;
            self.last = batch.stamp;
            self.end = Place { ordinal: image.ordinal, offset: offset as u64 };
        }
        // The writer goes on to a segment by writing to its start.
        self.open = offset > 0;
        Ok(())
    }

    /// Takes in what a batch holds.
    fn add(
        &mut self,
        ordinal: u64,
        offset: usize,
        mut record: Record,
    ) -> std::result::Result<(), String> {
        let carried = record.carried.take();
        match offset {
            // The segments before it go in the belief that it does.
            0 if record.hard_state.is_none() || record.standing.is_none() => {
                return Err(
                    "it is the first of its segment, and does not repeat hard state and standing"
                        .into(),
                );
            }
            0 => self.contents.carry(carried, self.last.sequence == 0)?,
            _ if carried.is_some() => {
                return Err(
                    "it is not the first of its segment, but carries what was before".into()
                );
            }
            _ => {}
        }
        self.holdings.note(&Touched::by(ordinal, &record));
        self.contents.fold(record)
    }

    /// The batch to look for. The log begins with whatever its first segment begins with: the
    /// segments before it were given up.
    fn expected<D>(&self, image: &Image<'_, D>) -> u64 {
        match image.sectors.first() {
            Some(Sector::Written { stamp, .. }) if self.last.sequence == 0 => stamp.sequence.max(1),
            _ => self.last.sequence + 1,
        }
    }

    fn note_newest<D>(&mut self, image: &Image<'_, D>) {
        for (number, sector) in image.sectors.iter().enumerate() {
            if let &Sector::Written { stamp, index } = sector
                && self.newest.is_none_or(|newest| stamp > newest.stamp)
            {
                let offset = (number * SECTOR_LEN) as u64;
                let place = Place { ordinal: image.ordinal, offset };
                self.newest = Some(Newest { stamp, index, place });
            }
        }
    }

    /// After the last segment: whether the log ends for a good reason.
    fn torn(&self, disk: &impl Disk) -> Result<Option<Torn>> {
        let next = self.last.sequence + 1;
        let Some(newest) = self.newest.filter(|newest| newest.stamp.sequence >= next) else {
            return Ok(None);
        };
        let Newest { stamp: Stamp { sequence, generation }, index, place } = newest;
        let start = place.offset.checked_sub(u64::from(index) * SECTOR_LEN as u64);
        let start = start.map(|offset| Place { offset, ..place });
        let after_last = self.end;
        let next_segment = Place { ordinal: self.end.ordinal + 1, offset: 0 };
        if sequence > next || ![Some(after_last), Some(next_segment)].contains(&start) {
            let what = format!(
                "there is a part of batch {sequence} here, but the log ends with batch {} at byte \
                 {} of {}: what was written after it is missing",
                self.last.sequence,
                self.end.offset,
                segment::file_name(self.end.ordinal)
            );
            return Err(corrupt(disk, place.ordinal, place.offset, &what));
        }
        if generation < self.last.generation {
            let what = format!(
                "there is a part of batch {sequence} here, of an earlier start of the process than \
                 the batch before it"
            );
            return Err(corrupt(disk, place.ordinal, place.offset, &what));
        }
        Ok(start.map(|Place { ordinal, offset }| Torn {
            file: disk.path(&segment::file_name(ordinal)),
            offset,
            sequence,
        }))
    }

    fn check_generation(&self, disk: &impl Disk, generation: u32) -> Result<()> {
        // Later attempts have higher sequences and generations: the newest has the highest of both.
        match self.newest {
            Some(newest) if newest.stamp.generation >= generation => {
                Err(Error::Environment(format!(
                    "{} was written by start {} of this node, but this is start {generation}: the \
                     node's identity is older than its log, as if one of them were a copy. Nothing \
                     was changed. Bring back the data directory as a whole, or move it away and \
                     start with an empty one.",
                    disk.path(&segment::file_name(newest.place.ordinal)).display(),
                    newest.stamp.generation
                )))
            }
            _ => Ok(()),
        }
    }
}
