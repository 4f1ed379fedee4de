//! How the log stays bounded: entries leave memory behind the state machine, and a snapshot takes the place of entries that a
//! member lacks and nobody has any more.
//!
//! The snapshot itself does not pass through here: the node sends and builds it, and this room says to whom one is to go
//! ([`Outputs::offers`](super::Outputs::offers)) and puts one that is whole in the place of the log ([`Replica::install`]).
//!
//! Invariants:
//! - An entry that the state machine has not durably passed, or that raft-rs has not heard to be applied, stays.
//! - A follower whose state machine does not get on takes no more entries when it has many: the others go on without it.
//!   Entries that nobody has committed do not make it full: in all terms together a leader lets them be no more than
//!   [`UNCOMMITTED_LEN_MAX`](limits::UNCOMMITTED_LEN_MAX).
//! - What a snapshot is offered of is durable in the state machine, with the membership as of then.
//! - A snapshot is installed with one record, and until it is applied this replica asks for no votes: raft-rs looks for
//!   changes of the membership among the committed entries that are not applied, and these are no more.

use raft::SnapshotStatus;
use raft::eraftpb::{Message, MessageType, Snapshot};

use super::{Replica, border};
use crate::limits;
use crate::wire::log::{self as wire, ConfState, EntryId};

/// How many entries stay in memory that the state machine has durably passed, for followers that are a little behind. All
/// that are in memory count, so that what waits for the state machine is not on top of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How many.
    pub count_max: usize,
    /// How many bytes.
    pub len_bytes_max: usize,
    /// How many while a snapshot is on its way to a member, who will need what comes after it.
    pub streaming_count_max: usize,
    /// How many bytes, then.
    pub streaming_len_bytes_max: usize,
    /// With so many a follower takes no more.
    pub full_count: usize,
    /// With so many bytes.
    pub full_len_bytes: usize,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            count_max: limits::RETAINED_ENTRIES_MAX,
            len_bytes_max: limits::RETAINED_LEN_MAX,
            streaming_count_max: limits::RETAINED_STREAMING_ENTRIES_MAX,
            streaming_len_bytes_max: limits::RETAINED_STREAMING_LEN_MAX,
            full_count: limits::LOG_ENTRIES_MAX,
            full_len_bytes: limits::LOG_LEN_MAX,
        }
    }
}

/// What became of a snapshot that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// No leader is known, or not in a term as late as the snapshot's: to be tried again.
    Later,
    /// Of no use: the log has got as far by itself, or this node is no member as of it.
    Declined,
    /// The next drain gives a record that installs it. When that is durable, the node goes on with the new state machine and
    /// says so with [`Replica::applied`]. Committed entries up to there, which were given out before, are void.
    Taken,
}

impl Replica {
    /// The state machine is durable up to here, where the members were those. Never beyond what it has
    /// [applied](Replica::applied).
    pub fn passed(&mut self, durable: EntryId, conf_state: &ConfState) {
        let applied = self.raw.raft.raft_log.applied();
        let entries = self.raw.mut_store();
        // The state machine that a snapshot is about to replace may still end a commit.
        if durable.index == 0 || durable.index < entries.base().index {
            return;
        }
        assert!(durable.index <= applied, "entry {} is durable, not applied", durable.index);
        let term = entries.term_of(durable.index);
        assert_eq!(term, Some(durable.term), "the term of entry {}", durable.index);
        entries.set_snapshot(border::snapshot_metadata(durable, conf_state));
        let bounds = &self.settings.retention;
        let (count_max, len_bytes_max) = match self.is_held {
            false => (bounds.count_max, bounds.len_bytes_max),
            true => (bounds.streaming_count_max, bounds.streaming_len_bytes_max),
        };
        entries.compact(durable.index, count_max, len_bytes_max);
    }

