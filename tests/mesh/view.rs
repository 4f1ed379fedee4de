//! What a node's status page tells of the mesh and of the members.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::Node;

/// A row of `mesh.nodes`.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub name: String,
    pub raft_id: u64,
    pub state: String,
}

/// Whom the gossip of a node that runs knows.
pub fn mesh(node: &Node) -> Vec<Seen> {
    rows(&node.page())
}

fn rows(status: &Value) -> Vec<Seen> {
    let rows = status["mesh"]["nodes"].as_array().cloned().unwrap_or_default();
    let seen = |row: &Value| Seen {
        name: text(row, "node_id"),
        raft_id: number(row, "raft_id"),
        state: text(row, "state"),
    };
    rows.iter().map(seen).collect()
}

/// Whether the node answers, and its gossip holds a node of that name for `state`.
pub fn sees(node: &Node, name: &str, state: &str) -> bool {
    let status = node.status().unwrap_or_default();
    rows(&status).iter().any(|seen| seen.name == name && seen.state == state)
}

/// Whether each of the nodes that run answers and holds each of them for alive, itself included, and nobody else.
pub fn all_see_all(nodes: &[Node]) -> bool {
    let running = || nodes.iter().filter(|node| node.is_running());
    running().all(|viewer| {
        let seen = rows(&viewer.status().unwrap_or_default());
        let alive = seen.into_iter().filter(|seen| seen.state == "alive");
        let mut alive: Vec<String> = alive.map(|seen| seen.name).collect();
        let mut wanted: Vec<String> = running().map(|node| node.name.clone()).collect();
        alive.sort();
        wanted.sort();
        alive == wanted
    })
}

/// A counter of the gossip of a node that runs.
pub fn gossip_counter(node: &Node, name: &str) -> u64 {
    let status = node.page();
    status["mesh"]["counters"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("{} tells no {name}: {}", node.name, status["mesh"]))
}

#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub raft_id: u64,
    pub address: String,
    pub voter: bool,
}

/// The members of the cluster by name, as a node that runs knows them.
pub fn members(node: &Node) -> BTreeMap<String, Member> {
    let status = node.page();
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    let other = |peer: &Value| {
        let voter = peer["voter"].as_bool() == Some(true);
        let member =
            Member { raft_id: number(peer, "raft_id"), address: text(peer, "address"), voter };
        (text(peer, "node_id"), member)
    };
    let mut members: BTreeMap<String, Member> = peers.iter().map(other).collect();
    let voter = ["LEADER", "FOLLOWER", "CANDIDATE"].contains(&text(&status, "state").as_str());
    let own = Member { raft_id: number(&status, "raft_id"), address: node.address.clone(), voter };
    members.insert(text(&status, "node_id"), own);
    members
}

/// The names of those that vote, or of those that do not.
pub fn names(node: &Node, voters: bool) -> Vec<String> {
    let members = members(node).into_iter().filter(|(_, member)| member.voter == voters);
    members.map(|(name, _)| name).collect()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_default()
}
