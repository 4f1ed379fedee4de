//! What one machine's disk holds durably, read from the bytes of its writes, and the rule that a node says nothing that
//! its disk does not know yet (the rules marked S of the design).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use protobuf::ProtobufEnum;
use raft::eraftpb::MessageType;

use super::Finding;
use crate::log::format::{self, Header, SECTOR_LEN};
use crate::log::{Contents, FIRST_STATE};
use crate::wire::log::{
    Command, ConfChange, Entry, EntryId, EntryKind, HardState, Record, Standing,
};
use crate::wire::peer::{Formation, PeerFrame, RaftMessage, formation, peer_frame};

/// See the [module](self).
pub struct Witness {
    /// All that were durable and not replaced, those that the log does not keep any more among them.
    entries: BTreeMap<u64, Entry>,
    /// How often the write of each request is among them.
    writes: BTreeMap<Bytes, u32>,
    /// The last entry that was, whether by itself or by a snapshot.
    last: EntryId,
    /// The last entry of the last snapshot that was installed.
    covered: u64,
    /// The state machine's directory.
    state: u64,
    hard_state: HardState,
    standing: Standing,
    /// All promises that were ever durable: raft id, start and attempt of the candidate.
    promises: BTreeSet<(u64, u64, u64)>,
    /// All contexts of ReadIndex that were ever asked with.
    contexts: BTreeSet<Bytes>,
    /// A batch whose write was cut short when all of it was on its way: it may be on the disk or not.
    in_doubt: Option<Vec<u8>>,
}

/// What became durable.
#[derive(Debug, Default)]
pub struct Durable {
    /// Entries, each with the term of the one before it, if that is known.
    pub entries: Vec<(Entry, Option<u64>)>,
    /// Term and vote.
    pub vote: Option<(u64, u64)>,
    /// The term, the vote, the promise or the cluster is another.
    pub is_turning_point: bool,
    /// A snapshot took the place of the log.
    pub is_installed: bool,
}

