//! What comes to the gossip ports from whoever wants to: nothing of it stops a node or the cluster, and it is counted.

use std::net::UdpSocket;

use phalanx::wire::client::Identity;
use phalanx::wire::gossip::{Node as Description, Packet, Update, Verdict, update, verdict};
use prost::Message;

use crate::harness::{Cluster, Node, SOON, rng, wait_until};
use crate::view::{all_see_all, gossip_counter};
use crate::{TIMEOUT, assert_serves, start_with, wait_roles};

/// Of each kind, to each node.
const DATAGRAMS: usize = 300;
/// As much as UDP takes.
const DATAGRAM_LEN_MAX: usize = 65_507;
/// A raft id that nobody has.
const LIAR: u64 = 42;

fn start_three() -> Cluster {
    let cluster = start_with(3, &[]);
    wait_roles(&cluster, 3, 0);
    wait_until("all know all", SOON, || all_see_all(&cluster.nodes));
    cluster
}

/// Sends `bytes` of each number to every node.
fn send_all(cluster: &Cluster, mut bytes: impl FnMut(usize) -> Vec<u8>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..DATAGRAMS {
        let bytes = bytes(number);
        for node in &cluster.nodes {
            socket.send_to(&bytes, node.gossip_address()).unwrap();
        }
    }
}

fn counters(cluster: &Cluster, name: &str) -> Vec<u64> {
    cluster.nodes.iter().map(|node| gossip_counter(node, name)).collect()
}

/// Sends, and waits until every node has counted some of it.
#[track_caller]
fn assert_counted(cluster: &Cluster, counter: &str, bytes: impl FnMut(usize) -> Vec<u8>) {
    let before = counters(cluster, counter);
    send_all(cluster, bytes);
    wait_until(&format!("each node counts it as {counter}"), SOON, || {
        counters(cluster, counter).iter().zip(&before).all(|(after, before)| after > before)
    });
}

/// As nodes send it.
fn encode(packet: &Packet) -> Vec<u8> {
    let body = packet.encode_to_vec();
    [&crc32c::crc32c(&body).to_be_bytes(), &body[..]].concat()
}

fn identity(node: &Node) -> Identity {
    let status = node.client(TIMEOUT).status().unwrap().result;
    status.node.unwrap().identity.unwrap()
}

/// A packet of the cluster that spreads one piece of news.
fn rumour(cluster_id: &[u8], news: update::News) -> Packet {
    Packet {
        version: 1,
        from: LIAR,
        cluster_id: cluster_id.to_vec().into(),
        updates: vec![Update { news: Some(news) }],
        ..Packet::default()
    }
}

#[test]
fn noise_is_counted_and_changes_nothing() {
    let cluster = start_three();
    let mut rng = rng();
    assert_counted(&cluster, "malformed", |_| {
        let len = rng.usize(..1500);
        std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
    });
    assert_counted(&cluster, "malformed", |_| vec![0x0a; DATAGRAM_LEN_MAX]);

    let own = identity(&cluster.nodes[0]);
    let dead = |raft_id| {
        let kind = verdict::Kind::Dead.into();
        update::News::Verdict(Verdict { raft_id, starts: own.starts, kind, ..Verdict::default() })
    };
    let valid = encode(&rumour(&own.cluster_id, dead(LIAR)));
    assert_counted(&cluster, "malformed", |number| valid[..number % valid.len()].to_vec());
    assert_counted(&cluster, "malformed", |number| {
        let mut flipped = valid.clone();
        flipped[number / 8 % valid.len()] ^= 1 << (number % 8);
        flipped
    });

    let other = rumour(&[7; 16], dead(own.raft_id));
    assert_counted(&cluster, "other_cluster", |_| encode(&other));
    cluster.nodes.iter().for_each(assert_serves);
    wait_until("all know all", SOON, || all_see_all(&cluster.nodes));
}

#[test]
fn lies_about_a_node_are_refuted() {
    let cluster = start_three();
    let victim = &cluster.nodes[cluster.leader()];
    let own = identity(victim);
    let refuted_before = gossip_counter(victim, "refuted");
    // That it is dead, in whichever incarnation it is.
    send_all(&cluster, |number| {
        let verdict = Verdict {
            raft_id: own.raft_id,
            starts: own.starts,
            incarnation: number as u64 % 16,
            kind: verdict::Kind::Dead.into(),
            by: LIAR,
        };
        encode(&rumour(&own.cluster_id, update::News::Verdict(verdict)))
    });
    // That it is elsewhere, in an incarnation that it never had.
    send_all(&cluster, |number| {
        let description = Description {
            raft_id: own.raft_id,
            starts: own.starts,
            nonce: own.nonce,
            incarnation: 1_000_000 + number as u64,
            name: own.name.clone(),
            cluster_id: own.cluster_id.clone(),
            address: "127.0.0.1:1".to_owned(),
            gossip_address: "127.0.0.1:1".to_owned(),
            ..Description::default()
        };
        encode(&rumour(&own.cluster_id, update::News::Alive(description)))
    });
    wait_until("it refutes", SOON, || gossip_counter(victim, "refuted") > refuted_before);
    wait_until("all believe it", SOON, || {
        let status = |node: &Node| node.status().unwrap_or_default();
        let address = |node: &Node| {
            let nodes = status(node)["mesh"]["nodes"].as_array().cloned().unwrap_or_default();
            let row = nodes.into_iter().find(|row| row["node_id"] == victim.name);
            row.is_some_and(|row| row["address"] == victim.address)
        };
        all_see_all(&cluster.nodes) && cluster.nodes.iter().all(address)
    });
    cluster.nodes.iter().for_each(assert_serves);
}
