//! The write-ahead log: what makes a write durable before anything else happens to it.
//!
//! It promises:
//! - **Nothing that was acknowledged is dropped in silence.** [`recover()`] yields every batch whose
//!   write had returned, or it refuses and names the file and the byte.
//! - **A torn last write is no damage.** It was not acknowledged; recovery stops before it and says
//!   so, and the next batch is written over it.
//! - **User bytes forge nothing.** What tells one batch from another lies outside of the payload.
//!
//! Invariants:
//! - Batches are numbered without a gap over the life of the log, and at most one write is in
//!   flight. So an intact sector of batch `n` proves that batch `n - 1` was durable. Both the rule
//!   for a torn write and the one for a hole rest on that.
//! - A batch that was read or acknowledged is never written over while its segment is live.
//! - The first batch of a segment repeats what the segments before it amount to beside their entries: hard state, standing,
//!   the last entry's place, the state machine's directory. So a segment can go once its entries are not needed: the state
//!   machine has durably passed them, and a batch of a later segment is durable.
//! - The ordinals of the segments on disk have no gap, at no moment at which the machine may stop.
//! - The commit point of a snapshot is one record: it voids every entry before it and names the state machine's directory.
//!
//! Its place in the flow: the shell recovers the log before its reactor starts. From then on it
//! hands each [`Record`](crate::wire::log::Record) to [`Log::append`], writes the bytes where it is
//! told, and reports [`Log::persisted`]. On the side it carries out what [`Log::next_to_prepare`]
//! asks for, with [`prepare`] on a thread that may block. [`Log::release`] tells which entries are not needed any more.
//! The log is read at start only.
//!
//! - [`mod@format`]: sectors, batches and segments, byte by byte.
//! - [`segment`]: names of segments, and how one is prepared.
//! - [`writer`]: [`Log`], which says what is to be written where; `holdings`: which segments are needed.
//! - [`mod@recover`], [`contents`]: from the bytes back to entries, hard state and standing.
//! - [`disk`]: the files, as a trait; [`mem_disk`]: the same in memory, for tests and simulation.

#![forbid(unsafe_code)]

pub mod contents;
pub mod disk;
pub mod format;
mod holdings;
mod image;
pub mod mem_disk;
pub mod recover;
pub mod segment;
pub mod writer;

#[cfg(test)]
mod tests;

pub use contents::{Contents, FIRST_STATE, Start, check_applied, check_commit};
pub use disk::Disk;
pub use mem_disk::MemDisk;
pub use recover::{Recovery, Torn, recover};
pub use segment::{Prepare, is_no_space, prepare};
pub use writer::{Append, Full, Log, Place};

/// What a person can do about data that is lost.
const WAY_OUT: &str = "Nothing was changed. If the other nodes of the cluster are \
    healthy, move this data directory away and start the node with an empty one: it joins again \
    and gets its data from them.";