impl Default for Witness {
    fn default() -> Witness {
        Witness {
            entries: BTreeMap::new(),
            writes: BTreeMap::new(),
            covered: 0,
            in_doubt: None,
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
    pub fn note(&mut self, batch: &[u8]) -> Durable {
        let (sectors, _) = batch.as_chunks::<SECTOR_LEN>();
        let header = Header::read(&sectors[0]).expect("a batch begins with its header");
        let payload = format::payload(sectors, header.payload_len as usize);
        let record = Record::decode(&payload[..]).expect("a batch holds a record");
        let mut durable = Durable::default();
        if let Some(snapshot) = record.snapshot {
            self.truncate(0);
            (self.last, self.state) = (snapshot.last.unwrap_or_default(), snapshot.state);
            self.covered = self.last.index;
            durable.is_installed = true;
        }
        for entry in record.entries {
            assert!(entry.index <= self.last.index + 1, "a gap in the log");
            self.truncate(entry.index);
            let before = self.entries.get(&(entry.index - 1)).map(|before| before.term);
            // Of an entry that a snapshot covers only the last one's term is known.
            let at_base = (self.last.index + 1 == entry.index).then_some(self.last.term);
            durable.entries.push((entry.clone(), before.or(at_base)));
            if let Some(id) = request_id(&entry) {
                *self.writes.entry(id).or_default() += 1;
            }
            self.last = EntryId { index: entry.index, term: entry.term };
            self.entries.insert(entry.index, entry);
        }
        let (was_in, stood) = ((self.hard_state.term, self.hard_state.vote), self.standing.clone());
        self.hard_state = record.hard_state.unwrap_or(self.hard_state);
        durable.vote = Some((self.hard_state.term, self.hard_state.vote));
        if let Some(standing) = record.standing {
            let promise = standing.promise.as_ref();
            self.promises
                .extend(promise.map(|promise| (promise.raft_id, promise.starts, promise.attempt)));
            self.standing = standing;
        }
        durable.is_turning_point = durable.vote != Some(was_in) || self.standing != stood;
        durable
    }

    /// Forgets the entries from that index on.
    fn truncate(&mut self, from: u64) {
        for lost in self.entries.split_off(&from).into_values() {
            if let Some(count) = request_id(&lost).and_then(|id| self.writes.get_mut(&id)) {
                *count -= 1;
            }
        }
    }

    /// All of a batch was on its way to the disk when the process ended.
    pub fn doubt(&mut self, batch: Vec<u8>) {
        self.in_doubt = Some(batch);
    }

    /// What recovery found must be what became durable, neither more nor less, but for the batch in doubt: if that was
    /// found, it counts from now on.
    pub fn check_recovered(&mut self, found: &Contents) -> Result<Durable, String> {
        let in_doubt = self.in_doubt.take();
        if self.is(found) {
            return Ok(Durable::default());
        }
        let durable = in_doubt.map(|batch| self.note(&batch)).unwrap_or_default();
        if self.is(found) {
            return Ok(durable);
        }
        Err(format!(
            "recovery finds entries to {} and {:?}, and durable were those to {} and {:?}",
            found.last_index(),
            found.hard_state,
            self.last.index,
            self.hard_state,
        ))
    }

    fn is(&self, found: &Contents) -> bool {
        let kept = self.entries.range(found.base.index + 1..).map(|(_, entry)| entry);
        kept.eq(&found.entries)
            && found.last() == self.last
            && found.state == self.state
            && found.hard_state == self.hard_state
            && found.standing == self.standing
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

    /// Whether the machine belongs to a cluster.
    pub fn is_member(&self) -> bool {
        !self.standing.cluster_id.is_empty()
    }

    /// Who holds its promise.
    pub fn promised_to(&self) -> Option<u64> {
        self.standing.promise.as_ref().map(|promise| promise.raft_id)
    }

    /// Whether the write of that request is in the durable log.
    pub fn has_write(&self, request_id: &Bytes) -> bool {
        self.writes.get(request_id).is_some_and(|count| *count > 0)
    }

    /// Up to which index a snapshot stands for the entries.
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// The membership is another, as of the entry `applied`: of all changes up to there the disk must know that they are
    /// committed. `map` is how far the map is.
    pub fn check_membership(&self, applied: u64, map: u64) -> Finding {
        let known = self.hard_state.commit.max(self.covered).max(map);
        let beyond = self.entries.range(known + 1..applied.max(known) + 1);
        let changes = beyond.filter(|(_, entry)| entry.kind() == EntryKind::ConfChange);
        match changes.map(|(index, _)| index).next_back() {
            None => Ok(()),
            Some(index) => Err(format!(
                "the change of entry {index} takes effect, and the disk knows of commits up to {known}"
            )),
        }
    }

    /// All entries up to that index, if all were ever on this disk, and none was covered by a snapshot.
    pub fn entries_to(&self, index: u64) -> Option<impl Iterator<Item = &Entry>> {
        let entries = self.entries.range(..=index);
        (entries.clone().count() as u64 == index).then(|| entries.map(|(_, entry)| entry))
    }

    /// A frame leaves the machine: everything that it speaks for must be durable.
    pub fn check_sent(&mut self, sender: u64, receiver: u64, frame: &PeerFrame) -> Finding {
        match &frame.frame {
            Some(peer_frame::Frame::Raft(message)) => self.check_raft(sender, message),
            Some(peer_frame::Frame::Formation(Formation { message: Some(message) })) => {
                self.check_formation(sender, receiver, message)
            }
            _ => Ok(()),
        }
    }

    fn check_raft(&mut self, sender: u64, message: &RaftMessage) -> Finding {
        let HardState { term, vote, .. } = self.hard_state;
        let kind = kind(message);
        match kind {
            MessageType::MsgReadIndex => {
                let context = message.entries[0].data.clone();
                // A node that is no leader (any more) passes on what another asked.
                let is_new = message.from != sender || self.contexts.insert(context);
                return holds(is_new, || "a context of ReadIndex is used twice".to_owned());
            }
            // Promises nothing, of a term that nobody is in.
            MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse => {
                return Ok(());
            }
            _ => {}
        }
        holds(message.term <= term, || {
            format!("{kind:?} of term {}, durable is {term}", message.term)
        })?;
        if message.term < term {
            return Ok(());
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
        holds(voted_for.is_none_or(|voted_for| voted_for == vote), || {
            format!("{kind:?} of term {term} without the vote on disk")
        })?;
        let last = self.last.index;
        let speaks_for_entries = kind == MessageType::MsgAppendResponse && !message.reject;
        holds(!speaks_for_entries || message.index <= last, || {
            format!("entry {} acknowledged, {last} durable", message.index)
        })
    }

    fn check_formation(&self, sender: u64, receiver: u64, message: &formation::Message) -> Finding {
        match message {
            formation::Message::Request(request) => {
                let own = request.candidate.as_ref().expect("a request names its candidate");
                let durable = self.promises.contains(&(sender, own.starts, own.attempt));
                holds(durable, || "a candidate asks before its own promise is on disk".to_owned())
            }
            formation::Message::Reply(reply) if reply.granted => {
                let promise = (receiver, reply.starts, reply.attempt);
                let durable = self.promises.contains(&promise);
                holds(durable, || "a promise is told before it is on disk".to_owned())
            }
            formation::Message::JoinReply(reply) => {
                let durable = reply.cluster_id == self.standing.cluster_id;
                holds(durable, || "a cluster is told before it is on disk".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn holds(condition: bool, what: impl FnOnce() -> String) -> Finding {
    if condition { Ok(()) } else { Err(what()) }
}

/// The request whose write an entry is.
pub fn request_id(entry: &Entry) -> Option<Bytes> {
    let command = Command::decode(&entry.data[..]).ok()?;
    command.write.map(|write| write.request_id)
}

/// The type of a raft message.
pub fn kind(message: &RaftMessage) -> MessageType {
    MessageType::from_i32(message.r#type as i32).expect("a type that raft-rs knows")
}
