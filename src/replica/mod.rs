//! Consensus: raft-rs, and what has to be right around it. Pure: time, randomness, messages and the news from the disk
//! come in as arguments, effects go out as values.
//!
//! # Place in the flow
//!
//! The [node](crate::node) feeds a [`Replica`] (ticks, proposals, reads, messages, "persisted") and then calls
//! [`Replica::drain`], which gives what is to be done: messages to send now, a record to make durable, entries that are
//! committed, reads that are confirmed, and changes of role.
//!
//! # Invariants
//!
//! - **What is not durable is not told.** A follower's messages that speak for its log wait until every record before
//!   them is [persisted](Replica::persisted). A leader's appends leave at once, beside its own write; its own log counts
//!   toward the quorum only when it is persisted.
//! - **No message overtakes a term or a vote.** From a change of term or vote until that is durable, *all* messages wait,
//!   a leader's too: a sole voter with learners wins within one step, and raft-rs would send appends of a term whose
//!   vote is not on disk.
//! - **A change of the membership takes effect where the disk knows that it is committed**, and nothing is sent before that
//!   either. A node that forgot it in a crash would need the votes of the configuration before, and whoever was removed, and
//!   has heard of it, is gone for good.
//! - **Election timeouts are ours**, drawn from a seeded generator: raft-rs would draw from the thread's.
//! - A context of ReadIndex is never used twice ([`Confirmed`]).
//! - **Entries leave memory only behind the state machine**: not before it has durably passed them. A snapshot that is
//!   installed takes the place of all entries at once, with one record.
//! - Between raft-rs's `ready` and `advance_append_async` nothing else is called on it.

#![forbid(unsafe_code)]

mod border;
mod check;
mod compaction;
mod entries;
pub mod formation;
pub mod membership;
mod office;
mod reads;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, StateRole};

use crate::error::{Error, Result};
use crate::limits;
use crate::planted::{Bug, planted};
use crate::wire::log::{self as wire, ConfChange, EntryId, Membership, Record};
use crate::wire::peer::RaftMessage;

pub use border::Malformed;
pub use compaction::{Install, Retention};
pub use office::{Progress, Role};
pub use reads::{Confirmed, ReadToken};

use entries::Entries;
use reads::Reads;
use telling::Told;

/// Ticks of raft per TICK_MS: election timeouts are spread over ten times as many values, so that they rarely tie.
pub const FINE_TICKS: u32 = 10;

/// What does not change while a replica runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The identity.
    pub raft_id: u64,
    /// A random number of this start, for the contexts of reads.
    pub nonce: u64,
    /// Seeds the election timeouts.
    pub seed: u64,
    /// ELECTION, in ticks of TICK_MS.
    pub election_ticks: u32,
    /// HEARTBEAT, in ticks of TICK_MS.
    pub heartbeat_ticks: u32,
    /// TICK_MS.
    pub tick: Duration,
    /// How much of the log stays in memory.
    pub retention: Retention,
}

impl Settings {
    /// E: how long a follower waits for a leader, at least.
    pub fn election_timeout(&self) -> Duration {
        self.tick * self.election_ticks
    }
}

/// What recovery read back, from the log and the state machine.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// The last entry before the retained ones.
    pub base: EntryId,
    /// All retained entries, contiguous.
    pub entries: Vec<wire::Entry>,
    /// Of the log.
    pub hard_state: wire::HardState,
    /// Of the state machine: the index up to which it is applied, durably.
    pub applied: u64,
    /// Of the state machine, as of `applied`.
    pub membership: Option<Membership>,
}

/// What the node is to do.
#[derive(Debug, Default)]
pub struct Outputs {
    /// To be sent now, in order.
    pub messages: Vec<RaftMessage>,
    /// To be made durable, in order; [`Replica::persisted`] is then called with the number.
    pub persist: Vec<(u64, Record)>,
    /// To be applied now, in order.
    pub committed: Vec<Committed>,
    /// Reads that may be served as soon as their index is applied.
    pub confirmed: Vec<Confirmed>,
    /// Members that need a snapshot. Nothing is sent to them until [`Replica::snapshot_sent`] or
    /// [`Replica::snapshot_failed`], or until they are heard to have caught up.
    pub offers: Vec<u64>,
}

