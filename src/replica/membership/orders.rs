//! What the leader changes because someone asks for it: a node that wants to be added, or an operator who wants one
//! removed.
//!
//! Promises: two nodes never share a name, an identity that was removed does not come back, and no removal leaves the
//! cluster unable to decide. Every refusal names its cause and a way out: whoever asked is shown it.

use std::fmt;

use super::due::View;
use super::{Policy, Seen, change, contains, is_joint, is_removed, name_of, names, step};
use crate::limits::MEMBERS_MAX;
use crate::planted::{Bug, planted};
use crate::wire::log::conf_change::Kind;
use crate::wire::log::{ConfChange, ConfState, MemberInfo, Membership};

/// Why a node is not added, or not under the name that it has.
#[derive(Debug, Clone, PartialEq)]
pub enum NotAdded {
    /// Its raft id was a member's that was removed.
    Removed,
    /// This member has its name.
    NameTaken(MemberInfo),
    /// There are as many members as there may be.
    Full,
}

impl fmt::Display for NotAdded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAdded::Removed => write!(
                f,
                "this node was removed from the cluster, and its identity does not come back. To join as a new member: \
                 stop it, move its data directory away, and start it with an empty one"
            ),
            NotAdded::NameTaken(MemberInfo { raft_id, name, address }) => write!(
                f,
                "a node named {name} is a member already, at {address}, under raft id {raft_id}: two nodes cannot share \
                 one NODE_ID. Give this one another, or stop that one; if that one is gone for good, remove it: \
                 phalanx member remove {name}"
            ),
            NotAdded::Full => write!(
                f,
                "the cluster has {MEMBERS_MAX} members, which is the limit. Remove one that is gone for good: phalanx \
                 member remove NAME"
            ),
        }
    }
}

/// How a member is removed.
#[derive(Debug, Clone, PartialEq)]
pub enum Removal {
    /// By this change.
    Change(ConfChange),
    /// The leader itself is meant: it hands over first, and the next leader removes it.
    HandOver,
    /// Not now: another change is under way.
    Wait,
}

/// What to do about a node that asks to be added: `Ok(None)` if it is a member as it says, or if nothing can be changed just
/// now and it is to ask again. `answers` tells of a member whether it still answers, under its own raft id.
///
/// A member that comes with another name or address is known by that from then on. A node that comes under a member's name
/// with another raft id has lost its disk: the old identity is removed and the new one added, in one joint change. Unless
/// the old one still answers: then two nodes share one name.
///
/// # Errors
/// If it cannot be added as long as things are as they are.
pub fn join(
    membership: &Membership,
    node: &MemberInfo,
    answers: impl Fn(u64) -> bool,
) -> Result<Option<ConfChange>, NotAdded> {
    if is_removed(membership, node.raft_id) {
        return Err(NotAdded::Removed);
    }
    let no_conf_state = ConfState::default();
    let conf_state = membership.conf_state.as_ref().unwrap_or(&no_conf_state);
    let member = membership.members.iter().find(|known| known.raft_id == node.raft_id);
    let namesake = membership
        .members
        .iter()
        .find(|known| known.name == node.name && known.raft_id != node.raft_id)
        // One that is going, when the joint configuration is left, has given its name away.
        .filter(|known| stays(conf_state, known.raft_id));
    let change = match (member, namesake) {
        (Some(_), Some(taken)) => return Err(NotAdded::NameTaken(taken.clone())),
        (Some(known), None) => match renamed(known, node) {
            Some(info) => rename(conf_state, info),
            None => return Ok(None),
        },
        (None, Some(taken)) if answers(taken.raft_id) => {
            return Err(NotAdded::NameTaken(taken.clone()));
        }
        (None, None) if membership.members.len() >= MEMBERS_MAX => return Err(NotAdded::Full),
        (None, lost) => {
            let mut steps = vec![step(Kind::AddLearner, node.raft_id)];
            steps.extend(lost.map(|lost| step(Kind::Remove, lost.raft_id)));
            ConfChange { members: vec![node.clone()], ..change(steps) }
        }
    };
    Ok((!is_joint(conf_state)).then_some(change))
}

