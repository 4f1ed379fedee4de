//! Who holds an identity. A raft id has one holder at a time: one start of one process. A data directory that was copied,
//! or started twice, makes a second one, and two holders of one identity can vote twice in one term.
//!
//! Invariants:
//! - Only the holder that has the seat is heard, and only while no other is known to live.
//! - Who has the seat keeps it while it answers: a later start takes it when the connections of the one before have ended,
//!   as those of a process that was killed do, or when that one, asked for a sign of life, gives none.
//! - An earlier start never takes the seat of a later one. But if it comes right after that one was seated, by a node that
//!   knew of neither, two live at once, and neither is heard until one is silent: nobody can tell which has the newer data.
//!
//! A node that has just started knows of no seats. The holders that live come to it within seconds, before an election.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::GREETED_MAX;
use crate::wire::client::Identity;

/// Who is asked for a sign of life greets again within this time: twice the longest pause between two attempts.
const CHALLENGE: Duration = Duration::from_secs(4);
/// Who gave one is not asked again for so long.
const PROVED: Duration = Duration::from_secs(60);
/// A seat that was free is contested by whoever else comes within this time, and for as long after each time it comes.
const CONTESTED: Duration = Duration::from_secs(10);

/// What becomes of a greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// It has the seat.
    Seated,
    /// Another start has the seat and may live: its connections are to be ended, and if it does not come again, the seat is free.
    Challenge { seated: u64 },
    /// As before, and the answer is still out.
    Wait { seated: u64 },
    /// Another start has the seat, and has shown that it lives.
    SecondHolder { seated: u64 },
    /// A later start has the seat, or another process of this one.
    Superseded { seated: u64 },
}

#[derive(Debug)]
struct Seat {
    starts: u64,
    nonce: u64,
    /// Connections that the holder has opened to this node.
    connections: u32,
    /// When it greeted, or sent a frame.
    heard: Duration,
    /// Since when the holder has the seat, if nobody had it before.
    first_since: Option<Duration>,
    challenged: Option<Duration>,
    proved: Option<Duration>,
    contested: Option<Duration>,
}

impl Seat {
    fn of(holder: &Identity, now: Duration) -> Seat {
        Seat {
            starts: holder.starts,
            nonce: holder.nonce,
            connections: 1,
            heard: now,
            first_since: None,
            challenged: None,
            proved: None,
            contested: None,
        }
    }

