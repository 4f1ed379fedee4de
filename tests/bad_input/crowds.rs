//! Clients that take much and give nothing: one that never reads, and thousands that are idle.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use phalanx::limits::{
    CLIENT_REPLIES_LEN_MAX, CLIENT_STALL_MAX, REQUESTS_PER_CLIENT_MAX, TURN_REPLIES_LEN_MAX,
    VALUE_LEN_MAX,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Node, SOON, wait_until};
use crate::wire::{Bystander, Wire, encode, get, request};
use crate::{TIMEOUT, assert_serves};

/// VmRSS, or VmHWM: the most it ever was.
fn memory_bytes(node: &Node, field: &str) -> u64 {
    let status = format!("/proc/{}/status", node.pid().as_raw_pid());
    let status = std::fs::read_to_string(status).expect("the node runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel tells it");
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().expect("a number of KiB");
    kib << 10
}

#[test]
fn a_client_that_never_reads_is_bounded_and_then_disconnected() {
    let node = Node::start_single("never-reads");
    node.client(TIMEOUT).put("large", vec![b'v'; VALUE_LEN_MAX]).unwrap();
    let bystander = Bystander::start(&node);
    let before = memory_bytes(&node, "VmRSS");

    // Answers of 1 GiB are asked for at once, and then more, until the node does not take any.
    let mut greedy = Wire::greeted(&node.address);
    let asked: Vec<u8> = (0..REQUESTS_PER_CLIENT_MAX as u64)
        .flat_map(|id| encode(request(id, get("large"))))
        .collect();
    greedy.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let full = loop {
        if let Err(e) = greedy.stream.write_all(&asked) {
            break e.kind();
        }
    };
    assert_eq!(full, ErrorKind::WouldBlock, "the node stops reading");
    let grown = memory_bytes(&node, "VmHWM").saturating_sub(before);
    println!("a client that never reads: at most {} MiB more", grown >> 20);
    // What the log keeps of the other client's writes, and the allocator's share.
    let beside = 32 << 20;
    let bound = (TURN_REPLIES_LEN_MAX + CLIENT_REPLIES_LEN_MAX) as u64 + beside;
    assert!(grown < bound, "the node grew by {} MiB", grown >> 20);

    wait_until("the node disconnects who takes nothing", CLIENT_STALL_MAX + SOON, || {
        let gone = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        greedy.stream.write_all(&asked).is_err_and(|e| gone.contains(&e.kind()))
    });
    bystander.finish();
}

#[test]
fn a_client_that_takes_its_answers_late_is_read_again() {
    let node = Node::start_single("late");
    node.client(TIMEOUT).put("large", vec![b'v'; VALUE_LEN_MAX]).unwrap();
    let mut late = Wire::greeted(&node.address);
    // More than the node sends ahead: it stops reading. What comes then waits in the socket.
    const MANY: u64 = 20;
    (0..MANY).for_each(|id| late.request(id, get("large")));
    // The node has answered them when it has answered another client after them.
    assert_serves(&node);
    (MANY..MANY + 3).for_each(|id| late.request(id, get("absent")));
    let mut answered: Vec<u64> = (0..MANY + 3).map(|_| late.response().id).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..MANY + 3).collect::<Vec<_>>());
}

#[test]
fn thousands_of_idle_connections() {
    const CONNECTIONS: usize = 5000;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(8192, |most| most.min(8192));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    assert!(wanted > CONNECTIONS as u64 + 500, "raise the hard limit of open files (ulimit -Hn)");

    let node = Node::start_single("idle-crowd");
    let before = memory_bytes(&node, "VmRSS");
    let crowd: Vec<Wire> = (0..CONNECTIONS).map(|_| Wire::greeted(&node.address)).collect();
    let per_connection = memory_bytes(&node, "VmRSS").saturating_sub(before) / CONNECTIONS as u64;
    println!("an idle connection takes {per_connection} bytes of the node's memory");
    assert!(per_connection < 16 << 10, "an idle connection takes {per_connection} bytes");

    let bystander = Bystander::start(&node);
    for _ in 0..100 {
        assert_serves(&node);
    }
    bystander.finish();
    assert_eq!(node.health_page().0, 200);
    // Each of them is still there.
    for mut wire in crowd.into_iter().step_by(100) {
        wire.request(1, get("still"));
        assert_eq!(wire.response().id, 1);
    }
}
