//! Where raft-rs's types end and ours begin.
//!
//! raft-rs's types are those of an old protobuf library, whose parser must see no bytes from the network or the disk
//! (RUSTSEC-2024-0437). So nothing here parses: messages and entries are converted field by field, and the only
//! payload that raft-rs itself reads (a configuration change) is decoded by prost and written anew for it.

use bytes::Bytes;
use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, Entry, EntryType,
    HardState, Message, MessageType, SnapshotMetadata,
};

use crate::wire::log as wire;
use crate::wire::peer::RaftMessage;

/// What a received message or entry may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A message of raft-rs as it travels.
pub(super) fn message_to_wire(mut message: Message) -> RaftMessage {
    RaftMessage {
        r#type: message.msg_type as u32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.take_entries().into_iter().map(entry_to_wire).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.take_context(),
        priority: message.priority,
    }
}

/// A message that came, as raft-rs takes it.
pub(super) fn message_from_wire(message: RaftMessage) -> Result<Message, Malformed> {
    let mut converted = Message::default();
    let kind = i32::try_from(message.r#type).ok().and_then(message_type);
    converted.set_msg_type(kind.ok_or(Malformed("a raft message of an unknown type"))?);
    converted.to = message.to;
    converted.from = message.from;
    converted.term = message.term;
    converted.log_term = message.log_term;
    converted.index = message.index;
    let entries: Result<Vec<_>, _> = message.entries.into_iter().map(entry_from_wire).collect();
    converted.set_entries(entries?.into());
    converted.commit = message.commit;
    converted.commit_term = message.commit_term;
    converted.request_snapshot = message.request_snapshot;
    converted.reject = message.reject;
    converted.reject_hint = message.reject_hint;
    converted.context = message.context;
    converted.priority = message.priority;
    Ok(converted)
}

/// The types that nodes send each other. A snapshot, and what raft-rs only tells itself, are not among them, nor the wish of
/// a follower to lead: hand-overs are the leader's.
fn message_type(number: i32) -> Option<MessageType> {
    const SENT: [MessageType; 11] = [
        MessageType::MsgAppend,
        MessageType::MsgAppendResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestVoteResponse,
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgTimeoutNow,
        MessageType::MsgReadIndex,
        MessageType::MsgReadIndexResp,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestPreVoteResponse,
    ];
    SENT.into_iter().find(|kind| *kind as i32 == number)
}

/// An entry of raft-rs as it travels and lies on disk.
pub(super) fn entry_to_wire(mut entry: Entry) -> wire::Entry {
    let (kind, data) = match entry.entry_type {
        EntryType::EntryNormal => (wire::EntryKind::Normal, entry.take_data()),
        // Our own encoding lies in the context, raft-rs's in the data. An entry that raft-rs made itself, to leave a
        // joint configuration, has neither: that is our encoding of the empty change.
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            (wire::EntryKind::ConfChange, entry.take_context())
        }
    };
    wire::Entry { term: entry.term, index: entry.index, kind: kind.into(), data }
}

/// An entry that came, or that was read from disk, as raft-rs takes it.
pub(super) fn entry_from_wire(entry: wire::Entry) -> Result<Entry, Malformed> {
    let mut converted = match entry.kind() {
        wire::EntryKind::Normal => normal_entry(entry.data),
        wire::EntryKind::ConfChange => conf_change_entry(entry.data)?,
    };
    converted.term = entry.term;
    converted.index = entry.index;
    Ok(converted)
}

/// An entry for a command, without term and index.
pub(super) fn normal_entry(command: Bytes) -> Entry {
    Entry { data: command, ..Entry::default() }
}

/// An entry for an encoded [`wire::ConfChange`], without term and index.
pub(super) fn conf_change_entry(encoded: Bytes) -> Result<Entry, Malformed> {
    let mut entry = Entry::default();
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    let change = wire::ConfChange::decode(encoded.clone())
        .map_err(|_| Malformed("a configuration change that cannot be read"))?;
    if !change.steps.is_empty() {
        let written = conf_change_to_raft(&change).write_to_bytes();
        entry.data =
            written.map_err(|_| Malformed("a configuration change that cannot be written"))?.into();
    }
    entry.context = encoded;
    Ok(entry)
}

/// Our configuration change as raft-rs applies it. Without steps it leaves the joint configuration.
pub(super) fn conf_change_to_raft(change: &wire::ConfChange) -> ConfChangeV2 {
    let mut converted = ConfChangeV2::default();
    if change.joint {
        // Implicit: the leader leaves the joint configuration by itself as soon as it is applied.
        converted.set_transition(ConfChangeTransition::Implicit);
    }
    let steps = change.steps.iter().map(|step| {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(match step.kind() {
            wire::conf_change::Kind::AddVoter => ConfChangeType::AddNode,
            wire::conf_change::Kind::Remove => ConfChangeType::RemoveNode,
            wire::conf_change::Kind::AddLearner => ConfChangeType::AddLearnerNode,
        });
        single.node_id = step.raft_id;
        single
    });
    converted.set_changes(steps.collect::<Vec<_>>().into());
    converted
}

/// What raft-rs is to know of a snapshot.
pub(super) fn snapshot_metadata(
    last: wire::EntryId,
    conf_state: &wire::ConfState,
) -> SnapshotMetadata {
    let wire::EntryId { index, term } = last;
    let mut metadata = SnapshotMetadata { index, term, ..SnapshotMetadata::default() };
    metadata.set_conf_state(conf_state_from_wire(conf_state));
    metadata
}

/// raft-rs's hard state as it lies on disk.
pub(super) fn hard_state_to_wire(state: &HardState) -> wire::HardState {
    wire::HardState { term: state.term, vote: state.vote, commit: state.commit }
}

/// The hard state that was read from disk.
pub(super) fn hard_state_from_wire(state: &wire::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit, ..HardState::default() }
}

/// raft-rs's configuration as the state machine keeps it: in the same order on every replica, where raft-rs gives the order
/// of its hash sets.
pub(super) fn conf_state_to_wire(state: &raft::eraftpb::ConfState) -> wire::ConfState {
    let sorted = |raft_ids: &[u64]| {
        let mut raft_ids = raft_ids.to_vec();
        raft_ids.sort_unstable();
        raft_ids
    };
    wire::ConfState {
        voters: sorted(&state.voters),
        learners: sorted(&state.learners),
        voters_outgoing: sorted(&state.voters_outgoing),
        learners_next: sorted(&state.learners_next),
        auto_leave: state.auto_leave,
    }
}

/// The configuration that the state machine kept.
pub(super) fn conf_state_from_wire(state: &wire::ConfState) -> raft::eraftpb::ConfState {
    raft::eraftpb::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
        ..Default::default()
    }
}