    /// Whether a snapshot is on its way to a member: then more entries are kept.
    pub fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
        if is_held {
            self.raw.mut_store().end_compaction();
        }
    }

    /// Whether this node can make a snapshot for a member now. At the start it cannot.
    pub fn set_may_offer(&mut self, may_offer: bool) {
        self.raw.mut_store().may_offer = may_offer;
    }

    /// The member has the snapshot that it was [offered](super::Outputs::offers): it gets entries again. Its own word
    /// for that may be lost.
    pub fn snapshot_sent(&mut self, raft_id: u64) {
        self.raw.report_snapshot(raft_id, SnapshotStatus::Finish);
    }

    /// The member did not get the snapshot. When it is heard next, it gets entries, or is offered another one.
    pub fn snapshot_failed(&mut self, raft_id: u64) {
        self.raw.report_snapshot(raft_id, SnapshotStatus::Failure);
    }

    /// A snapshot is whole and durable in the directory `state`: it holds what all entries up to `last` have led to, with
    /// those members. It is as good as if the present leader had sent it: whoever made it, it holds committed entries only.
    pub fn install(&mut self, last: EntryId, conf_state: &ConfState, state: u64) -> Install {
        if last.index <= self.commit() || !Replica::can_be(last, conf_state) {
            return Install::Declined;
        }
        let leader = match self.leader() {
            Some(leader) if !self.leads() && last.term <= self.term() => leader,
            _ => return Install::Later,
        };
        if self.is_installing() {
            return Install::Later;
        }
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(border::snapshot_metadata(last, conf_state));
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgSnapshot);
        message.from = leader;
        message.to = self.settings.raft_id;
        message.term = self.term();
        message.set_snapshot(snapshot);
        // Ok or not, the outcome shows in whether it waits for a record.
        let _ = self.raw.step(message);
        self.own_election_timeout();
        match self.raw.snap() {
            Some(_) => {
                self.installing = Some(wire::Snapshot { last: Some(last), state });
                Install::Taken
            }
            None => Install::Declined,
        }
    }

    /// Whether a snapshot was taken and is not applied yet.
    pub fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// raft-rs gives the snapshot out to be made durable: it takes the place of all entries.
    pub(super) fn reset_to_snapshot(&mut self) -> wire::Snapshot {
        let snapshot = self.installing.expect("raft-rs knows of no other snapshot");
        let last = snapshot.last.expect("it was made with its last entry");
        self.raw.mut_store().reset(last);
        snapshot
    }

    pub(super) fn note_installed(&mut self, applied: u64) {
        let last = self.installing.and_then(|snapshot| snapshot.last);
        if last.is_some_and(|last| last.index <= applied) {
            self.installing = None;
        }
    }

    /// Whether the leader may have so many bytes more that are not committed. raft-rs counts those of its own term only. With
    /// those of leaders before, whose terms passed without a commit, they could fill the logs of a majority, who would then
    /// take no more, not even the entry that commits them.
    pub(super) fn has_room_for(&self, len_bytes: usize) -> bool {
        if self.raw.raft.commit_to_current_term() {
            return true;
        }
        let uncommitted = self.raw.store().len_bytes_after(self.commit());
        uncommitted == 0 || uncommitted + len_bytes <= limits::UNCOMMITTED_LEN_MAX
    }

    /// Whether no more entries are taken. The leader takes what clients write as long as its state machine
    /// [keeps up](limits::BUFFER_LEN_MAX).
    pub(super) fn is_full(&self) -> bool {
        let (entries, bounds) = (self.raw.store(), &self.settings.retention);
        entries.count() >= bounds.full_count || entries.len_bytes() >= bounds.full_len_bytes
    }

    /// Up to where the log need not be kept on disk for followers: what is in memory shall be there after a restart, too. The
    /// longer tail that a snapshot under way asks for, only as far as its bytes go.
    pub fn unneeded_index(&self) -> u64 {
        let entries = self.raw.store();
        let kept = self.settings.retention.count_max as u64;
        entries.base().index.max(entries.last_index().saturating_sub(kept))
    }

    /// How many bytes of entries are in memory.
    pub fn retained_len(&self) -> usize {
        self.raw.store().len_bytes()
    }
}
