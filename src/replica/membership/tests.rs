//! Each rule of the membership by itself. What raft-rs makes of the changes is tested in `replica::tests::demotion`.

use std::time::Duration;

use super::*;
use crate::limits::{MEMBERS_MAX, PROMOTION_LAG_MAX};
use conf_change::Kind;

const COMMIT: u64 = 10 * PROMOTION_LAG_MAX;
const NEAR: u64 = COMMIT - PROMOTION_LAG_MAX;
const POLICY: Policy = Policy { target_voters: 5, dead_after: Duration::from_secs(300) };
const NONE: [(Kind, u64); 0] = [];

fn info(raft_id: u64) -> MemberInfo {
    MemberInfo { raft_id, name: format!("node-{raft_id}"), address: format!("host-{raft_id}:9000") }
}

fn conf(voters: &[u64], learners: &[u64]) -> ConfState {
    ConfState { voters: voters.to_vec(), learners: learners.to_vec(), ..ConfState::default() }
}

/// A cluster that was formed once.
fn membership(voters: &[u64], learners: &[u64]) -> Membership {
    Membership {
        conf_state: Some(conf(voters, learners)),
        members: voters.iter().chain(learners).map(|raft_id| info(*raft_id)).collect(),
        formed: true,
        ..Membership::default()
    }
}

fn joint(voters: &[u64], outgoing: &[u64]) -> Membership {
    let mut joint = membership(voters, &[]);
    joint.conf_state.as_mut().unwrap().voters_outgoing = outgoing.to_vec();
    joint
}

fn well(raft_id: u64) -> Seen {
    Seen { raft_id, matched: COMMIT, linked: true, is_stable: true, gone_for: None }
}

fn gone(raft_id: u64, for_secs: u64) -> Seen {
    let gone_for = Some(Duration::from_secs(for_secs));
    Seen { linked: false, is_stable: false, gone_for, ..well(raft_id) }
}

/// All members of raft ids 1 to 9 are well, but for these.
fn seen(others: &[Seen]) -> Vec<Seen> {
    let all = (1..=9).map(well);
    all.map(|node| *others.iter().find(|other| other.raft_id == node.raft_id).unwrap_or(&node))
        .collect()
}

fn steps(change: &ConfChange) -> Vec<(Kind, u64)> {
    change.steps.iter().map(|step| (step.kind(), step.raft_id)).collect()
}

fn due_steps(membership: &Membership, policy: &Policy, others: &[Seen]) -> Vec<(Kind, u64)> {
    let change = due(membership, policy, &seen(others), COMMIT).unwrap_or_default();
    assert!(change.joint || change.steps.is_empty());
    steps(&change)
}

fn promoted(membership: &Membership, others: &[Seen]) -> Vec<u64> {
    let steps = due_steps(membership, &POLICY, others);
    assert!(steps.iter().all(|(kind, _)| *kind == Kind::AddVoter), "{steps:?}");
    steps.into_iter().map(|(_, raft_id)| raft_id).collect()
}

// ---- Promotion. ----

#[test]
fn learners_are_promoted_in_pairs_once_caught_up() {
    let none = [0u64; 0];
    let matched = |raft_id, matched| Seen { matched, ..well(raft_id) };
    let three = membership(&[1], &[2, 3]);
    assert_eq!(promoted(&membership(&[1], &[2]), &[]), none, "two voters are no gain");
    assert_eq!(promoted(&three, &[matched(3, NEAR - 1)]), none);
    assert_eq!(promoted(&three, &[gone(3, 1)]), none, "3 cannot be reached");
    assert_eq!(promoted(&three, &[matched(3, NEAR)]), [2, 3]);
    assert_eq!(promoted(&membership(&[1], &[2, 3, 4, 5, 6, 7]), &[]), [2, 3, 4, 5]);
    assert_eq!(promoted(&membership(&[1, 2, 3, 4, 5], &[6, 7]), &[]), none);
    assert_eq!(promoted(&membership(&[1, 2, 3, 4], &[6]), &[]), [6], "odd again");
}

