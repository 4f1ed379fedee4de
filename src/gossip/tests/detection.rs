//! Who is dead is found dead; who is alive stays alive.

use super::world::{MILLI, SECOND, World, id};
use crate::gossip::{Event, State};

#[test]
fn a_killed_node_is_dead_for_all_within_ten_seconds() {
    let mut slowest = 0.0_f64;
    for (nodes, seed) in (3..=5).flat_map(|nodes| (0..20).map(move |seed| (nodes, seed))) {
        let mut world = World::settled(nodes, seed);
        let settling = world.rng.u32(5_000..30_000) * MILLI;
        world.run_for(settling);
        let victim = world.rng.usize(..nodes);
        world.kill(victim);
        let took = world.run_until(10 * SECOND, "the victim is dead for all", |world| {
            world.all_hold(id(victim), State::Dead)
        });
        assert_eq!(world.count(|event| matches!(event, Event::Died(_))), nodes - 1);
        slowest = slowest.max(took.as_secs_f64());
    }
    println!("slowest of 60 detections: {slowest:.2} s");
}

/// The connections of a killed process end. Whoever looks after that at once is sooner sure.
#[test]
fn a_node_whose_connections_ended_is_dead_for_all_within_six_seconds() {
    for (nodes, seed) in (3..=5).flat_map(|nodes| (0..40).map(move |seed| (nodes, seed))) {
        let mut world = World::settled(nodes, seed);
        if seed % 2 == 0 {
            // So near that all notice at the same moment.
            world.rtt_ms = Box::new(|_, _| 0.1);
        }
        let settling = world.rng.u32(5_000..30_000) * MILLI;
        world.run_for(settling);
        let victim = world.rng.usize(..nodes);
        world.kill(victim);
        for i in (0..nodes).filter(|i| *i != victim) {
            world.act(i, |gossip, now, _| gossip.doubt(now, id(victim)));
        }
        world.run_until(6 * SECOND, "the victim is dead for all", |world| {
            world.all_hold(id(victim), State::Dead)
        });
    }
}

#[test]
fn a_doubt_without_reason_harms_nobody() {
    let mut world = World::settled(5, 1);
    for _ in 0..600 {
        let (i, other) = (world.rng.usize(..5), world.rng.usize(..5));
        world.act(i, |gossip, now, _| gossip.doubt(now, id(other)));
        world.run_for(SECOND / 10);
    }
    assert_eq!(world.count(|event| matches!(event, Event::Suspected(_))), 0);
}

#[test]
fn an_hour_of_loss_and_long_ways_kills_nobody() {
    for (nodes, seed) in [(5, 7), (5, 8), (3, 9)] {
        let mut world = World::new(nodes, seed);
        world.rtt_ms = Box::new(|a, b| [300.0, 20.0, 90.0, 180.0, 250.0][(a + b) % 5]);
        world.jitter = 0.5;
        world.loss = 0.05;
        world.start_all();
        // A join may be lost like any packet: a node that knows nobody asks again.
        for i in (0..10).flat_map(|_| 1..nodes) {
            world.run_for(SECOND / 2);
            if world.gossip(i).members().next().is_none() {
                world.join(i, 0);
            }
        }
        world.run_until(60 * SECOND, "the mesh has formed", World::is_complete);
        world.run_for(3600 * SECOND);
        let count = |is: fn(&Event) -> bool| world.count(is);
        assert_eq!(count(|event| matches!(event, Event::Died(_) | Event::Left(_))), 0);
        let suspected = count(|event| matches!(event, Event::Suspected(_)));
        let failed: u64 = world.running().map(|i| world.gossip(i).counters().probes_failed).sum();
        println!("{nodes} nodes, an hour: {failed} probes failed, {suspected} told suspicions");
        assert!(failed > 0, "the network was too good to show anything");
        for i in 0..nodes {
            assert_eq!(world.gossip(i).counters().stalls, 0, "it was always run in time");
        }
    }
}

#[test]
fn a_far_peer_is_not_suspected_for_being_far() {
    let mut world = World::new(3, 3);
    world.rtt_ms = Box::new(|_, _| 300.0);
    world.jitter = 0.5;
    world.start_all();
    world.run_for(600 * SECOND);
    assert!(world.is_complete());
    assert_eq!(world.count(|event| matches!(event, Event::Suspected(_))), 0);
    for i in 0..3 {
        let counters = world.gossip(i).counters();
        let (probes, indirect) = (counters.probes, counters.indirect_probes);
        assert!(indirect * 50 < probes, "others were asked in {indirect} of {probes} probes");
    }
}

#[test]
fn a_process_that_was_stopped_blames_nobody() {
    let mut world = World::settled(5, 11);
    world.run_for(10 * SECOND);
    world.machines[2].frozen_until = world.now + 60 * SECOND;
    world.run_until(10 * SECOND, "it is dead for the others", |world| {
        world.running().all(|i| i == 2 || world.state(i, id(2)) == Some(State::Dead))
    });
    world.run_for(55 * SECOND);
    let thaw = world.machines[2].frozen_until;
    world.run_until(15 * SECOND, "it is back", World::is_complete);
    let blames = |event: &Event| matches!(event, Event::Suspected(_) | Event::Died(_));
    let blamed =
        world.events.iter().filter(|(at, i, event)| *at >= thaw && *i == 2 && blames(event));
    assert_eq!(blamed.count(), 0);
    assert_eq!(world.gossip(2).counters().stalls, 1);
}

#[test]
fn time_that_jumps_far_ahead_declares_nobody_dead() {
    let mut world = World::settled(3, 5);
    world.run_for(5 * SECOND);
    world.kill(2);
    world.run_until(10 * SECOND, "the suspicion begins", |world| {
        world.state(0, id(2)) == Some(State::Suspect)
    });
    let before = world.now;
    world.act(0, |gossip, _, out| gossip.wake(before + 86_400 * SECOND, out));
    assert_eq!(world.state(0, id(1)), Some(State::Alive));
    assert_eq!(world.state(0, id(2)), Some(State::Suspect));
    assert_eq!(world.gossip(0).counters().stalls, 1);
}
