//! The requests that a node is working on, each until it is answered: once.
//!
//! Invariants:
//! - A request is in the table from its arrival to its answer; taking it out is what entitles to answer it.
//! - At most [`REQUESTS_MAX`] are in the table, with [`REQUESTS_LEN_MAX`] bytes and one write more.
//! - A write's answer is found by the (index, term) of its entry, never by the order of arrival.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::orders::Order;
use crate::limits::{REQUESTS_LEN_MAX, REQUESTS_MAX};
use crate::planted::{Bug, planted};
use crate::wire::client::{Range, Write};
use prost::Message;

/// Names a request within the node, and a forwarded write between two nodes. 0 is never given out.
pub type Token = u64;

/// Names a connection of a client.
pub type ConnectionId = u64;

/// Where the answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client's connection, with the client's number for the request.
    Client { connection: ConnectionId, id: u64 },
    /// Another node, which forwarded it, with that node's token.
    Peer { raft_id: u64, id: Token },
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Write {
        write: Write,
        place: Place,
    },
    Order {
        order: Order,
        place: Place,
    },
    Get {
        key: bytes::Bytes,
    },
    Range(Range),
    /// A snapshot, or a chunk of one.
    Snapshot,
}

impl Work {
    fn len_bytes(&self) -> usize {
        match self {
            Work::Write { write, .. } => write.encoded_len(),
            Work::Order { .. } | Work::Get { .. } | Work::Range(_) | Work::Snapshot => 0,
        }
    }
}

/// Where a write or an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Here, until a leader is known that it can be given to.
    AwaitsLeader,
    /// Here: a write until this turn of the leader ends, an order until it is done.
    AwaitsProposal,
    /// In this node's log, as its leader's entry.
    Proposed { index: u64, term: u64 },
    /// With the leader of that raft id.
    Forwarded { to: u64 },
}

#[derive(Debug)]
pub(super) struct Request {
    pub origin: Origin,
    pub arrived: Duration,
    pub deadline: Duration,
    pub work: Work,
    /// Writes and orders: an earlier attempt of this node may have been applied.
    pub maybe_applied: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Requests {
    last: Token,
    table: HashMap<Token, Request>,
    /// Bytes of the writes in the table.
    len_bytes: usize,
    /// Proposed writes, by the entry that they became.
    proposed: BTreeMap<(u64, u64), Token>,
}

impl Requests {
    /// An empty table. Tokens count from a random number of this start: a leader may answer late what an earlier start
    /// forwarded to it, and the token of that must name nothing here.
    pub fn new(rng: &mut fastrand::Rng) -> Requests {
        // Half of all numbers are more than a process can use up.
        let last = rng.u64(..u64::MAX / 2);
        Requests { last, table: HashMap::new(), len_bytes: 0, proposed: BTreeMap::new() }
    }