#[test]
fn no_more_are_promoted_than_target_voters() {
    let all = membership(&[1], &[2, 3, 4, 5]);
    for (target_voters, count) in [(1, 0), (3, 2), (5, 4)] {
        let policy = Policy { target_voters, ..POLICY };
        assert_eq!(due_steps(&all, &policy, &[]).len(), count);
    }
    let policy = Policy { target_voters: 3, ..POLICY };
    assert_eq!(due_steps(&membership(&[1, 2, 3, 4, 5], &[6]), &policy, &[]), NONE);
}

#[test]
fn a_learner_that_never_answered_is_not_promoted_however_short_the_log() {
    let seen = [well(1), Seen { matched: 0, ..well(2) }, Seen { matched: 5, ..well(3) }];
    assert_eq!(due(&membership(&[1], &[2, 3]), &POLICY, &seen, 5), None);
}

#[test]
fn who_has_just_come_is_promoted_only_where_the_first_cluster_forms() {
    let mut cluster = membership(&[1], &[2, 3]);
    let new = [Seen { is_stable: false, ..well(2) }];
    assert_eq!(promoted(&cluster, &new), [0u64; 0]);
    cluster.formed = false;
    assert_eq!(promoted(&cluster, &new), [2, 3]);
}

// ---- Replacement. ----

const DEAD: u64 = POLICY.dead_after.as_secs();

#[test]
fn a_joint_configuration_is_left_before_all_else() {
    let cluster = joint(&[1, 2, 3], &[1]);
    assert_eq!(
        due(&cluster, &POLICY, &seen(&[gone(2, DEAD)]), COMMIT),
        Some(ConfChange::default())
    );
}

#[test]
fn a_dead_voter_changes_places_with_a_ready_learner() {
    let cluster = membership(&[1, 2, 3, 4, 5], &[6, 7]);
    assert_eq!(due_steps(&cluster, &POLICY, &[gone(3, DEAD - 1)]), NONE);
    let swap = [(Kind::AddVoter, 6), (Kind::AddLearner, 3)];
    assert_eq!(due_steps(&cluster, &POLICY, &[gone(3, DEAD)]), swap);
    let slow = Seen { matched: NEAR - 1, ..well(6) };
    let swap = [(Kind::AddVoter, 7), (Kind::AddLearner, 3)];
    assert_eq!(due_steps(&cluster, &POLICY, &[gone(3, DEAD), slow]), swap);
    let new = Seen { is_stable: false, ..well(6) };
    assert_eq!(due_steps(&cluster, &POLICY, &[gone(3, DEAD), new]), swap);
    let alive = Seen { linked: true, ..gone(3, DEAD) };
    assert_eq!(due_steps(&cluster, &POLICY, &[alive]), NONE, "a connection is proof");
}

#[test]
fn a_dead_voter_stays_while_nobody_can_take_its_place() {
    let cluster = membership(&[1, 2, 3, 4, 5], &[6]);
    for other in [gone(6, DEAD), Seen { is_stable: false, ..well(6) }] {
        assert_eq!(due_steps(&cluster, &POLICY, &[gone(3, DEAD), other]), NONE);
    }
    assert_eq!(due_steps(&membership(&[1, 2, 3], &[]), &POLICY, &[gone(3, DEAD)]), NONE);
}

#[test]
fn the_longest_dead_are_replaced_first_and_all_in_one_change() {
    let dead = [gone(2, DEAD), gone(4, DEAD + 60)];
    let one = due_steps(&membership(&[1, 2, 3, 4, 5], &[6]), &POLICY, &dead);
    assert_eq!(one, [(Kind::AddVoter, 6), (Kind::AddLearner, 4)]);
    let both = due_steps(&membership(&[1, 2, 3, 4, 5], &[6, 7]), &POLICY, &dead);
    let second = [(Kind::AddVoter, 7), (Kind::AddLearner, 2)];
    assert_eq!(both, [one, second.to_vec()].concat());
}

#[test]
fn the_dead_are_replaced_before_voters_grow() {
    let cluster = membership(&[1, 2, 3], &[4, 5, 6]);
    let swap = [(Kind::AddVoter, 4), (Kind::AddLearner, 2)];
    assert_eq!(due_steps(&cluster, &POLICY, &[gone(2, DEAD)]), swap);
    let after = membership(&[1, 3, 4], &[2, 5, 6]);
    assert_eq!(promoted(&after, &[gone(2, DEAD)]), [5, 6]);
}

