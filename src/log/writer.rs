//! [`Log`]: where the next batch goes, what it holds, and which segments are not needed any more. It does no I/O.
//!
//! Invariants:
//! - One write is in flight at most, and is reported before the next is made.
//! - A batch goes right behind the one before it, or to the start of the next prepared segment.
//! - One segment is prepared ahead of the active one, or asked for.
//! - A segment goes only when all entries that count in it are [released](Log::release), and a batch in a later one is
//!   durable: that one repeats what else it held.

use prost::Message;

use super::contents::{Contents, FIRST_STATE};
use super::format::{self, FORMAT_VERSION, HEADER_LEN, Header, Stamp};
use super::holdings::{Holdings, Touched};
use super::segment::{Prepare, file_name};
use crate::limits::BATCH_PAYLOAD_MAX;
use crate::wire::log::{Carried, EntryId, HardState, Record, Standing};

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
    /// What the batch in flight does to the entries of the segments.
    in_flight: Option<Touched>,
    /// Where the last batch ends. Before the first batch: the end of the segment before the first.
    end: Place,
    /// The highest segment that exists: those behind the active one are prepared.
    newest_ordinal: u64,
    /// A segment was asked for and is not there yet.
    preparing: bool,
    holdings: Holdings,
    /// Up to where entries are not needed.
    released: u64,
    hard_state: HardState,
    standing: Standing,
    last_entry: EntryId,
    /// The number of the state machine's directory.
    state: u64,
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
        holdings: Holdings,
        contents: &Contents,
    ) -> Log {
        assert!(newest_ordinal >= end.ordinal, "the active segment exists");
        Log {
            segment_len,
            last,
            in_flight: None,
            end,
            newest_ordinal,
            preparing: false,
            holdings,
            released: 0,
            hard_state: contents.hard_state,
            standing: contents.standing.clone(),
            last_entry: contents.last(),
            state: contents.state,
            content: Vec::new(),
        }
    }

    /// Makes the next batch of `record`. After [`Full`] nothing has changed.
    ///
    /// # Panics
    /// If the batch before was not reported as persisted, or the record is over
    /// [`BATCH_PAYLOAD_MAX`].
    pub fn append(&mut self, record: &Record) -> Result<Append<'_>, Full> {
        assert!(self.in_flight.is_none(), "batch {} is still in flight", self.last.sequence);
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
        if let Some(snapshot) = record.snapshot {
            self.last_entry = snapshot.last.unwrap_or_default();
            self.state = snapshot.state;
        }
        if let Some(entry) = record.entries.last() {
            self.last_entry = EntryId { index: entry.index, term: entry.term };
        }
        self.last.sequence += 1;
        self.in_flight = Some(Touched::by(place.ordinal, record));
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
            snapshot: None,
            carried: self.carried(),
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

    /// What the segments before this batch amount to. `None` if it is nothing: that goes without saying.
    fn carried(&self) -> Option<Carried> {
        let last = Some(self.last_entry).filter(|last| last.index > 0);
        (last.is_some() || self.state != FIRST_STATE).then_some(Carried { last, state: self.state })
    }

    /// The write of this batch has returned: it is durable.
    ///
    /// # Panics
    /// If it is not the batch that is in flight.
    pub fn persisted(&mut self, sequence: u64) {
        let Some(touched) = self.in_flight.take() else {
            panic!("no batch is in flight, {sequence} least of all");
        };
        assert_eq!(sequence, self.last.sequence, "the batch in flight");
        self.holdings.note(&touched);
    }

    /// Entries up to this index are not needed any more: the state machine has durably passed them, and nobody else asks for
    /// them.
    pub fn release(&mut self, index: u64) {
        self.released = self.released.max(index);
    }

    /// A segment to [`prepare`](super::prepare()), if one is wanted. Each wish is told once; it
    /// stands until [`Log::prepared`].
    ///
    /// Segments that are not needed any more go with it, the first of them into the new one. So on disk there are, when a
    /// segment is prepared, those with entries that are not released, the active one and the new one; and until the next is
    /// prepared none is added.
    pub fn next_to_prepare(&mut self) -> Option<Prepare> {
        if self.preparing || self.newest_ordinal > self.end.ordinal {
            return None;
        }
        self.preparing = true;
        let mut unneeded = self.holdings.take_unneeded(self.released).into_iter().map(file_name);
        Some(Prepare {
            ordinal: self.newest_ordinal + 1,
            len_bytes: self.segment_len,
            recycle: unneeded.next(),
            remove: unneeded.collect(),
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

    /// The length of all segments, but for those that go with the next one.
    pub fn len_bytes(&self) -> u64 {
        let first = self.holdings.first_ordinal().unwrap_or(1);
        (self.newest_ordinal + 1).saturating_sub(first) * self.segment_len
    }
}
