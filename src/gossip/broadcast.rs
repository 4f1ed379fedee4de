//! News on their way: what is still to be told, one piece for each node; of a suspect, one for each who suspects it.
//!
//! A piece of news leaves on every packet until it was sent `retransmit_mult` x ceil(log10(n + 1)) times, n being the
//! size of the mesh (memberlist's limit). The least told goes first, among those the newest. A newer piece about a
//! node replaces the older ones; a confirmation of a suspicion stands beside it. (Were it to replace it, nodes that begin
//! to suspect at the same moment would pass on each other's confirmations in place of their own, and none would have enough.)

use std::cmp::Reverse;
use std::collections::BTreeMap;

use prost::Message;

use crate::limits::GOSSIP_MEMBERS_MAX;
use crate::wire::gossip::Update;

/// Past that, what was told most often makes room. All members at once, and this node itself.
const PIECES_MAX: usize = GOSSIP_MEMBERS_MAX + 1;

#[derive(Debug)]
struct Piece {
    update: Update,
    sent: u32,
    /// The larger, the newer.
    order: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Broadcasts {
    /// By the node that they are of, and who confirms; 0 for what stands alone.
    pieces: BTreeMap<(u64, u64), Piece>,
    order: u64,
}

impl Broadcasts {
    /// Tell this of the node `raft_id`, and nothing else.
    pub fn push(&mut self, raft_id: u64, update: Update) {
        self.pieces.retain(|(of, _), _| *of != raft_id);
        self.insert((raft_id, 0), update);
    }

    /// Tell this too of the node `raft_id`: `by` confirms it.
    pub fn push_beside(&mut self, raft_id: u64, by: u64, update: Update) {
        self.insert((raft_id, by), update);
    }

    fn insert(&mut self, key: (u64, u64), update: Update) {
        self.order += 1;
        if self.pieces.len() >= PIECES_MAX
            && let Some((&most_told, _)) = self.pieces.iter().max_by_key(|(_, piece)| piece.sent)
        {
            self.pieces.remove(&most_told);
        }
        self.pieces.insert(key, Piece { update, sent: 0, order: self.order });
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Nobody is there to be told.
    pub fn clear(&mut self) {
        self.pieces.clear();
    }

    /// What fits into `room` bytes as elements of a repeated field, appended to `updates`.
    pub fn fill(&mut self, mut room: usize, sent_max: u32, updates: &mut Vec<Update>) {
        let mut ranking: Vec<(u32, Reverse<u64>, (u64, u64))> = self
            .pieces
            .iter()
            .map(|(key, piece)| (piece.sent, Reverse(piece.order), *key))
            .collect();
        ranking.sort_unstable();
        for (_, _, key) in ranking {
            let Some(piece) = self.pieces.get_mut(&key) else { continue };
            let len = element_len(&piece.update);
            if len > room {
                continue;
            }
            room -= len;
            updates.push(piece.update.clone());
            piece.sent += 1;
            if piece.sent >= sent_max {
                self.pieces.remove(&key);
            }
        }
    }
}

/// How often a piece of news is sent by each node in a mesh of `mesh_size`.
pub(super) fn sent_max(retransmit_mult: u32, mesh_size: usize) -> u32 {
    let digits = ((mesh_size + 1) as f64).log10().ceil() as u32;
    retransmit_mult * digits.max(1)
}

/// The length of an update within a packet: tag, length and content.
pub(super) fn element_len(update: &Update) -> usize {
    let len = update.encoded_len();
    1 + prost::length_delimiter_len(len) + len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::gossip::{Verdict, update::News};

    fn update(raft_id: u64, incarnation: u64) -> Update {
        let verdict = Verdict { raft_id, incarnation, ..Verdict::default() };
        Update { news: Some(News::Verdict(verdict)) }
    }

    #[test]
    fn the_least_told_goes_first_then_the_newest_and_none_too_often() {
        let mut queue = Broadcasts::default();
        queue.push(1, update(1, 0));
        queue.push(2, update(2, 0));
        let room = element_len(&update(1, 0));
        let mut sent = Vec::new();
        for _ in 0..5 {
            queue.fill(room, 2, &mut sent);
        }
        assert_eq!(sent, [update(2, 0), update(1, 0), update(2, 0), update(1, 0)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn newer_news_of_a_node_replace_the_older() {
        let mut queue = Broadcasts::default();
        queue.push(1, update(1, 0));
        queue.push(1, update(1, 7));
        let mut sent = Vec::new();
        queue.fill(1000, 4, &mut sent);
        assert_eq!(sent, [update(1, 7)]);
    }

    #[test]
    fn confirmations_stand_beside_each_other_until_there_is_other_news() {
        let mut queue = Broadcasts::default();
        queue.push(1, update(1, 1));
        queue.push_beside(1, 8, update(1, 2));
        queue.push_beside(1, 9, update(1, 3));
        let mut sent = Vec::new();
        queue.fill(1000, 4, &mut sent);
        assert_eq!(sent, [update(1, 3), update(1, 2), update(1, 1)]);
        queue.push(1, update(1, 4));
        sent.clear();
        queue.fill(1000, 4, &mut sent);
        assert_eq!(sent, [update(1, 4)]);
    }

    #[test]
    fn the_limit_grows_with_the_logarithm() {
        let limits = [1, 5, 9, 10, 50, 200].map(|n| sent_max(4, n));
        assert_eq!(limits, [4, 4, 4, 8, 8, 12]);
    }
}
