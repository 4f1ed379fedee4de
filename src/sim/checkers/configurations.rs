//! The configurations of the cluster in the order in which they took effect, as far as anybody has applied them. No leader
//! proposes one in which it has no vote.

use prost::Message;

use super::Finding;
use crate::wire::log::conf_change::{Kind, Step};
use crate::wire::log::{ConfChange, ConfState, Entry, EntryKind, Membership};

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Configurations {
    /// The last, and the one before.
    last: [Option<Membership>; 2],
    /// How far anybody has applied.
    applied: u64,
    /// The last change that is in any log.
    last_change: u64,
}

impl Configurations {
    /// A node has applied up to `index`, where this is the membership.
    pub fn applied(&mut self, index: u64, membership: Option<&Membership>) {
        if index <= self.applied {
            return;
        }
        self.applied = index;
        if membership != self.last[0].as_ref() {
            self.last.swap(0, 1);
            self.last[0] = membership.cloned();
        }
    }

    /// An entry is in somebody's log, where the leader of its term put it: none puts one there that takes its own vote.
    pub fn durable(&mut self, entry: &Entry, leader: Option<u64>) -> Finding {
        if entry.kind() != EntryKind::ConfChange {
            return Ok(());
        }
        self.last_change = self.last_change.max(entry.index);
        let change = ConfChange::decode(&entry.data[..]).map_err(|error| error.to_string())?;
        let takes_vote =
            |step: &Step| Some(step.raft_id) == leader && step.kind() != Kind::AddVoter;
        match change.steps.iter().any(takes_vote) {
            true => Err(format!("the leader of term {} takes its own vote", entry.term)),
            false => Ok(()),
        }
    }

    /// The last one that took effect.
    pub fn last(&self) -> Option<&Membership> {
        self.last[0].as_ref()
    }

    /// The sets of voters of the last one and of the one before: of the entries before a change of one voter, a majority of
    /// the old voters may have the last, and the new ones not yet.
    pub fn voters(&self) -> impl Iterator<Item = &[u64]> {
        let memberships = self.last.iter().flatten();
        let conf_states = memberships.filter_map(|membership| membership.conf_state.as_ref());
        let sets = conf_states.flat_map(|ConfState { voters, voters_outgoing, .. }| {
            [voters.as_slice(), voters_outgoing.as_slice()]
        });
        sets.filter(|voters| !voters.is_empty())
    }

    /// Whether a change is on its way that nobody has applied.
    pub fn is_changing(&self) -> bool {
        self.last_change > self.applied
    }
}
