//! A node that lost its disk is another node under the old name. Of the two identities one is a member at a time, and the
//! one that was replaced never votes again.

use std::fs;

use phalanx::client::Error;

use crate::harness::{Cluster, ELECTION_TIMEOUT, Node, SOON, wait_for, wait_until};
use crate::view::members;
use crate::{TIMEOUT, assert_serves, assert_stops, start_with, wait_roles};

/// What whoever was removed is told: the cause, and the way out.
const REMOVED: &[&str] = &["removed", "empty"];

/// What a newcomer is told whose name another has.
const NAME_TAKEN: &[&str] = &["two nodes cannot share one NODE_ID", "stop that one"];

fn start_three() -> Cluster {
    let cluster = start_with(3, &[]);
    wait_roles(&cluster, 3, 0);
    cluster.client(TIMEOUT).put("key", "before").unwrap();
    cluster
}

fn raft_id(cluster: &Cluster, name: &str) -> u64 {
    members(&cluster.nodes[cluster.leader()])[name].raft_id
}

/// Kills the node and takes its disk out: the result is another machine with that disk.
fn lose_disk(cluster: &mut Cluster, lost: usize) -> Node {
    let node = &mut cluster.nodes[lost];
    node.kill();
    let mut old = Node::new(&node.name);
    fs::rename(node.data_dir(), old.data_dir()).unwrap();
    let others = cluster.nodes.iter().filter(|node| node.name != old.name);
    let others: Vec<String> =
        others.map(|node| format!("{}@{}", node.name, node.address)).collect();
    old.set("PEERS", others.join(","));
    old
}

/// Starts the node with an empty disk, and waits until it votes instead of `old_id`.
fn replace(cluster: &mut Cluster, lost: usize, old_id: u64) {
    cluster.nodes[lost].start();
    let name = cluster.nodes[lost].name.clone();
    wait_until("the new identity votes in place of the old", SOON, || {
        let members = members(&cluster.nodes[cluster.leader()]);
        members.len() == 3 && members[&name].raft_id != old_id && members[&name].voter
    });
}

#[test]
fn a_lost_disk_gets_a_new_identity_and_the_old_one_is_refused() {
    let mut cluster = start_three();
    let lost = cluster.follower();
    let name = cluster.nodes[lost].name.clone();
    let old_id = raft_id(&cluster, &name);
    let mut old = lose_disk(&mut cluster, lost);
    replace(&mut cluster, lost, old_id);
    let read = cluster.nodes[lost].client(TIMEOUT).get("key").unwrap().result;
    assert_eq!(read.expect("it was put before the disk was lost").value, "before");

    let new_id = raft_id(&cluster, &name);
    old.start();
    assert_stops(&mut old, REMOVED);
    assert_eq!(raft_id(&cluster, &name), new_id);
    cluster.nodes.iter().for_each(assert_serves);
}

#[test]
fn a_replaced_identity_is_no_majority_with_the_one_voter_that_is_left() {
    let mut cluster = start_three();
    let lost = cluster.follower();
    let old_id = raft_id(&cluster, &cluster.nodes[lost].name);
    let mut old = lose_disk(&mut cluster, lost);
    replace(&mut cluster, lost, old_id);
    let left = wait_for("another than the new one leads", SOON, || {
        let (leader, other) = (cluster.leader(), &cluster.nodes[(lost + 1) % 3].name);
        if leader == lost {
            cluster.nodes[leader].phalanx(&["leader", "transfer", other]);
        }
        (leader != lost).then_some(leader)
    });
    cluster.kill_at_once((0..3).filter(|node| *node != left));
    let node = &cluster.nodes[left];
    wait_until("the loss is noticed", SOON, || node.health().is_some_and(|(c, _)| c == 503));

    // Of the three that there were, two run.
    old.start();
    let error = node.client(5 * ELECTION_TIMEOUT).put("key", "by two").unwrap_err();
    let (Error::Unavailable { cause } | Error::Unknown { cause }) = &error else {
        panic!("another kind of error: {error}")
    };
    assert!(cause.contains("no quorum"), "{error}");
    assert_stops(&mut old, REMOVED);
    assert_ne!(node.page()["state"], "LEADER");

    // It has voted all along, whether or not the change to the new one is through.
    cluster.nodes[3 - left - lost].start();
    let read = cluster.client(SOON).get("key").unwrap().result.expect("it was put");
    assert_eq!(read.value, "before");
}

#[test]
fn of_two_disks_that_start_at_once_one_stays() {
    let mut cluster = start_three();
    let lost = cluster.follower();
    let name = cluster.nodes[lost].name.clone();
    let mut old = lose_disk(&mut cluster, lost);
    old.start();
    cluster.nodes[lost].start();
    let new = &mut cluster.nodes[lost];
    wait_until("one of them stops", SOON, || old.has_ended() || new.has_ended());
    let (stopped, stays) = match new.has_ended() {
        true => (&mut *new, &mut old),
        false => (&mut old, &mut *new),
    };
    let new_was_first = stopped.log().contains("removed");
    assert_stops(stopped, if new_was_first { REMOVED } else { NAME_TAKEN });
    stays.wait_ready();
    assert_serves(stays);
    assert!(!stays.has_ended(), "{}", stays.log());
    let id = members(stays)[&name].raft_id;
    wait_until("one of them is a member", SOON, || {
        let known = members(&cluster.nodes[cluster.leader()]);
        known.len() == 3 && known[&name].raft_id == id
    });
}

#[test]
fn a_second_node_of_a_name_stops_and_tells_where_the_first_is() {
    let cluster = start_three();
    let leader = cluster.leader();
    let [leader, holder] = [leader, (leader + 1) % 3].map(|node| &cluster.nodes[node]);
    for variable in ["PEERS", "SEEDS"] {
        let mut second = Node::new(&holder.name);
        match variable {
            "PEERS" => second.set(variable, format!("{}@{}", leader.name, leader.address)),
            _ => second.set(variable, leader.gossip_address()).set("EXPECT", 3),
        };
        second.start();
        wait_until("it says so where a machine asks", SOON, || {
            let says_so = |body: &str| body.starts_with("refused: the cluster refuses this node: ");
            second.health().is_some_and(|(code, body)| code == 503 && says_so(&body))
        });
        assert_stops(&mut second, &[NAME_TAKEN, &[&holder.name, &holder.address]].concat());
    }
    assert_eq!(members(leader).len(), 3);
    assert_serves(holder);
}
