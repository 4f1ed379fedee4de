//! News of a node against what is known of it: what is believed, told on, and refuted.

use std::net::SocketAddr;
use std::time::Duration;

use super::members::{Life, Member, State};
use super::output::{Event, Output};
use super::packet::reachable;
use super::rtt::Rtt;
use super::suspicion::Suspicion;
use super::{Gossip, Topic, same_cluster};
use crate::planted::{Bug, planted};
use crate::wire::gossip::{Node, Update, Verdict, update::News, verdict::Kind};

impl Gossip {
    /// One piece of news, as somebody told it.
    pub(super) fn on_update(&mut self, now: Duration, update: Update, out: &mut Output) {
        match update.news {
            Some(News::Alive(node)) => self.on_alive(now, node, None, out),
            Some(News::Verdict(verdict)) => self.on_verdict(now, &verdict, out),
            None => {}
        }
    }

    /// A node is alive. `source` is where its packet came from, if it says so itself.
    pub(super) fn on_alive(
        &mut self,
        now: Duration,
        mut node: Node,
        source: Option<SocketAddr>,
        out: &mut Output,
    ) {
        if node.raft_id == self.me.raft_id {
            return self.on_own_description(now, node, out);
        }
        if !same_cluster(&self.me.cluster_id, &node.cluster_id) {
            self.counters.other_cluster += 1;
            return;
        }
        let Some(address) = reachable(&node, source) else {
            self.counters.unreachable += 1;
            return;
        };
        node.gossip_address = address.to_string();
        match self.members.get_mut(node.raft_id) {
            None => self.welcome(now, node, address, out),
            Some(member) if is_other_process(&node, &member.node) => {
                self.counters.identity_conflicts += 1;
            }
            Some(member) if Life::of(&node).newer_than(member.life()) => {
                self.renew(now, node, address, source.is_some(), out);
            }
            Some(member) if source.is_some() && member.life() == Life::of(&node) => {
                // Nothing new; but what we were told may be wrong, or its address another one seen from here.
                if member.node != node {
                    member.node = node;
                    member.gossip_address = address;
                    out.events.push(Event::Updated(member.node.raft_id));
                }
            }
            Some(_) => {}
        }
    }

    fn welcome(&mut self, now: Duration, node: Node, address: SocketAddr, out: &mut Output) {
        let raft_id = node.raft_id;
        if !self.members.insert(Member::new(now, node.clone(), address)) {
            self.counters.members_refused += 1;
            return;
        }
        self.prober.add(raft_id, &mut self.rng);
        out.events.push(Event::Joined(raft_id));
        self.tell(now, raft_id, News::Alive(node));
        self.check_name(now, raft_id, out);
    }

    /// A known node speaks of a newer life of its own.
    fn renew(
        &mut self,
        now: Duration,
        node: Node,
        address: SocketAddr,
        direct: bool,
        out: &mut Output,
    ) {
        let raft_id = node.raft_id;
        let Some(member) = self.members.get_mut(raft_id) else { return };
        let restarted = member.node.starts != node.starts;
        let was = member.state;
        let same = member.node == Node { incarnation: member.node.incarnation, ..node.clone() };
        if restarted {
            member.rtt = Rtt::default();
        }
        if was != State::Alive {
            member.become_state(now, State::Alive);
        }
        member.node = node.clone();
        member.gossip_address = address;
        match was {
            State::Alive if !same => out.events.push(Event::Updated(raft_id)),
            State::Alive => {}
            State::Suspect | State::Dead => out.events.push(Event::Recovered(raft_id)),
            State::Left => out.events.push(Event::Joined(raft_id)),
        }
        match was {
            State::Suspect if !restarted => self.counters.false_suspicions += 1,
            State::Dead if !restarted => self.counters.false_deaths += 1,
            _ => {}
        }
        if !was.is_live() {
            self.prober.add(raft_id, &mut self.rng);
            // Two halves of a split mesh may meet here, and have much to tell each other.
            if direct {
                out.syncs.push(raft_id);
            }
        }
        self.tell(now, raft_id, News::Alive(node));
        self.check_name(now, raft_id, out);
    }

