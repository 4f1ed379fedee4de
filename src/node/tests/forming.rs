//! How a cluster comes about: in any order of starts, over a bad network, with crashes at the worst moments, there is one
//! cluster in the end and was never another.

use std::collections::BTreeSet;
use std::time::Duration;

use super::clients::Clients;
use super::storms::{Storm, calm, settle_accounts};
use super::weather::Weather;
use super::world::World;

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
