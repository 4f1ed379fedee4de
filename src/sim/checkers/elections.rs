//! Election safety: a term has one leader at most, and an identity gives one vote in it, however often it starts anew.

use std::collections::BTreeMap;

use super::Finding;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Elections {
    /// By term.
    leaders: BTreeMap<u64, u64>,
    /// By raft id and term.
    votes: BTreeMap<(u64, u64), u64>,
}

impl Elections {
    /// A node leads in a term. Tells whether that was not known yet.
    pub fn leads(&mut self, term: u64, raft_id: u64) -> Result<bool, String> {
        match self.leaders.insert(term, raft_id) {
            None => Ok(true),
            Some(known) if known == raft_id => Ok(false),
            Some(known) => Err(format!("term {term} has two leaders, {known} and {raft_id}")),
        }
    }

    /// Who led in a term, as far as it was seen.
    pub fn leader(&self, term: u64) -> Option<u64> {
        self.leaders.get(&term).copied()
    }

    /// A node has voted: its disk says so, or it told so.
    pub fn votes(&mut self, raft_id: u64, term: u64, vote: u64) -> Finding {
        if vote == 0 {
            return Ok(());
        }
        match self.votes.insert((raft_id, term), vote) {
            Some(before) if before != vote => {
                Err(format!("{raft_id} votes for {before} and for {vote} in term {term}"))
            }
            _ => Ok(()),
        }
    }

    /// How many terms had a leader.
    pub fn count(&self) -> u64 {
        self.leaders.len() as u64
    }
}
