//! How fast news spread, and what that costs.

use std::time::Duration;

use super::world::{SECOND, World, id};
use crate::gossip::State;

/// A join reaches all within so many times log2(n) probe periods, ...
const JOIN_FACTOR: f64 = 2.0;
/// ... and a death, from the kill on: the probe, the suspicion and the news of both.
const DEATH_FACTOR: f64 = 6.0;

fn bound(factor: f64, nodes: usize) -> Duration {
    SECOND.mul_f64(factor * (nodes as f64).log2())
}

#[test]
fn a_join_and_a_death_reach_all_in_logarithmic_time_at_a_flat_cost() {
    println!("nodes | join s | death s | idle B/s | packets/s | peak B/s of a death | TCP B/s");
    let mut idle = Vec::new();
    for nodes in [3, 50, 200] {
        let mut world = World::new(nodes, 42);
        world.rtt_ms = Box::new(|a, b| 20.0 + ((a * 7 + b * 7) % 100) as f64);
        let newcomer = nodes - 1;
        for i in 0..newcomer {
            world.start(i, &world.node(i, 1));
            world.join(i, 0);
        }
        world.run_until(120 * SECOND, "the mesh has formed", World::is_complete);
        world.run_for(60 * SECOND);

        world.start(newcomer, &world.node(newcomer, 1));
        world.join(newcomer, 0);
        let join = world.run_until(bound(JOIN_FACTOR, nodes), "all know the newcomer", |world| {
            world.all_hold(id(newcomer), State::Alive) && world.is_complete()
        });
        world.run_for(30 * SECOND);

        let (bytes, packets, tcp) = measure(&mut world, 60 * SECOND);
        idle.push(bytes);

        let victim = nodes / 2;
        world.kill(victim);
        let before = sent(&world);
        let death = world.run_until(bound(DEATH_FACTOR, nodes), "all know the death", |world| {
            world.all_hold(id(victim), State::Dead)
        });
        let spent = (sent(&world).0 - before.0) as f64;
        let busy = spent / death.as_secs_f64() / (nodes - 1) as f64;
        println!(
            "{nodes:5} | {:6.2} | {:7.2} | {bytes:8.0} | {packets:9.1} | {busy:19.0} | {tcp:7.0}",
            join.as_secs_f64(),
            death.as_secs_f64()
        );
    }
    let (least, most) =
        (idle.iter().copied().fold(f64::MAX, f64::min), idle.iter().copied().fold(0.0, f64::max));
    assert!(most < 1000.0, "{most} bytes a second at each node");
    assert!(most < 1.5 * least, "not flat: {idle:?}");
}

/// Bytes and packets by UDP, and bytes by TCP, that each node sends in a second.
fn measure(world: &mut World, time: Duration) -> (f64, f64, f64) {
    let before = sent(world);
    world.run_for(time);
    let after = sent(world);
    let rate = |before, after| {
        (after - before) as f64 / time.as_secs_f64() / world.running().count() as f64
    };
    (rate(before.0, after.0), rate(before.1, after.1), rate(before.2, after.2))
}

/// Of all nodes. A table counts with who sends it and with who receives it.
fn sent(world: &World) -> (u64, u64, u64) {
    let counters = || world.running().map(|i| world.gossip(i).counters());
    (
        counters().map(|counters| counters.bytes_out).sum(),
        counters().map(|counters| counters.packets_out).sum(),
        counters().map(|counters| counters.sync_bytes / 2).sum(),
    )
}

#[test]
fn what_a_node_says_of_itself_reaches_all() {
    let mut world = World::settled(5, 9);
    world.run_for(10 * SECOND);
    // One that advertises its address, and one that does not.
    for i in [0, 1] {
        world.act(i, |gossip, now, _| {
            let me = gossip.me().clone();
            gossip.update(now, crate::wire::gossip::Node { role: 3, ..me }).unwrap();
        });
        world.run_until(5 * SECOND, "all know its role", |world| {
            let role = |j| world.gossip(j).member(id(i)).map(|member| member.node.role);
            world.running().all(|j| j == i || role(j) == Some(3))
        });
    }
}
