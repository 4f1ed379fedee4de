//! One segment in memory, and the question whether a batch is at a place in it.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use prost::Message;

use super::WAY_OUT;
use super::disk::Disk;
use super::format::{self, FORMAT_VERSION, Header, SECTOR_LEN, Sector, SectorBytes, Stamp};
use super::segment;
use crate::error::{Error, Result};
use crate::planted::{Bug, planted};
use crate::wire::log::Record;

/// One segment in memory.
pub(super) struct Image<'a, D> {
    disk: &'a D,
    pub(super) ordinal: u64,
    bytes: Vec<u8>,
    pub(super) sectors: Vec<Sector>,
}

/// A batch that was found whole.
pub(super) struct Batch {
    pub(super) stamp: Stamp,
    pub(super) record: Record,
    pub(super) len: usize,
}

impl<'a, D: Disk> Image<'a, D> {
    pub(super) fn read(disk: &'a D, ordinal: u64, segment_len: usize) -> Result<Image<'a, D>> {
        let name = segment::file_name(ordinal);
        let io = |e| io_error(disk, "read", &name, e);
        let len = disk.len_bytes(&name).map_err(io)?;
        if len != segment_len as u64 {
            let what = format!("the file has {len} bytes, but a segment has {segment_len}");
            return Err(corrupt(disk, ordinal, len, &what));
        }
        let mut bytes = vec![0; segment_len];
        let read = disk.read_at(&name, 0, &mut bytes).map_err(io)?;
        if read != segment_len {
            return Err(corrupt(disk, ordinal, read as u64, "the file ends here"));
        }
        let sectors = bytes.as_chunks::<SECTOR_LEN>().0.iter().map(Sector::read).collect();
        Ok(Image { disk, ordinal, bytes, sectors })
    }

    /// The batch with this sequence at this offset, if it is there and whole.
    pub(super) fn batch(&self, offset: usize, sequence: u64) -> Result<Option<Batch>> {
        let first = offset / SECTOR_LEN;
        let (stamp, index) = match self.sectors.get(first) {
            // The segment is full.
            None => return Ok(None),
            Some(Sector::Blank) => return Ok(None),
            Some(Sector::Damaged) => return Err(self.damaged(offset)),
            Some(&Sector::Written { stamp, index }) => (stamp, index),
        };
        if stamp.sequence < sequence {
            return Ok(None);
        }
        if stamp.sequence > sequence {
            return Err(self.hole(offset, stamp, sequence));
        }
        if index != 0 {
            let what = format!("it holds sector {index} of batch {sequence}, which begins here");
            return Err(self.corrupt(offset, &what));
        }
        let (payload_len, len) = self.header(offset)?;
        let range = first..first + len / SECTOR_LEN;
        if !self.is_whole(range.clone(), stamp)? {
            return Ok(None);
        }
        let sectors = &self.sector_bytes()[range];
        let payload = Bytes::from(format::payload(sectors, payload_len));
        let record = Record::decode(payload).map_err(|e| {
            self.corrupt(offset, &format!("batch {sequence} is intact, but no record: {e}"))
        })?;
        Ok(Some(Batch { stamp, record, len }))
    }

    /// The lengths of the payload and of the batch, of which the first sector is here and intact.
    fn header(&self, offset: usize) -> Result<(usize, usize)> {
        let Some(header) = Header::read(&self.sector_bytes()[offset / SECTOR_LEN]) else {
            return Err(self.corrupt(offset, "a batch begins here, but it has no header"));
        };
        if header.version != FORMAT_VERSION {
            return Err(Error::Environment(format!(
                "{} has a batch of format version {} at byte {offset}, and this build reads \
                 version {FORMAT_VERSION}. Nothing was changed. Start the build that wrote it, or \
                 a newer one.",
                self.disk.path(&segment::file_name(self.ordinal)).display(),
                header.version
            )));
        }
        if header.ordinal != self.ordinal {
            let written_as = segment::file_name(header.ordinal);
            let what = format!("the batch was written to {written_as}: the file was renamed");
            return Err(self.corrupt(offset, &what));
        }
        let payload_len = header.payload_len as usize;
        let len = format::batch_len(payload_len);
        if len > self.bytes.len() - offset {
            return Err(self.corrupt(offset, "the batch is longer than the rest of the segment"));
        }
        Ok((payload_len, len))
    }

    /// Whether all these sectors are of one attempt. Else it was torn, if nothing speaks against it.
    fn is_whole(&self, range: Range<usize>, stamp: Stamp) -> Result<bool> {
        let mut whole = true;
        for (expected, number) in (0u32..).zip(range) {
            match self.sectors[number] {
                Sector::Damaged => return Err(self.damaged(number * SECTOR_LEN)),
                Sector::Written { stamp: found, .. } if found.sequence > stamp.sequence => {
                    return Err(self.hole(number * SECTOR_LEN, found, stamp.sequence));
                }
                Sector::Written { stamp: found, index } if found == stamp => {
                    if index != expected {
                        let what = format!("it holds sector {index} of a batch, not {expected}");
                        return Err(self.corrupt(number * SECTOR_LEN, &what));
                    }
                }
                // What was there before, or what yet another torn attempt at this batch has left.
                Sector::Written { .. } | Sector::Blank => whole &= planted(Bug::AcceptTorn),
            }
        }
        Ok(whole)
    }

    fn sector_bytes(&self) -> &[SectorBytes] {
        // A segment is a whole number of sectors: nothing remains.
        self.bytes.as_chunks().0
    }

    fn damaged(&self, offset: usize) -> Error {
        let what = "the checksum of this sector is wrong: it does not hold what was written to it";
        self.corrupt(offset, what)
    }

    fn hole(&self, offset: usize, found: Stamp, expected: u64) -> Error {
        let what = format!(
            "there is batch {} here, but batch {expected}, which was durable before it, is missing",
            found.sequence
        );
        self.corrupt(offset, &what)
    }

    pub(super) fn corrupt(&self, offset: usize, what: &str) -> Error {
        corrupt(self.disk, self.ordinal, offset as u64, what)
    }
}

/// A file that does not hold what was written to it, with the way out.
pub(super) fn corrupt(disk: &impl Disk, ordinal: u64, offset: u64, what: &str) -> Error {
    Error::corrupt(&disk.path(&segment::file_name(ordinal)), offset, format!("{what}. {WAY_OUT}"))
}

/// A failed operation on a file; for an empty name, on the directory.
pub(super) fn io_error(disk: &impl Disk, verb: &str, name: &str, source: io::Error) -> Error {
    Error::io(format!("{verb} {}", disk.path(name).display()), source)
}
