//! Changes of the membership on real replicas: dead voters make room, members go, and the quorum is never lost.

use bytes::Bytes;

use super::super::Role;
use super::super::membership::{self, Removal};
use super::crew::{Crew, POLICY, info};
use crate::wire::log::conf_change::{Kind, Step};
use crate::wire::log::{ConfChange, ConfState, MemberInfo};

fn healed(seed: u64, voter_count: u64, learner_count: u64, dead: &[u64]) -> Crew {
    let mut crew = Crew::new(seed, voter_count, learner_count);
    crew.run_until("a leader", |crew| crew.leader().is_some());
    crew.serve();
    crew.down.extend(dead);
    crew.run_until("the dead are replaced", |crew| {
        crew.heal();
        let ConfState { voters, voters_outgoing, .. } = crew.conf_state();
        voters_outgoing.is_empty() && voters.iter().all(|raft_id| crew.is_up(*raft_id))
    });
    crew
}

/// A voter of each kind dies: followers, and whoever leads.
#[test]
fn a_dead_voter_is_demoted_in_one_joint_change_and_comes_back_as_a_learner() {
    for dead in 1..=5 {
        let mut crew = healed(dead, 5, 2, &[dead]);
        let ConfState { voters, learners, .. } = crew.conf_state().clone();
        let live: Vec<u64> = (1..=6).filter(|raft_id| *raft_id != dead).collect();
        assert_eq!((voters, learners), (live, vec![dead, 7].into_iter().collect()));
        assert_eq!(crew.history.len(), 3, "into the joint configuration and out of it");
        let joint = crew.history.values().nth(1).unwrap().conf_state.as_ref().unwrap();
        assert_eq!((&joint.learners_next, joint.voters_outgoing.len()), (&vec![dead], 5));
        crew.serve();

        crew.down.clear();
        crew.serve();
        assert_eq!(crew.replica(dead).role(), Role::Learner);
        for _ in 0..100 {
            crew.heal();
            crew.tick();
        }
        assert_eq!(crew.history.len(), 3, "five voters are enough: it stays a learner");
        assert!(crew.membership().removed.is_empty());
    }
}

#[test]
fn two_dead_at_once_are_replaced_at_once_and_two_more_may_die() {
    for seed in 0..20 {
        let mut crew = healed(seed, 5, 2, &[1 + seed % 5, 1 + (seed + 1 + seed / 5) % 5]);
        assert_eq!(crew.history.len(), 3);
        assert_eq!((crew.conf_state().voters.len(), crew.conf_state().learners.len()), (5, 2));
        let leader = crew.leader().unwrap();
        let next: Vec<u64> =
            crew.conf_state().voters.iter().copied().filter(|id| *id != leader).take(1).collect();
        crew.down.extend(next);
        crew.down.insert(leader);
        crew.serve();
    }
}

/// Whoever may die without the quorum being lost dies and comes back, in the middle of changes too; members are removed.
#[test]
fn the_quorum_that_remains_is_never_lost() {
    let (mut demoted, mut removed, mut handed_over) = (0, 0, 0);
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut crew = Crew::new(seed, 5, 4);
        for _ in 0..30 {
            let any = rng.u64(1..=9);
            if !crew.down.remove(&any) {
                crew.down.insert(any);
                if !crew.is_safe() {
                    crew.down.remove(&any);
                }
            }
            for _ in 0..rng.u32(..60) {
                crew.heal();
                crew.tick();
            }
            if rng.u8(..5) == 0 && crew.membership().removed.len() < 3 {
                handed_over += u32::from(try_to_remove(&mut crew, rng.u64(1..=9)));
            }
            crew.serve();
        }
        crew.down.clear();
        crew.run_until("no change is under way", |crew| {
            crew.heal();
            crew.conf_state().voters_outgoing.is_empty()
        });
        crew.serve();
        removed += crew.membership().removed.len();
        demoted += crew
            .history
            .values()
            .filter(|known| !known.conf_state.as_ref().unwrap().learners_next.is_empty())
            .count();
    }
    assert!(demoted > 100 && removed > 50 && handed_over > 5, "{demoted} {removed} {handed_over}");
}