#[test]
fn nothing_is_changed_where_the_living_are_no_majority() {
    let cluster = membership(&[1, 2, 3, 4, 5], &[6, 7, 8]);
    let others = [gone(3, DEAD), gone(4, DEAD), gone(5, 1)];
    assert_eq!(due_steps(&cluster, &POLICY, &others), NONE);
    assert_eq!(due_steps(&membership(&[1, 2], &[3, 4]), &POLICY, &[gone(2, 1)]), NONE);
}

// ---- Joining. ----

#[test]
fn a_name_belongs_to_one_identity() {
    let known = membership(&[1, 2, 3], &[]);
    assert_eq!(join(&known, &info(1), |_| true), Ok(None));
    let added = join(&known, &info(4), |_| true).unwrap().unwrap();
    assert_eq!((steps(&added), added.joint), (vec![(Kind::AddLearner, 4)], false));
    assert_eq!(added.members, [info(4)]);
    let lost = MemberInfo { raft_id: 9, ..info(1) };
    assert_eq!(join(&known, &lost, |raft_id| raft_id == 1), Err(NotAdded::NameTaken(info(1))));
    let change = join(&known, &lost, |_| false).unwrap().unwrap();
    assert_eq!(steps(&change), [(Kind::AddLearner, 9), (Kind::Remove, 1)]);
    assert!(change.joint);
}

#[test]
fn a_member_may_change_its_name_and_address() {
    let known = membership(&[1, 2, 3], &[4]);
    for (raft_id, kind) in [(1, Kind::AddVoter), (4, Kind::AddLearner)] {
        let renamed = MemberInfo { name: "other".into(), ..info(raft_id) };
        let moved = MemberInfo { address: "elsewhere:9000".into(), ..info(raft_id) };
        for new in [renamed, moved] {
            let change = join(&known, &new, |_| true).unwrap().unwrap();
            assert_eq!((steps(&change), change.joint), (vec![(kind, raft_id)], false));
            assert_eq!(change.members, [new]);
        }
    }
}

#[test]
fn an_address_is_not_forgotten_for_want_of_another() {
    let known = membership(&[1, 2, 3], &[]);
    let silent = MemberInfo { address: String::new(), ..info(2) };
    assert_eq!(join(&known, &silent, |_| true), Ok(None));
    let renamed = MemberInfo { name: "other".into(), ..silent };
    let change = join(&known, &renamed, |_| true).unwrap().unwrap();
    assert_eq!(change.members, [MemberInfo { name: "other".into(), ..info(2) }]);
}

#[test]
fn a_member_does_not_take_the_name_of_another_dead_or_alive() {
    let known = membership(&[1, 2, 3], &[]);
    let thief = MemberInfo { name: "node-3".into(), ..info(2) };
    for answers in [true, false] {
        let refused = join(&known, &thief, |_| answers).unwrap_err();
        assert_eq!(refused, NotAdded::NameTaken(info(3)));
        let told = refused.to_string();
        for part in ["node-3", "host-3:9000", "raft id 3", "phalanx member remove node-3"] {
            assert!(told.contains(part), "{told}");
        }
    }
}

#[test]
fn who_was_removed_does_not_join_and_nobody_joins_past_the_limit() {
    let mut known = membership(&[1, 2, 3], &[]);
    known.removed = vec![8, 9];
    assert!(is_removed(&known, 9) && !is_removed(&known, 1));
    assert_eq!(join(&known, &info(9), |_| false), Err(NotAdded::Removed));
    let all: Vec<u64> = (4..=MEMBERS_MAX as u64).collect();
    let full = membership(&[1, 2, 3], &all);
    assert_eq!(join(&full, &info(99), |_| false), Err(NotAdded::Full));
    let lost = MemberInfo { raft_id: 99, ..info(5) };
    assert!(join(&full, &lost, |_| false).unwrap().is_some(), "it takes the place of another");
}

#[test]
fn in_a_joint_configuration_nobody_is_added_yet() {
    let known = joint(&[1, 2, 3], &[1]);
    assert_eq!(join(&known, &info(4), |_| true), Ok(None));
    let taken = MemberInfo { raft_id: 4, ..info(1) };
    assert!(join(&known, &taken, |_| true).is_err(), "a refusal is one at any time");
}

