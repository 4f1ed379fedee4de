//! Who belongs: the dead are replaced, the removed are told, the leader leaves office before it leaves the cluster.

use std::time::Duration;

use super::storms::{Storm, calm, rounds, settle_accounts};
use crate::sim::clients::{Clients, OPERATOR};
use crate::sim::machine::Config;
use crate::sim::weather::Weather;
use crate::sim::world::World;
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
        self.order(at, request::Command::RemoveMember(RemoveMember { name, raft_id: 0 }))
    }

    fn transfer(&mut self, at: usize, i: usize) -> Result<(), Refusal> {
        let name = self.machines[i].name.clone();
        self.order(at, request::Command::TransferLeader(TransferLeader { name, raft_id: 0 }))
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
                let order = request::Command::TransferLeader(TransferLeader { name, raft_id: 0 });
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
    world.machines[leader].clock.offset += 600 * SECOND;
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
    let unknown = RemoveMember { name: "nobody".to_owned(), raft_id: 0 };
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

/// From now on nothing passes between a machine and the others, and its connections stay up.
fn hang(world: &mut World, hung: usize) {
    for other in (0..world.machines.len()).filter(|other| *other != hung) {
        world.cut(hung, other);
        world.cut(other, hung);
    }
}

/// Writes, four times a second, as long as an order is not answered, and a while longer: all are applied, soon. Gives the
/// refusal of the order.
fn refusal_amid_writes(world: &mut World, at: usize, command: request::Command) -> Refusal {
    let order = world.request(at, OPERATOR, 20 * SECOND, command);
    let begun = world.now;
    let mut refused = None;
    for number in 0..40 {
        world.put(at, &format!("key-{number}"), SECOND);
        world.run_for(SECOND / 4);
        for answer in world.take_answers() {
            match answer.response.and_then(|response| response.result) {
                Some(response::Result::Error(why)) if answer.id == order => {
                    assert!(answer.at - begun < SECOND, "one attempt takes one E");
                    refused = Some(why);
                }
                Some(response::Result::Txn(_)) => {}
                other => panic!("request {} is answered with {other:?}", answer.id),
            }
        }
    }
    world.run_until("all are answered", |world| world.unanswered(at) == 0);
    refused.expect("an order that fails is refused")
}

#[test]
fn a_voter_that_hangs_is_handed_over_to_once() {
    super::for_seeds(0..4, |seed| {
        let mut world = World::meshed(seed, 3);
        let leader = world.leader().expect("a whole cluster has a leader");
        let hung = (leader + 1 + seed as usize % 2) % 3;
        let lags = seed >= 2;
        hang(&mut world, hung);
        if lags {
            for number in 0..7 {
                world.put(leader, &format!("missed-{number}"), SECOND);
            }
            world.run_for(SECOND / 10);
            assert_eq!(world.take_answers().len(), 7);
        }
        let name = world.machines[hung].name.clone();
        let order = request::Command::TransferLeader(TransferLeader { name, raft_id: 0 });
        let refused = refusal_amid_writes(&mut world, leader, order);
        assert_eq!(refused.code(), Code::Invalid, "{refused:?}");
        let why = if lags { "it is behind by 7 entries" } else { "it does not answer" };
        assert!(refused.message.contains("did not take over within 400ms"), "{refused:?}");
        assert!(refused.message.contains(why), "{refused:?}");
        assert_eq!(world.leader(), Some(leader));
    });
}

#[test]
fn orders_of_one_voter_share_the_attempt() {
    let mut world = World::meshed(2, 3);
    let leader = world.leader().expect("a whole cluster has a leader");
    let hung = (leader + 1) % 3;
    hang(&mut world, hung);
    let name = world.machines[hung].name.clone();
    let order = request::Command::TransferLeader(TransferLeader { name, raft_id: 0 });
    for _ in 0..5 {
        world.request(leader, OPERATOR, 20 * SECOND, order.clone());
    }
    world.run_for(SECOND / 2);
    assert_eq!(world.take_answers().len(), 5);
}

#[test]
fn a_leader_that_is_to_go_hands_over_once() {
    let mut world = World::meshed(1, 3);
    let leader = world.leader().expect("a whole cluster has a leader");
    // Of two that are equal, the one with the larger id is to lead.
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let [first, second] = others.map(|i| world.machines[i].raft_id);
    let (heir, other) =
        if first > second { (others[0], others[1]) } else { (others[1], others[0]) };
    hang(&mut world, heir);
    let name = world.machines[leader].name.clone();
    let order = request::Command::RemoveMember(RemoveMember { name, raft_id: 0 });
    let refused = refusal_amid_writes(&mut world, leader, order);
    assert_eq!(refused.code(), Code::Invalid, "{refused:?}");
    assert!(refused.message.contains("phalanx leader transfer NAME"), "{refused:?}");
    // As it says.
    assert_eq!(world.transfer(leader, other), Ok(()));
    world.heal();
    assert_eq!(world.remove(other, leader), Ok(()));
}

#[test]
fn an_order_that_takes_long_is_no_doubt_of_the_quorum() {
    let mut world = World::whole(1, 3);
    let leader = world.leader().expect("a whole cluster has a leader");
    let [at, other] = [(leader + 1) % 3, (leader + 2) % 3];
    // What is passed on does not arrive.
    world.cut(at, leader);
    let begun = world.now;
    let name = world.machines[other].name.clone();
    let order = request::Command::RemoveMember(RemoveMember { name, raft_id: 0 });
    let id = world.request(at, OPERATOR, 3 * SECOND, order.clone());
    world.run_until("it is answered", |world| {
        assert!(!world.node(at).doubts_quorum, "an order is late, and nothing else");
        world.unanswered(at) == 0
    });
    assert!(world.now >= begun + 3 * SECOND, "an order has all its time");
    let answer = world.take_answers().pop().expect("it is answered");
    let Some(response::Result::Error(refused)) = answer.response.and_then(|it| it.result) else {
        panic!("it cannot be done");
    };
    assert_eq!((answer.id, refused.code()), (id, Code::Timeout), "{refused:?}");
    assert!(refused.maybe_applied, "the leader may have had it");
    // Where there is no leader to pass it on to, the client may ask elsewhere.
    world.crash(leader);
    world.crash(other);
    world.run_for(5 * SECOND);
    let refused = world.order(at, order).expect_err("nobody leads");
    assert_eq!((refused.code(), refused.maybe_applied), (Code::NoQuorum, false), "{refused:?}");
}

#[test]
fn an_order_means_a_raft_id_whoever_has_the_name() {
    let mut world = World::meshed(3, 5);
    let leader = world.leader().expect("a whole cluster has a leader");
    let [to, removed, at] = [1, 2, 3].map(|offset| (leader + offset) % 5);
    let misleading = world.machines[at].name.clone();
    let order = TransferLeader { name: misleading.clone(), raft_id: world.machines[to].raft_id };
    assert_eq!(world.order(at, request::Command::TransferLeader(order)), Ok(()));
    assert_eq!(world.leader(), Some(to));
    let order = RemoveMember { name: misleading, raft_id: world.machines[removed].raft_id };
    assert_eq!(world.order(at, request::Command::RemoveMember(order)), Ok(()));
    assert!(world.is_member(at) && !world.is_member(removed));
    let unknown = TransferLeader { name: "nobody".to_owned(), raft_id: 7 };
    let refused = world.order(at, request::Command::TransferLeader(unknown));
    let refused = refused.expect_err("no member has that raft id");
    assert!(refused.message.contains("raft id 7 does not vote"), "{refused:?}");
}

/// The answer is lost with the leader, and the next one knows nobody of that name.
#[test]
fn a_removal_that_is_asked_of_the_next_leader_too_is_done() {
    super::for_seeds(0..10, |seed| {
        let mut world = World::meshed(seed, 7);
        let leader = world.leader().expect("a whole cluster has a leader");
        let [at, removed] = [1, 2].map(|offset| (leader + offset) % 7);
        // What it says is heard, and it hears nothing.
        (0..7).for_each(|other| world.cut(other, at));
        let name = world.machines[removed].name.clone();
        let order = request::Command::RemoveMember(RemoveMember { name, raft_id: 0 });
        let id = world.request(at, OPERATOR, 20 * SECOND, order);
        world.run_until("it is removed", |world| {
            world.machines[removed].ended.is_some() && !world.is_member(removed)
        });
        world.crash(leader);
        world.run_until("another leads", |world| world.leader().is_some_and(|now| now != at));
        world.heal();
        world.run_until("it is answered", |world| world.unanswered(at) == 0);
        let answer = world.take_answers().into_iter().find(|answer| answer.id == id);
        let result = answer.and_then(|answer| answer.response).and_then(|it| it.result);
        assert!(matches!(result, Some(response::Result::Done(_))), "{result:?}");
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

#[test]
fn a_name_that_another_member_has_is_not_to_be_had() {
    let mut world = World::meshed(5, 3);
    let leader = world.leader().expect("a whole cluster has a leader");
    let [i, other] = [(leader + 1) % 3, (leader + 2) % 3];
    for named in [other, leader] {
        let before = world.machines[i].name.clone();
        world.crash(i);
        world.machines[i].name = world.machines[named].name.clone();
        world.start(i);
        world.run_until("it gives up", |world| world.machines[i].ended.is_some());
        let why = world.machines[i].ended.as_deref().unwrap_or_default();
        assert!(why.contains("two nodes cannot share one NODE_ID"), "{why}");
        world.machines[i].name = before;
        world.start(i);
        world.run_until("all is well", World::is_settled);
    }
}
