//! Death is noticed by all; a stop is told from it; and whoever comes back is alive again. How soon, is shown where time is
//! simulated, in the tests of gossip: here the nodes' own stalls would count.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Cluster, ELECTION_TIMEOUT, SOON, wait_until};
use crate::view::{all_see_all, mesh, sees};
use crate::{assert_serves, start_with, wait_roles};

/// Longer than a death takes to be noticed: for so long a node that has left is not called dead.
const DEATH_NOTICED: Duration = Duration::from_secs(10);

fn start_five() -> Cluster {
    let cluster = start_with(5, &[]);
    wait_roles(&cluster, 5, 0);
    wait_until("all know all", SOON, || all_see_all(&cluster.nodes));
    cluster
}

#[track_caller]
fn wait_seen(cluster: &Cluster, gone: usize, state: &str) {
    let began = Instant::now();
    let name = &cluster.nodes[gone].name;
    let others = || cluster.nodes.iter().enumerate().filter(|(i, _)| *i != gone);
    wait_until(&format!("all others call {name} {state}"), SOON, || {
        others().all(|(_, node)| sees(node, name, state))
    });
    println!("all others call {name} {state} after {:.1?}", began.elapsed());
}

#[track_caller]
fn start_again(cluster: &mut Cluster, gone: usize) {
    cluster.nodes[gone].start();
    let began = Instant::now();
    wait_until("all know all again", SOON, || all_see_all(&cluster.nodes));
    println!("it is back after {:.1?}", began.elapsed());
}

#[test]
fn a_killed_node_is_dead_for_all_and_alive_when_it_is_back() {
    let mut cluster = start_five();
    for victim in [cluster.follower(), cluster.leader()] {
        cluster.nodes[victim].kill();
        wait_seen(&cluster, victim, "dead");
        assert_serves(&cluster.nodes[(victim + 1) % 5]);
        start_again(&mut cluster, victim);
    }
}

#[test]
fn a_node_that_is_told_to_stop_has_left_and_is_not_dead() {
    let mut cluster = start_five();
    let victim = cluster.leader();
    let exit = cluster.nodes[victim].terminate();
    assert!(exit.status.success(), "{exit:?}");
    wait_seen(&cluster, victim, "left");
    let name = cluster.nodes[victim].name.clone();
    let began = Instant::now();
    while began.elapsed() < DEATH_NOTICED {
        for node in cluster.nodes.iter().filter(|node| node.is_running()) {
            let seen = mesh(node);
            let is_left = seen.iter().any(|seen| seen.name == name && seen.state == "left");
            assert!(is_left, "{}: {seen:?}", node.name);
        }
        std::thread::sleep(ELECTION_TIMEOUT / 4);
    }
    start_again(&mut cluster, victim);
}

/// For it, the clock jumps.
#[test]
fn a_node_that_was_stopped_for_long_takes_nobody_for_dead() {
    let cluster = start_five();
    let victim = cluster.leader();
    cluster.nodes[victim].signal(Signal::STOP);
    wait_seen(&cluster, victim, "dead");
    cluster.nodes[victim].signal(Signal::CONT);
    wait_until("all know all again", SOON, || {
        let seen = mesh(&cluster.nodes[victim]);
        assert!(seen.iter().all(|seen| seen.state != "dead"), "{seen:?}");
        all_see_all(&cluster.nodes)
    });
    assert_serves(&cluster.nodes[victim]);
}
