//! How a node stops: it hands over what it has, and answers everyone.

use std::time::Duration;

use super::super::Input;
use super::storms::{Storm, calm, rounds, settle_accounts};
use crate::sim::clients::Clients;
use crate::sim::world::World;

#[test]
fn a_leader_that_stops_hands_over_and_loses_nothing() {
    super::for_seeds(0..40, |seed| {
        let mut world = World::whole(seed, 3 + 2 * (seed as usize % 2));
        let mut clients = Clients::new(4);
        let quiet = Storm::default();
        rounds(&mut world, &mut clients, quiet, 20);
        let leader = world.leader().expect("a whole cluster has a leader");
        world.input(leader, Input::Stop);
        let asked = world.now;
        while !world.node(leader).may_stop() {
            assert!(world.now < asked + Duration::from_secs(10), "it does not stop");
            rounds(&mut world, &mut clients, quiet, 1);
        }
        world.run_until("another leads", |world| world.leader().is_some_and(|now| now != leader));
        world.crash(leader);
        rounds(&mut world, &mut clients, quiet, 20);
        calm(&mut world);
        settle_accounts(&mut world, &mut clients);
    });
}

#[test]
fn a_node_that_is_alone_stops_too() {
    let mut world = World::whole(1, 1);
    let mut clients = Clients::new(2);
    rounds(&mut world, &mut clients, Storm::default(), 20);
    world.input(0, Input::Stop);
    world.run_until("it may stop", |world| world.node(0).may_stop());
    world.crash(0);
    calm(&mut world);
    settle_accounts(&mut world, &mut clients);
}
