//! The way of a write: to the leader, into the log, and when it is committed, into the store and back.

use bytes::Bytes;
use prost::Message;
use std::time::Duration;

use super::requests::{Origin, Place, Work};
use super::{Node, Stage, Token, peers};
use crate::error::{Error, Result, refusal};
use crate::limits::{APPEND_LEN_MAX, BUFFER_LEN_MAX, REQUESTS_MAX};
use crate::replica::{Committed, Payload, Rejected};
use crate::store::Outcome;
use crate::store::map::Map;
use crate::wire::client::{Code, Error as Refusal, Response, Write, op, response};
use crate::wire::log::Command;
use crate::wire::peer::forward;

impl<M: Map> Node<M> {
    pub(super) fn insert_write(&mut self, origin: Origin, deadline: Duration, write: Write) {
        let token =
            self.insert(origin, deadline, Work::Write { write, place: Place::AwaitsLeader });
        self.to_dispatch.push(token);
    }

    /// Gives the writes that wait for a leader to the one that is known now, if one is and can be reached.
    pub(super) fn dispatch_writes(&mut self) {
        let Stage::Member(replica) = &self.stage else { return };
        let Some(leader) = replica.leader() else { return };
        let leads = replica.leads();
        if !leads && !self.links.contains_key(&leader) {
            return;
        }
        for token in std::mem::take(&mut self.to_dispatch) {
            match leads {
                true => self.await_proposal(token),
                false => self.forward(token, leader),
            }
        }
    }

    pub(super) fn await_proposal(&mut self, token: Token) {
        if let Some(refused) = self.refuses_proposal(token) {
            return self.answer_refused(token, refused);
        }
        if let Some(place) = self.requests.place_mut(token) {
            *place = Place::AwaitsProposal;
            if self.requests.write(token).is_some() {
                self.to_propose.push(token);
            }
        }
    }

    /// What keeps the leader from proposing a write.
    fn refuses_proposal(&self, token: Token) -> Option<Refusal> {
        if self.store.buffer_len() > BUFFER_LEN_MAX {
            let message =
                "the leader's disk does not keep up with the writes: send fewer, or retry later";
            return Some(refusal(Code::Overloaded, message));
        }
        let why = self.no_space.as_ref()?;
        let write = self.requests.write(token)?;
        let txn = write.txn.as_ref()?;
        let puts =
            txn.success.iter().chain(&txn.failure).any(|op| matches!(op.op, Some(op::Op::Put(_))));
        puts.then(|| {
            refusal(Code::NoSpace, format!("the leader takes no writes but deletes: {why}"))
        })
    }

    fn forward(&mut self, token: Token, leader: u64) {
        let Some(request) = self.requests.get_mut(token) else { return };
        let left = request.deadline.saturating_sub(self.now.monotonic);
        let (command, place) = match &mut request.work {
            Work::Write { write, place } => (forward::Command::Write(write.clone()), place),
            Work::Order { order, place } => (order.to_forward(), place),
            Work::Get { .. } | Work::Range(_) | Work::Snapshot => return,
        };
        *place = Place::Forwarded { to: leader };
        let timeout_ms = left.as_millis().max(1) as u32;
        self.counters.forwarded += 1;
        self.effects.frames.push((leader, peers::forward_frame(token, timeout_ms, command)));
    }

    /// Whether the writes that gathered wait for the next turn: a leader whose log is being written proposes what comes
    /// meanwhile at once when that write has returned. Its own log could not take it earlier; and so all of it is one message
    /// and one write for each follower, where it would else be one for each turn.
    pub(super) fn holds_proposals(&self) -> bool {
        matches!(&self.stage, Stage::Member(replica) if replica.leads())
            && self.journal.is_writing()
    }

    /// Where a write of the log takes long, requests expire while they wait for it: those that do not are at most as many as
    /// the table holds.
    pub(super) fn forget_expired_proposals(&mut self) {
        if self.to_propose.len() > REQUESTS_MAX {
            let requests = &self.requests;
            self.to_propose.retain(|token| requests.write(*token).is_some());
        }
    }

    /// Proposes all writes that gathered.
    pub(super) fn propose_writes(&mut self) -> Result<()> {
        let mut tokens = std::mem::take(&mut self.to_propose).into_iter().peekable();
        while tokens.peek().is_some() {
            let mut batch = Vec::new();
            let mut commands: Vec<Bytes> = Vec::new();
            let mut len = 0;
            while len < APPEND_LEN_MAX
                && let Some(token) = tokens.next()
            {
                let Some(write) = self.requests.write(token) else { continue };
                let command = Command {
                    time_ms: self.now.wall_ms,
                    write: Some(write.clone()),
                    ..Command::default()
                };
                let command = Bytes::from(command.encode_to_vec());
                len += command.len();
                commands.push(command);
                batch.push(token);
            }
            self.propose(&batch, &commands)?;
        }
        Ok(())
    }

