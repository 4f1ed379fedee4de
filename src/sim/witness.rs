//! What one machine's disk holds durably, read from the bytes of its writes, and the rule that a node says nothing that
//! its disk does not know yet (the rules marked S of the design).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use protobuf::ProtobufEnum;
use raft::eraftpb::MessageType;

use crate::log::format::{self, Header, SECTOR_LEN};
use crate::log::{Contents, FIRST_STATE};
use crate::wire::log::{Command, ConfChange, Entry, EntryId, HardState, Record, Standing};
use crate::wire::peer::{Formation, PeerFrame, RaftMessage, formation, peer_frame};

pub struct Witness {
    /// All that were durable and not replaced, those that the log does not keep any more among them.
    entries: BTreeMap<u64, Entry>,
    /// The last entry that was, whether by itself or by a snapshot.
    last: EntryId,
    /// The state machine's directory.
    state: u64,
    hard_state: HardState,
    standing: Standing,
    /// All promises that were ever durable: raft id, start and attempt of the candidate.
    promises: BTreeSet<(u64, u64, u64)>,
    /// All contexts of ReadIndex that were ever asked with.
    contexts: BTreeSet<Bytes>,
}

impl Default for Witness {
    fn default() -> Witness {
        Witness {
            entries: BTreeMap::new(),
            last: EntryId::default(),
            state: FIRST_STATE,
            hard_state: HardState::default(),
            standing: Standing::default(),
            promises: BTreeSet::new(),
            contexts: BTreeSet::new(),
        }
    }
}

impl Witness {
    /// Takes in a batch that became durable.
    pub fn note(&mut self, batch: &[u8]) {
        let (sectors, _) = batch.as_chunks::<SECTOR_LEN>();
        let header = Header::read(&sectors[0]).expect("a batch begins with its header");
        let payload = format::payload(sectors, header.payload_len as usize);
        let record = Record::decode(&payload[..]).expect("a batch holds a record");
        if let Some(snapshot) = record.snapshot {
            self.entries.clear();
            (self.last, self.state) = (snapshot.last.unwrap_or_default(), snapshot.state);
        }
        for entry in record.entries {
            assert!(entry.index <= self.last.index + 1, "a gap in the log");
            self.entries.split_off(&entry.index);
            self.last = EntryId { index: entry.index, term: entry.term };
            self.entries.insert(entry.index, entry);
        }
        self.hard_state = record.hard_state.unwrap_or(self.hard_state);
        if let Some(standing) = record.standing {
            let promise = standing.promise.as_ref();
            self.promises
                .extend(promise.map(|promise| (promise.raft_id, promise.starts, promise.attempt)));
            self.standing = standing;
        }
    }

    /// What recovery found must be what became durable, neither more nor less.
    pub fn check_recovered(&self, found: &Contents) {
        let kept = self.entries.range(found.base.index + 1..).map(|(_, entry)| entry);
        assert!(kept.eq(&found.entries), "the recovered entries");
        assert_eq!(found.last(), self.last, "the last recovered entry");
        assert_eq!(found.state, self.state, "the recovered state's number");
        assert_eq!(found.hard_state, self.hard_state, "the recovered hard state");
        assert_eq!(found.standing, self.standing, "the recovered standing");
    }

    /// The cluster that the machine belongs to; empty for none.
    pub fn cluster_id(&self) -> &[u8] {
        &self.standing.cluster_id
    }

    /// Whom entry 1 makes the only voter.
    pub fn first_voter(&self) -> Option<u64> {
        let change = ConfChange::decode(&self.entries.get(&1)?.data[..]).ok()?;
        change.steps.first().map(|step| step.raft_id)
    }

    /// Hard state and last entry, in words.
    pub fn summary(&self) -> (HardState, u64) {
        (self.hard_state, self.last.index)
    }

    pub fn is_member(&self) -> bool {
        !self.standing.cluster_id.is_empty()
    }

    pub fn promised_to(&self) -> Option<u64> {
        self.standing.promise.as_ref().map(|promise| promise.raft_id)
    }

    /// Whether the write of that request is in the durable log.
    pub fn has_write(&self, request_id: &Bytes) -> bool {
        self.entries.values().rev().any(|entry| {
            let command = Command::decode(&entry.data[..]).unwrap_or_default();
            command.write.is_some_and(|write| write.request_id == *request_id)
        })
    }

    /// A frame leaves the machine: everything that it speaks for must be durable.
    pub fn check_sent(&mut self, sender: u64, receiver: u64, frame: &PeerFrame) {
        match &frame.frame {
            Some(peer_frame::Frame::Raft(message)) => self.check_raft(sender, message),
            Some(peer_frame::Frame::Formation(Formation { message: Some(message) })) => {
                self.check_formation(sender, receiver, message);
            }
            _ => {}
        }
    }

    fn check_raft(&mut self, sender: u64, message: &RaftMessage) {
        let HardState { term, vote, .. } = self.hard_state;
        let kind = kind(message);
        match kind {
            MessageType::MsgReadIndex => {
                let context = message.entries[0].data.clone();
                // A node that is no leader (any more) passes on what another asked.
                if message.from == sender {
                    assert!(self.contexts.insert(context), "a context of ReadIndex is used twice");
                }
                return;
            }
            // Promises nothing, of a term that nobody is in.
            MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse => return,
            _ => {}
        }
        assert!(message.term <= term, "{kind:?} of term {}, durable is {term}", message.term);
        if message.term < term {
            return;
        }
        let voted_for = match kind {
            MessageType::MsgRequestVote
            | MessageType::MsgAppend
            | MessageType::MsgHeartbeat
            | MessageType::MsgTimeoutNow
            | MessageType::MsgReadIndexResp => Some(sender),
            MessageType::MsgRequestVoteResponse if !message.reject => Some(message.to),
            _ => None,
        };
        if let Some(voted_for) = voted_for {
            assert_eq!(vote, voted_for, "{kind:?} of term {term} without the vote on disk");
        }
        if kind == MessageType::MsgAppendResponse && !message.reject {
            let last = self.last.index;
            assert!(message.index <= last, "entry {} acknowledged, {last} durable", message.index);
        }
    }

    fn check_formation(&self, sender: u64, receiver: u64, message: &formation::Message) {
        match message {
            formation::Message::Request(request) => {
                let own = request.candidate.as_ref().expect("a request names its candidate");
                let durable = self.promises.contains(&(sender, own.starts, own.attempt));
                assert!(durable, "a candidate asks before its own promise is on disk");
            }
            formation::Message::Reply(reply) if reply.granted => {
                let promise = (receiver, reply.starts, reply.attempt);
                let durable = self.promises.contains(&promise);
                assert!(durable, "a promise is told before it is on disk");
            }
            formation::Message::JoinReply(reply) => {
                assert_eq!(reply.cluster_id, self.standing.cluster_id, "told before it is on disk");
            }
            _ => {}
        }
    }
}

/// The type of a raft message.
pub fn kind(message: &RaftMessage) -> MessageType {
    MessageType::from_i32(message.r#type as i32).expect("a type that raft-rs knows")
}
