//! MAX_BYTES, as nodes set it and as the cluster has it.

use std::time::Duration;

use crate::sim::machine::Config;
use crate::sim::weather::Weather;
use crate::sim::world::World;
use crate::wire::client::{Code, response};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster of three, each with a MAX_BYTES of its own.
fn world(seed: u64, max_bytes: [u64; 3]) -> World {
    let mut world = World::new(seed, 3, Weather::fair());
    for (machine, max_bytes) in world.machines.iter_mut().zip(max_bytes) {
        machine.config = Config { max_bytes, ..machine.config };
    }
    world.start_all();
    world.run_until("all vote", World::is_at_full_strength);
    world
}

fn max_bytes(world: &World) -> Vec<u64> {
    let told = |i| world.node(i).status().node.expect("a status has its node").max_bytes;
    world.running().into_iter().map(told).collect()
}

/// Which of them say that the store is full.
fn full(world: &World) -> Vec<bool> {
    let told = |i| world.node(i).status().node.expect("a status has its node").full;
    world.running().into_iter().map(told).collect()
}

/// The code of the refusal of a write by way of a machine; `None` if it was done.
fn refused(world: &mut World, i: usize, key: &str) -> Option<Code> {
    world.put(i, key, 5 * SECOND);
    world.run_until("it is answered", |world| world.unanswered(i) == 0);
    match world.take_answers().pop()?.response?.result? {
        response::Result::Error(refused) => Some(refused.code()),
        _ => None,
    }
}

#[test]
fn the_leaders_setting_is_that_of_the_cluster_and_proposed_once() {
    super::for_seeds(0..5, |seed| {
        let mut world = world(seed, [100, 200, 300]);
        world.run_for(SECOND);
        let leader = world.leader().expect("a whole cluster has a leader");
        let set = world.machines[leader].config.max_bytes;
        assert_eq!(max_bytes(&world), [set; 3]);
        let applied = world.node(leader).applied_index();
        world.run_for(20 * SECOND);
        assert_eq!(world.node(leader).applied_index(), applied, "nothing more is proposed");
        // Another one leads: its setting holds.
        world.crash(leader);
        world.run_until("another leads", |world| world.leader().is_some());
        world.start(leader);
        world.run_for(5 * SECOND);
        let next = world.leader().expect("a whole cluster has a leader");
        assert_eq!(max_bytes(&world), [world.machines[next].config.max_bytes; 3]);
    });
}

/// While its entry cannot be committed, the leader proposes no second one.
#[test]
fn one_proposal_is_on_its_way_at_a_time() {
    let mut world = world(1, [100; 3]);
    world.run_for(SECOND);
    let leader = world.leader().expect("a whole cluster has a leader");
    world.crash(leader);
    world.run_until("another leads", |world| world.leader().is_some());
    world.machines[leader].config.max_bytes = 500;
    world.start(leader);
    world.run_until("it is back", World::is_settled);
    // It leads, and its followers' disks are slow: its entry is on its way for several ticks.
    world.transfer_leader(leader);
    world.weather.write_us = 250_000..260_000;
    let led = world.node(leader).applied_index();
    world.run_until("its setting holds", |world| max_bytes(world) == [500; 3]);
    world.run_for(2 * SECOND);
    // The entry with which it took office may be among them.
    assert!(world.node(leader).applied_index() <= led + 2, "{led}");
}

#[test]
fn a_full_store_refuses_at_any_node_until_the_quota_is_raised_on_each_in_turn() {
    // Room for two writes of a key of one byte with "value".
    let mut world = world(2, [12; 3]);
    world.run_for(SECOND);
    assert_eq!(refused(&mut world, 0, "a"), None);
    assert_eq!(refused(&mut world, 1, "b"), None);
    world.run_for(SECOND);
    assert_eq!(full(&world), [false; 3], "nothing was refused");
    for i in 0..3 {
        assert_eq!(refused(&mut world, i, "c"), Some(Code::NoSpace));
        assert_eq!(refused(&mut world, i, "a"), None, "no longer than before");
    }
    world.run_for(SECOND);
    assert_eq!(full(&world), [true; 3]);
    for i in 0..3 {
        world.crash(i);
        world.machines[i].config.max_bytes = 18;
        world.run_until("the others go on", |world| world.leader().is_some());
        world.start(i);
        world.run_until("it is back", World::is_settled);
    }
    world.run_for(SECOND);
    assert_eq!(max_bytes(&world), [18; 3]);
    assert_eq!(full(&world), [false; 3]);
    assert_eq!(refused(&mut world, 0, "c"), None);
    assert_eq!(refused(&mut world, 0, "d"), Some(Code::NoSpace));
}
