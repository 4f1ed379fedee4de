//! Reads: each waits for its round of ReadIndex and for the state to be applied that far; then it is served from here. A
//! lookup is served at once, a range is read elsewhere.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use super::requests::{Origin, Work};
use super::{Node, Stage, Token};
use crate::error::Result;
use crate::limits::SCANS_MAX;
use crate::planted::{Bug, planted};
use crate::replica::Confirmed;
use crate::store::ScanResult;
use crate::store::map::Map;
use crate::wire::client::{GetResult, Response, response};

/// Joins a round for nobody: it makes known how old the state is.
pub(super) const PROBE: Token = 0;

/// Reads on their way.
#[derive(Debug, Default)]
pub(super) struct ReadQueue {
    /// Confirmed rounds, by the index that must be applied.
    confirmed: BTreeMap<u64, Vec<Confirmed>>,
    /// Ranges that may be read, in order, and have no thread yet.
    scans: VecDeque<Token>,
    /// Ranges that are with the threads. Each holds a snapshot of the map.
    running: HashSet<Token>,
    /// When the last round was begun whose index is applied: how old the state is at most.
    fresh_at: Option<Duration>,
    /// Whether a probe is on its way.
    probing: bool,
}

impl ReadQueue {
    pub fn confirmed(&mut self, rounds: Vec<Confirmed>) {
        for round in rounds {
            self.confirmed.entry(round.index).or_default().push(round);
        }
    }

    /// Whether ranges wait for a commit, which makes room for them.
    pub fn has_waiting_scans(&self) -> bool {
        !self.scans.is_empty() && self.running.len() < SCANS_MAX
    }

    /// Whether a read waits for nothing but this node.
    pub fn is_confirmed(&self, token: Token) -> bool {
        let mut rounds = self.confirmed.values().flatten();
        self.running.contains(&token)
            || self.scans.contains(&token)
            || rounds.any(|round| round.tokens.contains(&token))
    }

    /// Forgets the reads that `wanted` does not hold of: where nothing is applied or committed, they would gather.
    pub fn retain(&mut self, wanted: impl Fn(Token) -> bool) {
        let rounds = self.confirmed.values_mut().flatten();
        rounds.for_each(|round| round.tokens.retain(|token| wanted(*token)));
        self.scans.retain(|token| wanted(*token));
    }

    fn next_applied(&mut self, applied: u64) -> Option<Vec<Confirmed>> {
        let entry = self.confirmed.first_entry().filter(|entry| *entry.key() <= applied)?;
        Some(entry.remove())
    }
}

impl<M: Map> Node<M> {
    pub(super) fn insert_read(&mut self, origin: Origin, deadline: Duration, work: Work) {
        self.counters.reads += 1;
        let stale = matches!(&work, Work::Range(range) if range.stale);
        let token = self.insert(origin, deadline, work);
        if stale {
            self.probe();
            self.reads.scans.push_back(token);
        } else if let Stage::Member(replica) = &mut self.stage {
            replica.read(token);
        }
    }

    /// Serves the reads whose rounds are confirmed and applied.
    pub(super) fn serve_reads(&mut self) -> Result<()> {
        while let Some(rounds) = self.reads.next_applied(self.store.applied().index) {
            for Confirmed { begun, tokens, .. } in rounds {
                let begun = if planted(Bug::YoungerThanItIs) { self.now.monotonic } else { begun };
                self.reads.fresh_at = self.reads.fresh_at.max(Some(begun));
                for token in tokens {
                    self.serve_read(token)?;
                }
            }
        }
        Ok(())
    }

    fn serve_read(&mut self, token: Token) -> Result<()> {
        if token == PROBE {
            self.reads.probing = false;
            return Ok(());
        }
        match self.requests.get(token).map(|request| &request.work) {
            Some(Work::Get { key }) => {
                let result = GetResult { kv: self.store.get(key)? };
                let response = self.response(response::Result::Get(result));
                self.answer(token, response);
            }
            Some(Work::Range(_)) => self.reads.scans.push_back(token),
            Some(Work::Snapshot) => self.await_durable(token),
            // Its deadline came first.
            Some(Work::Write { .. } | Work::Order { .. }) | None => {}
        }
        Ok(())
    }

    /// Reads a key from what is applied here, and tells how old that may be.
    pub(super) fn get_stale(&mut self, key: &[u8]) -> Result<Response> {
        self.counters.reads += 1;
        self.probe();
        let result = GetResult { kv: self.store.get(key)? };
        let response = self.response(response::Result::Get(result));
        Ok(Response { stale_ms: self.stale_ms(), ..response })
    }

    fn stale_ms(&self) -> Option<u64> {
        let fresh_at = self.reads.fresh_at?;
        Some(self.now.monotonic.saturating_sub(fresh_at).as_millis() as u64)
    }

    /// Begins a round for nobody, unless one is on its way, so that the next stale read can tell how old it is.
    fn probe(&mut self) {
        if let Stage::Member(replica) = &mut self.stage
            && !self.reads.probing
        {
            self.reads.probing = true;
            replica.read(PROBE);
        }
    }

    /// Hands out the ranges that wait, as far as the store has layers for them.
    pub(super) fn start_scans(&mut self) -> Result<()> {
        while self.reads.running.len() < SCANS_MAX
            && let Some(&token) = self.reads.scans.front()
        {
            if let Some(Work::Range(range)) = self.requests.get(token).map(|request| &request.work)
            {
                let Some(scan) = self.store.scan(range)? else { break };
                self.effects.scans.push((token, scan));
                self.reads.running.insert(token);
            }
            self.reads.scans.pop_front();
        }
        Ok(())
    }

    pub(super) fn on_scanned(&mut self, token: Token, scanned: ScanResult) {
        self.reads.running.remove(&token);
        let stale = self
            .requests
            .get(token)
            .is_some_and(|request| matches!(&request.work, Work::Range(range) if range.stale));
        let response = self.response(response::Result::Range(scanned.result));
        let stale_ms = self.stale_ms().filter(|_| stale);
        self.answer(token, Response { revision: scanned.revision, stale_ms, ..response });
    }
}
