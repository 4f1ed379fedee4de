//! What the bytes of the log mean. Enough to write a reader from.
//!
//! # Segment
//!
//! A file of a fixed length (16 MiB), named by its ordinal in 16 lowercase hexadecimal digits:
//! `0000000000000001.seg`. The ordinal grows by one per segment. A segment is filled with zeros when
//! it is created. A segment that is recycled has a new name and keeps its old content.
//!
//! # Sector
//!
//! A segment is a row of sectors of 512 bytes. The disk writes a sector wholly or not at all. Each
//! is all zero (never written), or (integers are little endian):
//!
//! | bytes      | what                                                            |
//! |------------|-----------------------------------------------------------------|
//! | 0 .. 496   | content                                                         |
//! | 496 .. 504 | stamp: generation (24 bits) << 40, sequence (40 bits)           |
//! | 504 .. 508 | index: number of this sector within its batch, from 0           |
//! | 508 .. 512 | CRC-32C of bytes 0 .. 508                                       |
//!
//! The *sequence* numbers the batches: 1, 2, 3 and so on over the life of the log. The *generation*
//! grows with each start of the process. Together they name one attempt to write one batch, and are
//! in order of time, the sequence being compared first.
//!
//! A sector checks itself, so there are three kinds: blank, written (by a known attempt), and
//! damaged. A checksum over the batch alone would not do: a sector that a torn write left as it was
//! may differ from the new one in a single bit of its stamp, and could not be told from a new one
//! with a flipped bit.
//!
//! # Batch
//!
//! What one write makes durable. It begins at a multiple of 4,096 bytes, takes a whole number of
//! 4,096-byte blocks, and lies within one segment. The content of its sectors, put together, is a
//! header, the payload, and zeros to the end. All its sectors carry the same stamp.
//!
//! | bytes    | header                                                            |
//! |----------|-------------------------------------------------------------------|
//! | 0 .. 8   | magic: `phalanx` and a zero byte                                  |
//! | 8 .. 12  | format version: 1                                                 |
//! | 12 .. 16 | length of the payload                                             |
//! | 16 .. 24 | ordinal of the segment that it was written to                     |
//! | 24 ..    | the payload: a `phalanx.log.Record` (`proto/log.proto`)           |
//!
//! The layout of a sector, the magic and the place of the version are the same in all versions.
//!
//! # Log
//!
//! Batch `n + 1` begins where batch `n` ends or, if it does not fit there, at the start of the next
//! segment. It is written only after the write of batch `n` has returned. How a reader finds the end
//! of the log, and tells a torn write from damage: see [`mod@super::recover`].

use crate::limits::{BATCH_PAYLOAD_MAX, SEGMENT_LEN};
use crate::planted::{Bug, planted};

/// What the disk writes wholly or not at all.
pub const SECTOR_LEN: usize = 512;
/// What the beginning and the length of a batch are multiples of.
pub const BLOCK_LEN: usize = 4096;
/// The version of the format that this build writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// Generations are below this.
pub const GENERATION_END: u32 = 1 << 24;
/// Sequences are below this. At 10,000 batches a second it is reached after three years of load.
pub const SEQUENCE_END: u64 = 1 << 40;

/// Bytes of a header.
pub const HEADER_LEN: usize = 24;
const MAGIC: [u8; 8] = *b"phalanx\0";
const SEQUENCE_BITS: u32 = SEQUENCE_END.trailing_zeros();
const CRC_AT: usize = SECTOR_LEN - 4;
const INDEX_AT: usize = CRC_AT - 4;
const STAMP_AT: usize = INDEX_AT - 8;
/// Bytes of a sector that are content.
const CONTENT_LEN: usize = STAMP_AT;

const _: () = {
    assert!(SEGMENT_LEN.is_multiple_of(BLOCK_LEN));
    assert!(BLOCK_LEN.is_multiple_of(SECTOR_LEN));
    // The longest payload, with a hard state and a standing added to it, fits into a segment.
    assert!(batch_len(BATCH_PAYLOAD_MAX + 1024) <= SEGMENT_LEN);
};

/// One sector's bytes.
pub type SectorBytes = [u8; SECTOR_LEN];

/// Names one attempt to write one batch. The order is that of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The number of the batch.
    pub sequence: u64,
    /// The start of the process that wrote it.
    pub generation: u32,
}

