//! Past a limit there is a refusal, and nothing grows.

use std::time::Duration;

use super::super::Input;
use crate::limits::{
    ORDERS_MAX, REQUESTS_MAX, SCANS_MAX, SEGMENT_LEN, UNCOMMITTED_LEN_MAX, VALUE_LEN_MAX,
};
use crate::sim::weather::Weather;
use crate::sim::world::World;
use crate::wire::client::{
    Code, Delete, Get, Op, Put, Range, RemoveMember, Response, Txn, Write, op, request, response,
};

const TIMEOUT: Duration = Duration::from_secs(5);

fn refused_with(response: &Option<Response>) -> Option<Code> {
    match response.as_ref()?.result.as_ref()? {
        response::Result::Error(refused) => Some(refused.code()),
        _ => None,
    }
}

/// The codes of the refusals among the answers that came.
fn refusals(world: &mut World) -> Vec<Code> {
    world.take_answers().iter().filter_map(|answer| refused_with(&answer.response)).collect()
}

fn write(number: u128, op: op::Op) -> request::Command {
    let request_id = number.to_be_bytes().to_vec().into();
    let success = vec![Op { op: Some(op) }];
    request::Command::Write(Write {
        request_id,
        since: 0,
        txn: Some(Txn { success, ..Txn::default() }),
    })
}

fn put(number: u128, value_len: usize) -> request::Command {
    write(number, op::Op::Put(Put { key: "key".into(), value: vec![1; value_len].into() }))
}

#[test]
fn requests_over_the_limit_are_refused_and_the_others_answered() {
    let mut world = World::whole(1, 3);
    let leader = world.leader().expect("a whole cluster has a leader");
    let follower = (leader + 1) % 3;
    // What is forwarded does not arrive.
    world.cut(follower, leader);
    for number in 0..REQUESTS_MAX as u128 + 10 {
        world.request(follower, 0, Duration::from_secs(1), put(number, 1));
    }
    world.run_for(Duration::from_millis(5));
    assert_eq!(world.node(follower).requests.len(), REQUESTS_MAX);
    assert_eq!(refusals(&mut world), [Code::Overloaded; 10]);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.take_answers().len(), REQUESTS_MAX);
    assert_eq!(world.node(follower).requests.len(), 0);
}

#[test]
fn orders_over_their_own_limit_are_refused() {
    let mut world = World::whole(1, 3);
    let leader = world.leader().expect("a whole cluster has a leader");
    let [follower, other] = [(leader + 1) % 3, (leader + 2) % 3];
    // What is forwarded does not arrive.
    world.cut(follower, leader);
    let name = world.machines[other].name.clone();
    let order = request::Command::RemoveMember(RemoveMember { name, raft_id: 0 });
    for _ in 0..ORDERS_MAX + 10 {
        world.request(follower, 0, Duration::from_secs(1), order.clone());
    }
    world.run_for(Duration::from_millis(5));
    assert_eq!(world.node(follower).requests.len(), ORDERS_MAX);
    assert_eq!(refusals(&mut world), [Code::Overloaded; 10]);
    world.run_for(Duration::from_secs(2));
    assert_eq!(refusals(&mut world), [Code::Timeout; ORDERS_MAX]);
    // There is room again, and the leader has its own. A voter that it does not hear would not be counted on.
    world.heal();
    world.run_for(Duration::from_secs(1));
    world.request(follower, 0, Duration::from_secs(1), order.clone());
    world.request(leader, 0, Duration::from_secs(1), order);
    world.run_until("both are answered", |world| {
        world.unanswered(leader) + world.unanswered(follower) == 0
    });
    assert_eq!(refusals(&mut world), []);
}

#[test]
fn bytes_that_are_not_committed_are_bounded() {
    let mut world = World::new(1, 3, Weather::fair());
    world.machines.iter_mut().for_each(|machine| machine.segment_len = SEGMENT_LEN);
    world.start_all();
    world.run_until("the cluster is formed", World::is_settled);
    let leader = world.leader().expect("a whole cluster has a leader");
    // Not isolated: its followers are heard for as long as it takes to step down.
    (0..3).for_each(|other| world.cut(leader, other));
    let fit = UNCOMMITTED_LEN_MAX / VALUE_LEN_MAX;
    for number in 0..2 * fit as u128 {
        world.request(leader, 0, TIMEOUT, put(number, VALUE_LEN_MAX));
    }
    world.run_for(Duration::from_millis(100));
    let refusals = refusals(&mut world);
    assert!(refusals.iter().all(|code| *code == Code::Overloaded), "{refusals:?}");
    assert!((fit..2 * fit).contains(&refusals.len()), "{} of {}", refusals.len(), 2 * fit);
    world.heal();
    world.run_until("the others are answered", |world| world.unanswered(leader) == 0);
}

#[test]
fn range_reads_with_the_threads_are_bounded() {
    let mut world = World::whole(1, 1);
    world.weather.thread_us = 50_000..100_000;
    let count = 3 * SCANS_MAX;
    for number in 0..count {
        // Half of them wait for a round of ReadIndex, the others do not.
        let range = Range { stale: number % 2 == 0, ..Range::default() };
        world.request(0, 0, TIMEOUT, request::Command::Range(range));
        if number % 100 == 0 {
            world.run_for(Duration::from_millis(1));
        }
        assert!(world.scans_running() <= SCANS_MAX);
    }
    world.run_until("all are answered", |world| {
        assert!(world.scans_running() <= SCANS_MAX);
        world.unanswered(0) == 0
    });
    assert_eq!(refusals(&mut world), []);
}

#[test]
fn a_full_disk_refuses_puts_and_lets_deletes_and_reads_through() {
    let mut world = World::whole(1, 1);
    let answer = |world: &mut World, command: request::Command| {
        world.request(0, 0, TIMEOUT, command);
        world.run_until("it is answered", |world| world.unanswered(0) == 0);
        refusals(world)
    };
    let delete = |number| write(number, op::Op::Delete(Delete { key: "key".into() }));
    assert_eq!(answer(&mut world, put(1, 1)), []);
    world.input(0, Input::DiskSpace(Err("the disk is full".to_owned())));
    assert_eq!(answer(&mut world, put(2, 1)), [Code::NoSpace]);
    let get = Get { key: "key".into(), stale: false };
    assert_eq!(answer(&mut world, request::Command::Get(get)), []);
    assert_eq!(answer(&mut world, delete(3)), []);
    world.input(0, Input::DiskSpace(Ok(())));
    assert_eq!(answer(&mut world, put(4, 1)), []);
}
