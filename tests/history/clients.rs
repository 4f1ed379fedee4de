//! Clients that fight over few keys with every kind of request, and record it. A third of them know all nodes, a third one
//! each, and a third reads from one each: whatever a node still answers that the others have left behind, they hear.
//!
//! Most writes tell what they replace. A write without an answer then seldom leaves it open which revision it had, and
//! the judge comes to a verdict in few steps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use phalanx::client::{Client, Options, compare, op, prefix};
use phalanx::sim::history::{Answer, Asked, History, delete, put};
use phalanx::wire::client::{Op, Txn};

use crate::harness::{Cluster, SOON, wait_until};
use crate::recorder::Recorder;

const CLIENTS: usize = 9;
const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Shorter than an election: some requests end without an answer, and their writes stay open.
const OPTIONS: Options =
    Options { timeout: Duration::from_millis(400), attempt_timeout: Duration::from_millis(150) };
/// Between two requests of a client: the cores are the nodes' first of all.
const PAUSE: Duration = Duration::from_millis(1);

pub struct Clients {
    clock: Instant,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<History>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicUsize,
    /// Of unknown outcome.
    open: AtomicUsize,
}

impl Clients {
    pub fn start(cluster: &Cluster, rng: &mut fastrand::Rng) -> Clients {
        let (clock, shared) = (Instant::now(), Arc::new(Shared::default()));
        let thread = |number: usize| {
            let (client, shared) = (connect(cluster, number), shared.clone());
            let recorder = Recorder::new(number as u64, client, clock);
            let mut fighter = Fighter::new(recorder, rng.fork());
            fighter.only_reads = number < cluster.nodes.len();
            thread::spawn(move || {
                fighter.fight(&shared);
                fighter.recorder.history
            })
        };
        let threads = (0..CLIENTS).map(thread).collect();
        Clients { clock, shared, threads }
    }

    /// Waits until requests are answered that were sent after this call.
    pub fn wait_answers(&self) {
        let answered = || self.shared.answered.load(Ordering::Relaxed);
        let before = answered();
        wait_until("requests are answered", SOON, || answered() > before + CLIENTS);
    }

    /// How many requests were answered so far, and of how many the outcome is unknown.
    pub fn counts(&self) -> (usize, usize) {
        let [answered, open] = [&self.shared.answered, &self.shared.open];
        (answered.load(Ordering::Relaxed), open.load(Ordering::Relaxed))
    }

    /// Lets the clients end, has every node tell what it has of it all, and gives the whole record.
    pub fn stop(self, cluster: &Cluster) -> History {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for thread in self.threads {
            history.join(thread.join().expect("a client panics only over an impossible refusal"));
        }
        for (i, node) in cluster.nodes.iter().enumerate() {
            let mut last = Recorder::new((CLIENTS + i) as u64, node.client(SOON), self.clock);
            assert!(last.ask(everything()).is_some(), "{} does not tell what it has", node.name);
            history.join(last.history);
        }
        history
    }
}

/// The first clients know one node each, which is their only way. Twice as many as there are nodes.
fn connect(cluster: &Cluster, number: usize) -> Client {
    let home = number % cluster.nodes.len();
    let mut addresses = cluster.addresses();
    addresses.rotate_left(home);
    if number < 2 * cluster.nodes.len() {
        addresses.truncate(1);
    }
    cluster.nodes[home].inside(|| Client::connect(addresses, OPTIONS)).expect("they are addresses")
}

fn everything() -> Asked {
    Asked::Range(prefix(""))
}

struct Fighter {
    recorder: Recorder,
    rng: fastrand::Rng,
    /// Never waits for a write, and so has time for a node that can do none.
    only_reads: bool,
    /// Values that it wrote: no two are the same in a run.
    values: u64,
    /// What it last saw under each key.
    seen: HashMap<Bytes, Bytes>,
}

impl Fighter {
    fn new(recorder: Recorder, rng: fastrand::Rng) -> Fighter {
        Fighter { recorder, rng, only_reads: false, values: 0, seen: HashMap::new() }
    }

    fn fight(&mut self, shared: &Shared) {
        let mut is_lost = false;
        while !shared.stop.load(Ordering::Relaxed) {
            // As any client would, it looks what became of a request without an answer.
            let asked = if is_lost { everything() } else { self.next() };
            let answer = self.recorder.ask(asked);
            is_lost = answer.is_none();
            match answer {
                Some(answer) => {
                    shared.answered.fetch_add(1, Ordering::Relaxed);
                    self.learn(&answer);
                }
                None if self.recorder.left_open() => {
                    shared.open.fetch_add(1, Ordering::Relaxed);
                }
                None => {}
            }
            thread::sleep(PAUSE);
        }
    }

    fn learn(&mut self, answer: &Answer) {
        let found = answer.records().map(|kv| (kv.key.clone(), kv.value.clone()));
        self.seen.extend(found);
    }

    fn next(&mut self) -> Asked {
        let (key, other) = self.two_keys();
        match self.rng.u8(..if self.only_reads { 7 } else { 20 }) {
            0..6 => Asked::get(key),
            6 => everything(),
            7 => Asked::put(key, self.value()),
            8 => Asked::delete(key),
            9..12 => Asked::write([op::get(key), put(key, self.value())]),
            12 => Asked::write([op::get(key), delete(key)]),
            13..17 => self.swap(key),
            17 => self.both(key, other),
            18 => self.shift(key, other),
            _ => Asked::write([op::get(key), op::get(other)]),
        }
    }

    /// A put if the key is as it was last seen; else tells how it is.
    fn swap(&mut self, key: &'static str) -> Asked {
        let holds = match self.seen.get(key.as_bytes()) {
            Some(value) => compare::value(key, compare::EQUAL, value),
            None => compare::absent(key),
        };
        let new = self.value();
        Asked::Write(Txn {
            compares: vec![holds],
            success: vec![op::get(key), put(key, new)],
            failure: vec![op::get(key)],
        })
    }

    /// Writes both, and tells what was there.
    fn both(&mut self, key: &'static str, other: &'static str) -> Asked {
        let (first, second) = (self.value(), self.value());
        Asked::write([op::get(key), op::get(other), put(key, first), put(other, second)])
    }

    /// Takes `from` away and writes `to`, if `from` is there; else the other way round. Tells what was there.
    fn shift(&mut self, from: &'static str, to: &'static str) -> Asked {
        let mut steps = |from, to| -> Vec<Op> {
            vec![op::get(from), op::get(to), delete(from), put(to, self.value())]
        };
        Asked::Write(Txn {
            compares: vec![compare::exists(from)],
            success: steps(from, to),
            failure: steps(to, from),
        })
    }

    fn two_keys(&mut self) -> (&'static str, &'static str) {
        let mut keys = KEYS;
        self.rng.shuffle(&mut keys);
        (keys[0], keys[1])
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("{}.{}", self.recorder.number, self.values)
    }
}
