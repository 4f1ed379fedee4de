//! What nodes tell each other, and whom a node speaks with at all.

use super::orders::Order;
use super::requests::{Origin, Place, Work};
use super::seats::Greeting;
use super::{Node, Stage, Token};
use crate::error::refusal;
use crate::limits::{APPLY_VERSION, GREETED_MAX, NAME_LEN_MAX};
use crate::planted::{Bug, planted};
use crate::replica::membership;
use crate::store::Digest;
use crate::store::map::Map;
use crate::wire::PROTOCOL_VERSION;
use crate::wire::client::{
    Code, Error as Refusal, Hello, Identity, Response, Role, Welcome, response,
};
use crate::wire::peer::{
    self, Formation, Forward, ForwardReply, GossipTable, PeerFrame, RaftMessage, formation,
    forward::Command, peer_frame::Frame,
};

pub(super) fn raft_frame(message: RaftMessage) -> PeerFrame {
    PeerFrame { frame: Some(Frame::Raft(message)) }
}

pub(super) fn formation_frame(message: Formation) -> PeerFrame {
    PeerFrame { frame: Some(Frame::Formation(message)) }
}

pub(super) fn forward_frame(id: Token, timeout_ms: u32, command: Command) -> PeerFrame {
    PeerFrame { frame: Some(Frame::Forward(Forward { id, timeout_ms, command: Some(command) })) }
}

pub(super) fn table_frame(table: GossipTable) -> PeerFrame {
    PeerFrame { frame: Some(Frame::GossipTable(table)) }
}

pub(super) fn digest_frame(index: u64, digest: &Digest) -> PeerFrame {
    let digest = peer::Digest { index, digest: digest.to_vec().into(), apply: APPLY_VERSION };
    PeerFrame { frame: Some(Frame::Digest(digest)) }
}

pub(super) fn reply_frame(id: Token, response: Response) -> PeerFrame {
    PeerFrame { frame: Some(Frame::ForwardReply(ForwardReply { id, response: Some(response) })) }
}

pub(super) fn frame(frame: Frame) -> PeerFrame {
    PeerFrame { frame: Some(frame) }
}

/// The length of a cluster's id, in bytes.
const CLUSTER_ID_LEN: usize = 16;

impl<M: Map> Node<M> {
    /// Decides about a new connection by its first frame.
    pub fn greet(&mut self, hello: &Hello) -> Result<Welcome, Refusal> {
        let greeted = self.greet_whoever(hello);
        self.counters.peers_refused += u64::from(greeted.is_err() && hello.role() == Role::Peer);
        greeted
    }

    fn greet_whoever(&mut self, hello: &Hello) -> Result<Welcome, Refusal> {
        if hello.version != PROTOCOL_VERSION {
            return Err(refusal(
                Code::Invalid,
                format!(
                    "this server speaks version {PROTOCOL_VERSION} of the protocol, not {}",
                    hello.version
                ),
            ));
        }
        let own = &self.identity.cluster_id;
        let theirs = hello.from.as_ref().map_or(&hello.cluster_id, |from| &from.cluster_id);
        if !theirs.is_empty() && !own.is_empty() && theirs != own {
            return Err(refusal(
                Code::WrongCluster,
                format!(
                    "this node belongs to cluster {}, not {}",
                    super::cluster::hex(own),
                    super::cluster::hex(theirs)
                ),
            ));
        }
        match hello.role() {
            Role::Client => {}
            Role::Peer => self.greet_peer(hello.from.as_ref())?,
            Role::Unspecified => {
                return Err(refusal(
                    Code::Invalid,
                    "the hello does not tell whether it is a client's or a peer's",
                ));
            }
        }
        Ok(Welcome {
            version: PROTOCOL_VERSION,
            node: Some(self.identity.clone()),
            applied: self.applied_index(),
        })
    }

    /// An identity has one holder: the one that started last. Another is a copy of its disk.
    fn greet_peer(&mut self, from: Option<&Identity>) -> Result<(), Refusal> {
        let valid =
            |from: &&Identity| from.raft_id != 0 && (1..=NAME_LEN_MAX).contains(&from.name.len());
        let Some(from) = from.filter(valid) else {
            return Err(refusal(Code::Invalid, "the hello of a peer lacks its identity"));
        };
        if from.raft_id == self.identity.raft_id {
            let same = from.nonce == self.identity.nonce;
            let message = match same {
                true => "this node has reached itself: the address is its own, under another name in PEERS or that of a member before it".to_owned(),
                false => format!(
                    "{} holds the raft id {} of this node ({}): one of the two runs on a copy of the other's data \
                     directory; stop it, and start it with an empty one",
                    from.name, from.raft_id, self.identity.name
                ),
            };
            if !same {
                ::log::error!("{message}");
            }
            return Err(refusal(Code::Invalid, message));
        }
        let is_removed = |known| membership::is_removed(known, from.raft_id);
        if from.cluster_id == self.identity.cluster_id
            && self.store.membership().is_some_and(is_removed)
        {
            return Err(refusal(Code::Removed, self.was_removed(&from.name)));
        }
        self.seat(from)?;
        if let Stage::Free(formation) = &mut self.stage {
            formation.greeted(from);
        }
        Ok(())
    }

