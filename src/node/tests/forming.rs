//! How a cluster comes about: in any order of starts, over a bad network, with crashes at the worst moments, there is one
//! cluster in the end and was never another.

use std::collections::BTreeSet;
use std::time::Duration;

use super::storms::{Storm, calm, settle_accounts};
use crate::sim::checkers::Watch;
use crate::sim::clients::Clients;
use crate::sim::weather::Weather;
use crate::sim::world::World;

/// Every cluster that any disk ever belonged to.
fn founded(world: &World) -> BTreeSet<Vec<u8>> {
    let ids = world.machines.iter().map(|machine| machine.witness.cluster_id().to_vec());
    ids.filter(|id| !id.is_empty()).collect()
}

/// Crashes machines that have just promised or just become members, now and then.
fn crash_at_turning_points(world: &mut World, seen: &mut [(bool, bool)]) {
    for i in world.running() {
        let witness = &world.machines[i].witness;
        let is_at = (witness.promised_to().is_some(), witness.is_member());
        if std::mem::replace(&mut seen[i], is_at) != is_at && world.rng.u8(..3) == 0 {
            world.crash(i);
        }
    }
}

fn form(seed: u64) -> usize {
    let size = 1 + seed as usize % 5;
    let mut world = World::new(seed, size, Weather::fair());
    world.weather = Weather::foul(&mut world.rng);
    let mut clients = Clients::new(2);
    let mut seen = vec![(false, false); size];
    let storm = Storm {
        crashes: [0.0, 0.005, 0.05][world.rng.usize(..3)],
        partitions: [0.0, 0.02, 0.1][world.rng.usize(..3)],
        ..Storm::default()
    };
    for _ in 0..400 {
        storm.blow(&mut world);
        clients.act(&mut world);
        for _ in 0..5 {
            world.run_for(Duration::from_millis(5));
            crash_at_turning_points(&mut world, &mut seen);
            assert!(founded(&world).len() <= 1, "two clusters");
        }
    }
    calm(&mut world);
    settle_accounts(&mut world, &mut clients);
    assert_eq!(founded(&world).len(), 1);
    clients.acknowledged()
}

#[test]
fn one_cluster_comes_about_whatever_happens_meanwhile() {
    let mut acknowledged = 0;
    super::for_seeds(0..150, |seed| acknowledged += form(seed));
    assert!(acknowledged > 500, "the clusters take writes: {acknowledged}");
}

#[test]
fn a_node_that_may_not_form_waits_and_joins() {
    super::for_seeds(0..10, |seed| {
        let mut world = World::new(seed, 3, Weather::fair());
        for i in [0, 1] {
            world.machines[i].config.may_form = false;
            world.start(i);
        }
        world.run_for(Duration::from_secs(10));
        assert_eq!(founded(&world).len(), 0, "neither may form");
        world.start(2);
        world.run_until("the third forms, the others join", World::is_settled);
        assert_eq!(world.machines[2].witness.first_voter(), Some(world.machines[2].raft_id));
    });
}

