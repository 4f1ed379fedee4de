//! Real nodes for the integration tests: processes of the built binary, with real disks, sockets and signals.
//!
//! - [`Node`] is one server process and its data directory: start, signal, kill, restart, look at its log.
//! - [`Cluster`] is several of them that know each other by PEERS.
//! - [`Load`] keeps them busy, and afterwards checks what it was promised.
//! - [`Namespace`] is a network of its own, [`Lab`] several machines whose cables can be pulled: both take root.
//! - [`SmallDisk`] is a file system that can be filled: it takes root.
//! - [`http`] asks a node's debug address.
//!
//! Waiting is [`wait_for`]: it polls for a condition and fails loudly. Dropping a node kills its process, and prints
//! the tail of its log if the test is failing.

#![allow(dead_code, unused_imports)] // Each test file takes what it needs.

mod cluster;
mod data_dir;
pub mod http;
mod lab;
mod load;
mod namespace;
mod node;
mod ports;
mod small_disk;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use cluster::Cluster;
pub use data_dir::copy_dir;
pub use lab::Lab;
pub use load::{Account, Load};
pub use namespace::Namespace;
pub use node::{Exit, Node};
pub use ports::{free_port, free_udp_port};
pub use small_disk::SmallDisk;

/// TICK_MS of the nodes.
pub const TICK_MS: u64 = 100;
/// ELECTION of the nodes.
pub const ELECTION: u64 = 10;
/// HEARTBEAT of the nodes.
pub const HEARTBEAT: u64 = 3;
/// E: how long a follower waits for a leader, at least.
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(TICK_MS * ELECTION);

/// For nodes of which the leader goes on to lead until it is told otherwise: a busy machine's stalls are shorter than this
/// election timeout.
pub const STEADY: (&str, &str) = ("ELECTION", "40");

/// For what takes a moment on an idle machine, and may take long on a busy one.
pub const SOON: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Polls until `condition` gives something; panics with `what` after `deadline`.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < deadline, "after {deadline:?} still waiting: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Polls until `condition` holds; panics with `what` after `deadline`.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Waits until the nodes know by themselves that a key has that value: what is committed is told a little later.
pub fn wait_told<'a>(nodes: impl IntoIterator<Item = &'a Node>, key: &str, value: &str) {
    for node in nodes {
        let client = node.client(SOON);
        wait_until(&format!("{} knows that {key} is {value}", node.name), SOON, || {
            let found = client.get_stale(key).ok().and_then(|read| read.result);
            found.is_some_and(|found| found.value == value)
        });
    }
}

/// For tests that measure time or load the machine: one of a file's tests holds it at a time.
pub fn exclusive() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has broken nothing for the next.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A generator of random numbers for a test. Its seed is printed; PHALANX_TEST_SEED repeats a run.
pub fn rng() -> fastrand::Rng {
    let given = std::env::var("PHALANX_TEST_SEED").ok();
    let seed =
        given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("it is a number"));
    println!("PHALANX_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// A random time up to `max`.
pub fn random_time(rng: &mut fastrand::Rng, max: Duration) -> Duration {
    max.mul_f64(rng.f64())
}
