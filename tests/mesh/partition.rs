//! A network that is cut in two, with real cables: the majority goes on, the minority refuses, and both find together. How
//! soon, is shown where time is simulated, in the tests of gossip and of the node: here the nodes' own stalls would count.

use std::thread;
use std::time::Instant;

use phalanx::client::{Client, Error, Options};

use crate::harness::{Cluster, Lab, Node, SOON, wait_told, wait_until};
use crate::view::{all_see_all, sees};
use crate::{TIMEOUT, assert_serves, wait_roles};

/// Nodes that are told two seeds and a number, and nothing of themselves.
fn start_five(lab: &Lab) -> Cluster {
    let mut nodes: Vec<Node> =
        (0..5).map(|host| lab.node(host, &format!("node-{}", host + 1))).collect();
    let seeds = [0, 1].map(|node| nodes[node].gossip_address().to_string());
    for node in &mut nodes {
        node.set("SEEDS", seeds.join(",")).set("EXPECT", 5).start();
    }
    let cluster = Cluster { nodes };
    wait_roles(&cluster, 5, 0);
    wait_until("all know all", SOON, || all_see_all(&cluster.nodes));
    cluster
}

#[test]
fn a_minority_of_two_with_the_leader() {
    let Some(lab) = Lab::new(5) else { return };
    let cluster = start_five(&lab);
    let leader = cluster.leader();
    passes(&lab, &cluster, [leader, (leader + 1) % 5]);
}

#[test]
fn a_minority_of_two_followers() {
    let Some(lab) = Lab::new(5) else { return };
    let cluster = start_five(&lab);
    let leader = cluster.leader();
    passes(&lab, &cluster, [(leader + 1) % 5, (leader + 2) % 5]);
}

fn passes(lab: &Lab, cluster: &Cluster, minority: [usize; 2]) {
    let nodes = &cluster.nodes;
    let majority: Vec<usize> = (0..5).filter(|node| !minority.contains(node)).collect();
    nodes[0].client(TIMEOUT).put("key", "before").unwrap();
    wait_told(nodes, "key", "before");

    lab.cut(&minority);
    let cut = Instant::now();
    thread::scope(|scope| {
        for node in minority {
            scope.spawn(move || refuses(&nodes[node]));
        }
    });
    nodes[majority[0]].client(SOON).put("key", "of the majority").unwrap();
    majority.iter().for_each(|node| assert_serves(&nodes[*node]));
    // Long enough for both to give each other up. Those who are few are slow to: most of the silence may be their own.
    wait_until("the majority calls the minority dead", SOON, || {
        let is_dead = |viewer: usize| {
            minority.iter().all(|node| sees(&nodes[viewer], &nodes[*node].name, "dead"))
        };
        majority.iter().all(|viewer| is_dead(*viewer))
    });
    wait_until("the minority calls one of the majority dead", SOON, || {
        let is_dead = |viewer: usize| {
            majority.iter().any(|node| sees(&nodes[viewer], &nodes[*node].name, "dead"))
        };
        minority.iter().all(|viewer| is_dead(*viewer))
    });
    println!("both have given up {:.1?} after the cut", cut.elapsed());

    lab.heal();
    let healed = Instant::now();
    let through_minority = nodes[minority[0]].client(SOON);
    through_minority.put("key", "of all").unwrap();
    wait_until("both halves are one again", SOON, || {
        let leader = &nodes[cluster.leader()].name;
        all_see_all(nodes) && nodes.iter().all(|node| node.status_text("leader_id") == *leader)
    });
    println!("one again after {:.1?}", healed.elapsed());
    for node in nodes {
        let read = node.client(TIMEOUT).get("key").unwrap().result;
        assert_eq!(read.expect("it was put").value, "of all", "{}", node.name);
        assert_serves(node);
    }
}

/// A linearizable read through the node, sent right after the cut, is refused; a stale one is answered.
fn refuses(node: &Node) {
    let options = Options { timeout: TIMEOUT, attempt_timeout: TIMEOUT };
    let connect = || Client::connect([node.address.clone()], options).unwrap();
    let client = node.inside(connect);
    let error = client.get("key").unwrap_err();
    let Error::Unavailable { cause } = &error else { panic!("another kind of error: {error}") };
    assert!(cause.contains("no quorum"), "{}: {error}", node.name);
    assert_eq!(client.get_stale("key").unwrap().result.expect("it was put").value, "before");
}
