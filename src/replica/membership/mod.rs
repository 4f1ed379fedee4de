//! Who belongs to the cluster, and which change is due next.
//!
//! The membership is replicated state: it changes only by [`ConfChange`] entries, in the order of the log ([`apply`]). What
//! the leader proposes is decided here, from what it knows of the others: by itself (`due`), or because a node or an
//! operator asks for it (`orders`).
//!
//! Invariants:
//! - Voters come in odd numbers, grown in one joint change (1, 3, 5), up to TARGET_VOTERS; all others are learners.
//! - Only a learner that has caught up is promoted.
//! - No change is proposed that leaves the voters which can be reached without a majority, of the old set or of the new.
//! - A name belongs to one raft id, and a raft id that was removed does not come back.

mod due;
mod orders;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::limits::{REMOVED_MAX, VOTERS_MAX};
use crate::wire::log::{ConfChange, ConfState, Genesis, MemberInfo, Membership, conf_change};

pub use due::{Seen, due};
pub use orders::{NotAdded, Removal, join, remove};

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
    ConfChange {
        members: vec![first.clone()],
        genesis: Some(Genesis { cluster_id: cluster_id.to_vec().into(), expect }),
        ..change(vec![step(conf_change::Kind::AddVoter, first.raft_id)])
    }
}

/// The membership after `change`, whose configuration raft-rs computed.
///
/// Who was in the configuration before, in any part of it, and is in none now, was removed. A removed voter is therefore
/// a member until the joint configuration is left: until then its vote counts, and the others must reach it.
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
    if let Some(before) = before.and_then(|before| before.conf_state.as_ref()) {
        let gone = raft_ids(before).filter(|raft_id| !contains(&conf_state, *raft_id));
        for raft_id in gone {
            if !after.removed.contains(&raft_id) {
                after.removed.push(raft_id);
            }
        }
    }
    // The list is of those who are told to go: a member is never among them.
    after.removed.retain(|raft_id| !contains(&conf_state, *raft_id));
    let forgotten = after.removed.len().saturating_sub(REMOVED_MAX);
    after.removed.drain(..forgotten);
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

/// Whether `raft_id` votes in both halves of a joint configuration, or in one that is not joint: what a person takes for a
/// voter. Until the joint one is left, a majority of the voters before is needed still.
pub fn is_voter(conf_state: &ConfState, raft_id: u64) -> bool {
    conf_state.voters.contains(&raft_id)
        && (!is_joint(conf_state) || conf_state.voters_outgoing.contains(&raft_id))
}

fn contains(conf_state: &ConfState, raft_id: u64) -> bool {
    raft_ids(conf_state).any(|known| known == raft_id)
}

/// All raft ids of the configuration; one that is in two parts of a joint one comes twice.
fn raft_ids(conf_state: &ConfState) -> impl Iterator<Item = u64> {
    let ConfState { voters, voters_outgoing, learners, learners_next, .. } = conf_state;
    [voters, voters_outgoing, learners, learners_next].into_iter().flatten().copied()
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

/// Whether a node with that raft id was removed: it joins no more.
pub fn is_removed(membership: &Membership, raft_id: u64) -> bool {
    membership.removed.contains(&raft_id)
}

/// The raft id of the member of that name.
///
/// # Errors
/// If there is none: the error names the members.
pub fn member_named(membership: &Membership, name: &str) -> Result<u64, String> {
    match membership.members.iter().find(|member| member.name == name) {
        Some(member) => Ok(member.raft_id),
        None => {
            let all = membership.members.iter().map(|member| member.raft_id);
            Err(format!("no member is named {name}: the members are {}", names(membership, all)))
        }
    }
}

/// The raft id of the voter of that name, which may lead.
///
/// # Errors
/// If there is none: the error names the members, or the voters where the name is a learner's.
pub fn voter_named(membership: &Membership, name: &str) -> Result<u64, String> {
    let raft_id = member_named(membership, name)?;
    // In a joint configuration: of the new voters. One that is going shall not lead.
    let voters = membership.conf_state.as_ref().map_or(&[][..], |conf_state| &conf_state.voters);
    match voters.contains(&raft_id) {
        true => Ok(raft_id),
        false => Err(format!(
            "{name} is a learner, and only a voter can lead: the voters are {}",
            names(membership, voters.iter().copied())
        )),
    }
}

/// Names for a message, in the order of names; a raft id where no name is known.
fn names(membership: &Membership, raft_ids: impl IntoIterator<Item = u64>) -> String {
    let mut names: Vec<String> =
        raft_ids.into_iter().map(|raft_id| name_of(membership, raft_id)).collect();
    names.sort();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

fn name_of(membership: &Membership, raft_id: u64) -> String {
    let member = membership.members.iter().find(|member| member.raft_id == raft_id);
    member.map_or_else(|| format!("raft id {raft_id}"), |member| member.name.clone())
}

fn step(kind: conf_change::Kind, raft_id: u64) -> conf_change::Step {
    conf_change::Step { kind: kind.into(), raft_id }
}

/// A change of more than one step goes through a joint configuration.
fn change(steps: Vec<conf_change::Step>) -> ConfChange {
    ConfChange { joint: steps.len() > 1, steps, ..ConfChange::default() }
}