// ---- Removal. ----

fn removal(known: &Membership, raft_id: u64, others: &[Seen]) -> Result<Removal, String> {
    remove(known, &POLICY, &seen(others), 1, raft_id, COMMIT)
}

fn removed(known: &Membership, raft_id: u64, others: &[Seen]) -> Vec<(Kind, u64)> {
    match removal(known, raft_id, others) {
        Ok(Removal::Change(change)) => {
            assert_eq!(change.joint, change.steps.len() > 1);
            steps(&change)
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_refused(refused: Result<Removal, String>, parts: &[&str]) {
    let told = refused.unwrap_err();
    for part in parts {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn a_removed_voter_is_succeeded_by_a_ready_learner() {
    let cluster = membership(&[1, 2, 3, 4, 5], &[6, 7]);
    assert_eq!(removed(&cluster, 7, &[]), [(Kind::Remove, 7)]);
    assert_eq!(removed(&cluster, 2, &[]), [(Kind::Remove, 2), (Kind::AddVoter, 6)]);
    let others = [gone(2, 1), gone(6, 1)];
    assert_eq!(removed(&cluster, 2, &others), [(Kind::Remove, 2), (Kind::AddVoter, 7)]);
    let others = [gone(6, 1), gone(7, 1)];
    assert_eq!(removed(&cluster, 2, &others), [(Kind::Remove, 2)]);
    let four = membership(&[1, 2, 3, 4], &[6]);
    assert_eq!(removed(&four, 2, &[]), [(Kind::Remove, 2)], "three are odd");
    let policy = Policy { target_voters: 3, ..POLICY };
    let change = remove(&cluster, &policy, &seen(&[]), 1, 2, COMMIT).unwrap();
    assert_eq!(change, Removal::Change(super::change(vec![step(Kind::Remove, 2)])), "too many");
}

#[test]
fn a_leader_hands_over_before_it_is_removed() {
    assert_eq!(removal(&membership(&[1, 2, 3], &[]), 1, &[]), Ok(Removal::HandOver));
    let alone = removal(&membership(&[1, 2, 3], &[]), 1, &[gone(3, 1)]);
    assert_refused(alone, &["without node-1", "node-3"]);
    assert_refused(removal(&membership(&[1], &[2, 3]), 1, &[]), &["node-1", "only voter", "start"]);
}

#[test]
fn a_removal_leaves_the_living_a_majority() {
    let three = membership(&[1, 2, 3], &[]);
    assert_eq!(removed(&three, 3, &[gone(3, 1)]), [(Kind::Remove, 3)]);
    assert_refused(removal(&three, 2, &[gone(3, 1)]), &["without node-2", "node-3", "remove them"]);
    let stuck = removal(&three, 3, &[gone(2, 1), gone(3, 1)]);
    assert_refused(stuck, &["no majority of the 3 voters", "start", "node-2, node-3"]);
    let with_learner = membership(&[1, 2, 3], &[4]);
    let others = [gone(2, 1), gone(3, 1)];
    assert_refused(removal(&with_learner, 4, &others), &["no majority"]);
    assert_eq!(removed(&with_learner, 2, &[gone(3, 1)]).len(), 2, "4 makes up for it");
}

#[test]
fn only_a_member_is_removed_and_one_change_at_a_time() {
    assert_refused(removal(&membership(&[1, 2, 3], &[]), 9, &[]), &["raft id 9"]);
    assert_eq!(removal(&joint(&[1, 2, 3], &[1]), 2, &[]), Ok(Removal::Wait));
}

#[test]
fn a_name_that_is_unknown_or_a_learners_gets_the_names_that_would_do() {
    let cluster = membership(&[1, 2, 3], &[4]);
    assert_eq!(member_named(&cluster, "node-4"), Ok(4));
    assert_eq!(voter_named(&cluster, "node-2"), Ok(2));
    let told = voter_named(&cluster, "node-9").unwrap_err();
    assert!(told.contains("node-1, node-2, node-3, node-4"), "{told}");
    let told = voter_named(&cluster, "node-4").unwrap_err();
    assert!(told.contains("learner") && told.contains("node-1, node-2, node-3"), "{told}");
}

// ---- What a change leaves. ----

#[test]
fn a_first_cluster_takes_writes_from_a_majority_of_its_size_on() {
    let needed: Vec<_> = (1..=7).map(voters_to_form).collect();
    assert_eq!(needed, [1, 1, 2, 3, 3, 4, 4]);
}

#[test]
fn a_cluster_stays_formed_with_fewer_voters() {
    let one = apply(None, &genesis(&[7; 16], 3, info(1)), conf(&[1], &[]));
    assert!(!one.formed);
    let three = apply(Some(&one), &ConfChange::default(), conf(&[1, 2, 3], &[]));
    assert!(three.formed);
    let back = apply(Some(&three), &ConfChange::default(), conf(&[1], &[]));
    assert!(back.formed);
    assert_eq!((back.expect, &back.cluster_id[..]), (3, &[7u8; 16][..]));
}

#[test]
fn a_removed_voter_is_a_member_until_the_joint_configuration_is_left() {
    let before = membership(&[1, 2, 3], &[4]);
    let change = change(vec![step(Kind::Remove, 2), step(Kind::AddVoter, 4)]);
    let conf_state = ConfState { voters_outgoing: vec![1, 2, 3], ..conf(&[1, 3, 4], &[]) };
    let joint = apply(Some(&before), &change, conf_state);
    assert!(joint.removed.is_empty() && joint.members.contains(&info(2)));
    let left = apply(Some(&joint), &ConfChange::default(), conf(&[1, 3, 4], &[]));
    assert_eq!(left.removed, [2]);
    assert_eq!(left.members, [info(1), info(3), info(4)]);
}

#[test]
fn a_demoted_voter_is_not_removed() {
    let before = membership(&[1, 2, 3], &[4]);
    let conf_state = ConfState {
        voters_outgoing: vec![1, 2, 3],
        learners_next: vec![2],
        ..conf(&[1, 3, 4], &[])
    };
    let joint = apply(Some(&before), &ConfChange::default(), conf_state);
    let left = apply(Some(&joint), &ConfChange::default(), conf(&[1, 3, 4], &[2]));
    assert_eq!((left.removed.len(), left.members.len()), (0, 4));
}

#[test]
fn the_removed_are_remembered_up_to_a_limit_and_never_as_members() {
    let mut cluster = membership(&[1], &[]);
    for raft_id in 2..=REMOVED_MAX as u64 + 3 {
        let added = ConfChange { members: vec![info(raft_id)], ..ConfChange::default() };
        cluster = apply(Some(&cluster), &added, conf(&[1], &[raft_id]));
        assert_eq!(cluster.members.len(), 2);
        cluster = apply(Some(&cluster), &ConfChange::default(), conf(&[1], &[]));
        assert_eq!(cluster.removed.last(), Some(&raft_id));
    }
    assert_eq!((cluster.removed.len(), cluster.removed[0]), (REMOVED_MAX, 4));
    let again = apply(Some(&cluster), &ConfChange::default(), conf(&[1], &[9]));
    assert!(!is_removed(&again, 9));
}

#[test]
fn a_member_that_is_renamed_keeps_its_place_in_the_configuration() {
    let before = membership(&[1, 2, 3], &[]);
    let renamed = MemberInfo { name: "a".into(), ..info(3) };
    let change = join(&before, &renamed, |_| true).unwrap().unwrap();
    let after = apply(Some(&before), &change, conf(&[1, 2, 3], &[]));
    assert_eq!(after.members, [renamed, info(1), info(2)], "in the order of names");
    assert_eq!((after.removed.len(), after.conf_state), (0, before.conf_state));
}

#[test]
fn a_name_is_free_as_soon_as_its_holder_is_going() {
    let mut joint = membership(&[1, 2], &[]);
    let conf_state = joint.conf_state.as_mut().unwrap();
    // 3 took the place of 9, which was the same node on a disk that is lost.
    conf_state.voters_outgoing = vec![1, 2, 9];
    conf_state.learners = vec![3];
    let lost = MemberInfo { raft_id: 9, ..info(3) };
    joint.members.extend([info(3), lost]);
    assert_eq!(join(&joint, &info(3), |_| true), Ok(None));
}