    fn propose(&mut self, batch: &[Token], commands: &[Bytes]) -> Result<()> {
        let Stage::Member(replica) = &mut self.stage else { return Ok(()) };
        if batch.is_empty() {
            return Ok(());
        }
        match replica.propose(commands) {
            Ok((term, first)) => {
                self.counters.proposals += batch.len() as u64;
                for (token, index) in batch.iter().zip(first..) {
                    self.requests.proposed(*token, index, term);
                }
            }
            Err(Rejected::NotLeader) => batch.iter().for_each(|token| self.put_off(*token)),
            Err(Rejected::Overloaded) => {
                for token in batch {
                    let message =
                        "too many bytes wait to be committed: send fewer at once, or retry later";
                    self.answer_refused(*token, refusal(Code::Overloaded, message));
                }
            }
        }
        // Larger than one batch of the log must not gather.
        self.drain()
    }

    /// A write whose entry was replaced, or that was lost on its way, goes to the leader that is known.
    pub(super) fn send_back(&mut self, token: Token) {
        if self.keep_waiting(token) {
            self.to_dispatch.push(token);
        }
    }

    /// A write that the leader refused, as one that does not lead or is leaving office, waits a while: at once it would be
    /// refused again.
    pub(super) fn put_off(&mut self, token: Token) {
        if self.keep_waiting(token) {
            self.put_off.push(token);
        }
    }

    /// Has a write wait for a leader. False if it is not this node's to wait with: one that was forwarded to it goes back to
    /// where it came from.
    fn keep_waiting(&mut self, token: Token) -> bool {
        if let Some(Origin::Peer { .. }) = self.requests.get(token).map(|request| request.origin) {
            let refused = self.not_leader();
            self.answer_refused(token, refused);
            return false;
        }
        let place = self.requests.place_mut(token);
        place.map(|place| *place = Place::AwaitsLeader).is_some()
    }

    pub(super) fn not_leader(&self) -> Refusal {
        let leader = match &self.stage {
            Stage::Member(replica) => replica.leader().filter(|_| !replica.leads()),
            _ => None,
        };
        Refusal {
            leader_address: leader.map(|raft_id| self.address_of(raft_id)).unwrap_or_default(),
            ..refusal(Code::NotLeader, "this node does not lead: ask the leader, or another node")
        }
    }

    /// Applies what is committed, as far as the store has room. Tells whether anything was applied.
    pub(super) fn apply_committed(&mut self) -> Result<bool> {
        let mut last = None;
        while self.digests.quarantine().is_none()
            && self.store.buffer_len() <= BUFFER_LEN_MAX
            && let Some(entry) = self.to_apply.pop_front()
        {
            last = Some(entry.index);
            self.apply(entry)?;
        }
        if let (Some(index), Stage::Member(replica)) = (last, &mut self.stage) {
            replica.applied(index);
        }
        Ok(last.is_some())
    }

    fn apply(&mut self, entry: Committed) -> Result<()> {
        let Committed { index, term, payload } = entry;
        let outcome = match payload {
            Payload::Blank => {
                self.store.apply_blank(index, term);
                None
            }
            Payload::ConfChange(change) => {
                self.apply_conf_change(index, term, &change);
                None
            }
            Payload::Command(command) => {
                let command = Command::decode(command).map_err(|e| {
                    Error::Store(format!(
                        "entry {index} was written by a version that this one cannot read: {e}"
                    ))
                })?;
                Some(self.store.apply(index, term, &command)?)
            }
        };
        self.pass_index(index);
        let (done, lost) = self.requests.applied(index, term);
        if let (Some(token), Some(outcome)) = (done, outcome) {
            self.answer_outcome(token, outcome);
        }
        lost.into_iter().for_each(|token| self.send_back(token));
        Ok(())
    }

    /// Whoever answers a client what it had forwarded applies that write at about the same time.
    pub(super) fn tell_answered_peers(&mut self) {
        let Stage::Member(replica) = &mut self.stage else { return };
        for raft_id in std::mem::take(&mut self.answered_peers) {
            replica.tell_commit_to(raft_id);
        }
    }

    fn answer_outcome(&mut self, token: Token, outcome: Outcome) {
        if let Some(Origin::Peer { raft_id, .. }) = self.requests.get(token).map(|it| it.origin) {
            self.answered_peers.insert(raft_id);
        }
        match outcome {
            Outcome::Done { revision, result } => {
                let response = self.response(response::Result::Txn(result));
                self.answer(token, Response { revision, ..response });
            }
            Outcome::Refused(refused) => self.answer_refused(token, refused),
        }
    }
}
