//! Writers that keep a cluster busy while it is broken, and the account of what they were promised.
//!
//! Each client has [`LANES`] keys of its own and one write of each in flight: sequence numbers, in order. A key's
//! version counts how often it was written, so that a lost write and one that was applied twice both show. All clients
//! together raise one counter by compare-and-swap.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use phalanx::client::{Client, Error, Expect, Options, Pending, PutResult, Reply, Swap};

use super::{Node, SOON, wait_until};

/// Clients of a load.
pub const CLIENTS: usize = 8;
/// Writes that a client has in flight, beside its compare-and-swap.
const LANES: usize = 8;
/// Between two rounds of a client. It bounds the log, of which nothing is truncated yet.
const ROUND_INTERVAL: Duration = Duration::from_millis(20);
/// Far longer than any gap: within it the client sees to retries.
const TIMEOUT: Duration = Duration::from_secs(30);
const COUNTER: &str = "counter";

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Account>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
}

/// What the writers were told.
#[derive(Default)]
pub struct Account {
    /// When writes were acknowledged, in order.
    pub acknowledged_at: Vec<Instant>,
    /// Why writes had no result.
    pub errors: Vec<Error>,
    lanes: Vec<Lane>,
    counter: Tally,
}

/// How often something was written.
#[derive(Default, Clone, Copy)]
struct Tally {
    acknowledged: u64,
    /// Of unknown outcome.
    unknown: u64,
}

impl Tally {
    fn bounds(self) -> RangeInclusive<u64> {
        self.acknowledged..=self.acknowledged + self.unknown
    }
}

/// A key that one client writes, one write after the other.
struct Lane {
    key: String,
    sent: u64,
    tally: Tally,
    /// Sequence number and revision of the last write, if it was acknowledged.
    last: Option<(u64, u64)>,
}

impl Load {
    pub fn start(addresses: Vec<String>) -> Load {
        let shared = Arc::new(Shared::default());
        let writer = |number: usize| {
            let (addresses, shared) = (addresses.clone(), shared.clone());
            thread::spawn(move || Account::of_writer(number, addresses, &shared))
        };
        let writers = (0..CLIENTS).map(writer).collect();
        Load { shared, writers }
    }

    /// Waits until writes succeed that were sent after this call.
    pub fn wait_progress(&self) {
        let acknowledged = || self.shared.acknowledged.load(Ordering::Relaxed);
        let in_flight = CLIENTS * (LANES + 1);
        let before = acknowledged();
        wait_until("writes succeed", SOON, || acknowledged() > before + in_flight);
    }

    /// Lets the writers end what they have in flight.
    pub fn stop(self) -> Account {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut total = Account::default();
        for writer in self.writers {
            let account = writer.join().expect("a writer panics only over a broken promise");
            total.acknowledged_at.extend(account.acknowledged_at);
            total.errors.extend(account.errors);
            total.lanes.extend(account.lanes);
            total.counter.acknowledged += account.counter.acknowledged;
            total.counter.unknown += account.counter.unknown;
        }
        total.acknowledged_at.sort();
        total
    }
}

impl Account {
    fn of_writer(number: usize, addresses: Vec<String>, shared: &Shared) -> Account {
        let client =
            Client::connect(addresses, Options::within(TIMEOUT)).expect("they are addresses");
        let lane = |lane| Lane {
            key: format!("lane/{number}/{lane}"),
            sent: 0,
            tally: Tally::default(),
            last: None,
        };
        let mut account = Account { lanes: (0..LANES).map(lane).collect(), ..Account::default() };
        let mut counter = Expect::Absent;
        while !shared.stop.load(Ordering::Relaxed) {
            let swap = client.send_cas(COUNTER, counter.clone(), next(&counter));
            let puts: Vec<_> = account.lanes.iter_mut().map(|lane| lane.send(&client)).collect();
            for (lane, put) in puts.into_iter().enumerate() {
                let put = put.wait();
                shared.acknowledged.fetch_add(usize::from(put.is_ok()), Ordering::Relaxed);
                account.put(lane, put);
            }
            counter = account.swapped(swap.wait(), counter);
            thread::sleep(ROUND_INTERVAL);
        }
        account
    }

    fn put(&mut self, lane: usize, result: Result<Reply<PutResult>, Error>) {
        let lane = &mut self.lanes[lane];
        lane.last = None;
        match result {
            Ok(reply) => {
                self.acknowledged_at.push(Instant::now());
                lane.tally.acknowledged += 1;
                lane.last = Some((lane.sent, reply.revision));
            }
            Err(error) => {
                lane.tally.unknown += u64::from(is_unknown(&error));
                self.errors.push(error);
            }
        }
    }

    /// Notes the result of a swap, and tells what to expect of the counter next.
    fn swapped(&mut self, result: Result<Reply<Swap>, Error>, expected: Expect) -> Expect {
        match result.map(|reply| reply.result) {
            Ok(Swap::Done) => {
                self.acknowledged_at.push(Instant::now());
                self.counter.acknowledged += 1;
                Expect::Value(next(&expected).into())
            }
            Ok(Swap::Differs(found)) => Expect::Value(found.expect("it is never deleted").value),
            Err(error) => {
                self.counter.unknown += u64::from(is_unknown(&error));
                self.errors.push(error);
                expected
            }
        }
    }

    /// Checks, by linearizable reads through that node, that every acknowledged write is there and that each write was
    /// applied once at the most.
    pub fn check(&self, node: &Node) {
        assert!(!self.acknowledged_at.is_empty(), "nothing was acknowledged");
        let client = node.client(SOON);
        let lanes: Vec<_> = self.lanes.iter().map(|lane| client.send_get(&lane.key)).collect();
        for (lane, found) in self.lanes.iter().zip(lanes) {
            let found = found.wait().unwrap_or_else(|e| panic!("{}: {e}", node.name)).result;
            let Some(found) = found else {
                assert_eq!(lane.tally.acknowledged, 0, "{} is lost on {}", lane.key, node.name);
                continue;
            };
            assert!(
                lane.tally.bounds().contains(&found.version),
                "{} on {}: written {} times, acknowledged and unknown: {:?}",
                lane.key,
                node.name,
                found.version,
                lane.tally.bounds()
            );
            if let Some((sequence, revision)) = lane.last {
                assert_eq!(found.value, sequence.to_string(), "{} on {}", lane.key, node.name);
                assert_eq!(found.mod_revision, revision, "{} on {}", lane.key, node.name);
            }
        }
        let counter = client.get(COUNTER).unwrap().result.expect("the counter is there");
        assert_eq!(counter.value, counter.version.to_string(), "each swap adds one");
        assert!(
            self.counter.bounds().contains(&counter.version),
            "the counter on {} is {}, acknowledged and unknown: {:?}",
            node.name,
            counter.version,
            self.counter.bounds()
        );
    }

    /// The longest time without an acknowledgement, of those that ended within `window`.
    pub fn longest_gap(&self, window: RangeInclusive<Instant>) -> Duration {
        let ended = |pair: &&[Instant]| window.contains(&pair[1]);
        let gaps = self.acknowledged_at.windows(2).filter(ended).map(|pair| pair[1] - pair[0]);
        gaps.max().expect("writes succeeded in the window")
    }
}

impl Lane {
    fn send(&mut self, client: &Client) -> Pending<PutResult> {
        self.sent += 1;
        client.send_put(&self.key, self.sent.to_string())
    }
}

fn next(counter: &Expect) -> String {
    let Expect::Value(value) = counter else { return "1".to_owned() };
    let value: u64 = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap();
    (value + 1).to_string()
}

fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Unknown { .. })
}
