//! How a first cluster comes about without anybody ordering it, and never a second one.
//!
//! A cluster is formed by a node that holds promises of a majority of EXPECT nodes, itself included: to form nothing,
//! and to promise nobody else. Two majorities of the same EXPECT share a node, so two nodes never form.
//!
//! Invariants:
//! - A promise is durable before it is granted, and exclusive. A candidate's first promise is the one to itself.
//! - A promise ends in three ways only: the node becomes a member; the candidate says that the attempt is void; the
//!   candidate, started anew without a cluster, has lost the attempt. It does not end by time.
//! - A candidate counts only what was granted to its current attempt of this start, and voids the attempt before it gives
//!   its own promise to another.
//! - A peer that does not answer, or whose name does not resolve, is never counted as "not there".
//! - Who knows of a member of a cluster, of more free nodes than EXPECT, or of two that differ about EXPECT, neither forms
//!   nor promises: there could be two majorities then.
//! - A candidate asks for promises only after a majority has answered for one election timeout without a break: time in
//!   which the members of a cluster that exists, and the free nodes beyond EXPECT, come to be known.
//!
//! The candidate is the lowest name among the free nodes that answer and may form. A node that finds a member of a
//! cluster asks to join instead.
//!
//! What remains: EXPECT must be the number of nodes that ever start without a cluster. If there are more (nodes that are
//! added, or that lost their disks), and a majority of EXPECT of them is cut off from all others for longer than an
//! election timeout, that majority forms a cluster beside the one that exists, or is formed, on the other side. Nodes that
//! are added later or come back without their disks are safest with BOOTSTRAP=never, all of them: a node that never forms
//! still promises.

use std::collections::{BTreeMap, BTreeSet};

use crate::planted::{Bug, planted};
use crate::wire::client::Identity;
use crate::wire::log::{MemberInfo, Promise, Standing};
use crate::wire::peer::{
    Formation as Message, Hail, JoinReply, JoinRequest, PromiseReply, PromiseRequest,
    formation::Message as Kind,
};

/// What a free node sends and does. Nothing of it may happen before [`Step::persist`], if set, is durable.
#[derive(Debug, Default, PartialEq)]
pub struct Step {
    /// Must be durable before anything else of this step happens.
    pub persist: Option<Standing>,
    /// Messages, by the raft id of the receiver.
    pub messages: Vec<(u64, Message)>,
    /// Form a cluster now.
    pub form: bool,
}

#[derive(Debug)]
struct Peer {
    name: String,
    may_form: bool,
    /// Its EXPECT; 0 if it has told none.
    expect: u32,
    /// Hailed us on this connection: only then what we know of it is current.
    hailed: bool,
}

#[derive(Debug)]
struct Attempt {
    number: u64,
    granted: BTreeSet<u64>,
}

/// A node that belongs to no cluster.
#[derive(Debug)]
pub struct Formation {
    identity: Identity,
    expect: u32,
    may_form: bool,
    /// An election timeout, in ticks.
    election_ticks: u32,
    /// For how many ticks a majority has answered, and nothing spoke against a cluster.
    steady_ticks: u32,
    promise: Option<Promise>,
    /// The attempt in progress; there is one only while the promise is to ourselves.
    attempt: Option<Attempt>,
    /// Attempts up to this one are void.
    void_attempts: u64,
    peers: BTreeMap<u64, Peer>,
    /// Who is known to belong to a cluster. Whoever does, stays.
    members: BTreeSet<u64>,
    refused: Option<String>,
}

impl Formation {
    /// A free node as it starts, with the promise that it finds on its disk. A promise to itself is void then: the
    /// attempt was lost with the process. An election timeout is `election_ticks` calls of [`Formation::tick`].
    pub fn new(
        identity: Identity,
        expect: u32,
        may_form: bool,
        election_ticks: u32,
        promise: Option<Promise>,
    ) -> Formation {
        let promise = promise.filter(|promise| promise.raft_id != identity.raft_id);
        Formation {
            identity,
            expect,
            may_form,
            election_ticks,
            steady_ticks: 0,
            promise,
            attempt: None,
            void_attempts: 0,
            peers: BTreeMap::new(),
            members: BTreeSet::new(),
            refused: None,
        }
    }