/// A committed entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// Nothing: a leader began its term with it.
    Blank,
    /// An encoded [`wire::Command`].
    Command(Bytes),
    /// A change of the membership; to be given to [`Replica::apply_conf_change`].
    ConfChange(ConfChange),
}

/// Why a proposal was not accepted. It is then not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// This replica does not lead, or is handing over.
    NotLeader,
    /// Too many bytes are proposed and not committed.
    Overloaded,
}

/// A member of a cluster. See the [module](self).
pub struct Replica {
    raw: RawNode<Entries>,
    settings: Settings,
    rng: fastrand::Rng,
    /// The term and the state for which the election timeout was drawn, and the timeout.
    drawn_for: (u64, StateRole),
    election_timeout_ticks: usize,
    /// How often this candidate has waited for votes.
    candidacies: usize,
    reads: Reads,
    /// The term and the leader that the rounds in flight were asked of.
    reads_asked_of: (u64, u64),
    /// The number of the last record that was given out, and of the last that is durable.
    last_record: u64,
    persisted: u64,
    /// The last record that changed term or vote, or with which a change of the membership takes effect: until it is durable,
    /// nothing is sent.
    awaited_record: u64,
    /// Messages that wait until a record is durable, in order.
    held: VecDeque<(u64, Message)>,
    /// Committed entries that wait until a record is durable, in order.
    held_committed: VecDeque<(u64, Committed)>,
    /// Bytes of entries that came since the last drain.
    undrained_len: usize,
    /// A member has connected since the last drain.
    owes_heartbeat: bool,
    /// Term and vote of the last record.
    recorded_vote: (u64, u64),
    told: Told,
    /// A snapshot is on its way to a member.
    is_held: bool,
    /// The snapshot that takes the place of the log and is not applied yet: its last entry, and the number of the state
    /// machine's directory.
    installing: Option<wire::Snapshot>,
}

