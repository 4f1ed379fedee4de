//! [`Log`]: where the next batch goes, and what it holds. It does no I/O.
//!
//! Invariants:
//! - One write is in flight at most, and is reported before the next is made.
//! - A batch goes right behind the one before it, or to the start of the next prepared segment.
//! - One segment is prepared ahead of the active one, or asked for.

use prost::Message;

use super::contents::Contents;
use super::format::{self, FORMAT_VERSION, HEADER_LEN, Header, Stamp};
use super::segment::Prepare;
use crate::limits::BATCH_PAYLOAD_MAX;
use crate::wire::log::{HardState, Record, Standing};

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub ordinal: u64,
    /// The byte in it.
    pub offset: u64,
}

/// The writing end of the log. Comes from [`super::recover()`].
#[derive(Debug)]
pub struct Log {
    segment_len: u64,
    /// The last batch that was made: its sequence, and this process's generation.
    last: Stamp,
    in_flight: bool,
    /// Where the last batch ends. Before the first batch: the end of the segment before the first.
    end: Place,
    /// The highest segment that exists: those behind the active one are prepared.
    newest_ordinal: u64,
    /// A segment was asked for and is not there yet.
    preparing: bool,
    hard_state: HardState,
    standing: Standing,
    /// Header and payload of the last batch; kept to be used again.
    content: Vec<u8>,
}

/// One batch, to be written where it says. Then report [`Log::persisted`].
#[derive(Debug)]
pub struct Append<'a> {
    /// The segment and the offset in it.
    pub place: Place,
    /// To be reported.
    pub sequence: u64,
    stamp: Stamp,
    content: &'a [u8],
}

impl Append<'_> {
    /// How many bytes are to be written: a multiple of 4,096.
    pub fn len_bytes(&self) -> usize {
        format::batch_len(self.content.len() - HEADER_LEN)
    }

    /// Puts the bytes to write into `out`, which has the length of the batch. One pass, straight
    /// into the buffer that the disk reads from.
    pub fn seal_into(&self, out: &mut [u8]) {
        format::seal(self.content, self.stamp, out);
    }
}

/// There is no segment for the next batch yet: append again after [`Log::prepared`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Log {
    /// Goes on after `last` (of an earlier process), which ends at `end`.
    pub(super) fn resume(
        segment_len: u64,
        last: Stamp,
        end: Place,
        newest_ordinal: u64,
        contents: &Contents,
    ) -> Log {
        assert!(newest_ordinal >= end.ordinal, "the active segment exists");
        Log {
            segment_len,
            last,
            in_flight: false,
            end,
            newest_ordinal,
            preparing: false,
            hard_state: contents.hard_state,
            standing: contents.standing.clone(),
            content: Vec::new(),
        }
    }

    /// Makes the next batch of `record`. After [`Full`] nothing has changed.
    ///
    /// # Panics
    /// If the batch before was not reported as persisted, or the record is over
    /// [`BATCH_PAYLOAD_MAX`].
    pub fn append(&mut self, record: &Record) -> Result<Append<'_>, Full> {
        assert!(!self.in_flight, "batch {} is still in flight", self.last.sequence);
        let record_len = record.encoded_len();
        assert!(
            record_len <= BATCH_PAYLOAD_MAX,
            "a record of {record_len} bytes is over the limit"
        );
        let place = self.place(format::batch_len(record_len) as u64)?;

        if let Some(hard_state) = record.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(standing) = &record.standing {
            self.standing.clone_from(standing);
        }
        self.encode(record, record_len, place);
        self.last.sequence += 1;
        self.in_flight = true;
        let append = Append {
            place,
            sequence: self.last.sequence,
            stamp: self.last,
            content: &self.content,
        };
        self.end = Place { offset: place.offset + append.len_bytes() as u64, ..place };
        assert!(self.end.offset <= self.segment_len, "a batch lies within one segment");
        Ok(append)
    }

    fn place(&self, len: u64) -> Result<Place, Full> {
        if self.end.offset + len <= self.segment_len {
            Ok(self.end)
        } else if self.end.ordinal < self.newest_ordinal {
            Ok(Place { ordinal: self.end.ordinal + 1, offset: 0 })
        } else {
            Err(Full)
        }
    }

    fn encode(&mut self, record: &Record, record_len: usize, place: Place) {
        // Two protobuf messages, one behind the other, read as one that has the fields of both.
        let carried = (place.offset == 0).then(|| Record {
            entries: Vec::new(),
            hard_state: record.hard_state.is_none().then_some(self.hard_state),
            standing: record.standing.is_none().then(|| self.standing.clone()),
            ..Record::default()
        });
        let carried_len = carried.as_ref().map_or(0, Record::encoded_len);
        let header = Header {
            version: FORMAT_VERSION,
            // At most BATCH_PAYLOAD_MAX and a little: far below 4 GiB.
            payload_len: (record_len + carried_len) as u32,
            ordinal: place.ordinal,
        };
        self.content.clear();
        header.write(&mut self.content);
        for part in [Some(record), carried.as_ref()].into_iter().flatten() {
            part.encode(&mut self.content).expect("a Vec has room for all that is put into it");
        }
    }

    /// The write of this batch has returned: it is durable.
    ///
    /// # Panics
    /// If it is not the batch that is in flight.
    pub fn persisted(&mut self, sequence: u64) {
        assert!(self.in_flight, "no batch is in flight, {sequence} least of all");
        assert_eq!(sequence, self.last.sequence, "the batch in flight");
        self.in_flight = false;
    }

    /// A segment to [`prepare`](super::prepare()), if one is wanted. Each wish is told once; it
    /// stands until [`Log::prepared`].
    pub fn next_to_prepare(&mut self) -> Option<Prepare> {
        if self.preparing || self.newest_ordinal > self.end.ordinal {
            return None;
        }
        self.preparing = true;
        Some(Prepare {
            ordinal: self.newest_ordinal + 1,
            len_bytes: self.segment_len,
            // No segment is given up before there are snapshots.
            recycle: None,
        })
    }

    /// The segment that was asked for is there.
    ///
    /// # Panics
    /// If it was not asked for.
    pub fn prepared(&mut self, ordinal: u64) {
        assert!(self.preparing, "segment {ordinal} was not asked for");
        assert_eq!(ordinal, self.newest_ordinal + 1, "the segment that was asked for");
        self.preparing = false;
        self.newest_ordinal = ordinal;
    }
}