    /// Somebody doubts a node, or it has left.
    pub(super) fn on_verdict(&mut self, now: Duration, verdict: &Verdict, out: &mut Output) {
        if verdict.raft_id == self.me.raft_id {
            return self.on_own_verdict(now, verdict);
        }
        let Some(member) = self.members.get_mut(verdict.raft_id) else { return };
        let life = Life { starts: verdict.starts, incarnation: verdict.incarnation };
        // Of another start we know neither nonce nor address: it has to introduce itself first.
        let (Some(state), true) = (state_of(verdict), life.starts == member.node.starts) else {
            return;
        };
        if member.yields_to(life, state) {
            member.node.incarnation = life.incarnation;
            match state {
                State::Suspect => self.suspect(now, verdict.raft_id, verdict.by, out),
                state => self.bury(now, verdict.raft_id, state, verdict.by, out),
            }
        } else if life == member.life() && state == State::Suspect {
            let suspicion = member.suspicion.as_mut();
            if suspicion.is_some_and(|suspicion| suspicion.confirm(now, verdict.by)) {
                self.tell_confirmation(now, verdict);
            }
        }
    }

    /// From now on the clock runs for this node, unless it is not alive.
    fn suspect(&mut self, now: Duration, raft_id: u64, by: u64, out: &mut Output) {
        let live = self.members.mesh_size();
        let digits = (live as f64).log10().max(1.0);
        let min = (self.settings.probe_period * self.settings.suspicion_mult).mul_f64(digits);
        let max = min * self.settings.suspicion_max_mult;
        let Some(member) = self.members.get_mut(raft_id) else { return };
        if member.state == State::Alive {
            out.events.push(Event::Suspected(raft_id));
            self.counters.suspicions += 1;
        }
        member.become_state(now, State::Suspect);
        member.suspicion = Some(Suspicion::new(now, by, live, min, max));
        let verdict = verdict(member, by);
        // Our own next probe tells the suspect, and confirms the suspicion or ends it.
        self.prober.urge(now, raft_id);
        self.tell(now, raft_id, News::Verdict(verdict));
    }

    /// Our own probe of this node failed.
    pub(super) fn suspect_after_probe(&mut self, now: Duration, raft_id: u64, out: &mut Output) {
        let me = self.me.raft_id;
        let Some(member) = self.members.get(raft_id) else { return };
        let suspected = Verdict { kind: Kind::Suspect.into(), by: me, ..verdict(member, me) };
        self.on_verdict(now, &suspected, out);
    }

    fn bury(&mut self, now: Duration, raft_id: u64, state: State, by: u64, out: &mut Output) {
        let pause = self.settings.retry_pause_min;
        let Some(member) = self.members.get_mut(raft_id) else { return };
        member.become_state(now, state);
        (member.retry_at, member.retry_pause) = (now + pause, pause);
        out.events.push(match state {
            State::Left => Event::Left(raft_id),
            _ => Event::Died(raft_id),
        });
        let verdict = verdict(member, by);
        self.tell(now, raft_id, News::Verdict(verdict));
    }

    pub(super) fn suspicion_deadline(&self) -> Option<Duration> {
        self.members.iter().filter_map(|member| member.suspicion.as_ref()?.deadline().into()).min()
    }

    /// Who was suspected for too long is dead.
    pub(super) fn expire_suspicions(&mut self, now: Duration, out: &mut Output) {
        let is_due = |member: &&Member| {
            member.suspicion.as_ref().is_some_and(|suspicion| suspicion.deadline() <= now)
        };
        let due: Vec<u64> =
            self.members.iter().filter(is_due).map(|member| member.node.raft_id).collect();
        for raft_id in due {
            self.bury(now, raft_id, State::Dead, self.me.raft_id, out);
        }
    }

