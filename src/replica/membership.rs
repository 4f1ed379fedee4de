//! Who belongs to the cluster, and which change is due next.
//!
//! The membership is replicated state: it changes only by [`ConfChange`] entries, in the order of the log. What the
//! leader proposes is decided here, from what it knows of the others.
//!
//! Invariants:
//! - Voters come in odd numbers, grown in one joint change (1, 3, 5), up to [`VOTERS_MAX`]; all others are learners.
//! - Only a learner that has caught up is promoted.
//! - A name belongs to one raft id.

use crate::limits::{MEMBERS_MAX, PROMOTION_LAG_MAX, VOTERS_MAX};
use std::time::Duration;

use crate::wire::log::{ConfChange, ConfState, Genesis, MemberInfo, Membership, conf_change};

/// A member as the leader sees its log.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The member.
    pub raft_id: u64,
    /// How far its log is known to agree with the leader's.
    pub matched: u64,
}

/// What the operator wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// TARGET_VOTERS: odd, at most [`VOTERS_MAX`].
    pub target_voters: usize,
    /// DEAD_AFTER: a voter that is gone for so long is replaced.
    pub dead_after: Duration,
}

/// The change that makes the first member of a new cluster: the data of its entry 1.
pub fn genesis(cluster_id: &[u8], expect: u32, first: MemberInfo) -> ConfChange {
    let step =
        conf_change::Step { kind: conf_change::Kind::AddVoter.into(), raft_id: first.raft_id };
    ConfChange {
        joint: false,
        steps: vec![step],
        members: vec![first],
        genesis: Some(Genesis { cluster_id: cluster_id.to_vec().into(), expect }),
    }
}

/// The membership after `change`, whose configuration raft-rs computed.
pub fn apply(
    before: Option<&Membership>,
    change: &ConfChange,
    conf_state: ConfState,
) -> Membership {
    let mut after = before.cloned().unwrap_or_default();
    if let Some(genesis) = &change.genesis {
        after.cluster_id = genesis.cluster_id.clone();
        after.expect = genesis.expect;
    }
    for info in &change.members {
        after.members.retain(|known| known.raft_id != info.raft_id);
        after.members.push(info.clone());
    }
    after.members.retain(|info| contains(&conf_state, info.raft_id));
    after.members.sort_by(|a, b| a.name.cmp(&b.name));
    after.formed |= voter_count(&conf_state) >= voters_to_form(after.expect);
    after.conf_state = Some(conf_state);
    after
}

/// How many voters a first cluster of `expect` nodes needs before it takes writes: a majority of them, as far as an odd
/// number of voters can be had from so many nodes.
pub fn voters_to_form(expect: u32) -> usize {
    let expect = expect as usize;
    let largest_odd = expect.saturating_sub(1) / 2 * 2 + 1;
    (expect / 2 + 1).min(largest_odd).min(VOTERS_MAX)
}

/// Whether `raft_id` votes in the configuration.
pub fn is_voter(conf_state: &ConfState, raft_id: u64) -> bool {
    conf_state.voters.contains(&raft_id) || conf_state.voters_outgoing.contains(&raft_id)
}

fn contains(conf_state: &ConfState, raft_id: u64) -> bool {
    is_voter(conf_state, raft_id)
        || conf_state.learners.contains(&raft_id)
        || conf_state.learners_next.contains(&raft_id)
}

fn is_joint(conf_state: &ConfState) -> bool {
    !conf_state.voters_outgoing.is_empty()
}

/// How many voters the configuration has: in a joint one, the smaller of its two sets counts.
pub fn voter_count(conf_state: &ConfState) -> usize {
    match conf_state.voters_outgoing.len() {
        0 => conf_state.voters.len(),
        outgoing => conf_state.voters.len().min(outgoing),
    }
}

/// What to do about a node that asks to be added: `Ok(None)` if it is a member already. `answers` tells of a member whether
/// it still answers, under its own raft id.
///
/// A node that comes under a member's name with another raft id has lost its disk: the old identity is removed and the new
/// one added, in one joint change. Unless the old one still answers: then two nodes share one name.
///
/// An error is the reason of a refusal, for the log of the node that asked.
pub fn join(
    membership: &Membership,
    node: &MemberInfo,
    answers: impl Fn(u64) -> bool,
) -> Result<Option<ConfChange>, String> {
    if membership.members.iter().any(|known| known.raft_id == node.raft_id) {
        return Ok(None);
    }
    let step = |kind: conf_change::Kind, raft_id| conf_change::Step { kind: kind.into(), raft_id };
    let mut steps = vec![step(conf_change::Kind::AddLearner, node.raft_id)];
    match membership.members.iter().find(|known| known.name == node.name) {
        Some(known) if answers(known.raft_id) => {
            return Err(format!(
                "a node named {} answers at {}, under raft id {}: two nodes cannot share one NODE_ID. Give this one \
                 another, or stop that one",
                known.name, known.address, known.raft_id
            ));
        }
        Some(lost) => steps.push(step(conf_change::Kind::Remove, lost.raft_id)),
        None if membership.members.len() >= MEMBERS_MAX => {
            return Err(format!("the cluster has {MEMBERS_MAX} members, which is the limit"));
        }
        None => {}
    }
    let joint = steps.len() > 1;
    Ok(Some(ConfChange { joint, steps, members: vec![node.clone()], genesis: None }))
}

