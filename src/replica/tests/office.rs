//! When a replica asks for votes, and when it asks again.

use std::time::Duration;

use super::crew::Crew;
use crate::replica::{FINE_TICKS, Outputs, Role};

const ELECTION: u32 = super::crew::ELECTION_TICKS * FINE_TICKS;

/// How many ticks pass until a replica that nobody answers asks for votes.
fn ticks_until_it_asks(crew: &mut Crew, raft_id: u64) -> u32 {
    let replica = crew.replica(raft_id);
    let due = replica.ticks_until_due() as u32;
    let asks = |_: &u32| {
        let mut out = Outputs::default();
        replica.tick();
        replica.drain(Duration::ZERO, &mut out);
        !out.messages.is_empty()
    };
    let ticks = (1..=2 * ELECTION).find(asks).expect("a voter without a leader asks for votes");
    assert_eq!(ticks, due, "and says when");
    ticks
}

#[test]
fn a_follower_waits_for_an_election_timeout_and_a_candidate_for_less() {
    let (mut first, mut second, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..50 {
        let mut crew = Crew::new(seed, 3, 0);
        let ticks: Vec<u32> = (0..12).map(|_| ticks_until_it_asks(&mut crew, 2)).collect();
        assert_eq!(crew.replica(2).role(), Role::Candidate);
        first.push(ticks[0]);
        second.push(ticks[1]);
        late.extend(&ticks[8..]);
    }
    let (first_range, second_range) = (ELECTION..ELECTION * 5 / 4, ELECTION / 5..ELECTION * 3 / 5);
    assert!(first.iter().all(|ticks| first_range.contains(ticks)), "{first:?}");
    assert!(second.iter().all(|ticks| second_range.contains(ticks)), "{second:?}");
    // Whoever hears nothing for long gives the others time.
    assert!(late.iter().all(|ticks| (ELECTION / 5..2 * ELECTION).contains(ticks)), "{late:?}");
    assert!(late.iter().filter(|ticks| **ticks > ELECTION).count() > late.len() / 3, "{late:?}");
    // They do not all ask at once.
    for times in [&mut first, &mut second, &mut late] {
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 5, "{times:?}");
    }
}