    /// A description of this node itself comes back: an echo, a forgery, or a second process.
    fn on_own_description(&mut self, now: Duration, node: Node, out: &mut Output) {
        if (node.starts, node.nonce) != (self.me.starts, self.me.nonce) {
            // An earlier start of ours may be remembered for a while. A later one is no memory.
            if node.starts >= self.me.starts {
                self.tell_of_double(now, node, out);
            }
            return;
        }
        let unlike = |a: &Node, b: &Node| {
            Node { gossip_address: String::new(), ..a.clone() }
                != Node { gossip_address: String::new(), ..b.clone() }
        };
        let mine = Life::of(&self.me);
        let forged = node.incarnation != mine.incarnation || unlike(&node, &self.me);
        if forged && !mine.newer_than(Life::of(&node)) {
            self.refute(now, node.incarnation);
        }
    }

    /// Somebody else uses this node's identity.
    pub(super) fn tell_of_double(&mut self, now: Duration, node: Node, out: &mut Output) {
        self.counters.identity_conflicts += 1;
        if self.may_tell(now, Topic::OwnIdentity) {
            let Node { address, gossip_address, starts, .. } = node;
            out.events.push(Event::OwnIdentityElsewhere { address, gossip_address, starts });
        }
    }

    /// They say that we are dead, or going to be.
    fn on_own_verdict(&mut self, now: Duration, verdict: &Verdict) {
        let said = Life { starts: verdict.starts, incarnation: verdict.incarnation };
        let mine = Life::of(&self.me);
        if !self.leaving && said.starts == mine.starts && !mine.newer_than(said) {
            self.refute(now, said.incarnation);
        }
    }

    fn refute(&mut self, now: Duration, said: u64) {
        if self.leaving || planted(Bug::NeverRefute) {
            return;
        }
        self.counters.refuted += 1;
        self.awareness.worse(1);
        self.assert_own_life(now, said);
    }

    /// Tells all about this node, with an incarnation above `above`.
    pub(super) fn assert_own_life(&mut self, now: Duration, above: u64) {
        self.me.incarnation = above.wrapping_add(1);
        self.introduce_soon(now);
    }

    fn check_name(&mut self, now: Duration, raft_id: u64, out: &mut Output) {
        let Some(member) = self.members.get(raft_id) else { return };
        let name = member.node.name.clone();
        let here = (raft_id, Some(member.gossip_address));
        let namesake = self
            .members
            .live()
            .find(|other| other.node.name == name && other.node.raft_id != raft_id);
        let other = match namesake {
            Some(other) => (other.node.raft_id, Some(other.gossip_address)),
            None if self.me.name == name => (self.me.raft_id, None),
            None => return,
        };
        if self.may_tell(now, Topic::Name(raft_id)) {
            out.events.push(Event::NameConflict { name, holders: [other, here] });
        }
    }
}

/// Whether two descriptions of one identity come from two processes of the same start: its data directory was copied.
fn is_other_process(a: &Node, b: &Node) -> bool {
    a.starts == b.starts && a.nonce != b.nonce
}

fn state_of(verdict: &Verdict) -> Option<State> {
    match verdict.kind() {
        Kind::Suspect => Some(State::Suspect),
        Kind::Dead => Some(State::Dead),
        Kind::Left => Some(State::Left),
        Kind::Unspecified => None,
    }
}

/// What is believed of a member, as a verdict. (Of one that is alive: none.)
pub(super) fn verdict(member: &Member, by: u64) -> Verdict {
    let kind = match member.state {
        State::Alive => Kind::Unspecified,
        State::Suspect => Kind::Suspect,
        State::Dead => Kind::Dead,
        State::Left => Kind::Left,
    };
    let Node { raft_id, starts, incarnation, .. } = member.node;
    Verdict { raft_id, starts, incarnation, kind: kind.into(), by }
}
