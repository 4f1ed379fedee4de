//! Linearizable reads: ReadIndex (Ongaro's thesis, section 6.4), batched in rounds.
//!
//! A read joins the next round. A round asks the leader for its commit index, and the leader answers after one exchange
//! of heartbeats has shown that it still leads; when the asking node has applied that far, all reads of the round may be
//! served from its own state.
//!
//! Invariants:
//! - A read joins a round before the round's request is sent, never after.
//! - A round's context (raft id, nonce of the start, counter) is used once. A round without an answer is asked anew under
//!   a new context: raft-rs answers a context that it has seen with the index of the first time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::READ_ROUNDS_MAX;
use crate::planted::{Bug, planted};

/// Names a waiting read; chosen by whoever asks.
pub type ReadToken = u64;

/// A round's context on the wire: raft id, nonce of this start, counter; big-endian.
pub type Context = [u8; 24];

/// A round that was answered: its reads may be served once `index` is applied.
#[derive(Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The commit index of the leader after the round was begun.
    pub index: u64,
    /// When the round was begun: everything acknowledged before is at or below `index`.
    pub begun: Duration,
    /// The reads that joined.
    pub tokens: Vec<ReadToken>,
}

#[derive(Debug)]
struct Round {
    context: Context,
    begun: Duration,
    tokens: Vec<ReadToken>,
}

/// The rounds of one node.
#[derive(Debug)]
pub(super) struct Reads {
    raft_id: u64,
    nonce: u64,
    counter: u64,
    /// Reads that no round was begun for yet.
    joined: Vec<ReadToken>,
    /// Rounds that were asked, oldest first.
    asked: VecDeque<Round>,
}

impl Reads {
    pub(super) fn new(raft_id: u64, nonce: u64) -> Reads {
        Reads { raft_id, nonce, counter: 0, joined: Vec::new(), asked: VecDeque::new() }
    }

    /// Adds a read to the next round.
    pub(super) fn join(&mut self, token: ReadToken) {
        self.joined.push(token);
    }

    /// Begins a round for the reads that joined, if there are any, and gives the context to ask with.
    pub(super) fn begin(&mut self, now: Duration) -> Option<Context> {
        if self.joined.is_empty() || self.asked.len() >= READ_ROUNDS_MAX {
            return None;
        }
        self.counter += 1;
        let mut context = [0; 24];
        context[..8].copy_from_slice(&self.raft_id.to_be_bytes());
        context[8..16].copy_from_slice(&self.nonce.to_be_bytes());
        context[16..].copy_from_slice(&self.counter.to_be_bytes());
        let tokens = std::mem::take(&mut self.joined);
        self.asked.push_back(Round { context, begun: now, tokens });
        Some(context)
    }

    /// A round's answer. An answer to no round of ours (asked anew since) is dropped.
    pub(super) fn confirm(&mut self, context: &[u8], index: u64) -> Option<Confirmed> {
        let position = self.asked.iter().position(|round| round.context == context)?;
        let round = self.asked.remove(position)?;
        Some(Confirmed { index, begun: round.begun, tokens: round.tokens })
    }

    /// Forgets the reads that `wanted` does not hold of: they were answered otherwise.
    pub(super) fn retain(&mut self, wanted: impl Fn(ReadToken) -> bool) {
        self.joined.retain(|token| wanted(*token));
    }

    /// Puts the reads of rounds that were begun at or before `begun` back, to be asked anew.
    pub(super) fn retry(&mut self, begun: Duration) {
        while self.asked.front().is_some_and(|round| round.begun <= begun) {
            let round = self.asked.pop_front().expect("there is a front");
            self.joined.extend(round.tokens);
            if planted(Bug::ReuseReadContext) {
                self.counter -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_read_joins_only_rounds_that_are_not_yet_asked() {
        let mut reads = Reads::new(1, 2);
        reads.join(10);
        reads.join(11);
        let first = reads.begin(ms(5)).unwrap();
        reads.join(12);
        assert_eq!(reads.begin(ms(6)).map(|second| second == first), Some(false));
        let confirmed = reads.confirm(&first, 40).unwrap();
        assert_eq!(confirmed, Confirmed { index: 40, begun: ms(5), tokens: vec![10, 11] });
        assert_eq!(reads.confirm(&first, 41), None, "a context is answered once");
    }

    #[test]
    fn a_round_asked_anew_has_a_new_context_and_the_old_answer_is_dropped() {
        let mut reads = Reads::new(1, 2);
        reads.join(10);
        let first = reads.begin(ms(5)).unwrap();
        reads.retry(ms(5));
        let second = reads.begin(ms(9)).unwrap();
        assert_ne!(first, second);
        assert_eq!(reads.confirm(&first, 40), None);
        assert_eq!(reads.confirm(&second, 50).unwrap().tokens, [10]);
    }

    #[test]
    fn reads_that_were_answered_otherwise_are_forgotten() {
        let mut reads = Reads::new(1, 2);
        (0..10).for_each(|token| reads.join(token));
        reads.retain(|token| token % 5 == 0);
        let context = reads.begin(ms(1)).unwrap();
        assert_eq!(reads.confirm(&context, 1).unwrap().tokens, [0, 5]);
    }

    #[test]
    fn rounds_in_flight_are_bounded_and_later_reads_wait() {
        let mut reads = Reads::new(1, 2);
        for token in 0..READ_ROUNDS_MAX as u64 {
            reads.join(token);
            assert!(reads.begin(ms(token)).is_some());
        }
        reads.join(1000);
        assert_eq!(reads.begin(ms(99)), None);
    }
}
