//! Who belongs: the dead are replaced, the removed are told, the leader leaves office before it leaves the cluster.

use std::time::Duration;

use super::clients::{Clients, OPERATOR};
use super::machine::Config;
use super::storms::{Storm, calm, rounds, settle_accounts};
use super::weather::Weather;
use super::world::World;
use crate::wire::client::{
    Code, Error as Refusal, Member, RemoveMember, TransferLeader, request, response,
};

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// A cluster of that many nodes that know each other through gossip, and replace the dead soon.
    fn meshed(seed: u64, size: usize) -> World {
        let mut world = World::new(seed, size, Weather::fair());
        for machine in &mut world.machines {
            machine.config = Config { dead_after: 3 * SECOND, ..machine.config };
        }
        world.start_all();
        world.run_until("the cluster is formed", World::is_settled);
        world.mesh();
        world.run_until("it has its voters", |world| {
            world.voters().len() == size.min(5) / 2 * 2 + 1
        });
        world.run_for(5 * SECOND);
        world
    }

    /// Nothing passes to it or from it, and its connections stay up.
    fn hang(&mut self, i: usize) {
        for other in (0..self.machines.len()).filter(|other| *other != i) {
            self.cut(i, other);
            self.cut(other, i);
        }
    }

    /// The members as the leader knows them.
    fn membership(&self) -> Vec<Member> {
        self.leader().map(|leader| self.node(leader).status().members).unwrap_or_default()
    }

    /// The machines that vote.
    fn voters(&self) -> Vec<usize> {
        let voters = self.membership().into_iter().filter(|member| member.voter);
        voters.filter_map(|member| self.index_of(member.raft_id)).collect()
    }

    fn is_member(&self, i: usize) -> bool {
        self.membership().iter().any(|member| member.raft_id == self.machines[i].raft_id)
    }

    /// Gives an order to a machine, and waits for the answer.
    fn order(&mut self, at: usize, command: request::Command) -> Result<(), Refusal> {
        let id = self.request(at, 0, 20 * SECOND, command);
        let deadline = self.now + 30 * SECOND;
        loop {
            let mut answers = self.take_answers().into_iter();
            if let Some(answer) = answers.find(|answer| answer.id == id) {
                return match answer.response.and_then(|response| response.result) {
                    Some(response::Result::Done(_)) => Ok(()),
                    Some(response::Result::Error(refused)) => Err(refused),
                    other => panic!("an order is answered with {other:?}"),
                };
            }
            assert!(self.now < deadline, "an order is not answered\n{}", self.describe());
            self.step();
        }
    }

    fn remove(&mut self, at: usize, i: usize) -> Result<(), Refusal> {
        let name = self.machines[i].name.clone();
        self.order(at, request::Command::RemoveMember(RemoveMember { name }))
    }

    fn transfer(&mut self, at: usize, i: usize) -> Result<(), Refusal> {
        let name = self.machines[i].name.clone();
        self.order(at, request::Command::TransferLeader(TransferLeader { name }))
    }
}

#[test]
fn a_dead_voter_is_replaced_and_comes_back_as_a_learner() {
    super::for_seeds(0..10, |seed| {
        let mut world = World::meshed(seed, 7);
        let mut dead = world.voters();
        dead.truncate(1 + seed as usize % 2);
        dead.iter().for_each(|i| world.crash(*i));
        world.run_until("five voters live", |world| {
            let voters = world.voters();
            voters.len() == 5 && dead.iter().all(|i| !voters.contains(i))
        });
        for i in &dead {
            assert!(world.is_member(*i), "a dead voter stays, as a learner");
            world.start(*i);
        }
        world.run_until("all have caught up", World::is_settled);
        world.run_for(5 * SECOND);
        let voters = world.voters();
        assert!(voters.len() == 5 && dead.iter().all(|i| !voters.contains(i)), "{voters:?}");
    });
}

#[test]
fn voters_come_and_go_in_a_storm_and_nothing_is_lost() {
    let mut replaced = 0;
    super::for_seeds(0..20, |seed| {
        let mut world = World::meshed(seed, 7);
        for machine in &mut world.machines {
            machine.config = Config { dead_after: SECOND, ..machine.config };
        }
        let before = world.voters();
        let mut clients = Clients::new(4);
        world.weather = Weather::foul(&mut world.rng);
        let partitions = [0.0, 0.01][seed as usize % 2];
        let storm = Storm { crashes: 0.01, partitions, returns: 0.01 };
        for _ in 0..8 {
            rounds(&mut world, &mut clients, storm, 200);
            let (at, to) = (world.rng.usize(..7), world.rng.usize(..7));
            if world.machines[at].process.is_some() {
                let name = world.machines[to].name.clone();
                let order = request::Command::TransferLeader(TransferLeader { name });
                world.request(at, OPERATOR, 2 * SECOND, order);
            }
        }
        calm(&mut world);
        settle_accounts(&mut world, &mut clients);
        world.run_until("five vote", |world| world.voters().len() == 5);
        replaced += world.voters().iter().filter(|i| !before.contains(i)).count();
    });
    assert!(replaced > 5, "{replaced} voters replaced: the storms prove little");
}

/// The kernel of a process that hangs goes on acknowledging what comes.
#[test]
fn a_voter_that_hangs_is_dead_though_its_connections_are_up() {
    let mut world = World::meshed(2, 7);
    let leader = world.leader().expect("a whole cluster has a leader");
    let hung = *world.voters().iter().find(|i| **i != leader).expect("five vote");
    world.hang(hung);
    world.run_until("five voters live", |world| {
        let voters = world.voters();
        voters.len() == 5 && !voters.contains(&hung)
    });
}