    /// A connection to a peer is up.
    pub fn peer_up(&mut self, peer: &Identity) -> Step {
        let name = peer.name.clone();
        let known = Peer { name, may_form: false, expect: 0, hailed: false };
        self.peers.insert(peer.raft_id, known);
        self.greeted(peer);
        Step { messages: vec![(peer.raft_id, self.hail())], ..Step::default() }
    }

    /// A peer has told who it is, on a connection of either direction: does it belong to a cluster by now?
    pub fn greeted(&mut self, peer: &Identity) {
        if !peer.cluster_id.is_empty() {
            self.members.insert(peer.raft_id);
        }
        self.note_break();
    }

    /// The connection to a peer is gone. What it granted stands: its disk has it.
    pub fn peer_down(&mut self, raft_id: u64) {
        self.peers.remove(&raft_id);
        self.note_break();
    }

    /// To be called once per TICK_MS: hails the peers, asks members to join, begins or gives up an attempt.
    pub fn tick(&mut self) -> Step {
        let mut step = Step::default();
        self.steady_ticks = self.steady_ticks.saturating_add(1);
        self.note_break();
        self.decide(&mut step);
        let hail = self.hail();
        for raft_id in self.peers.keys() {
            let member = self.members.contains(raft_id);
            let message = if member { self.join_request() } else { hail.clone() };
            step.messages.push((*raft_id, message));
        }
        step
    }

    /// A message of a peer: `starts` and the raft id are those of its connection.
    pub fn receive(&mut self, from: &Identity, message: Message) -> Step {
        let mut step = Step::default();
        match message.message {
            Some(Kind::Hail(hail)) => self.on_hail(from, hail, &mut step),
            Some(Kind::Request(request)) => self.on_request(from, request, &mut step),
            Some(Kind::Reply(reply)) => self.on_reply(from, reply, &mut step),
            // A join reply that grants is the end of this room: see the caller.
            Some(Kind::JoinReply(JoinReply { refused, .. })) => self.refused = Some(refused),
            Some(Kind::Join(_)) | None => {}
        }
        step
    }

