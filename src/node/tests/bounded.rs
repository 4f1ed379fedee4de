//! A log that is kept short: what is let go is never missed, in memory or on disk.

use super::storms::{Storm, calm, rounds, settle_accounts};
use crate::log::format::BLOCK_LEN;
use crate::replica::Retention;
use crate::sim::clients::Clients;
use crate::sim::weather::Weather;
use crate::sim::world::World;

const KEPT: usize = 40;
const SEGMENT_LEN: usize = 16 * BLOCK_LEN;

/// A cluster that is whole, of machines that keep little of the log.
fn whole(seed: u64, size: usize) -> World {
    let mut world = World::new(seed, size, Weather::fair());
    for machine in &mut world.machines {
        machine.retention = Retention { count_max: KEPT, ..Retention::default() };
        machine.segment_len = SEGMENT_LEN;
    }
    world.start_all();
    world.run_until("the cluster is formed", World::is_settled);
    world
}

/// Segments on the disk of a machine, and the ordinal of the last.
fn segments(world: &World, i: usize) -> (usize, u64) {
    let names = crate::log::Disk::list(&world.machines[i].disk).expect("a disk in memory");
    let ordinals: Vec<u64> =
        names.iter().filter_map(|name| crate::log::segment::ordinal(name)).collect();
    (ordinals.len(), ordinals.into_iter().max().unwrap_or(0))
}

fn retained(world: &World, i: usize) -> usize {
    let status = world.node(i).status().node.expect("it tells of itself");
    (status.last_index + 1 - status.first_index) as usize
}

/// What is written within the age of a commit is kept beside the rest: about fifty batches.
const SEGMENTS_MAX: usize = 12;

#[test]
fn a_cluster_that_writes_on_and_on_keeps_a_bounded_log() {
    super::for_seeds(0..4, |seed| {
        let mut world = whole(seed, 3);
        let mut clients = Clients::new(4);
        for _ in 0..4 {
            for _ in 0..10 {
                rounds(&mut world, &mut clients, Storm::default(), 25);
                for i in 0..3 {
                    assert!(segments(&world, i).0 <= SEGMENTS_MAX, "{:?}", segments(&world, i));
                }
            }
            // All at once, and none has more than it kept.
            (0..3).for_each(|i| world.crash(i));
            calm(&mut world);
        }
        settle_accounts(&mut world, &mut clients);
        for i in 0..3 {
            // All is committed, and the last commit let go of the rest.
            assert!(retained(&world, i) <= KEPT, "{} entries in memory", retained(&world, i));
            assert!(
                segments(&world, i).1 > 30,
                "{:?}: hardly anything was written",
                segments(&world, i)
            );
        }
    });
}

#[test]
fn a_sole_voter_that_crashes_at_any_moment_misses_nothing() {
    let mut recycled = 0;
    super::for_seeds(0..30, |seed| {
        let mut world = whole(seed, 1);
        let mut clients = Clients::new(4);
        world.weather = Weather::foul(&mut world.rng);
        let storm = Storm { crashes: 0.02, returns: 0.5, ..Storm::default() };
        rounds(&mut world, &mut clients, storm, 400);
        calm(&mut world);
        clients.take_answers(&mut world);
        settle_accounts(&mut world, &mut clients);
        let (count, last) = segments(&world, 0);
        recycled += last - count as u64;
        assert!(retained(&world, 0) <= KEPT, "{} entries in memory", retained(&world, 0));
    });
    println!("{recycled} segments were given up");
    assert!(std::env::var("SEED").is_ok() || recycled > 200, "only {recycled} were given up");
}