    fn is_of(&self, holder: &Identity) -> bool {
        (self.starts, self.nonce) == (holder.starts, holder.nonce)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Seats {
    by_id: BTreeMap<u64, Seat>,
}

impl Seats {
    /// A process greets: who it says to be. `keep` are the identities that are remembered in any case.
    pub fn greet(
        &mut self,
        from: &Identity,
        now: Duration,
        keep: impl Fn(u64) -> bool,
    ) -> Greeting {
        if self.by_id.len() >= GREETED_MAX {
            // Whoever belongs to the cluster is remembered, for it is its copies that do harm.
            self.by_id.retain(|raft_id, seat| keep(*raft_id) || seat.connections > 0);
        }
        let Some(seat) = self.by_id.get_mut(&from.raft_id) else {
            let seat = Seat { first_since: Some(now), ..Seat::of(from, now) };
            self.by_id.insert(from.raft_id, seat);
            return Greeting::Seated;
        };
        let seated = seat.starts;
        if seat.is_of(from) {
            seat.connections += 1;
            seat.heard = now;
            if seat.challenged.take().is_some() {
                seat.proved = Some(now);
            }
            return Greeting::Seated;
        }
        if from.starts <= seat.starts {
            let recent = |at: Option<Duration>| at.is_some_and(|at| now < at + CONTESTED);
            if seat.connections > 0 && (recent(seat.first_since) || recent(seat.contested)) {
                seat.contested = Some(now);
            }
            return Greeting::Superseded { seated };
        }
        if seat.proved.is_some_and(|at| seat.connections > 0 && now < at + PROVED) {
            return Greeting::SecondHolder { seated };
        }
        match seat.challenged {
            Some(since) if now < since + CHALLENGE => Greeting::Wait { seated },
            None if seat.connections > 0 => {
                seat.challenged = Some(now);
                Greeting::Challenge { seated }
            }
            Some(_) | None => {
                *seat = Seat::of(from, now);
                Greeting::Seated
            }
        }
    }

    /// A connection that this process had opened is gone.
    pub fn left(&mut self, from: &Identity) {
        if let Some(seat) = self.by_id.get_mut(&from.raft_id).filter(|seat| seat.is_of(from)) {
            seat.connections = seat.connections.saturating_sub(1);
        }
    }

    /// Whether a frame of this process is to be heard: it has the seat, and nobody contests that.
    pub fn hears(&mut self, from: &Identity, now: Duration) -> bool {
        let Some(seat) = self.by_id.get_mut(&from.raft_id).filter(|seat| seat.is_of(from)) else {
            return false;
        };
        seat.heard = now;
        seat.contested.is_none_or(|at| now >= at + CONTESTED)
    }

    /// Whether this node may connect to that process and speak with it: nobody else has the seat, or nobody that is here.
    pub fn admits(&self, peer: &Identity) -> bool {
        self.by_id.get(&peer.raft_id).is_none_or(|seat| {
            seat.is_of(peer) || peer.starts > seat.starts && seat.connections == 0
        })
    }

    /// When the holder of an identity was last heard.
    pub fn heard(&self, raft_id: u64) -> Option<Duration> {
        self.by_id.get(&raft_id).map(|seat| seat.heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn holder(starts: u64, nonce: u64) -> Identity {
        Identity { raft_id: 7, starts, nonce, ..Identity::default() }
    }

    fn greet(seats: &mut Seats, from: &Identity, at: u32) -> Greeting {
        seats.greet(from, at * SECOND, |_| true)
    }

    #[test]
    fn a_process_that_was_killed_makes_room_for_its_successor() {
        let mut seats = Seats::default();
        let [first, second] = [holder(1, 1), holder(2, 2)];
        assert_eq!(greet(&mut seats, &first, 0), Greeting::Seated);
        seats.left(&first);
        assert!(seats.admits(&second));
        assert_eq!(greet(&mut seats, &second, 0), Greeting::Seated);
        assert!(seats.hears(&second, SECOND) && !seats.hears(&first, SECOND));
    }

    #[test]
    fn a_holder_that_lives_keeps_its_seat_against_a_later_start() {
        let mut seats = Seats::default();
        let [original, copy] = [holder(5, 1), holder(6, 2)];
        assert_eq!(greet(&mut seats, &original, 0), Greeting::Seated);
        assert!(!seats.admits(&copy));
        assert_eq!(greet(&mut seats, &copy, 1), Greeting::Challenge { seated: 5 });
        // Its connection is ended, and it opens another.
        seats.left(&original);
        assert_eq!(greet(&mut seats, &copy, 2), Greeting::Wait { seated: 5 });
        assert_eq!(greet(&mut seats, &original, 2), Greeting::Seated);
        assert_eq!(greet(&mut seats, &copy, 9), Greeting::SecondHolder { seated: 5 });
        assert!(seats.hears(&original, 9 * SECOND) && !seats.hears(&copy, 9 * SECOND));
        // It stops: now the other may have the seat.
        seats.left(&original);
        assert_eq!(greet(&mut seats, &copy, 20), Greeting::Seated);
    }

    #[test]
    fn a_holder_that_gives_no_sign_loses_its_seat() {
        let mut seats = Seats::default();
        let [lost, next] = [holder(5, 1), holder(6, 2)];
        assert_eq!(greet(&mut seats, &lost, 0), Greeting::Seated);
        assert_eq!(greet(&mut seats, &next, 1), Greeting::Challenge { seated: 5 });
        assert_eq!(greet(&mut seats, &next, 4), Greeting::Wait { seated: 5 });
        assert_eq!(greet(&mut seats, &next, 5), Greeting::Seated);
    }

    #[test]
    fn of_two_that_live_neither_is_heard() {
        let mut seats = Seats::default();
        let [original, copy] = [holder(5, 1), holder(6, 2)];
        // This node has just started, and the copy was faster.
        assert_eq!(greet(&mut seats, &copy, 0), Greeting::Seated);
        assert!(seats.hears(&copy, Duration::ZERO));
        assert_eq!(greet(&mut seats, &original, 1), Greeting::Superseded { seated: 6 });
        assert!(!seats.hears(&copy, 2 * SECOND) && !seats.hears(&original, 2 * SECOND));
        // The original goes on trying, and then is stopped.
        assert_eq!(greet(&mut seats, &original, 10), Greeting::Superseded { seated: 6 });
        assert!(!seats.hears(&copy, 19 * SECOND) && seats.hears(&copy, 21 * SECOND));
    }

    #[test]
    fn an_old_copy_gets_no_seat_even_if_it_is_free() {
        let mut seats = Seats::default();
        let [new, old] = [holder(6, 1), holder(5, 2)];
        greet(&mut seats, &new, 0);
        seats.left(&new);
        assert_eq!(greet(&mut seats, &old, 100), Greeting::Superseded { seated: 6 });
        assert_eq!(greet(&mut seats, &holder(6, 3), 100), Greeting::Superseded { seated: 6 });
        assert!(!seats.admits(&old));
        // Gone when the other came: nobody contests anything.
        assert_eq!(greet(&mut seats, &new, 101), Greeting::Seated);
        assert!(seats.hears(&new, 101 * SECOND));
    }

    #[test]
    fn an_old_copy_does_not_unseat_whoever_was_there_before() {
        let mut seats = Seats::default();
        let [original, copy] = [holder(6, 1), holder(6, 2)];
        greet(&mut seats, &original, 0);
        assert_eq!(greet(&mut seats, &copy, 60), Greeting::Superseded { seated: 6 });
        assert!(seats.hears(&original, 61 * SECOND));
    }

    #[test]
    fn strangers_are_forgotten_first() {
        let mut seats = Seats::default();
        for raft_id in 1..=2 * GREETED_MAX as u64 {
            let from = Identity { raft_id, starts: 1, ..Identity::default() };
            seats.greet(&from, SECOND, |raft_id| raft_id < 10);
            seats.left(&from);
        }
        assert!(seats.by_id.len() <= GREETED_MAX && (1..10).all(|id| seats.heard(id).is_some()));
    }
}