    /// An identity has one holder: see [`super::seats`].
    fn seat(&mut self, from: &Identity) -> Result<(), Refusal> {
        let members: Vec<u64> = self.members().iter().map(|member| member.raft_id).collect();
        let keep = |raft_id| members.contains(&raft_id);
        let Identity { name, raft_id, starts, .. } = from;
        let copied = "one of the two runs on a copy of the other's data directory; stop it, and start it with an empty one";
        let message = match self.seats.greet(from, self.now.monotonic, keep) {
            Greeting::Seated => return Ok(()),
            Greeting::Challenge { seated } => {
                // A live one comes again at once.
                self.effects.unlink.push(*raft_id);
                format!(
                    "{name} comes with start {starts}, and start {seated} of raft id {raft_id} is connected: waiting for its end"
                )
            }
            Greeting::Wait { seated } => {
                format!(
                    "{name} comes with start {starts}, and start {seated} of raft id {raft_id} was connected: waiting for its end"
                )
            }
            Greeting::SecondHolder { seated } => format!(
                "{name} comes with the raft id {raft_id} and start {starts}, but a holder of that id with start {seated} is \
                 here and answers: {copied}"
            ),
            Greeting::Superseded { seated } => format!(
                "{name} comes with the raft id {raft_id} and start {starts}, but a holder of that id with start {seated} was \
                 here: it runs on an old copy of a data directory; stop it, and start it with an empty one"
            ),
        };
        self.tell_refusal(*raft_id, &message);
        Err(refusal(Code::Invalid, message))
    }

    /// The same refusal is told once.
    pub(super) fn tell_refusal(&mut self, raft_id: u64, why: &str) {
        if self.told_refusals.get(&raft_id).is_some_and(|told| told == why) {
            return;
        }
        if self.told_refusals.len() >= GREETED_MAX {
            self.told_refusals.clear();
        }
        ::log::error!("{why}");
        self.told_refusals.insert(raft_id, why.to_owned());
    }

    /// Whether to speak with the process that answers at an address: not with a second holder of an identity.
    pub fn admits(&self, peer: &Identity) -> Result<(), String> {
        match self.seats.admits(peer) {
            true => Ok(()),
            false => Err(format!(
                "{} answers there with raft id {} and start {}, but another holder of that id is known: one of the two runs \
                 on a copy of the other's data directory",
                peer.name, peer.raft_id, peer.starts
            )),
        }
    }

    pub(super) fn on_peer_up(&mut self, peer: Identity) {
        let raft_id = peer.raft_id;
        let address = match peer.address.as_str() {
            "" => self.address_of(raft_id),
            told => told.to_owned(),
        };
        ::log::info!("connected to {} at {address}", peer.name);
        let step = match &mut self.stage {
            Stage::Free(formation) => Some(formation.peer_up(&peer)),
            Stage::Settling { .. } => None,
            Stage::Member(replica) => {
                replica.reconnected(raft_id);
                None
            }
        };
        self.links.insert(raft_id, peer);
        if let Some(step) = step {
            self.take_step(step);
        }
        // Who was found by its address alone is found by gossip from now on.
        self.push_table(raft_id);
        self.resume_snapshot(raft_id);
        self.tell_digests_to(raft_id);
    }

    pub(super) fn on_peer_down(&mut self, raft_id: u64) {
        if let Some(peer) = self.links.remove(&raft_id) {
            ::log::info!("lost the connection to {}", peer.name);
        }
        self.gossip.doubt(self.now.monotonic, raft_id);
        match &mut self.stage {
            Stage::Free(formation) => formation.peer_down(raft_id),
            Stage::Settling { .. } => {}
            Stage::Member(replica) => replica.unreachable(raft_id),
        }
        self.take_back(|to| to == raft_id);
    }

    pub(super) fn on_unsent(&mut self, raft_id: u64) {
        if let Stage::Member(replica) = &mut self.stage {
            replica.unreachable(raft_id);
        }
    }

    /// Takes back the writes that were forwarded to a node that `to` holds of. They may have been applied; to give them to
    /// another leader is safe all the same, for that one knows their ids.
    pub(super) fn take_back(&mut self, to: impl Fn(u64) -> bool) {
        let lost =
            self.requests.writes_at(|place| matches!(place, Place::Forwarded { to: at } if to(at)));
        for token in lost {
            if let Some(request) = self.requests.get_mut(token) {
                request.maybe_applied = true;
            }
            self.send_back(token);
        }
    }