/// The change that is due, if any: to leave a joint configuration that nobody left, or to promote learners that have
/// answered and caught up to within [`PROMOTION_LAG_MAX`] entries of `commit`. `progress` is of those that can be reached.
pub fn due(membership: &Membership, progress: &[Progress], commit: u64) -> Option<ConfChange> {
    let conf_state = membership.conf_state.as_ref()?;
    if is_joint(conf_state) {
        return Some(ConfChange::default());
    }
    let mut ready: Vec<u64> = progress
        .iter()
        .filter(|node| node.matched > 0 && node.matched + PROMOTION_LAG_MAX >= commit)
        .map(|node| node.raft_id)
        .filter(|raft_id| conf_state.learners.contains(raft_id))
        .collect();
    // By name, so that who becomes a voter does not hang on random ids.
    ready.sort_by_key(|raft_id| {
        membership.members.iter().position(|known| known.raft_id == *raft_id)
    });
    let voters = conf_state.voters.len();
    let reachable = (voters + ready.len()).min(VOTERS_MAX);
    let target = reachable.saturating_sub(1) / 2 * 2 + 1;
    if target <= voters {
        return None;
    }
    let steps = ready[..target - voters]
        .iter()
        .map(|raft_id| conf_change::Step {
            kind: conf_change::Kind::AddVoter.into(),
            raft_id: *raft_id,
        })
        .collect();
    Some(ConfChange { joint: true, steps, ..ConfChange::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(raft_id: u64) -> MemberInfo {
        MemberInfo { raft_id, name: format!("node-{raft_id}"), address: String::new() }
    }

    fn membership(voters: &[u64], learners: &[u64]) -> Membership {
        let conf_state = ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..ConfState::default()
        };
        let members = voters.iter().chain(learners).map(|raft_id| info(*raft_id)).collect();
        Membership { conf_state: Some(conf_state), members, ..Membership::default() }
    }

    fn promoted(voters: &[u64], learners: &[u64], progress: &[(u64, u64)]) -> Vec<u64> {
        let progress: Vec<_> =
            progress.iter().map(|&(raft_id, matched)| Progress { raft_id, matched }).collect();
        due(&membership(voters, learners), &progress, COMMIT)
            .map(|change| change.steps.iter().map(|step| step.raft_id).collect())
            .unwrap_or_default()
    }

    const COMMIT: u64 = 10 * PROMOTION_LAG_MAX;
    const NEAR: u64 = COMMIT - PROMOTION_LAG_MAX;

    #[test]
    fn learners_are_promoted_in_pairs_once_caught_up() {
        assert_eq!(promoted(&[1], &[2], &[(2, COMMIT)]), [0u64; 0], "two voters are no gain");
        assert_eq!(promoted(&[1], &[2, 3], &[(2, COMMIT), (3, NEAR - 1)]), [0u64; 0]);
        assert_eq!(promoted(&[1], &[2, 3], &[(2, COMMIT)]), [0u64; 0], "3 cannot be reached");
        assert_eq!(promoted(&[1], &[2, 3], &[(3, NEAR), (2, COMMIT)]), [2, 3]);
        let all: Vec<_> = (2..=7).map(|raft_id| (raft_id, COMMIT)).collect();
        assert_eq!(promoted(&[1], &[2, 3, 4, 5, 6, 7], &all), [2, 3, 4, 5]);
        assert_eq!(promoted(&[1, 2, 3, 4, 5], &[6, 7], &all), [0u64; 0]);
    }

    #[test]
    fn a_learner_that_never_answered_is_not_promoted_however_short_the_log() {
        let known = membership(&[1], &[2, 3]);
        let progress = [(2, 0), (3, 5)].map(|(raft_id, matched)| Progress { raft_id, matched });
        assert_eq!(due(&known, &progress, 5), None);
    }

    #[test]
    fn a_joint_configuration_is_left() {
        let mut joint = membership(&[1, 2, 3], &[]);
        joint.conf_state.as_mut().unwrap().voters_outgoing = vec![1];
        assert_eq!(due(&joint, &[], 100), Some(ConfChange::default()));
    }

    #[test]
    fn a_first_cluster_takes_writes_from_a_majority_of_its_size_on() {
        let needed: Vec<_> = (1..=7).map(voters_to_form).collect();
        assert_eq!(needed, [1, 1, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn a_cluster_stays_formed_with_fewer_voters() {
        let change = genesis(&[7; 16], 3, info(1));
        let conf = |voters: &[u64]| ConfState { voters: voters.to_vec(), ..ConfState::default() };
        let one = apply(None, &change, conf(&[1]));
        assert!(!one.formed);
        let three = apply(Some(&one), &ConfChange::default(), conf(&[1, 2, 3]));
        assert!(three.formed);
        let back = apply(Some(&three), &ConfChange::default(), conf(&[1]));
        assert!(back.formed);
        assert_eq!((back.expect, &back.cluster_id[..]), (3, &[7u8; 16][..]));
    }

    #[test]
    fn a_name_belongs_to_one_identity() {
        let known = membership(&[1, 2, 3], &[]);
        assert_eq!(join(&known, &info(1), |_| true), Ok(None));
        assert_eq!(
            join(&known, &info(4), |_| true).unwrap().map(|change| change.steps.len()),
            Some(1)
        );
        let lost = MemberInfo { raft_id: 9, name: "node-1".into(), address: String::new() };
        assert!(join(&known, &lost, |raft_id| raft_id == 1).unwrap_err().contains("raft id 1"));
        let change = join(&known, &lost, |_| false).unwrap().unwrap();
        let steps: Vec<_> = change.steps.iter().map(|step| (step.kind(), step.raft_id)).collect();
        assert_eq!(steps, [(conf_change::Kind::AddLearner, 9), (conf_change::Kind::Remove, 1)]);
        assert!(change.joint);
    }
}