/// Whether a member is one still when the joint configuration, if it is one, is left.
fn stays(conf_state: &ConfState, raft_id: u64) -> bool {
    let ConfState { voters, learners, learners_next, .. } = conf_state;
    [voters, learners, learners_next].into_iter().flatten().any(|staying| *staying == raft_id)
}

/// What is new of a member, if anything is. A node that does not know its address does not make the cluster forget it.
fn renamed(known: &MemberInfo, node: &MemberInfo) -> Option<MemberInfo> {
    let address = if node.address.is_empty() { &known.address } else { &node.address };
    let renamed = MemberInfo { address: address.clone(), ..node.clone() };
    (renamed != *known).then_some(renamed)
}

/// A change without steps would leave a joint configuration: this one has a step that leaves all as it is.
fn rename(conf_state: &ConfState, info: MemberInfo) -> ConfChange {
    let kind = match conf_state.voters.contains(&info.raft_id) {
        true => Kind::AddVoter,
        false => Kind::AddLearner,
    };
    ConfChange { members: vec![info.clone()], ..change(vec![step(kind, info.raft_id)]) }
}

/// How to remove a member. `own` is the leader's raft id. A ready learner takes the place of a voter that goes, so that
/// their number stays odd.
///
/// # Errors
/// If it is no member, or if the voters that can be reached would be no majority.
pub fn remove(
    membership: &Membership,
    policy: &Policy,
    seen: &[Seen],
    own: u64,
    raft_id: u64,
    commit: u64,
) -> Result<Removal, String> {
    let no_conf_state = ConfState::default();
    let conf_state = membership.conf_state.as_ref().unwrap_or(&no_conf_state);
    if !contains(conf_state, raft_id) {
        return Err(format!("raft id {raft_id} is not a member's"));
    }
    if is_joint(conf_state) {
        return Ok(Removal::Wait);
    }
    let view = View { membership, voters: &conf_state.voters, seen, commit };
    let mut steps = vec![step(Kind::Remove, raft_id)];
    if view.voters.contains(&raft_id) {
        let left = view.voters.len() - 1;
        if left.is_multiple_of(2) && left > 0 && left < policy.target_voters {
            let successor = view.ready(true).into_iter().next();
            steps.extend(successor.map(|raft_id| step(Kind::AddVoter, raft_id)));
        }
    }
    let change = change(steps);
    check_voters(&view, &view.voters_after(&change), raft_id)?;
    // The majority of the voters that can be reached has another one to hand over to.
    let hands_over = own == raft_id && !planted(Bug::DemoteLeader);
    Ok(if hands_over { Removal::HandOver } else { Removal::Change(change) })
}

/// Whether the voters that can be reached decide, before and after `raft_id` is removed.
fn check_voters(view: &View, after: &[u64], raft_id: u64) -> Result<(), String> {
    let name = name_of(view.membership, raft_id);
    if after.is_empty() {
        return Err(format!(
            "{name} is the only voter, without which there is no cluster: start further nodes, and remove it when they \
             are voters"
        ));
    }
    let out_of_reach = |voters: &[u64]| names(view.membership, view.out_of_reach(voters));
    if !view.has_live_majority(view.voters) {
        return Err(format!(
            "no majority of the {} voters can be reached, and without one nothing is changed: start those again that \
             cannot be reached ({})",
            view.voters.len(),
            out_of_reach(view.voters)
        ));
    }
    if !view.has_live_majority(after) {
        return Err(format!(
            "without {name}, no majority of the {} voters that are left could be reached: {} cannot. Start those again, \
             or remove them first",
            after.len(),
            out_of_reach(after)
        ));
    }
    Ok(())
}
