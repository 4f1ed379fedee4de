//! Runs of many seeds: a storm of crashes and partitions over a cluster with clients, then calm, and the accounts.

use std::time::Duration;

use crate::sim::checkers::accounts;
use crate::sim::clients::Clients;
use crate::sim::linearizability::{Verdict, judge};
use crate::sim::weather::Weather;
use crate::sim::world::World;
use crate::store::map::Map;
use crate::store::tally;

/// What a storm does, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storm {
    pub crashes: f64,
    pub partitions: f64,
    /// How likely a machine that is off is started.
    pub returns: f64,
}

impl Default for Storm {
    /// Quiet.
    fn default() -> Storm {
        Storm { crashes: 0.0, partitions: 0.0, returns: 0.1 }
    }
}

/// The clients act that often.
const ROUND: Duration = Duration::from_millis(25);

impl Storm {
    /// A round of it.
    pub fn blow(&self, world: &mut World) {
        let i = world.rng.usize(..world.machines.len());
        if world.machines[i].process.is_none() {
            if world.rng.f64() < self.returns {
                world.start(i);
            }
        } else if world.rng.f64() < self.crashes {
            world.crash(i);
        }
        if world.rng.f64() < self.partitions {
            world.heal();
            let other = world.rng.usize(..world.machines.len());
            match world.rng.u8(..4) {
                0 => {}
                1 => world.isolate(&[i]),
                2 => world.isolate(&[i, other]),
                _ => world.cut(i, other),
            }
        }
    }
}

/// Ends all trouble, and waits until the machines agree.
pub(super) fn calm(world: &mut World) {
    world.weather = Weather::fair();
    world.heal();
    world.start_all();
    world.run_until("the cluster is whole again", World::is_settled);
}

/// Waits until the clients have no write under way, and holds what they know against the machines.
pub(super) fn settle_accounts(world: &mut World, clients: &mut Clients) {
    clients.eagerness = 0.0;
    let deadline = world.now + Duration::from_secs(60);
    while !clients.are_idle() {
        assert!(world.now < deadline, "writes without an answer\n{}", world.describe());
        world.run_for(ROUND);
        clients.act(world);
    }
    world.run_until("all machines have applied the same", World::is_settled);
    clients.take_answers(world);
    accounts::check(clients, world).unwrap_or_else(|found| panic!("{found}"));
    match judge(&clients.history) {
        Verdict::Linearizable => {}
        Verdict::Violated(violation) => panic!("{}", violation.explain(&clients.history)),
        Verdict::Unknown(why) => panic!("not known to be linearizable: {why}"),
    }
    // All is committed within the age of the buffer: then the maps hold the same bytes.
    let durable = |world: &World, i: usize| world.node(i).store.durable();
    world.run_until("all is committed", |world| {
        world.is_settled()
            && world.running().iter().all(|&i| durable(world, i) == world.node(i).store.applied())
    });
    let bytes = |i: usize| world.machines[i].map().snapshot().expect("a map in memory");
    for i in world.running() {
        assert!(bytes(i) == bytes(0), "the maps of {i} and 0 differ");
        let figures = tally(&bytes(i)).expect("the map is what it says of itself");
        assert_eq!(figures.digest, world.node(i).store.digest());
    }
}

pub(super) fn rounds(world: &mut World, clients: &mut Clients, storm: Storm, count: usize) {
    for _ in 0..count {
        storm.blow(world);
        clients.act(world);
        world.run_for(ROUND);
    }
}

/// Ends in calm, with the accounts not settled.
fn run(seed: u64, mut clients: Clients) -> (World, Clients) {
    let size = [3, 3, 3, 5, 2][seed as usize % 5];
    let mut world = World::whole(seed, size);
    world.weather = Weather::foul(&mut world.rng);
    let storm = Storm {
        crashes: [0.0, 0.01, 0.03][world.rng.usize(..3)],
        partitions: [0.0, 0.02, 0.05][world.rng.usize(..3)],
        ..Storm::default()
    };
    rounds(&mut world, &mut clients, storm, 200);
    calm(&mut world);
    clients.take_answers(&mut world);
    (world, clients)
}

#[test]
fn acknowledged_writes_survive_once_and_reads_are_linearizable() {
    let (mut acknowledged, mut swaps, mut reads, mut aged) = (0, 0, 0, 0);
    super::for_seeds(0..120, |seed| {
        let (mut world, mut clients) = run(seed, Clients::new(4));
        settle_accounts(&mut world, &mut clients);
        swaps += clients.swaps;
        acknowledged += clients.acknowledged();
        reads += clients.reads;
        aged += clients.aged_reads;
    });
    // A run without writes and reads would prove nothing.
    assert!(acknowledged > 5_000 && reads > 5_000 && aged > 1_000, "{acknowledged} {reads} {aged}");
    assert!(swaps > 300, "{swaps}");
}

/// Found within 3 seeds. They are seeds of the test above, and the runs are the same: the only fault is that reads are
/// taken for linearizable that were served at once, from what the node happened to have.
#[test]
fn a_read_without_its_round_is_found_out() {
    let found = (0..3).find(|seed| {
        let mut clients = Clients::new(4);
        clients.trust_stale_reads = true;
        let (_, clients) = run(*seed, clients);
        matches!(judge(&clients.history), Verdict::Violated(_))
    });
    assert!(found.is_some(), "not within 3 seeds");
}

/// A sole voter wins its election within one step, and has followers to tell: nothing of it before its vote is on disk,
/// as the witness sees to.
#[test]
fn a_sole_voter_with_a_learner_crashes_around_its_elections() {
    super::for_seeds(0..60, |seed| {
        let mut world = World::whole(seed, 2);
        let voter = world.leader().expect("a whole cluster has a leader");
        let mut clients = Clients::new(2);
        // A write that stalls outlasts heartbeats: only that a term is not on disk keeps them back.
        let stall_us = 50_000..400_000;
        world.weather = Weather { stall: 0.3, stall_us, ..Weather::fair() };
        for _ in 0..10 {
            rounds(&mut world, &mut clients, Storm::default(), 10);
            world.crash(voter);
            world.start(voter);
            // Some crash before the vote is on disk, some after, some when the first append was sent.
            let moment = Duration::from_micros(world.rng.u64(..300_000));
            world.run_for(moment);
            world.crash(voter);
            world.start(voter);
        }
        calm(&mut world);
        settle_accounts(&mut world, &mut clients);
    });
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let run = || {
        let mut world = World::new(7, 3, Weather::fair());
        world.transcript = Some(Vec::new());
        world.start_all();
        world.run_until("the cluster is formed", World::is_settled);
        let mut clients = Clients::new(4);
        world.weather = Weather::foul(&mut world.rng);
        rounds(
            &mut world,
            &mut clients,
            Storm { crashes: 0.03, partitions: 0.05, ..Storm::default() },
            100,
        );
        world.transcript
    };
    assert!(run() == run());
}
