//! How a node comes back that has lost its disk: under its name, and as another.

use std::time::Duration;

use super::super::Input;
use super::storms::{Storm, calm, rounds, settle_accounts};
use crate::sim::clients::Clients;
use crate::sim::machine::{Config, Machine};
use crate::sim::world::World;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_node_without_its_disk_is_let_in_again_and_nothing_is_lost() {
    super::for_seeds(0..20, |seed| {
        let mut world = World::whole(seed, 3 + 2 * (seed as usize % 2));
        let mut clients = Clients::new(4);
        for _ in 0..3 {
            rounds(
                &mut world,
                &mut clients,
                Storm { crashes: 0.0, partitions: 0.02, ..Storm::default() },
                40,
            );
            clients.take_answers(&mut world);
            let i = world.rng.usize(..world.machines.len());
            world.crash(i);
            let World { machines, rng, .. } = &mut world;
            machines[i].lose_disk(rng);
            calm(&mut world);
            // Another disk may be lost when this one counts again, and not before.
            world.run_until("it votes again", World::is_at_full_strength);
        }
        settle_accounts(&mut world, &mut clients);
    });
}

#[test]
fn a_second_node_under_the_name_of_one_that_answers_is_refused() {
    for of_leader in [true, false] {
        let mut world = World::whole(1, 3);
        let leader = world.leader().expect("a whole cluster has a leader");
        let named = if of_leader { leader } else { (leader + 1) % 3 };
        let config = Config { expect: 3, ..Config::default() };
        let second = Machine::new(3, config, &mut world.rng);
        let name = world.machines[named].name.clone();
        world.machines.push(Machine { name, ..second });
        world.start(3);
        world.run_until("it gives up", |world| world.machines[3].ended.is_some());
        let members = world.node(leader).members();
        let is_member = |i: usize| members.iter().any(|m| m.raft_id == world.machines[i].raft_id);
        assert!((0..3).all(is_member) && !is_member(3), "{members:?}");
        let reason = world.machines[3].ended.as_deref().unwrap_or_default();
        assert!(reason.contains("NODE_ID") && reason.contains(&world.address(named)), "{reason}");
    }
}

/// Another node of its name, which lies in wait, does not get its place.
#[test]
fn a_planned_restart_beside_a_namesake_is_no_lost_disk() {
    for kill in [true, false] {
        let mut world = World::whole(1, 3);
        world.mesh();
        world.run_for(5 * SECOND);
        let leader = world.leader().expect("a whole cluster has a leader");
        let named = (leader + 1) % 3;
        let second = Machine::new(3, Config { expect: 3, ..Config::default() }, &mut world.rng);
        let name = world.machines[named].name.clone();
        world.machines.push(Machine { name, ..second });
        world.start(3);
        world.run_for(SECOND / 2);
        if !kill {
            world.input(named, Input::Stop);
            world.run_until("it may stop", |world| world.node(named).may_stop());
        }
        world.crash(named);
        world.run_for(SECOND);
        world.start(named);
        world.run_until("the second gives up", |world| world.machines[3].ended.is_some());
        assert_eq!(world.machines[named].ended, None);
        let raft_id = world.machines[named].raft_id;
        assert!(world.node(leader).members().iter().any(|member| member.raft_id == raft_id));
    }
}
