//! A removal, and crashes around it: of two voters one goes, and the other can decide alone whenever it comes back.

use std::time::Duration;

use crate::sim::clients::OPERATOR;
use crate::sim::world::World;
use crate::wire::client::{RemoveMember, request, response};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster that had three voters and has two, of which the first leads. The third machine is off.
fn pair(seed: u64) -> (World, [usize; 2]) {
    pair_of(World::whole(seed, 3))
}

/// The same, of three that are one cluster.
pub(super) fn pair_of(mut world: World) -> (World, [usize; 2]) {
    world.run_until("all vote", World::is_at_full_strength);
    let leader = world.leader().expect("a whole cluster has a leader");
    let [other, third] = [(leader + 1) % 3, (leader + 2) % 3];
    order_removal(&mut world, leader, third);
    world.run_until("it ends", |world| world.machines[third].ended.is_some());
    write(&mut world, leader, "before");
    world.run_for(3 * SECOND);
    assert_eq!(world.leader(), Some(leader));
    (world, [leader, other])
}

fn order_removal(world: &mut World, at: usize, i: usize) {
    let name = world.machines[i].name.clone();
    let order = request::Command::RemoveMember(RemoveMember { name, raft_id: 0 });
    world.request(at, OPERATOR, 20 * SECOND, order);
}

fn write(world: &mut World, i: usize, key: &str) {
    world.take_answers();
    let id = world.put(i, key, 5 * SECOND);
    world.run_until("it is answered", |world| world.unanswered(i) == 0);
    let answer = world.take_answers().into_iter().find(|answer| answer.id == id);
    let result = answer.and_then(|answer| answer.response).and_then(|response| response.result);
    assert!(matches!(result, Some(response::Result::Txn(_))), "{result:?}");
}

/// Whether that machine is a member, as it knows itself.
fn is_member(world: &World, at: usize, i: usize) -> bool {
    let raft_id = world.machines[i].raft_id;
    world.node(at).members().iter().any(|member| member.raft_id == raft_id)
}

/// It is the cluster now, with all that was written, and the other one has been told.
fn assert_alone(world: &mut World, left: usize, gone: usize) {
    world.run_until("it leads", |world| world.leader() == Some(left));
    write(world, left, "after");
    world.run_until("the other is told", |world| world.machines[gone].ended.is_some());
    assert!(!is_member(world, left, gone));
    for key in ["before", "after"] {
        assert!(world.node(left).store.get(key.as_bytes()).expect("a map in memory").is_some());
    }
}

/// The leader crashes after each thing that happens from the order on, until some time after the other was told. If it had
/// told before its disk knew of the removal, it would wait for the vote of a node that is gone.
#[test]
fn whoever_removed_the_other_voter_elects_itself_after_a_crash() {
    let (mut told, mut steps) = (0, 0);
    while told < 5 {
        let (mut world, [leader, other]) = pair(1);
        order_removal(&mut world, leader, other);
        (0..steps).for_each(|_| world.step());
        world.crash(leader);
        told += u32::from(world.machines[other].ended.is_some());
        world.run_for(SECOND);
        world.start(leader);
        world.run_until("one leads", |world| world.leader().is_some());
        if world.machines[other].ended.is_some() || !is_member(&world, leader, other) {
            assert_alone(&mut world, leader, other);
        }
        steps += 1;
    }
}

/// A leader proposes the removal of the other voter, and crashes. The other takes office, and commits what removes itself.
/// The first crashes again before its disk knows that: it needs the log and the vote of the one that is removed.
#[test]
fn a_leader_that_inherits_its_own_removal_stays_until_it_is_told() {
    super::for_seeds(0..20, |seed| {
        let (mut world, [first, heir]) = pair(seed);
        let last = world.machines[heir].witness.summary().1;
        order_removal(&mut world, first, heir);
        world.run_until("the other's disk has the entry", |world| {
            world.machines[heir].witness.summary().1 > last
        });
        world.crash(first);
        // It is in no hurry to lead.
        world.machines[first].config.election_ticks = 20;
        world.run_for(SECOND);
        world.start(first);
        world
            .run_until("the other knows that it is removed", |world| !is_member(world, heir, heir));
        let hears_first = seed % 2 == 0;
        if hears_first {
            let removed_at = world.node(heir).applied_index();
            world.run_until("the first has heard of it", |world| {
                world.node(first).replica().is_some_and(|replica| replica.commit() >= removed_at)
            });
        }
        assert!(is_member(&world, first, heir), "its disk does not know yet");
        world.crash(first);
        world.run_for(2 * SECOND);
        assert_eq!(world.machines[heir].ended, None, "nobody has told it");
        world.start(first);
        assert_alone(&mut world, first, heir);
    });
}
