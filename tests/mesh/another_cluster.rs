//! Two clusters whose nodes have each other's addresses: they do not mix, and both go on.

use crate::harness::{Node, SOON, wait_until};
use crate::view::{all_see_all, gossip_counter, members, mesh};
use crate::{assert_serves, start_with, wait_roles};

fn peers_refused(node: &Node) -> u64 {
    node.page()["counters"]["peers_refused"].as_u64().expect("the page tells it")
}

#[test]
fn a_node_of_another_cluster_is_refused_and_counted() {
    let cluster = start_with(3, &[]);
    wait_roles(&cluster, 3, 0);
    wait_until("all know all", SOON, || all_see_all(&cluster.nodes));
    let mut stranger = Node::start_single("stranger");
    assert_serves(&stranger);
    let cluster_id = stranger.page()["cluster_id"].clone();
    assert_ne!(cluster_id, cluster.nodes[0].page()["cluster_id"]);

    for variable in ["SEEDS", "PEERS"] {
        stranger.terminate();
        stranger.set("SEEDS", "").set("PEERS", "").set("EXPECT", 1);
        match variable {
            "SEEDS" => {
                let seeds = cluster.nodes.iter().map(|node| node.gossip_address().to_string());
                stranger.set("SEEDS", seeds.collect::<Vec<_>>().join(","))
            }
            _ => {
                let peers = cluster.nodes.iter();
                let peers = peers.map(|node| format!("{}@{}", node.name, node.address));
                stranger.set("PEERS", peers.collect::<Vec<_>>().join(",")).set("EXPECT", "")
            }
        };
        let gossip_before = gossip_counter(&cluster.nodes[0], "other_cluster");
        let greetings_before = peers_refused(&cluster.nodes[0]);
        stranger.start();
        stranger.wait_ready();
        match variable {
            "SEEDS" => {
                wait_until("the stranger is counted", SOON, || {
                    gossip_counter(&cluster.nodes[0], "other_cluster") > gossip_before
                });
                cluster.nodes[0].wait_log("another cluster");
                stranger.wait_log("another cluster");
            }
            _ => {
                wait_until("the stranger is counted", SOON, || {
                    peers_refused(&cluster.nodes[0]) > greetings_before
                });
                stranger.wait_log("this node belongs to cluster");
            }
        }
        assert_serves(&stranger);
        assert_eq!(stranger.page()["cluster_id"], cluster_id);
        assert_eq!(members(&stranger).len(), 1, "after {variable}");
        for node in &cluster.nodes {
            assert_serves(node);
            assert_eq!(members(node).len(), 3, "after {variable}");
            assert!(mesh(node).iter().all(|seen| seen.name != "stranger"), "after {variable}");
        }
    }
}