impl Replica {
    /// A replica as it starts.
    ///
    /// # Errors
    /// If the log and the state machine do not fit together.
    pub fn new(settings: Settings, recovered: Recovered) -> Result<Replica> {
        let Recovered { base, entries, mut hard_state, applied, membership } = recovered;
        let last_index = entries.last().map_or(base.index, |entry| entry.index);
        if applied > last_index {
            return Err(Error::Store(format!(
                "the state machine has applied index {applied}, but the log ends at {last_index}: part of the log is \
                 missing. Move the data directory away and start with an empty one, to join again"
            )));
        }
        hard_state.commit = hard_state.commit.max(applied);
        if planted(Bug::ForgetVote) {
            hard_state.vote = 0;
        }
        let config = Config {
            id: settings.raft_id,
            election_tick: (settings.election_ticks * FINE_TICKS) as usize,
            heartbeat_tick: (settings.heartbeat_ticks * FINE_TICKS) as usize,
            applied,
            max_size_per_msg: limits::APPEND_LEN_MAX as u64,
            max_inflight_msgs: limits::APPENDS_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: limits::UNCOMMITTED_LEN_MAX as u64,
            max_committed_size_per_ready: limits::COMMITTED_LEN_PER_READY_MAX as u64,
            skip_bcast_commit: true,
            ..Config::default()
        };
        let conf_state =
            membership.and_then(|membership| membership.conf_state).unwrap_or_default();
        let entries: std::result::Result<Vec<_>, _> =
            entries.into_iter().map(border::entry_from_wire).collect();
        let entries = entries.map_err(|Malformed(what)| {
            Error::Store(format!("the log holds {what}: it was written by another version"))
        })?;
        let tail = Entries::new(
            border::hard_state_from_wire(&hard_state),
            border::conf_state_from_wire(&conf_state),
            base,
            entries,
        );
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, tail, &logger)
            .map_err(|e| Error::Store(format!("raft does not start: {e}")))?;
        let mut replica = Replica {
            raw,
            rng: fastrand::Rng::with_seed(settings.seed),
            drawn_for: (u64::MAX, StateRole::Follower),
            election_timeout_ticks: 0,
            candidacies: 0,
            reads: Reads::new(settings.raft_id, settings.nonce),
            settings,
            last_record: 0,
            persisted: 0,
            awaited_record: 0,
            held: VecDeque::new(),
            held_committed: VecDeque::new(),
            undrained_len: 0,
            owes_heartbeat: false,
            reads_asked_of: (0, 0),
            recorded_vote: (hard_state.term, hard_state.vote),
            told: Told::default(),
            is_held: false,
            installing: None,
        };
        replica.own_election_timeout();
        Ok(replica)
    }

    // ---- What comes in. ----

    /// One fine tick has passed: TICK_MS / [`FINE_TICKS`].
    pub fn tick(&mut self) {
        if self.is_installing() {
            return;
        }
        // A sole voter wins within the step that begins its election, and must have its log on disk by then.
        let log = &self.raw.raft.raft_log;
        if self.leads() || log.persisted == log.last_index() || !self.raw.raft.prs().is_singleton()
        {
            let was_candidate = self.role() == Role::Candidate;
            if self.raw.tick() && was_candidate {
                // It asks anew, and waits anew: without a change of state, raft-rs draws nothing.
                self.draw_election_timeout();
            }
            self.own_election_timeout();
            self.tell_old_commit();
        }
    }

    /// After how many ticks something happens by itself: a heartbeat, a look at the quorum, an election, a word on what is
    /// committed. Until then ticks may gather.
    pub fn ticks_until_due(&self) -> usize {
        let raft = &self.raw.raft;
        let due = match raft.state {
            StateRole::Leader if self.has_untold_commit() => 1,
            StateRole::Leader => (raft.heartbeat_timeout() - raft.heartbeat_elapsed())
                .min(raft.election_timeout().saturating_sub(raft.election_elapsed)),
            _ if !raft.promotable() => usize::MAX,
            _ => self.election_timeout_ticks.saturating_sub(raft.election_elapsed),
        };
        due.max(1)
    }

    /// A message came from a member of the cluster.
    pub fn receive(&mut self, message: RaftMessage) -> std::result::Result<(), Malformed> {
        self.undrained_len += message.entries.iter().map(|entry| entry.data.len()).sum::<usize>();
        let mut message = border::message_from_wire(message)?;
        self.check(&message)?;
        if message.msg_type == MessageType::MsgAppend && self.is_full() {
            // What it tells beside is heard: who leads, and what is committed. The answer says where to go on.
            message.entries.clear();
        }
        if message.msg_type == MessageType::MsgReadIndex && !self.leads() {
            // raft-rs would pass it on: the node that asks will find the leader itself.
            return Ok(());
        }
        if message.msg_type == MessageType::MsgTimeoutNow && self.is_installing() {
            return Ok(());
        }
        if message.msg_type == MessageType::MsgReadIndex {
            // What it will be allowed to read, it has to apply first.
            self.tell_commit();
        }
        // raft-rs refuses what is not for it (a stranger's answer, say): such a message is simply lost.
        let _ = self.raw.step(message);
        self.own_election_timeout();
        self.commit_wrongly();
        Ok(())
    }

    /// Proposes encoded commands, all or none, in order. Gives the term and the index of the first.
    pub fn propose(&mut self, commands: &[Bytes]) -> std::result::Result<(u64, u64), Rejected> {
        let entries = commands.iter().cloned().map(border::normal_entry).collect();
        let len_bytes = commands.iter().map(Bytes::len).sum::<usize>();
        if self.leads() && !self.has_room_for(len_bytes) {
            return Err(Rejected::Overloaded);
        }
        self.undrained_len += len_bytes;
        self.append(entries)
    }

    /// Proposes a change of the membership. While another is under way, raft-rs makes a blank entry of it.
    pub fn propose_conf_change(
        &mut self,
        change: &ConfChange,
    ) -> std::result::Result<(), Rejected> {
        let entry = border::conf_change_entry(change.encode_to_vec().into())
            .map_err(|_| Rejected::NotLeader)?;
        self.append(vec![entry]).map(|_| ())
    }

    fn append(&mut self, entries: Vec<Entry>) -> std::result::Result<(u64, u64), Rejected> {
        if !self.leads() || self.is_handing_over() {
            return Err(Rejected::NotLeader);
        }
        let first = self.raw.raft.raft_log.last_index() + 1;
        let count = entries.len() as u64;
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.settings.raft_id;
        message.set_entries(entries.into());
        self.raw.raft.step(message).map_err(|_| Rejected::Overloaded)?;
        // That raft-rs says Ok is no proof that the entries are in the log: look.
        assert_eq!(
            self.raw.raft.raft_log.last_index(),
            first + count - 1,
            "a proposal went astray"
        );
        Ok((self.raw.raft.term, first))
    }

    /// A read joins the next round of ReadIndex.
    pub fn read(&mut self, token: ReadToken) {
        self.reads.join(token);
    }

    /// Forgets waiting reads that `wanted` does not hold of. Where no leader is, they would gather.
    pub fn retain_reads(&mut self, wanted: impl Fn(ReadToken) -> bool) {
        self.reads.retain(wanted);
    }

    /// Asks anew for rounds begun at or before `begun`: their request or answer may be lost.
    pub fn retry_reads(&mut self, begun: Duration) {
        self.reads.retry(begun);
    }

    /// The record of that number, and all before it, are durable.
    pub fn persisted(&mut self, number: u64) {
        assert!(
            number > self.persisted && number <= self.last_record,
            "record {number} out of order"
        );
        self.persisted = number;
        self.raw.on_persist_ready(number);
        self.own_election_timeout();
    }

    /// Messages to that member are lost: its connection is down, or is not taking them.
    pub fn unreachable(&mut self, raft_id: u64) {
        self.raw.report_unreachable(raft_id);
    }

    /// A member can be reached, maybe again: a leader sends its heartbeat at once, to all members. From the answer it learns what
    /// that one lacks; else both would wait for the next one.
    pub fn reconnected(&mut self, raft_id: u64) {
        self.owes_heartbeat |= self.raw.raft.prs().get(raft_id).is_some();
    }

    /// A committed change of the membership is applied: gives the new membership. A leader that it leaves without a vote
    /// steps down.
    pub fn apply_conf_change(
        &mut self,
        before: Option<&Membership>,
        change: &ConfChange,
    ) -> Membership {
        let conf_state = self
            .raw
            .apply_conf_change(&border::conf_change_to_raft(change))
            .expect("a change is checked before it is proposed, and the same on all replicas");
        self.leave_lost_office();
        membership::apply(before, change, border::conf_state_to_wire(&conf_state))
    }

    /// Everything up to `index` is applied: entry by entry, or by a snapshot that was installed.
    pub fn applied(&mut self, index: u64) {
        self.raw.advance_apply_to(index);
        self.note_installed(index);
    }

    // ---- What goes out. ----

    /// Bytes of entries that wait for a drain. The node drains before they exceed what one batch of the log holds.
    pub fn undrained_len(&self) -> usize {
        self.undrained_len
    }

    /// Moves everything that is to be done into `out`.
    pub fn drain(&mut self, now: Duration, out: &mut Outputs) {
        self.undrained_len = 0;
        self.raw.mut_store().free_some();
        if std::mem::take(&mut self.owes_heartbeat) && self.leads() {
            self.raw.ping();
        }
        self.begin_reads(now);
        while self.raw.has_ready() {
            self.drain_one(out);
        }
        self.release_held(out);
    }

    fn drain_one(&mut self, out: &mut Outputs) {
        let mut ready = self.raw.ready();
        let number = ready.number();
        let committed_entries = ready.take_committed_entries();
        let changes_membership =
            committed_entries.iter().any(|entry| entry.entry_type != EntryType::EntryNormal);
        // A commit index alone is not worth a write, but for a change of the membership: it travels with the next record.
        if ready.must_sync() || changes_membership {
            let installed = (!ready.snapshot().is_empty()).then(|| self.reset_to_snapshot());
            if installed.is_some() {
                self.held_committed.clear();
            }
            let record = Record { snapshot: installed, ..self.record(ready.take_entries()) };
            out.persist.push((number, record));
            self.last_record = number;
            let hard_state = self.raw.raft.hard_state();
            if changes_membership || self.recorded_vote != (hard_state.term, hard_state.vote) {
                self.recorded_vote = (hard_state.term, hard_state.vote);
                self.awaited_record = number;
            }
        }
        let messages = ready.take_messages();
        self.note_told(&messages);
        for message in messages {
            // A leader's: beside its own write.
            let is_voting = self.awaited_record > self.persisted && !planted(Bug::SendBeforeVote);
            let waits_for = if is_voting { self.awaited_record } else { 0 };
            self.held.push_back((waits_for, message));
        }
        for message in ready.take_persisted_messages() {
            let waits_for = match message.msg_type {
                _ if planted(Bug::AcknowledgeBeforeSync) => 0,
                _ if self.awaited_record > self.persisted => self.last_record,
                // These speak for no entry of this log.
                MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex => 0,
                _ => self.last_record,
            };
            self.held.push_back((waits_for, message));
        }
        out.confirmed.extend(
            ready
                .take_read_states()
                .into_iter()
                .filter_map(|state| self.reads.confirm(&state.request_ctx, state.index)),
        );
        let waits_for = if changes_membership { number } else { 0 };
        let committed_entries = committed_entries.into_iter().map(committed);
        self.held_committed.extend(committed_entries.map(|entry| (waits_for, entry)));
        self.raw.advance_append_async(ready);
        if self.persisted == self.last_record || planted(Bug::CountOwnLogBeforeSync) {
            // Nothing is in flight, so there is nothing that this one waits for.
            self.raw.on_persist_ready(number);
        }
    }

    fn release_held(&mut self, out: &mut Outputs) {
        while let Some((waits_for, _)) = self.held_committed.front()
            && *waits_for <= self.persisted
        {
            out.committed.extend(self.held_committed.pop_front().map(|(_, entry)| entry));
        }
        let mut waiting = VecDeque::new();
        for (waits_for, message) in self.held.drain(..) {
            if waits_for > self.persisted {
                waiting.push_back((waits_for, message));
            } else if message.msg_type == MessageType::MsgSnapshot {
                // How a snapshot travels is the node's affair.
                out.offers.push(message.to);
            } else {
                out.messages.push(border::message_to_wire(message));
            }
        }
        self.held = waiting;
    }

    fn record(&mut self, entries: Vec<Entry>) -> Record {
        self.raw.mut_store().append(entries.clone());
        Record {
            entries: entries.into_iter().map(border::entry_to_wire).collect(),
            hard_state: Some(border::hard_state_to_wire(&self.raw.raft.hard_state())),
            ..Record::default()
        }
    }

    fn begin_reads(&mut self, now: Duration) {
        let asked_of = (self.term(), self.leader().unwrap_or(0));
        if asked_of != self.reads_asked_of {
            // Whoever was asked may be gone, or have forgotten.
            self.reads_asked_of = asked_of;
            self.reads.retry(now);
        }
        // raft-rs drops a request silently where there is no leader, and on a leader that has not committed in its term.
        let askable = match self.role() {
            Role::Leader => self.raw.raft.commit_to_current_term(),
            _ => self.leader().is_some(),
        };
        if askable && let Some(context) = self.reads.begin(now) {
            self.raw.read_index(context.to_vec());
        }
    }

    // ---- What it is. Who leads: `office`. ----

    /// The term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// The commit index, as far as this replica knows it.
    pub fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// Index of the first entry that is kept.
    pub fn first_index(&self) -> u64 {
        self.raw.store().base().index + 1
    }

    /// The term of an entry, if it is kept. For those who look on.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        raft::Storage::term(self.raw.store(), index).ok()
    }

    /// Index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

fn committed(mut entry: Entry) -> Committed {
    let (index, term) = (entry.index, entry.term);
    let payload = match entry.entry_type {
        EntryType::EntryNormal if entry.data.is_empty() => Payload::Blank,
        EntryType::EntryNormal => Payload::Command(entry.take_data()),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            let change = ConfChange::decode(entry.take_context())
                .expect("the border decoded it when the entry came, or encoded it");
            Payload::ConfChange(change)
        }
    };
    Committed { index, term, payload }
}
