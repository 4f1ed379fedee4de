//! Allocations of a node, from a request that is decoded to the answer that is to be encoded. A node alone: nothing else runs
//! in this process meanwhile, and nothing but the node's own work is counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use phalanx::log::{self, MemDisk};
use phalanx::node::{Effects, Input, Node, Now};
use phalanx::sim::machine::{Config, Machine};
use phalanx::store::mem_map::MemMap;
use phalanx::wire::client::{Op, Put, Request, Txn, Write, op, request};

/// For one put of a node that votes alone, with the log's batch and the answer, in the median.
const ALLOCATIONS_MAX: u64 = 32;
/// For each further put of the same turn.
const ALLOCATIONS_MORE_MAX: u64 = 11;

/// Counts what the thread allocates that asks for it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is left to the system's allocator; to count needs no memory.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: it came from `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// A node that forms a cluster of its own, and the rest of its machine.
struct Alone {
    node: Node<MemMap>,
    disk: MemDisk,
    now: Now,
}

impl Alone {
    fn new() -> Alone {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut machine = Machine::new(0, Config::default(), &mut rng);
        let node = machine.boot(Duration::ZERO, &mut rng).expect("an empty disk");
        let now = Now { monotonic: Duration::from_secs(10_000), wall_ms: 1 };
        let mut alone = Alone { node, disk: machine.disk, now };
        while alone.node.store().membership().is_none_or(|membership| !membership.formed) {
            alone.now.monotonic += Duration::from_millis(10);
            alone.step(Input::Tick);
            alone.settle();
        }
        alone
    }

    fn step(&mut self, input: Input<MemMap>) {
        self.node.step(self.now, input).expect("a disk in memory does not fail");
    }

    fn turn(&mut self) -> Effects<MemMap> {
        self.node.turn(self.now).expect("a disk in memory does not fail")
    }

    /// Turns until nothing is left to do. Gives the number of answers, and of the allocations of the node itself.
    fn settle(&mut self) -> (usize, u64) {
        let (mut answers, mut allocations) = (0, 0);
        loop {
            let before = ALLOCATIONS.get();
            let Effects { write, prepare, commit, replies, .. } = self.turn();
            answers += replies.len();
            let is_over = write.is_none() && prepare.is_none() && commit.is_none();
            if let Some(write) = write {
                self.step(Input::Written(write.sequence));
            }
            allocations += ALLOCATIONS.get() - before;
            if let Some(wish) = prepare {
                log::prepare(&self.disk, &wish).expect("a disk in memory has room");
                self.step(Input::Prepared(wish.ordinal));
            }
            if let Some(commit) = commit {
                self.step(Input::Committed(commit.run().expect("a map in memory commits")));
            }
            if is_over {
                return (answers, allocations);
            }
        }
    }

    /// How many allocations so many puts take that come at once, from the requests to the answers.
    fn puts(&mut self, count: u64, number: u64) -> u64 {
        let requests: Vec<Request> = (0..count).map(|i| put(number * count + i)).collect();
        let before = ALLOCATIONS.get();
        for request in requests {
            self.step(Input::Request(1, request));
        }
        let of_requests = ALLOCATIONS.get() - before;
        let (answers, allocations) = self.settle();
        assert_eq!(answers as u64, count, "all are answered");
        of_requests + allocations
    }
}

fn put(number: u64) -> Request {
    let put = Put { key: format!("key-{:012}", number % 1000).into(), value: vec![7; 256].into() };
    let txn = Txn { success: vec![Op { op: Some(op::Op::Put(put)) }], ..Txn::default() };
    let request_id = Bytes::copy_from_slice(&u128::from(number).to_be_bytes());
    let write = Write { request_id, since: 1, txn: Some(txn) };
    Request { id: number + 1, timeout_ms: 0, command: Some(request::Command::Write(write)) }
}

#[test]
fn a_put_allocates_little() {
    let mut alone = Alone::new();
    let mut median = |count: u64| {
        let mut counts: Vec<u64> =
            (0..101).map(|number| alone.puts(count, number + 1000 * count)).collect();
        counts.sort_unstable();
        counts[counts.len() / 2]
    };
    let (one, many) = (median(1), median(33));
    let more = (many - one).div_ceil(32);
    println!("{one} allocations for a put, {more} for each further one of a turn");
    assert!(one <= ALLOCATIONS_MAX, "{one} allocations for a put");
    assert!(more <= ALLOCATIONS_MORE_MAX, "{more} allocations for each further put");
}