    pub fn is_full(&self) -> bool {
        self.table.len() >= REQUESTS_MAX || self.len_bytes >= REQUESTS_LEN_MAX
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn insert(&mut self, request: Request) -> Token {
        assert!(!self.is_full(), "the caller refuses what is over the limit");
        self.last += 1;
        self.len_bytes += request.work.len_bytes();
        self.table.insert(self.last, request);
        self.last
    }

    pub fn get(&self, token: Token) -> Option<&Request> {
        self.table.get(&token)
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut Request> {
        self.table.get_mut(&token)
    }

    /// The write that a token names.
    pub fn write(&self, token: Token) -> Option<&Write> {
        match &self.table.get(&token)?.work {
            Work::Write { write, .. } => Some(write),
            _ => None,
        }
    }

    /// Where the write or the order is that a token names.
    pub fn place_mut(&mut self, token: Token) -> Option<&mut Place> {
        match &mut self.table.get_mut(&token)?.work {
            Work::Write { place, .. } | Work::Order { place, .. } => Some(place),
            _ => None,
        }
    }

    /// Whether a request may be carried out, as far as this node knows, although it gets no result.
    pub fn is_open(&self, token: Token) -> bool {
        self.table.get(&token).is_some_and(|request| match request.work {
            Work::Write { place, .. } => {
                matches!(place, Place::Proposed { .. } | Place::Forwarded { .. })
            }
            // What the leader began for it may come to pass without this node.
            Work::Order { place, .. } => place != Place::AwaitsLeader,
            Work::Get { .. } | Work::Range(_) | Work::Snapshot => false,
        })
    }

    /// Takes a request out, to answer it.
    pub fn take(&mut self, token: Token) -> Option<Request> {
        let request = self.table.remove(&token)?;
        self.len_bytes -= request.work.len_bytes();
        if let Work::Write { place: Place::Proposed { index, term }, .. } = request.work {
            self.proposed.remove(&(index, term));
        }
        Some(request)
    }

    /// Notes the entry that a write became.
    pub fn proposed(&mut self, token: Token, index: u64, term: u64) {
        if let Some(place) = self.place_mut(token) {
            *place = Place::Proposed { index, term };
            self.proposed.insert((index, term), token);
        }
    }

    /// The entry at `index` was applied: gives the write that it came from, if it was proposed here, and the writes that
    /// other terms had proposed for this index or before: those were replaced, and are lost.
    pub fn applied(&mut self, index: u64, term: u64) -> (Option<Token>, Vec<Token>) {
        if planted(Bug::AnswerByArrival) {
            return (self.proposed.pop_first().map(|(_, token)| token), Vec::new());
        }
        let mut done = None;
        let mut lost = Vec::new();
        while let Some((&(at, of), &token)) = self.proposed.first_key_value()
            && at <= index
        {
            self.proposed.pop_first();
            match (at, of) == (index, term) {
                true => done = Some(token),
                false => lost.push(token),
            }
        }
        (done, lost)
    }

    /// A snapshot took the place of everything up to `index`: gives the writes that were proposed here for entries up to
    /// there. They may have been applied.
    pub fn overtaken(&mut self, index: u64) -> Vec<Token> {
        let mut overtaken = Vec::new();
        while let Some((&(at, _), &token)) = self.proposed.first_key_value()
            && at <= index
        {
            self.proposed.pop_first();
            if let Some(request) = self.table.get_mut(&token) {
                request.maybe_applied = true;
            }
            overtaken.push(token);
        }
        overtaken
    }

    /// Writes and orders at a place, oldest first.
    pub fn writes_at(&self, at: impl Fn(Place) -> bool) -> Vec<Token> {
        let mut tokens: Vec<Token> = self
            .table
            .iter()
            .filter(|(_, request)| match request.work {
                Work::Write { place, .. } | Work::Order { place, .. } => at(place),
                Work::Get { .. } | Work::Range(_) | Work::Snapshot => false,
            })
            .map(|(token, _)| *token)
            .collect();
        tokens.sort_unstable();
        tokens
    }

    /// Requests of which `due` holds, oldest first.
    pub fn select(&self, due: impl Fn(&Request) -> bool) -> Vec<Token> {
        let mut tokens: Vec<Token> = self
            .table
            .iter()
            .filter(|(_, request)| due(request))
            .map(|(token, _)| *token)
            .collect();
        tokens.sort_unstable();
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Requests {
        Requests::new(&mut fastrand::Rng::with_seed(1))
    }

    fn write(requests: &mut Requests) -> Token {
        requests.insert(Request {
            origin: Origin::Client { connection: 1, id: 1 },
            arrived: Duration::ZERO,
            deadline: Duration::from_secs(1),
            work: Work::Write { write: Write::default(), place: Place::AwaitsProposal },
            maybe_applied: false,
        })
    }

    #[test]
    fn an_answer_is_found_by_index_and_term() {
        let mut requests = empty();
        let [a, b, c] = [(); 3].map(|()| write(&mut requests));
        requests.proposed(a, 10, 2);
        requests.proposed(b, 11, 2);
        requests.proposed(c, 12, 2);
        assert_eq!(requests.applied(10, 2), (Some(a), vec![]));
        // Another leader put its own entry at 11: b is lost, and so would be all after it.
        assert_eq!(requests.applied(11, 3), (None, vec![b]));
        assert_eq!(requests.applied(14, 3), (None, vec![c]));
    }

    #[test]
    fn what_a_snapshot_overtakes_may_have_been_applied() {
        let mut requests = empty();
        let [a, b, c] = [(); 3].map(|()| write(&mut requests));
        for (token, index) in [(a, 10), (b, 11), (c, 12)] {
            requests.proposed(token, index, 2);
        }
        assert_eq!(requests.overtaken(11), vec![a, b]);
        assert!(requests.get(b).unwrap().maybe_applied);
        assert!(!requests.get(c).unwrap().maybe_applied);
        assert_eq!(requests.applied(12, 2), (Some(c), vec![]));
    }

    #[test]
    fn the_bytes_of_writes_are_bounded_too() {
        let mut requests = Requests::new(&mut fastrand::Rng::with_seed(1));
        let mut tokens = Vec::new();
        while !requests.is_full() {
            let token = write(&mut requests);
            let long = Write { request_id: vec![0; 1 << 20].into(), ..Write::default() };
            let request = requests.take(token).unwrap();
            let work = Work::Write { write: long, place: Place::AwaitsProposal };
            tokens.push(requests.insert(Request { work, ..request }));
        }
        assert_eq!(tokens.len(), REQUESTS_LEN_MAX >> 20);
        tokens.into_iter().for_each(|token| drop(requests.take(token)));
        assert_eq!(requests.len_bytes, 0);
    }

    #[test]
    fn a_request_is_taken_once() {
        let mut requests = empty();
        let token = write(&mut requests);
        requests.proposed(token, 10, 2);
        assert!(requests.take(token).is_some());
        assert!(requests.take(token).is_none());
        assert_eq!(requests.applied(10, 2), (None, vec![]));
    }
}
