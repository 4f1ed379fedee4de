//! When a replica asks for votes, and when it asks again.

use std::time::Duration;

use super::crew::Crew;
use crate::replica::{FINE_TICKS, Outputs, Role};

const ELECTION: u32 = super::crew::ELECTION_TICKS * FINE_TICKS;

/// Ticks a replica that nobody answers until it asks for votes.
fn ticks_until_it_asks(crew: &mut Crew, raft_id: u64) -> u32 {
    let replica = crew.replica(raft_id);
    let asks = |_: &u32| {
        let mut out = Outputs::default();
        replica.tick();
        replica.drain(Duration::ZERO, &mut out);
        !out.messages.is_empty()
    };
    (1..=2 * ELECTION).find(asks).expect("a voter without a leader asks for votes")
}

#[test]
fn a_follower_waits_for_an_election_timeout_and_a_candidate_for_less() {
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for seed in 0..50 {
        let mut crew = Crew::new(seed, 3, 0);
        first.push(ticks_until_it_asks(&mut crew, 2));
        later.extend([(); 4].map(|()| ticks_until_it_asks(&mut crew, 2)));
        assert_eq!(crew.replica(2).role(), Role::Candidate);
    }
    let (first_range, later_range) = (ELECTION..ELECTION * 5 / 4, ELECTION / 5..ELECTION * 3 / 5);
    assert!(first.iter().all(|ticks| first_range.contains(ticks)), "{first:?}");
    assert!(later.iter().all(|ticks| later_range.contains(ticks)), "{later:?}");
    // They do not all ask at once.
    for times in [&mut first, &mut later] {
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 5, "{times:?}");
    }
}