#[test]
fn a_removal_does_not_count_on_a_voter_that_hangs() {
    let mut world = World::meshed(3, 3);
    let leader = world.leader().expect("a whole cluster has a leader");
    let [hung, other] = [(leader + 1) % 3, (leader + 2) % 3];
    world.hang(hung);
    world.run_for(5 * SECOND);
    let refused = world.remove(leader, other).expect_err("one of two that answer would be left");
    assert!(refused.message.contains(&world.machines[hung].name), "{refused:?}");
    assert!(world.machines[other].ended.is_none());
}

#[test]
fn a_voter_that_is_silent_to_the_leader_alone_is_not_dead() {
    let mut world = World::meshed(3, 7);
    let leader = world.leader().expect("a whole cluster has a leader");
    let voters = world.voters();
    let other = *voters.iter().find(|i| **i != leader).expect("five vote");
    // Its connection ends, and gossip goes on by way of the others.
    world.cut(leader, other);
    world.cut(other, leader);
    world.run_for(20 * SECOND);
    assert!(world.voters().contains(&other), "the mesh hears from it");
}

#[test]
fn a_pause_of_the_leader_makes_nobody_dead() {
    let mut world = World::meshed(4, 7);
    let before = world.voters();
    let leader = world.leader().expect("a whole cluster has a leader");
    // Its clock goes on, and nobody runs it.
    world.machines[leader].clock_offset += 600 * SECOND;
    world.run_for(2 * SECOND);
    assert_eq!(world.voters(), before);
}

#[test]
fn a_member_is_removed_told_and_lets_go() {
    super::for_seeds(0..10, |seed| {
        let mut world = World::meshed(seed, 5);
        let leader = world.leader().expect("a whole cluster has a leader");
        let removed = (leader + 1) % 5;
        // By way of the leader, of another, and of the one that is meant.
        let at = [leader, (leader + 2) % 5, removed][seed as usize % 3];
        assert_eq!(world.remove(at, removed), Ok(()));
        world.run_until("it ends", |world| world.machines[removed].ended.is_some());
        let why = world.machines[removed].ended.clone().unwrap_or_default();
        assert!(why.contains("was removed from the cluster"), "{why}");
        assert!(!world.is_member(removed));
        // It is told again whenever it comes.
        world.start(removed);
        world.run_until("it ends", |world| world.machines[removed].ended.is_some());
        assert!(!world.is_member(removed));
    });
}

#[test]
fn a_leader_hands_over_before_it_is_removed() {
    super::for_seeds(0..10, |seed| {
        let mut world = World::meshed(seed, 5);
        let leader = world.leader().expect("a whole cluster has a leader");
        let at = [leader, (leader + 2) % 5][seed as usize % 2];
        assert_eq!(world.remove(at, leader), Ok(()));
        world.run_until("it ends", |world| world.machines[leader].ended.is_some());
        assert!(world.leader().is_some_and(|now| now != leader) && !world.is_member(leader));
    });
}

#[test]
fn a_removal_that_would_cost_the_quorum_is_refused() {
    let mut world = World::meshed(1, 3);
    let leader = world.leader().expect("a whole cluster has a leader");
    let [other, dead] = [(leader + 1) % 3, (leader + 2) % 3];
    world.crash(dead);
    world.run_for(5 * SECOND);
    let refused = world.remove(leader, other).expect_err("one of two that live would be left");
    assert_eq!(refused.code(), Code::Invalid, "{refused:?}");
    let unknown = RemoveMember { name: "nobody".to_owned() };
    let refused = world.order(other, request::Command::RemoveMember(unknown));
    let refused = refused.expect_err("there is no such member");
    assert!(refused.message.contains("nobody"), "{refused:?}");
    assert_eq!(world.remove(other, dead), Ok(()), "the dead can go");
}

#[test]
fn leadership_goes_to_the_voter_that_is_named() {
    super::for_seeds(0..10, |seed| {
        let mut world = World::meshed(seed, 7);
        let leader = world.leader().expect("a whole cluster has a leader");
        let voters = world.voters();
        let to = *voters.iter().find(|i| **i != leader).expect("five vote");
        let at = [leader, to, (0..7).find(|i| !voters.contains(i)).expect("two learn")];
        let at = at[seed as usize % 3];
        assert_eq!(world.transfer(at, to), Ok(()));
        world.run_until("it leads", |world| world.leader() == Some(to));
        assert_eq!(world.transfer(at, to), Ok(()), "it leads already");
        let learner = (0..7).find(|i| !voters.contains(i)).expect("two learn");
        let refused = world.transfer(at, learner).expect_err("a learner cannot lead");
        assert_eq!(refused.code(), Code::Invalid, "{refused:?}");
    });
}

#[test]
fn another_name_on_the_same_disk_is_a_rename() {
    let mut world = World::meshed(2, 3);
    let leader = world.leader().expect("a whole cluster has a leader");
    for i in [(leader + 1) % 3, leader] {
        let renamed = format!("renamed-{i}");
        world.crash(i);
        world.machines[i].name = renamed.clone();
        world.start(i);
        world.run_until("the cluster knows it under its new name", |world| {
            let raft_id = world.machines[i].raft_id;
            let named = |member: &Member| member.raft_id == raft_id && member.name == renamed;
            world.membership().iter().any(named)
        });
        world.run_until("all is well", World::is_settled);
        assert_eq!(world.membership().len(), 3);
        assert_eq!(world.voters().len(), 3);
    }
}
