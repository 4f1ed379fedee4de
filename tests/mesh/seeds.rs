//! SEEDS that are wrong.

use crate::harness::{Namespace, Node, SOON, wait_until};
use crate::{assert_serves, start_with};

/// By RFC 6761 no resolver knows it.
const NOWHERE: &str = "no-such-host.invalid";

fn failed_lookups(node: &Node) -> u64 {
    let status = node.status().unwrap_or_default();
    status["mesh"]["seed_lookups_failed"].as_u64().unwrap_or(0)
}

#[test]
fn a_seed_that_is_not_known_is_told_once_and_the_node_runs() {
    let mut node = Node::new("alone");
    // Without a network, a lookup fails at once.
    node.namespace = Namespace::new();
    node.set("SEEDS", NOWHERE).set("EXPECT", 1).start();
    wait_until("it is looked up again and again", SOON, || failed_lookups(&node) >= 3);
    let log = node.log();
    let told: Vec<&str> =
        log.lines().filter(|line| line.contains(NOWHERE) && line.contains("WARN")).collect();
    assert_eq!(told.len(), 1, "{log}");
    node.wait_ready();
    assert_serves(&node);
}

#[test]
fn a_seed_that_is_not_known_keeps_nobody_from_the_others() {
    let mut cluster = start_with(1, &[]);
    let first = &cluster.nodes[0];
    first.wait_ready();
    let mut second = Node::new("second");
    second.set("SEEDS", format!("{NOWHERE},{}", first.gossip_address())).set("EXPECT", 2).start();
    cluster.nodes.push(second);
    wait_until("it is a member", SOON, || cluster.nodes[1].status_text("leader_id") == "node-1");
    cluster.nodes[1].wait_ready();
    assert_serves(&cluster.nodes[1]);
}
