//! How long writes wait for another leader when theirs is killed.

use std::time::Duration;

use crate::sim::machine::TICK;
use crate::sim::world::World;
use crate::wire::client::response;

const SEEDS: u64 = 60;
/// Longer than any election.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a write through that machine is done. If not, it was refused.
fn is_put(world: &mut World, i: usize) -> bool {
    let id = world.put(i, "key", TIMEOUT);
    world.run_until("it is answered", |world| world.unanswered(i) == 0);
    let answer = world.take_answers().into_iter().find(|answer| answer.id == id);
    let response = answer.and_then(|answer| answer.response).expect("it is answered");
    matches!(response.result, Some(response::Result::Txn(_)))
}

/// Mostly one election timeout, which is drawn from E to 5/4 E, and the election; a split vote takes another.
#[test]
fn a_write_waits_for_another_leader_for_an_election_timeout_and_a_little() {
    let mut gaps = Vec::new();
    let mut election_timeout = Duration::ZERO;
    super::for_seeds(0..SEEDS, |seed| {
        let mut world = World::whole(seed, 3);
        election_timeout = TICK * world.machines[0].config.election_ticks;
        let leader = world.leader().expect("a whole cluster has a leader");
        let killed = world.now;
        world.crash(leader);
        let asked = (leader + 1) % 3;
        // As a client does, it asks again where it is refused.
        while !is_put(&mut world, asked) {
            assert!(world.now < killed + TIMEOUT, "seed {seed}: nothing is written");
        }
        gaps.push(world.now - killed);
    });
    gaps.sort();
    let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!("E is {election_timeout:?}: median {median:?}, worst {worst:?}");
    assert!(median <= election_timeout.mul_f64(1.25), "the median is {median:?}");
    assert!(worst <= 2 * election_timeout, "the worst is {worst:?}");
}
