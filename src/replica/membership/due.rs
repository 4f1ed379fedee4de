//! What the leader changes by itself: it replaces voters that are dead, and promotes learners.
//!
//! Promises: one change at a time, none that the voters which can be reached could not decide, and none that leaves them
//! fewer than before. A dead voter is demoted and not removed: should it come back, it is a learner, and a vote that it
//! gave in the old configuration is one it still remembers.

use std::cmp::Reverse;
use std::time::Duration;

use super::{Policy, change, is_joint, step};
use crate::limits::{PROMOTION_LAG_MAX, VOTERS_MAX};
use crate::wire::log::conf_change::Kind;
use crate::wire::log::{ConfChange, Membership};

/// A member as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The member.
    pub raft_id: u64,
    /// How far its log is known to agree with the leader's.
    pub matched: u64,
    /// Whether a connection to it is up; true for the leader itself.
    pub linked: bool,
    /// Whether it has been linked for long enough to be trusted with a vote.
    pub is_stable: bool,
    /// For how long neither a connection nor gossip has shown it alive.
    pub gone_for: Option<Duration>,
}

/// The change that is due, if any: to leave a joint configuration that nobody left, to put ready learners in the place of
/// dead voters, or to promote ready learners. `commit` is the leader's commit index.
pub fn due(
    membership: &Membership,
    policy: &Policy,
    seen: &[Seen],
    commit: u64,
) -> Option<ConfChange> {
    let conf_state = membership.conf_state.as_ref()?;
    if is_joint(conf_state) {
        return Some(ConfChange::default());
    }
    let view = View { membership, voters: &conf_state.voters, seen, commit };
    let change = replacement(&view, policy).or_else(|| promotion(&view, policy))?;
    let is_decided_by_the_living =
        view.has_live_majority(view.voters) && view.has_live_majority(&view.voters_after(&change));
    is_decided_by_the_living.then_some(change)
}

/// As many dead voters as there are ready learners change places with them. The leader is never dead to itself.
fn replacement(view: &View, policy: &Policy) -> Option<ConfChange> {
    let pairs = view.ready(true).into_iter().zip(view.dead(policy));
    let steps: Vec<_> = pairs
        .flat_map(|(learner, dead)| [step(Kind::AddVoter, learner), step(Kind::AddLearner, dead)])
        .collect();
    (!steps.is_empty()).then(|| change(steps))
}

/// Voters grow to the largest odd number that can be had. Only a cluster that was formed once waits until a learner is
/// stable.
fn promotion(view: &View, policy: &Policy) -> Option<ConfChange> {
    let ready = view.ready(view.membership.formed);
    let voters = view.voters.len();
    let possible = (voters + ready.len()).min(policy.target_voters).min(VOTERS_MAX);
    let target = possible.saturating_sub(1) / 2 * 2 + 1;
    let steps: Vec<_> = ready
        .into_iter()
        .take(target.saturating_sub(voters))
        .map(|raft_id| step(Kind::AddVoter, raft_id))
        .collect();
    // Joint even where it is one step: the way is the same for all.
    (!steps.is_empty()).then(|| ConfChange { joint: true, ..change(steps) })
}

/// What a change is decided from. The configuration is not joint.
pub(super) struct View<'a> {
    pub(super) membership: &'a Membership,
    pub(super) voters: &'a [u64],
    pub(super) seen: &'a [Seen],
    pub(super) commit: u64,
}

impl View<'_> {
    /// Learners that can be made voters. By name, so that who becomes one does not hang on random ids.
    pub(super) fn ready(&self, must_be_stable: bool) -> Vec<u64> {
        let learners =
            self.membership.conf_state.as_ref().map_or(&[][..], |conf_state| &conf_state.learners);
        let mut ready: Vec<u64> = self
            .seen
            .iter()
            .filter(|node| node.linked && (node.is_stable || !must_be_stable))
            // One that never answered is not near, however short the log.
            .filter(|node| node.matched > 0 && node.matched + PROMOTION_LAG_MAX >= self.commit)
            .map(|node| node.raft_id)
            .filter(|raft_id| learners.contains(raft_id))
            .collect();
        ready.sort_by_key(|raft_id| self.place_by_name(*raft_id));
        ready
    }

    /// Voters that are gone for so long that they are taken for dead, the longest gone first.
    fn dead(&self, policy: &Policy) -> Vec<u64> {
        let mut dead: Vec<&Seen> = self
            .seen
            .iter()
            .filter(|node| self.voters.contains(&node.raft_id) && !node.linked)
            .filter(|node| node.gone_for.is_some_and(|gone_for| gone_for >= policy.dead_after))
            .collect();
        dead.sort_by_key(|node| (Reverse(node.gone_for), self.place_by_name(node.raft_id)));
        dead.into_iter().map(|node| node.raft_id).collect()
    }

    /// The members are kept in the order of their names.
    fn place_by_name(&self, raft_id: u64) -> Option<usize> {
        self.membership.members.iter().position(|known| known.raft_id == raft_id)
    }

    /// The voters once the change is through.
    pub(super) fn voters_after(&self, change: &ConfChange) -> Vec<u64> {
        let mut voters = self.voters.to_vec();
        for step in &change.steps {
            voters.retain(|raft_id| *raft_id != step.raft_id);
            if step.kind() == Kind::AddVoter {
                voters.push(step.raft_id);
            }
        }
        voters
    }

    /// Those of `voters` that cannot be reached.
    pub(super) fn out_of_reach(&self, voters: &[u64]) -> Vec<u64> {
        let is_linked =
            |raft_id: u64| self.seen.iter().any(|node| node.raft_id == raft_id && node.linked);
        voters.iter().copied().filter(|raft_id| !is_linked(*raft_id)).collect()
    }

    pub(super) fn has_live_majority(&self, voters: &[u64]) -> bool {
        2 * self.out_of_reach(voters).len() < voters.len()
    }
}