    pub(super) fn on_peer_frame(&mut self, from: &Identity, frame: PeerFrame) {
        self.counters.messages_received += 1;
        if !self.seats.hears(from, self.now.monotonic) {
            self.counters.peers_refused += 1;
            return;
        }
        match frame.frame {
            Some(Frame::Formation(message)) => self.on_formation(from, message),
            Some(Frame::GossipTable(table)) => self.on_gossip_table(from.raft_id, &table),
            Some(frame) if from.cluster_id == self.identity.cluster_id => match frame {
                Frame::Raft(message) => self.on_raft(from.raft_id, message),
                Frame::Forward(forward) => self.on_forward(from.raft_id, forward),
                Frame::ForwardReply(reply) => self.on_forward_reply(from.raft_id, reply),
                Frame::SnapshotOffer(offer) => self.on_snapshot_offer(from, offer),
                Frame::SnapshotRequest(request) => self.on_snapshot_request(from, request),
                Frame::SnapshotPart(part) => self.on_snapshot_part(from.raft_id, part),
                Frame::Digest(digest) => self.on_digest(from.raft_id, &digest),
                Frame::Formation(_) | Frame::GossipTable(_) => unreachable!("matched above"),
            },
            // Between clusters, and from nodes without one, nothing else is heard.
            Some(_) | None => self.counters.protocol_errors += 1,
        }
    }

    fn on_formation(&mut self, from: &Identity, message: Formation) {
        match (&mut self.stage, message.message) {
            (Stage::Member(_), Some(formation::Message::Join(join))) => {
                self.on_join(from.raft_id, join)
            }
            (Stage::Member(_), Some(formation::Message::JoinReply(reply)))
                if reply.cluster_id == self.identity.cluster_id =>
            {
                self.on_join_reply(reply)
            }
            (Stage::Free(_), Some(formation::Message::JoinReply(reply))) if reply.is_final => {
                self.on_join_reply(reply)
            }
            (Stage::Free(_), Some(formation::Message::JoinReply(reply)))
                if reply.refused.is_empty() && reply.cluster_id.len() == CLUSTER_ID_LEN =>
            {
                self.adopt(reply.cluster_id.to_vec());
            }
            (Stage::Free(formation), message) => {
                let step = formation.receive(from, Formation { message });
                self.take_step(step);
            }
            _ => {}
        }
    }

    fn on_raft(&mut self, from: u64, message: RaftMessage) {
        let Stage::Member(replica) = &mut self.stage else { return };
        let ours = message.to == self.identity.raft_id && message.from == from;
        if !ours || replica.receive(message).is_err() {
            self.counters.protocol_errors += 1;
        }
    }

    fn on_forward(&mut self, from: u64, forward: Forward) {
        let origin = Origin::Peer { raft_id: from, id: forward.id };
        let Some(command) = forward.command else { return };
        let deadline = self.deadline(forward.timeout_ms);
        if let Some(order) = Order::of_forward(&command) {
            return match order.check().and_then(|()| self.admit_forward()) {
                Ok(()) => self.insert_order(origin, deadline, order, true),
                Err(refused) => self.refuse(origin, refused),
            };
        }
        let Command::Write(write) = command else { return };
        match self.admit_forward().and_then(|()| crate::wire::validate::write(&write)) {
            Ok(()) => {
                // Not to be dispatched: one hop, never two.
                let work = Work::Write { write, place: Place::AwaitsProposal };
                let token = self.insert(origin, deadline, work);
                self.await_proposal(token);
            }
            Err(_) if planted(Bug::ForwardTwice) && self.admit().is_ok() => {
                self.insert_write(origin, deadline, write);
            }
            Err(refused) => self.refuse(origin, refused),
        }
    }

    /// Whether what another node passes on may come in: on the leader alone.
    fn admit_forward(&self) -> Result<(), Refusal> {
        match &self.stage {
            Stage::Member(replica) if replica.leads() => self.admit(),
            _ => Err(self.not_leader()),
        }
    }

    fn on_forward_reply(&mut self, from: u64, reply: ForwardReply) {
        let Some(response) = reply.response else { return };
        let place = self.requests.place_mut(reply.id).copied();
        if let Some(response::Result::Error(refused)) = &response.result {
            // Only the one that has the write now can say that it does not take it.
            if place != Some(Place::Forwarded { to: from }) {
                return;
            }
            if matches!(refused.code(), Code::NotLeader | Code::Stopping) && !refused.maybe_applied
            {
                return self.put_off(reply.id);
            }
            let refused = refused.clone();
            return self.answer_refused(reply.id, refused);
        }
        self.answer(reply.id, response);
    }

    /// Where a member is reached, as far as is known.
    pub(super) fn address_of(&self, raft_id: u64) -> String {
        self.address_in_mesh(raft_id).unwrap_or_else(|| {
            let known = self.members().iter().find(|member| member.raft_id == raft_id);
            known.map(|member| member.address.clone()).unwrap_or_default()
        })
    }
}
