//! Restarts, and two that claim one name or one identity.

use bytes::Bytes;

use super::world::{SECOND, World, id};
use crate::gossip::{Event, State};
use crate::wire::gossip::Node;

fn conflicts(world: &World) -> usize {
    world.count(|event| matches!(event, Event::NameConflict { .. }))
}

#[test]
fn a_restart_supersedes_the_life_before() {
    let mut world = World::settled(3, 2);
    world.run_for(10 * SECOND);
    world.kill(1);
    world.run_until(10 * SECOND, "it is dead", |world| world.all_hold(id(1), State::Dead));
    world.start(1, &world.node(1, 2));
    world.join(1, 0);
    world.run_until(5 * SECOND, "it is back", |world| {
        let starts = |i| world.gossip(i).member(id(1)).unwrap().node.starts;
        world.is_complete() && starts(0) == 2 && starts(2) == 2
    });
    assert_eq!(world.gossip(0).counters().false_deaths, 0);
}

#[test]
fn a_quick_restart_is_an_update_and_nobody_dies() {
    let mut world = World::settled(3, 2);
    world.run_for(10 * SECOND);
    world.kill(1);
    world.start(1, &world.node(1, 2));
    world.join(1, 0);
    world.run_until(5 * SECOND, "all know the new start", |world| {
        let starts = |i| world.gossip(i).member(id(1)).unwrap().node.starts;
        world.is_complete() && starts(0) == 2 && starts(2) == 2
    });
    world.run_for(60 * SECOND);
    assert_eq!(world.count(|event| matches!(event, Event::Died(_))), 0);
    assert_eq!(world.count(|event| *event == Event::Updated(id(1))), 2);
}

#[test]
fn a_second_node_under_a_name_is_a_conflict_and_replaces_nobody() {
    let mut world = World::new(4, 8);
    for i in 0..3 {
        world.start(i, &world.node(i, 1));
        world.join(i, 0);
    }
    world.run_until(10 * SECOND, "the mesh has formed", World::is_complete);
    world.start(3, &Node { name: "node-1".into(), ..world.node(3, 1) });
    world.join(3, 0);
    world.run_until(10 * SECOND, "all know both", |world| {
        world.is_complete() && conflicts(world) == 4
    });
    let event = world.events.iter().find_map(|(_, i, event)| match event {
        Event::NameConflict { name, holders } if *i == 0 => Some((name.clone(), *holders)),
        _ => None,
    });
    let (name, holders) = event.unwrap();
    assert_eq!(name, "node-1");
    assert_eq!(holders.map(|(raft_id, _)| raft_id), [id(1), id(3)]);
    assert_eq!(holders[1].1, Some(world.machines[3].address));
}

#[test]
fn a_name_whose_holder_is_dead_is_free() {
    let mut world = World::settled(3, 8);
    world.machines.push(World::new(4, 0).machines.pop().unwrap());
    world.run_for(10 * SECOND);
    world.kill(1);
    world.run_until(10 * SECOND, "it is dead", |world| world.all_hold(id(1), State::Dead));
    world.start(3, &Node { name: "node-1".into(), ..world.node(3, 1) });
    world.join(3, 0);
    world.run_until(10 * SECOND, "all know the newcomer", World::is_complete);
    assert_eq!(conflicts(&world), 0);
}

/// Starts a copy of the node on machine 1 on machine 3.
fn copied(starts: u64) -> World {
    let mut world = World::new(4, 6);
    for i in 0..3 {
        world.start(i, &world.node(i, 5));
        world.join(i, 0);
    }
    world.run_until(10 * SECOND, "the mesh has formed", World::is_complete);
    let gossip_address = world.machines[3].address.to_string();
    let copy = Node { starts, nonce: 99, gossip_address, ..world.node(1, starts) };
    world.start(3, &copy);
    world.join(3, 0);
    world.run_for(10 * SECOND);
    world
}

fn told_of_double(world: &World, i: usize) -> bool {
    let mut events = world.events.iter();
    events.any(|(_, j, event)| *j == i && matches!(event, Event::OwnIdentityElsewhere { .. }))
}

#[test]
fn a_copy_of_an_older_or_the_same_start_is_refused_and_told() {
    for starts in [4, 5] {
        let world = copied(starts);
        assert!(told_of_double(&world, 3), "start {starts}");
        for i in [0, 2] {
            let member = world.gossip(i).member(id(1)).unwrap();
            assert_eq!((member.state, member.node.starts), (State::Alive, 5));
            assert_eq!(member.gossip_address, world.machines[1].address);
        }
    }
}

#[test]
fn a_copy_of_a_later_start_supersedes_and_the_earlier_is_told() {
    let world = copied(6);
    assert!(told_of_double(&world, 1));
    assert_eq!(world.gossip(0).member(id(1)).unwrap().gossip_address, world.machines[3].address);
}

#[test]
fn clusters_do_not_mix_but_a_node_without_one_talks_with_both() {
    let mut world = World::new(5, 12);
    let cluster = |byte: u8| Bytes::from(vec![byte; 16]);
    for i in 0..4 {
        let cluster_id = cluster(if i < 2 { 1 } else { 2 });
        world.start(i, &Node { cluster_id, ..world.node(i, 1) });
    }
    world.start(4, &world.node(4, 1));
    for (i, seed) in [(1, 0), (3, 2), (1, 2), (4, 0), (4, 2)] {
        world.join(i, seed);
    }
    world.run_for(120 * SECOND);
    let known = |i: usize| -> Vec<u64> {
        world.gossip(i).members().map(|member| member.node.raft_id).collect()
    };
    assert_eq!(known(0), [id(1), id(4)]);
    assert_eq!(known(3), [id(2), id(4)]);
    assert_eq!(known(4), [id(0), id(1), id(2), id(3)]);
    assert!(world.gossip(2).counters().other_cluster > 0);
    // The one that asked is told so too, in its own log.
    let told = world.count(|event| matches!(event, Event::OtherCluster(_)));
    assert_eq!((told, world.gossip(1).counters().other_cluster > 0), (2, true));

    // It joins one: the other is gone.
    world.act(4, |gossip, now, _| {
        let me = Node { cluster_id: cluster(1), ..gossip.me().clone() };
        gossip.update(now, me).unwrap();
    });
    world.run_for(60 * SECOND);
    let known: Vec<u64> = world.gossip(4).members().map(|member| member.node.raft_id).collect();
    assert_eq!(known, [id(0), id(1)]);
    assert_eq!(world.state(0, id(4)), Some(State::Alive));
    assert_eq!(world.state(2, id(4)), Some(State::Dead));
}
