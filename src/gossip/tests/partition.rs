//! A mesh that is split finds together again.

use super::world::{SECOND, World, id};
use crate::gossip::{Event, State};

/// Cuts off machines 3 and 4, and waits until both sides have declared the other dead.
fn split(world: &mut World) {
    for i in [3, 4] {
        world.machines[i].side = 1;
    }
    world.run_until(60 * SECOND, "each side takes the other for dead", |world| {
        (0..5).all(|i| {
            let others = (0..5).filter(|j| (i < 3) != (*j < 3));
            others.clone().all(|j| world.state(i, id(j)).is_none_or(|state| !state.is_live()))
        })
    });
}

fn heal(world: &mut World) {
    for machine in &mut world.machines {
        machine.side = 0;
    }
}

#[test]
fn a_healed_mesh_is_one_again_within_fifteen_seconds() {
    for seed in 0..5 {
        let mut world = World::settled(5, seed);
        split(&mut world);
        world.run_for(120 * SECOND);
        heal(&mut world);
        world.run_until(15 * SECOND, "the mesh is one", World::is_complete);
    }
}

#[test]
fn halves_that_have_forgotten_each_other_meet_through_a_seed() {
    let mut world = World::new(5, 4);
    world.settings.dead_keep = 300 * SECOND;
    world.start_all();
    world.run_until(30 * SECOND, "the mesh has formed", World::is_complete);
    split(&mut world);
    world.run_for(400 * SECOND);
    assert_eq!(world.gossip(0).members().count(), 2);
    assert_eq!(world.gossip(4).members().count(), 1);
    heal(&mut world);
    world.run_for(60 * SECOND);
    assert!(!world.is_complete(), "nobody knows where the others are");
    world.join(4, 0);
    world.run_until(15 * SECOND, "the mesh is one", World::is_complete);
}

#[test]
fn a_seed_that_is_dead_for_us_is_found_again() {
    let mut world = World::new(2, 4);
    world.settings.retry_pause_min = 3600 * SECOND;
    world.start_all();
    world.run_until(30 * SECOND, "the mesh has formed", World::is_complete);
    world.machines[1].side = 1;
    world.run_until(60 * SECOND, "each takes the other for dead", |world| {
        world.all_hold(id(0), State::Dead) && world.all_hold(id(1), State::Dead)
    });
    world.run_for(60 * SECOND);
    heal(&mut world);
    world.join(0, 1);
    world.run_until(5 * SECOND, "both are one", World::is_complete);
}

#[test]
fn who_leaves_has_not_died() {
    let mut world = World::settled(5, 17);
    world.run_for(10 * SECOND);
    world.act(1, |gossip, now, out| gossip.leave(now, out));
    world.run_for(SECOND);
    world.kill(1);
    assert!(world.all_hold(id(1), State::Left));
    world.run_for(60 * SECOND);
    assert!(world.all_hold(id(1), State::Left));
    assert_eq!(world.count(|event| *event == Event::Left(id(1))), 4);
    assert_eq!(world.count(|event| matches!(event, Event::Died(_) | Event::Suspected(_))), 0);
}
