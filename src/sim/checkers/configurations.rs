//! The configurations of the cluster in the order in which they took effect, as far as anybody has applied them. No leader
//! proposes one in which it has no vote.

use std::collections::BTreeSet;

use prost::Message;

use super::Finding;
use crate::store::Applied;
use crate::wire::log::conf_change::{Kind, Step};
use crate::wire::log::{ConfChange, ConfState, Entry, EntryKind, Membership};

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Configurations {
    /// The last, and the one before.
    last: [Option<Membership>; 2],
    /// How far anybody has applied.
    applied: Applied,
    /// The changes that are in any log and not applied, by term and index.
    on_their_way: BTreeSet<(u64, u64)>,
}

impl Configurations {
    /// A node has applied so far, where this is the membership.
    pub fn applied(&mut self, applied: Applied, membership: Option<&Membership>) {
        if applied.index <= self.applied.index {
            return;
        }
        self.applied = applied;
        // One of an older term that stands further on never takes effect: every leader to come has what is applied, and in a
        // log no term is below the one before.
        let may_come = |&(term, index): &(u64, u64)| index > applied.index && term >= applied.term;
        self.on_their_way.retain(may_come);
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
        if entry.index > self.applied.index && entry.term >= self.applied.term {
            self.on_their_way.insert((entry.term, entry.index));
        }
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
        !self.on_their_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(term: u64, index: u64) -> Entry {
        let data = ConfChange::default().encode_to_vec().into();
        Entry { term, index, kind: EntryKind::ConfChange.into(), data }
    }

    #[test]
    fn a_change_that_was_lost_is_not_waited_for() {
        let mut configurations = Configurations::default();
        configurations.applied(Applied { index: 5, term: 1 }, None);
        configurations.durable(&change(1, 7), None).unwrap();
        assert!(configurations.is_changing());
        configurations.applied(Applied { index: 6, term: 1 }, None);
        assert!(configurations.is_changing());
        // Another leader has put something else there, or will.
        configurations.applied(Applied { index: 7, term: 2 }, None);
        configurations.durable(&change(1, 8), None).unwrap();
        assert!(!configurations.is_changing());
        configurations.durable(&change(2, 8), None).unwrap();
        assert!(configurations.is_changing());
        configurations.applied(Applied { index: 8, term: 2 }, None);
        assert!(!configurations.is_changing());
    }
}
