//! Real processes that crash: kill -9, SIGSTOP, SIGTERM.

mod harness;

use std::time::Duration;

use harness::{Cluster, Node};

#[test]
fn a_single_node_and_three_nodes_serve() {
    let node = Node::start_single("alone");
    node.client(Duration::from_secs(5)).put("k", "v").unwrap();
    let cluster = Cluster::start(3);
    cluster.client(Duration::from_secs(5)).put("k", "v").unwrap();
}