impl Stamp {
    fn to_bits(self) -> u64 {
        assert!(self.sequence < SEQUENCE_END, "the log's sequence numbers are used up");
        assert!(self.generation < GENERATION_END, "the log's generations are used up");
        u64::from(self.generation) << SEQUENCE_BITS | self.sequence
    }

    fn from_bits(bits: u64) -> Stamp {
        Stamp {
            sequence: bits & (SEQUENCE_END - 1),
            generation: (bits >> SEQUENCE_BITS) as u32, // 24 bits are left
        }
    }
}

/// What can be told of a sector from its bytes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sector {
    /// All zero: never written.
    Blank,
    /// Written by this attempt, and intact.
    Written {
        /// The attempt.
        stamp: Stamp,
        /// Which of the batch's sectors it is.
        index: u32,
    },
    /// Anything else.
    Damaged,
}

impl Sector {
    /// Reads a sector.
    pub fn read(bytes: &SectorBytes) -> Sector {
        let is_unchecked = planted(Bug::SkipChecksum) && bytes.iter().any(|&byte| byte != 0);
        if is_unchecked || le_u32(bytes, CRC_AT) == crc32c::crc32c(&bytes[..CRC_AT]) {
            let stamp = Stamp::from_bits(le_u64(bytes, STAMP_AT));
            return Sector::Written { stamp, index: le_u32(bytes, INDEX_AT) };
        }
        if bytes.iter().all(|&byte| byte == 0) { Sector::Blank } else { Sector::Damaged }
    }
}

/// What a batch says of itself, beside its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// See [`FORMAT_VERSION`].
    pub version: u32,
    /// Length of the payload.
    pub payload_len: u32,
    /// The segment that it was written to.
    pub ordinal: u64,
}

impl Header {
    /// Appends the header to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.payload_len.to_le_bytes());
        out.extend_from_slice(&self.ordinal.to_le_bytes());
    }

    /// Reads the header from a batch's first sector; `None` if there is none.
    pub fn read(first: &SectorBytes) -> Option<Header> {
        first.starts_with(&MAGIC).then(|| Header {
            version: le_u32(first, 8),
            payload_len: le_u32(first, 12),
            ordinal: le_u64(first, 16),
        })
    }
}

/// Length on disk of a batch with so long a payload.
pub const fn batch_len(payload_len: usize) -> usize {
    let content_per_block = BLOCK_LEN / SECTOR_LEN * CONTENT_LEN;
    (HEADER_LEN + payload_len).div_ceil(content_per_block) * BLOCK_LEN
}

/// Makes a batch's sectors of its content (header and payload).
///
/// # Panics
/// If `out` has not the length of the batch, see [`batch_len`].
pub fn seal(content: &[u8], stamp: Stamp, out: &mut [u8]) {
    assert_eq!(out.len(), batch_len(content.len() - HEADER_LEN), "the length of a batch");
    let stamp = stamp.to_bits().to_le_bytes();
    let mut rest = content;
    // A batch is a whole number of sectors: nothing remains.
    let (sectors, _) = out.as_chunks_mut::<SECTOR_LEN>();
    for (index, sector) in (0u32..).zip(sectors) {
        let (piece, after) = rest.split_at(rest.len().min(CONTENT_LEN));
        rest = after;
        sector[..piece.len()].copy_from_slice(piece);
        sector[piece.len()..STAMP_AT].fill(0);
        sector[STAMP_AT..INDEX_AT].copy_from_slice(&stamp);
        sector[INDEX_AT..CRC_AT].copy_from_slice(&index.to_le_bytes());
        let crc = crc32c::crc32c(&sector[..CRC_AT]);
        sector[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The payload out of a batch's sectors.
pub fn payload(sectors: &[SectorBytes], payload_len: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(sectors.len() * CONTENT_LEN);
    for sector in sectors {
        content.extend_from_slice(&sector[..CONTENT_LEN]);
    }
    content.truncate(HEADER_LEN + payload_len);
    content.split_off(HEADER_LEN)
}

fn le_u32(sector: &SectorBytes, at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&sector[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn le_u64(sector: &SectorBytes, at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&sector[at..at + 8]);
    u64::from_le_bytes(bytes)
}
