//! What a node says to a client when it is cut off from the majority, and how soon.

use std::time::Duration;

use crate::sim::machine::TICK;
use crate::sim::world::World;
use crate::wire::client::{Code, Get, request, response};

/// As long as a client would wait whom nobody refuses.
const TIMEOUT: Duration = Duration::from_secs(60);

fn read(stale: bool) -> request::Command {
    request::Command::Get(Get { key: "key".into(), stale })
}

/// A linearizable read that is asked right after the cut, of a leader and of a follower, is refused within three times E;
/// a stale one is answered.
#[test]
fn a_minority_refuses_to_read_within_three_election_timeouts() {
    super::for_seeds(0..20, |seed| {
        let mut world = World::whole(seed, 5);
        world.run_until("all five vote", World::is_at_full_strength);
        let election_timeout = TICK * world.machines[0].config.election_ticks;
        let leader = world.leader().expect("a whole cluster has a leader");
        let minority = [leader, (leader + 1) % 5];
        for many in (0..5).filter(|many| !minority.contains(many)) {
            for few in minority {
                world.cut(few, many);
                world.cut(many, few);
            }
        }
        let cut = world.now;
        for few in minority {
            world.request(few, 0, TIMEOUT, read(false));
            let stale = world.request(few, 1, TIMEOUT, read(true));
            world.run_until("the stale read is answered", |world| world.unanswered(few) == 1);
            let answer = world.take_answers_on(1).pop().expect("it is answered");
            assert_eq!(answer.id, stale);
            let answered = answer.response.and_then(|response| response.result);
            assert!(matches!(answered, Some(response::Result::Get(_))), "{answered:?}");
        }
        world.run_until("both refuse", |world| {
            minority.iter().all(|few| world.unanswered(*few) == 0)
        });
        let refusals = world.take_answers();
        assert_eq!(refusals.len(), minority.len());
        for answer in refusals {
            let answered = answer.response.and_then(|response| response.result);
            let Some(response::Result::Error(refused)) = answered else {
                panic!("seed {seed}: {answered:?}")
            };
            assert_eq!(refused.code(), Code::NoQuorum, "seed {seed}: {refused:?}");
            let took = answer.at - cut;
            assert!(took <= 3 * election_timeout, "seed {seed}: after {took:?}");
        }
    });
}