#[test]
fn a_minority_of_the_first_cluster_does_not_form() {
    for (expect, started) in [(2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut world = World::new(expect, expect as usize, Weather::fair());
        (0..started).for_each(|i| world.start(i));
        world.run_for(Duration::from_secs(10));
        assert_eq!(founded(&world).len(), 0, "{started} of {expect}");
        world.start(started);
        if expect / 2 < started as u64 + 1 {
            world.run_until("a majority forms", |world| founded(world).len() == 1);
        }
    }
}

/// Seven of the same EXPECT of 5: among them are two majorities of 5 that share no node.
fn seven_expecting_five(seed: u64) -> World {
    let mut world = World::new(seed, 7, Weather::fair());
    world.weather = Weather::foul(&mut world.rng);
    for machine in &mut world.machines {
        machine.config.expect = 5;
    }
    world
}

#[test]
fn more_nodes_than_expected_form_nothing_until_some_are_gone() {
    super::for_seeds(0..30, |seed| {
        let mut world = seven_expecting_five(seed);
        world.start_all();
        world.run_for(Duration::from_secs(10));
        assert_eq!(founded(&world).len(), 0);
        for i in 0..7 {
            let why = world.node(i).forming().expect("it is in no cluster");
            assert!(why.contains("7 nodes without a cluster are here, and EXPECT is 5"), "{why}");
        }
        (5..7).for_each(|i| world.crash(i));
        world.run_until("five form", |world| founded(world).len() == 1);
        (5..7).for_each(|i| world.start(i));
        calm(&mut world);
        world.run_until("the others join", World::is_settled);
        assert_eq!(founded(&world).len(), 1);
    });
}

/// Each side has a majority of 5, and sees no more nodes than that.
#[test]
fn two_groups_that_meet_in_time_do_not_form_a_cluster_each() {
    super::for_seeds(0..20, |seed| {
        let mut world = seven_expecting_five(seed);
        world.weather = Weather::fair();
        let first = world.rng.usize(..5);
        world.isolate(&[first, first + 1, first + 2]);
        world.start_all();
        world.run_for(Duration::from_millis(300));
        world.heal();
        world.run_for(Duration::from_secs(5));
        assert_eq!(founded(&world).len(), 0);
    });
}

#[test]
fn nodes_that_differ_about_expect_form_nothing() {
    let mut world = World::new(1, 5, Weather::fair());
    // The first two are a majority of 3, and the others one of 5.
    (0..2).for_each(|i| world.machines[i].config.expect = 3);
    world.start_all();
    world.run_for(Duration::from_secs(10));
    assert_eq!(founded(&world).len(), 0);
    for i in 0..5 {
        let why = world.node(i).forming().expect("it is in no cluster");
        assert!(why.contains("3 on n") && why.contains("5 on n"), "{why}");
    }
    for i in 0..2 {
        world.crash(i);
        world.machines[i].config.expect = 5;
        world.start(i);
    }
    world.run_until("all agree", World::is_settled);
}

/// Three have a cluster; one of them loses its disk, and is a majority of EXPECT with two that come only now. The two
/// that are left are not seen at once.
#[test]
fn a_majority_without_a_cluster_waits_for_those_who_have_one() {
    super::for_seeds(0..20, |seed| {
        let mut world = World::new(seed, 5, Weather::fair());
        (0..3).for_each(|i| world.start(i));
        let serves = |world: &World| (0..3).all(|i| world.node(i).unavailable().is_none());
        world.run_until("three form", serves);
        let lost = world.rng.usize(..3);
        world.crash(lost);
        let World { machines, rng, .. } = &mut world;
        machines[lost].lose_disk(rng);
        let left: Vec<usize> = (0..3).filter(|i| *i != lost).collect();
        world.isolate(&left);
        [lost, 3, 4].into_iter().for_each(|i| world.start(i));
        world.run_for(Duration::from_millis(350));
        assert_eq!(founded(&world).len(), 1, "a second cluster");
        world.heal();
        world.run_until("they join", World::is_settled);
        assert_eq!(founded(&world).len(), 1);
    });
}

/// Of three of a cluster two are lost for good, and another cluster is to take its place: a backup that was restored, say. The
/// fresh node meets what is left of the first one before it meets the second.
#[test]
fn what_is_left_of_a_cluster_takes_nobody_in() {
    super::for_seeds(0..20, |seed| {
        let mut world = World::new(seed, 5, Weather::fair());
        (0..3).for_each(|i| world.start(i));
        let serves = |world: &World| (0..3).all(|i| world.node(i).unavailable().is_none());
        world.run_until("three form", serves);
        let [left, living, fresh] = [world.rng.usize(..3), 3, 4];
        (0..3).filter(|i| *i != left).for_each(|i| world.crash(i));
        let has_no_leader = |world: &World| {
            let replica = world.node(left).replica();
            replica.is_some_and(|replica| replica.leader().is_none())
        };
        world.run_until("the one that is left has no leader", has_no_leader);

        // The second cluster is there on purpose: what is watched from now on is that one.
        (world.watch, world.compares_states) = (Watch::default(), false);
        world.isolate(&[living]);
        world.machines[living].config.expect = 1;
        world.start(living);
        world.run_until("a cluster of one", |world| world.node(living).unavailable().is_none());
        world.start(fresh);
        world.run_for(Duration::from_secs(5));
        let why = world.node(fresh).forming().expect("it is in no cluster");
        assert!(why.contains("wait to be added: a cluster without a leader adds nobody"), "{why}");

        world.heal();
        let has_joined = |world: &World| world.node(fresh).unavailable().is_none();
        world.run_until("it joins the one that lives", has_joined);
        let cluster_of = |i: usize| world.machines[i].witness.cluster_id();
        assert_eq!(cluster_of(fresh), cluster_of(living));
        assert_ne!(cluster_of(left), cluster_of(living));
    });
}
