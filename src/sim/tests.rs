//! The simulator tried out: the same seed is the same run, clean seeds are clean, and planted bugs are found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::checkers::Checker;
use super::run::run;
use super::tally::Tally;
use crate::planted::{Bug, plant};

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 0..5 {
        let [first, second] = [true, true].map(|told| run(seed, told));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.tally, second.tally, "seed {seed}");
        assert!(first.transcript == second.transcript, "seed {seed}");
        // To look at a run does not change it.
        assert_eq!(first.trace, run(seed, false).trace, "seed {seed}");
    }
}

#[test]
fn no_seed_breaks_a_promise() {
    let mut tally = Tally::default();
    let seeds = std::env::var("SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    for seed in 0..seeds {
        let report = run(seed, false);
        if let Some(failure) = report.failure {
            panic!("{failure}\ncargo run --release --bin sim -- --seed {seed} --trace");
        }
        tally += report.tally;
    }
    println!("{tally}");
    // Runs in which nothing happens would prove nothing.
    let Tally { writes, reads, elections, snapshots, lost_disks, refused_starts, .. } = tally;
    assert!(writes > 5_000 && reads > 5_000 && elections > 300, "{tally}");
    assert!(snapshots > 20 && lost_disks > 30 && refused_starts > 2, "{tally}");
    let Tally { over_quota, clearings, backups, marred_states, quarantines, .. } = tally;
    assert!(over_quota > 100 && clearings > 100 && backups > 100, "{tally}");
    assert!(marred_states > 3 && quarantines > 3, "{tally}");
    assert!(tally.unknown * 20 < seeds, "too many histories are beyond the judge: {tally}");
}

/// With each bug: who found it first, and in which seed. Both may be others after any change of the program: then the
/// table is to be brought up to date.
const FOUND: [(Bug, Checker, u64); Bug::ALL.len()] = [
    (Bug::AcknowledgeBeforeSync, Checker::SaidIsDurable, 0),
    (Bug::CountOwnLogBeforeSync, Checker::AcknowledgedIsDurable, 2),
    (Bug::ForgetVote, Checker::OneVote, 8),
    (Bug::SendBeforeVote, Checker::SaidIsDurable, 0),
    (Bug::CountLearners, Checker::AcknowledgedIsDurable, 9),
    (Bug::CommitEarlierTerm, Checker::OwnTerm, 27),
    (Bug::ReadWithoutRound, Checker::Freshness, 0),
    (Bug::ReuseReadContext, Checker::SaidIsDurable, 1),
    (Bug::YoungerThanItIs, Checker::Freshness, 76),
    (Bug::ForgetRemembered, Checker::Backup, 1),
    (Bug::ApplyRetry, Checker::Assertion, 1),
    (Bug::IgnoreSince, Checker::ExactlyOnce, 2),
    (Bug::ApplyConsultsDisk, Checker::EqualStates, 1),
    (Bug::AnswerByArrival, Checker::Linearizability, 1),
    (Bug::RecoverWithoutSync, Checker::Recovery, 95),
    (Bug::SkipChecksum, Checker::Recovery, 135),
    (Bug::AcceptTorn, Checker::Recovery, 40),
    (Bug::KeepIdentity, Checker::Liveness, 2),
    (Bug::PromiseTwice, Checker::OneCluster, 323),
    (Bug::ForgetDeadline, Checker::Answers, 3),
    (Bug::ReleaseTooEarly, Checker::Recovery, 175),
    (Bug::NeverRefute, Checker::Convergence, 1),
    (Bug::ForwardTwice, Checker::OneHop, 2),
    (Bug::DemoteLeader, Checker::LeaderVotes, 5),
    (Bug::ForgetInSnapshot, Checker::EqualStates, 9),
];

/// A bug that is not found within so many seeds is not found.
const SEEDS_MAX: u64 = 400;

/// Who finds the bug first, and in which seed.
fn find(bug: Bug) -> Option<(Checker, u64)> {
    (0..SEEDS_MAX).find_map(|seed| {
        plant(Some(bug));
        let found = catch_unwind(AssertUnwindSafe(|| run(seed, false).failure));
        plant(None);
        let checker = match found {
            Ok(failure) => failure?.checker,
            Err(_) => Checker::Assertion,
        };
        Some((checker, seed))
    })
}

#[test]
fn every_planted_bug_is_found() {
    let mut lost = Vec::new();
    for (bug, checker, seed) in FOUND {
        match find(bug) {
            None => lost.push(bug),
            Some(found) if found == (checker, seed) => {}
            Some((by, in_seed)) => println!("(Bug::{bug:?}, Checker::{by:?}, {in_seed}),"),
        }
    }
    assert!(lost.is_empty(), "not within {SEEDS_MAX} seeds: {lost:?}");
    assert!(Bug::ALL.iter().all(|bug| FOUND.iter().any(|(of, _, _)| of == bug)), "one is missing");
}