/// True if the leader has to hand over first.
fn try_to_remove(crew: &mut Crew, raft_id: u64) -> bool {
    let Some(leader) = crew.changer() else { return false };
    let known = crew.members[&leader].membership.clone();
    let (seen, commit) = (crew.seen(leader), crew.replica(leader).commit());
    match membership::remove(&known, &POLICY, &seen, leader, raft_id, commit) {
        Ok(Removal::Change(change)) => crew.propose(leader, &change),
        Ok(Removal::HandOver) => {
            let down = crew.down.clone();
            assert!(crew.replica(leader).hand_over(|raft_id| !down.contains(&raft_id)));
            return true;
        }
        Ok(Removal::Wait) | Err(_) => {}
    }
    false
}

#[test]
fn a_leader_that_is_to_go_hands_over_and_is_removed_by_the_next() {
    let mut crew = Crew::new(1, 5, 1);
    crew.run_until("a leader", |crew| crew.changer().is_some());
    let first = crew.leader().unwrap();
    assert!(try_to_remove(&mut crew, first));
    crew.run_until("another leads", |crew| crew.changer().is_some_and(|leader| leader != first));
    assert!(!try_to_remove(&mut crew, first));
    crew.run_until("it is out", |crew| crew.membership().removed == [first]);
    let ConfState { voters, learners, .. } = crew.conf_state();
    assert_eq!((voters.len(), learners.len()), (5, 0), "the learner succeeds it");
    crew.serve();
}

/// A change that the leader before it proposed may become a leader's own to apply.
#[test]
fn a_leader_that_loses_its_vote_in_office_steps_down() {
    let step = |kind: Kind, raft_id| Step { kind: kind.into(), raft_id };
    for (seed, kind) in [(1, Kind::AddLearner), (2, Kind::Remove), (3, Kind::Remove)] {
        let mut crew = Crew::new(seed, 5, 1);
        crew.run_until("a leader", |crew| crew.changer().is_some());
        let leader = crew.leader().unwrap();
        let joint = seed != 3;
        let mut steps = vec![step(kind, leader)];
        steps.extend(joint.then(|| step(Kind::AddVoter, 6)));
        crew.propose(leader, &ConfChange { joint, steps, ..ConfChange::default() });
        let asks = Bytes::from_static(b"in the same turn");
        crew.replica(leader).propose(&[asks]).unwrap();
        crew.run_until("another leads", |crew| crew.leader().is_some_and(|now| now != leader));
        crew.run_until("it has lost its vote", |crew| !crew.conf_state().voters.contains(&leader));
        crew.serve();
        assert_eq!(crew.replica(leader).role(), Role::Learner);
        assert_eq!(crew.membership().removed.contains(&leader), kind == Kind::Remove);
    }
}

#[test]
fn a_rename_goes_through_the_log_and_changes_nothing_else() {
    let mut crew = Crew::new(1, 3, 1);
    for raft_id in [2, 4] {
        crew.run_until("a leader", |crew| crew.changer().is_some());
        let (leader, before) = (crew.leader().unwrap(), crew.conf_state().clone());
        let name = format!("other-{raft_id}");
        let new = MemberInfo { name, address: "elsewhere:9000".into(), ..info(raft_id) };
        let change = membership::join(crew.membership(), &new, |_| true).unwrap().unwrap();
        crew.propose(leader, &change);
        crew.run_until("it is renamed", |crew| crew.membership().members.contains(&new));
        assert_eq!((crew.conf_state(), crew.membership().members.len()), (&before, 4));
        crew.serve();
    }
}

#[test]
fn leadership_goes_to_the_voter_that_is_meant_and_to_no_learner() {
    let mut crew = Crew::new(1, 3, 1);
    crew.run_until("a leader", |crew| crew.changer().is_some());
    let leader = crew.leader().unwrap();
    let voter = 1 + leader % 3;
    for nobody in [4, 99, leader] {
        crew.replica(leader).transfer_to(nobody);
        assert!(!crew.replica(leader).is_handing_over());
    }
    crew.replica(voter).transfer_to(leader);
    crew.replica(leader).transfer_to(voter);
    assert!(crew.replica(leader).is_handing_over());
    crew.run_until("the other leads", |crew| crew.leader() == Some(voter));
    crew.serve();
    assert!(!crew.replica(leader).leads());
}
