//! Nodes that are further behind than the log reaches back: they get the state as a whole, whatever happens meanwhile.

use std::time::Duration;

use super::for_seeds;
use crate::replica::Retention;
use crate::sim::weather::Weather;
use crate::sim::world::World;
use crate::store::map::Map;
use crate::wire::client::{Get, request};

const TIMEOUT: Duration = Duration::from_secs(5);

/// So little that a node which misses a moment is too far behind.
const LITTLE: Retention = Retention {
    count_max: 16,
    len_bytes_max: 4096,
    streaming_count_max: 256,
    streaming_len_bytes_max: 1 << 16,
};

fn forgetful(seed: u64, size: usize) -> World {
    let mut world = World::new(seed, size, Weather::fair());
    world.machines.iter_mut().for_each(|machine| machine.retention = LITTLE);
    world.start_all();
    world.run_until("the cluster is formed", World::is_settled);
    world
}

/// Writes that many keys, and waits until that is done.
fn write(world: &mut World, count: usize) {
    let leader = world.leader().expect("a settled cluster has a leader");
    for key in 0..count {
        world.put(leader, &format!("key {key}"), TIMEOUT);
        if key % 10 == 9 {
            world.run_for(Duration::from_millis(20));
        }
    }
    world.run_until("all writes are answered", |world| world.unanswered(leader) == 0);
    world.take_answers();
}

/// Crashes a machine that does not lead, and has the log go on without it, until what it lacks is not there any more.
fn leave_behind(world: &mut World) -> usize {
    let leader = world.leader().expect("a settled cluster has a leader");
    let left = (leader + 1) % world.machines.len();
    let had = world.node(left).status().node.unwrap().last_index;
    world.crash(left);
    write(world, 200);
    world.run_until("the log is compacted", |world| {
        let leader = world.leader().expect("the others have a majority");
        world.node(leader).status().node.unwrap().first_index > had + 1
    });
    left
}

fn received(world: &World, i: usize) -> u64 {
    world.node(i).counters().snapshots_received
}

/// All have the same state, in one map each.
fn check_same(world: &mut World) {
    world.run_until("all is applied", World::is_settled);
    let is_durable =
        |world: &World, i: usize| world.node(i).store.durable() == world.node(i).store.applied();
    let has_one = |world: &World, i: usize| world.machines[i].map.states().len() == 1;
    world.run_until("all is committed, and nothing left over", |world| {
        world.running().into_iter().all(|i| is_durable(world, i) && has_one(world, i))
    });
    let bytes = |i: usize| world.machines[i].map().snapshot().expect("a map in memory");
    for i in world.running() {
        assert!(bytes(i) == bytes(0), "the maps of {i} and 0 differ");
    }
}

#[test]
fn a_node_that_was_down_for_long_gets_a_snapshot_and_goes_on() {
    for_seeds(0..10, |seed| {
        let mut world = forgetful(seed, 3);
        let left = leave_behind(&mut world);
        let leader = world.leader().unwrap();
        world.start(left);
        check_same(&mut world);
        assert_eq!(received(&world, left), 1);
        assert_eq!(world.machines[left].map().states(), [2]);
        world.run_until("the leader knows", |world| {
            world.node(leader).counters().snapshots_sent == 1
        });
        // It is as good as the others: with it alone the leader has a majority.
        let third = (0..3).find(|i| ![left, leader].contains(i)).unwrap();
        world.crash(third);
        write(&mut world, 20);
        // And it starts from what it was sent.
        world.crash(left);
        world.start(left);
        world.start(third);
        check_same(&mut world);
    });
}

#[test]
fn a_node_that_was_cut_off_for_long_gets_a_snapshot() {
    for_seeds(0..10, |seed| {
        let mut world = forgetful(seed, 3);
        let leader = world.leader().unwrap();
        let left = (leader + 1) % 3;
        world.isolate(&[left]);
        write(&mut world, 200);
        world.run_for(Duration::from_secs(2));
        world.heal();
        check_same(&mut world);
        assert_eq!(received(&world, left), 1);
    });
}

#[test]
fn a_new_node_joins_a_cluster_whose_log_is_compacted() {
    for_seeds(0..10, |seed| {
        let mut world = forgetful(seed, 3);
        write(&mut world, 100);
        world.run_for(Duration::from_secs(2));
        let i = world.leader().unwrap();
        assert!(world.node(i).status().node.unwrap().first_index > 50);
        let lost = (i + 1) % 3;
        world.crash(lost);
        let mut rng = world.rng.fork();
        world.machines[lost].lose_disk(&mut rng);
        world.start(lost);
        world.run_until("it is taken in", World::is_at_full_strength);
        assert_eq!(received(&world, lost), 1);
        check_same(&mut world);
        // An old key, from the new node.
        let get = Get { key: "key 1".into(), ..Get::default() };
        world.request(lost, 1, TIMEOUT, request::Command::Get(get));
        world.run_until("it is read", |world| world.unanswered(lost) == 0);
        let answer = world.take_answers().pop().expect("an answer");
        let found = answer.response.and_then(|response| response.result);
        assert!(format!("{found:?}").contains("value"), "{found:?}");
    });
}