    /// Why a member refused to take this node in, if one did.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref().filter(|refused| !refused.is_empty())
    }

    /// For whom or what the node waits, for the log and for clients.
    pub fn waiting_for(&self) -> String {
        if let Some(refused) = self.refused() {
            return format!("the cluster refuses this node: {refused}");
        }
        if self.knows_member() {
            let members = self.peers.iter().filter(|(raft_id, _)| self.members.contains(raft_id));
            let members = list(members.map(|(_, peer)| peer.name.as_str()));
            return format!(
                "asked to join the cluster of {members}, and wait to be added: a cluster without a leader adds nobody"
            );
        }
        self.obstacle().unwrap_or_else(|| self.waiting_for_nodes())
    }

    /// Why no cluster can be formed of the free nodes that answer, whichever of them is to do it.
    fn obstacle(&self) -> Option<String> {
        if self.expects_differ() {
            let told = self
                .expects()
                .into_iter()
                .map(|(expect, names)| format!("{expect} on {}", list(names.into_iter())));
            return Some(format!(
                "nodes without a cluster differ about EXPECT, the size of the first one: it is {}. Set it to the same \
                 on all of them",
                told.collect::<Vec<_>>().join("; ")
            ));
        }
        let expect = self.agreed_expect().filter(|_| self.is_crowded())?;
        let free = 1 + self.free_peers().count();
        Some(format!(
            "{free} nodes without a cluster are here, and EXPECT is {expect}: two groups of them could each form one. \
             Set EXPECT to {free} on all of them, or start those beyond {expect} when the cluster is formed"
        ))
    }

    fn waiting_for_nodes(&self) -> String {
        let answering = list(self.peers.values().map(|peer| peer.name.as_str()));
        match &self.promise {
            Some(promise) if promise.raft_id != self.identity.raft_id => format!(
                "promised to {} (raft id {}), which is to form the cluster; peers that answer: {answering}",
                promise.name, promise.raft_id
            ),
            _ if !self.may_form => format!(
                "this node never forms a cluster (BOOTSTRAP=never): it waits for a member of one to let it in; peers \
                 that answer: {answering}"
            ),
            _ if self.expect == 1 => {
                "a first cluster of 1 node is formed when no other node has been found for one \
                 election timeout"
                    .to_owned()
            }
            _ => format!(
                "a first cluster of {} nodes needs {} that answer for one election timeout without a break; there are \
                 this one and: {answering}",
                self.expect,
                self.majority()
            ),
        }
    }

    /// The node as the cluster will know it.
    pub fn member_info(&self) -> MemberInfo {
        MemberInfo {
            raft_id: self.identity.raft_id,
            name: self.identity.name.clone(),
            address: self.identity.address.clone(),
        }
    }

    /// Whether a member of a cluster answers: then it is the one to turn to.
    fn knows_member(&self) -> bool {
        self.peers.keys().any(|raft_id| self.members.contains(raft_id))
    }

    fn majority(&self) -> usize {
        self.expect as usize / 2 + 1
    }

    /// Those that answer and belong to no cluster, whoever holds their promises.
    fn free_peers(&self) -> impl Iterator<Item = &Peer> {
        let free = |(raft_id, peer): &(&u64, &Peer)| peer.hailed && !self.members.contains(raft_id);
        self.peers.iter().filter(free).map(|(_, peer)| peer)
    }

    /// Each EXPECT of those that answer and may form, and who has it. That of a node which never forms is of no matter.
    fn expects(&self) -> BTreeMap<u32, Vec<&str>> {
        let own = Some((self.expect, self.identity.name.as_str())).filter(|_| self.may_form);
        let told = self.free_peers().filter(|peer| peer.expect != 0);
        let mut expects: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (expect, name) in own.into_iter().chain(told.map(|peer| (peer.expect, &*peer.name))) {
            expects.entry(expect).or_default().push(name);
        }
        expects
    }

    fn expects_differ(&self) -> bool {
        self.expects().len() > 1
    }

    /// The EXPECT of the cluster that may be formed, if anybody here may form it.
    fn agreed_expect(&self) -> Option<u32> {
        self.expects().into_keys().next()
    }

    /// More free nodes than EXPECT: two groups of them, which share no node, could each be a majority.
    fn is_crowded(&self) -> bool {
        let free = 1 + self.free_peers().count();
        self.agreed_expect().is_some_and(|expect| free > expect as usize)
    }

    /// Whether this node must neither form a cluster nor let another form one.
    fn is_blocked(&self) -> bool {
        self.knows_member() || self.expects_differ() || self.is_crowded()
    }

    /// Begins to count anew if a majority does not answer, or something speaks against a cluster.
    fn note_break(&mut self) {
        if self.is_blocked() || 1 + self.free_peers().count() < self.majority() {
            self.steady_ticks = 0;
        }
    }

    /// The tick that found the majority is the first: by then no time had passed.
    fn is_steady(&self) -> bool {
        self.steady_ticks > self.election_ticks
    }

    fn decide(&mut self, step: &mut Step) {
        let lower = |peer: &Peer| peer.may_form && peer.name < self.identity.name;
        if self.is_blocked() || !self.may_form || self.free_peers().any(lower) {
            return self.give_up(step);
        }
        if self.promise.as_ref().is_some_and(|promise| promise.raft_id != self.identity.raft_id) {
            return;
        }
        if self.is_steady() {
            self.campaign(step);
        }
    }

    /// Begins an attempt, or goes on with the one in progress by asking those who have not granted.
    fn campaign(&mut self, step: &mut Step) {
        if self.attempt.is_none() {
            self.attempt =
                Some(Attempt { number: self.void_attempts + 1, granted: BTreeSet::new() });
            self.promise = Some(self.candidacy());
            step.persist = Some(self.standing());
        }
        let candidate = self.candidacy();
        let attempt = self.attempt.as_ref().expect("one was begun above, if there was none");
        for (raft_id, peer) in &self.peers {
            if peer.hailed && !attempt.granted.contains(raft_id) {
                let candidate = Some(candidate.clone());
                let request = PromiseRequest { candidate, expect: self.expect };
                step.messages.push((*raft_id, message(Kind::Request(request))));
            }
        }
        self.form_if_granted(step);
    }

    fn form_if_granted(&mut self, step: &mut Step) {
        let granted = self.attempt.as_ref().map_or(0, |attempt| 1 + attempt.granted.len());
        step.form = self.is_steady() && granted >= self.majority();
    }

    /// Voids the attempt in progress and takes the own promise back.
    fn give_up(&mut self, step: &mut Step) {
        let Some(attempt) = self.attempt.take() else { return };
        self.void_attempts = attempt.number;
        self.promise = None;
        step.persist = Some(self.standing());
    }

    fn on_hail(&mut self, from: &Identity, hail: Hail, step: &mut Step) {
        let Some(peer) = self.peers.get_mut(&from.raft_id) else { return };
        peer.hailed = true;
        peer.may_form = hail.may_form;
        peer.expect = hail.expect;
        let void = self.promise.as_ref().is_some_and(|promise| {
            promise.raft_id == from.raft_id
                && (promise.starts < from.starts
                    || promise.starts == from.starts && promise.attempt <= hail.void_attempts)
        });
        if void {
            self.promise = None;
            step.persist = Some(self.standing());
        }
        self.note_break();
    }

    fn on_request(&mut self, from: &Identity, request: PromiseRequest, step: &mut Step) {
        let Some(candidate) = request.candidate else { return };
        // Only for itself, and only as the process that it is now.
        if candidate.raft_id != from.raft_id || candidate.starts != from.starts {
            return;
        }
        // It says as much as a hail. Without a connection to it, the answer would not get there.
        let Some(peer) = self.peers.get_mut(&from.raft_id) else { return };
        (peer.hailed, peer.may_form, peer.expect) = (true, true, request.expect);
        self.note_break();
        if candidate.name < self.identity.name {
            self.give_up(step);
        }
        let granted = match &self.promise {
            _ if self.is_blocked() => false,
            None => true,
            Some(_) if planted(Bug::PromiseTwice) => true,
            Some(held) => {
                held.raft_id == candidate.raft_id
                    && (held.starts, held.attempt) <= (candidate.starts, candidate.attempt)
            }
        };
        let Promise { starts, attempt, .. } = candidate;
        let held_by = self.promise.clone().filter(|_| !granted);
        if granted && self.promise.as_ref() != Some(&candidate) {
            self.promise = Some(candidate);
            step.persist = Some(self.standing());
        }
        let reply = PromiseReply { attempt, granted, held_by, starts };
        step.messages.push((from.raft_id, message(Kind::Reply(reply))));
    }

    fn on_reply(&mut self, from: &Identity, reply: PromiseReply, step: &mut Step) {
        let Some(attempt) = &mut self.attempt else { return };
        let asked = (self.identity.starts, attempt.number);
        if reply.granted && (reply.starts, reply.attempt) == asked {
            attempt.granted.insert(from.raft_id);
            self.form_if_granted(step);
        }
    }

    fn candidacy(&self) -> Promise {
        Promise {
            raft_id: self.identity.raft_id,
            name: self.identity.name.clone(),
            starts: self.identity.starts,
            attempt: self.attempt.as_ref().map_or(0, |attempt| attempt.number),
        }
    }

    fn standing(&self) -> Standing {
        Standing { promise: self.promise.clone(), ..Standing::default() }
    }

    fn hail(&self) -> Message {
        message(Kind::Hail(Hail {
            may_form: self.may_form,
            promised: self.promise.clone(),
            void_attempts: self.void_attempts,
            expect: if self.may_form { self.expect } else { 0 },
        }))
    }

    fn join_request(&self) -> Message {
        message(Kind::Join(JoinRequest { member: Some(self.member_info()), forwarded: false }))
    }
}

fn message(kind: Kind) -> Message {
    Message { message: Some(kind) }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
