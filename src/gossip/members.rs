//! The table of the other nodes: what this node believes about each.
//!
//! Invariant: a belief only climbs, in the order of (starts, incarnation, state). That is what makes duplicates,
//! reordering and old news harmless; `Life::newer_than` and `Member::yields_to` are its one definition.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;

use super::coordinate::{Coordinate, LatencyFilter};
use super::rtt::Rtt;
use super::suspicion::Suspicion;
use crate::limits::GOSSIP_MEMBERS_MAX;
use crate::wire::gossip::Node;

/// What is believed of a node. The later ones win over the earlier ones of the same incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It answers.
    Alive,
    /// Somebody got no answer; it has some seconds to refute that.
    Suspect,
    /// It did not refute.
    Dead,
    /// It said that it goes.
    Left,
}

impl State {
    /// Alive or suspect: still spoken with, still counted.
    pub fn is_live(self) -> bool {
        matches!(self, State::Alive | State::Suspect)
    }
}

/// One incarnation of one start of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub starts: u64,
    pub incarnation: u64,
}

impl Life {
    pub fn of(node: &Node) -> Life {
        Life { starts: node.starts, incarnation: node.incarnation }
    }

    /// A later start supersedes whatever the earlier one said. Incarnations count in a circle (RFC 1982), so there is
    /// always one above: who forges the largest number gains nothing.
    pub fn newer_than(self, other: Life) -> bool {
        if self.starts != other.starts {
            return self.starts > other.starts;
        }
        self.incarnation.wrapping_sub(other.incarnation).cast_signed() > 0
    }
}

/// Another node, as this one knows it.
#[derive(Debug, Clone)]
pub struct Member {
    /// As it described itself; `gossip_address` is filled in, where it did not know its own.
    pub node: Node,
    /// Where its packets go.
    pub gossip_address: SocketAddr,
    /// What is believed of it.
    pub state: State,
    /// Since when.
    pub since: Duration,
    pub(super) suspicion: Option<Suspicion>,
    pub(super) rtt: Rtt,
    pub(super) latency: LatencyFilter,
    pub(super) coordinate: Option<Coordinate>,
    /// The next attempt to reach it although it is dead, and the pause after that.
    pub(super) retry_at: Duration,
    pub(super) retry_pause: Duration,
}

impl Member {
    pub(super) fn new(now: Duration, node: Node, gossip_address: SocketAddr) -> Member {
        Member {
            node,
            gossip_address,
            state: State::Alive,
            since: now,
            suspicion: None,
            rtt: Rtt::default(),
            latency: LatencyFilter::default(),
            coordinate: None,
            retry_at: now,
            retry_pause: Duration::ZERO,
        }
    }

    /// The measured round trip, smoothed; None before the first answer.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.mean()
    }

    pub(super) fn life(&self) -> Life {
        Life::of(&self.node)
    }

    /// Whether news of this life and state replaces what is believed.
    pub(super) fn yields_to(&self, life: Life, state: State) -> bool {
        life.newer_than(self.life()) || life == self.life() && state > self.state
    }

    pub(super) fn become_state(&mut self, now: Duration, state: State) {
        self.state = state;
        self.since = now;
        self.suspicion = None;
    }
}

/// All other nodes, by raft id.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<u64, Member>,
}

impl Members {
    pub fn get(&self, raft_id: u64) -> Option<&Member> {
        self.by_id.get(&raft_id)
    }

    pub fn get_mut(&mut self, raft_id: u64) -> Option<&mut Member> {
        self.by_id.get_mut(&raft_id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }

    pub fn live(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| member.state.is_live())
    }

    pub fn is_live(&self, raft_id: u64) -> bool {
        self.get(raft_id).is_some_and(|member| member.state.is_live())
    }

    /// All nodes that are believed to live, this one included.
    pub fn mesh_size(&self) -> usize {
        self.live().count() + 1
    }

    /// Up to `count` of those that `choose` accepts, at random.
    pub fn pick(
        &self,
        count: usize,
        rng: &mut Rng,
        choose: impl Fn(&Member) -> bool,
    ) -> Vec<(u64, SocketAddr)> {
        let chosen = self.iter().filter(|member| choose(member));
        let mut chosen: Vec<_> =
            chosen.map(|member| (member.node.raft_id, member.gossip_address)).collect();
        rng.shuffle(&mut chosen);
        chosen.truncate(count);
        chosen
    }

    /// False if the table is full of nodes that are not dead.
    pub fn insert(&mut self, member: Member) -> bool {
        if self.by_id.len() >= GOSSIP_MEMBERS_MAX && !self.forget_longest_dead() {
            return false;
        }
        self.by_id.insert(member.node.raft_id, member);
        true
    }

    fn forget_longest_dead(&mut self) -> bool {
        let dead = self.iter().filter(|member| !member.state.is_live());
        let Some(oldest) = dead.min_by_key(|member| member.since) else { return false };
        let raft_id = oldest.node.raft_id;
        self.by_id.remove(&raft_id).is_some()
    }

    pub fn retain(&mut self, keep: impl Fn(&Member) -> bool) {
        self.by_id.retain(|_, member| keep(member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_an_incarnation_above() {
        for incarnation in [0, 1, 1 << 40, u64::MAX - 1, u64::MAX] {
            let forged = Life { starts: 3, incarnation };
            let answer = Life { starts: 3, incarnation: incarnation.wrapping_add(1) };
            assert!(answer.newer_than(forged) && !forged.newer_than(answer));
        }
    }

    #[test]
    fn a_restart_supersedes_whatever_was_said_before() {
        let old = Life { starts: 3, incarnation: u64::MAX };
        let new = Life { starts: 4, incarnation: 0 };
        assert!(new.newer_than(old) && !old.newer_than(new));
    }
}
