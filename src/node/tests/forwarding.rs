//! Writes by way of another node than the leader.

use std::time::Duration;

use super::super::Input;
use crate::sim::world::World;
use crate::wire::client::{Response, response};

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A leader and its two followers.
fn roles(world: &World) -> (usize, usize, usize) {
    let leader = world.leader().expect("a whole cluster has a leader");
    (leader, (leader + 1) % 3, (leader + 2) % 3)
}

fn is_done(response: &Option<Response>) -> bool {
    response
        .as_ref()
        .is_some_and(|response| matches!(response.result, Some(response::Result::Txn(_))))
}

/// The node that passed a write on crashes, and its successor passes on another one. The late answer to the first must not
/// be taken for one to the second.
#[test]
fn the_answer_to_a_write_of_an_earlier_start_answers_nothing() {
    super::for_seeds(0..40, |seed| {
        let mut world = World::whole(seed, 3);
        // So long that a node that starts anew takes requests at once.
        world.run_for(3 * SECOND);
        let (leader, follower, third) = roles(&world);
        // Without the third, an entry is committed when the follower is back.
        world.crash(third);
        world.cut(leader, follower);
        world.put(follower, "first", 10 * SECOND);
        world.run_for(ms(20));
        world.crash(follower);
        world.heal();
        world.start(follower);
        let second = world.put(follower, "second", 10 * SECOND);
        world.run_until("the second is answered", |world| world.unanswered(follower) == 0);
        let answers = world.take_answers();
        let answer = answers.iter().find(|answer| answer.id == second).expect("it is answered");
        if is_done(&answer.response) {
            world.run_until("the follower has all", |world| {
                world.node(follower).applied_index() == world.node(leader).applied_index()
            });
            let found = world.node(leader).store.get(b"second").expect("a map in memory");
            assert!(found.is_some(), "acknowledged, and never written");
        }
    });
}

/// A leader that takes no writes any more and has nobody yet to lead instead: they wait, and are not thrown to and fro.
#[test]
fn a_write_that_the_leader_does_not_take_waits() {
    let mut world = World::whole(1, 3);
    let (leader, mut follower, mut heir) = roles(&world);
    // Of two that are equal, the one with the larger id is to lead.
    if world.machines[follower].raft_id > world.machines[heir].raft_id {
        (follower, heir) = (heir, follower);
    }
    world.cut(leader, heir);
    world.input(leader, Input::Stop);
    world.run_for(ms(20));
    world.put(follower, "key", SECOND);
    world.run_for(ms(300));
    assert_eq!(world.leader(), Some(leader), "the heir does not hear of it");
    assert!(world.tally.forwards <= 5, "{} times in 300 ms", world.tally.forwards);
    world.heal();
    world.run_until("another leads", |world| world.leader() != Some(leader));
    world.run_until("it is answered", |world| world.unanswered(follower) == 0);
    assert!(is_done(&world.take_answers()[0].response));
}
