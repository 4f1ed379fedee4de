//! Several nodes that know each other by PEERS.

use std::time::Duration;

use phalanx::client::{Client, Options};
use rustix::process::Signal;
use serde_json::Value;

use super::{Node, SOON, wait_for, wait_until};

/// Nodes `node-1` to `node-N`, in this order.
pub struct Cluster {
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// Nodes that are not started yet.
    pub fn new(size: usize) -> Cluster {
        let mut nodes: Vec<Node> = (1..=size).map(|i| Node::new(&format!("node-{i}"))).collect();
        let peers: Vec<String> =
            nodes.iter().map(|node| format!("{}@{}", node.name, node.address)).collect();
        for node in &mut nodes {
            node.set("PEERS", peers.join(","));
        }
        Cluster { nodes }
    }

    /// Nodes that have formed a cluster.
    pub fn start(size: usize) -> Cluster {
        Cluster::start_with(size, &[])
    }

    /// Nodes with these settings that have formed a cluster.
    pub fn start_with(size: usize, settings: &[(&str, &str)]) -> Cluster {
        let mut cluster = Cluster::new(size);
        cluster.start_all(settings);
        cluster.wait_formed();
        cluster
    }

    /// Starts them with these settings. Does not wait for anything.
    pub fn start_all(&mut self, settings: &[(&str, &str)]) {
        for node in &mut self.nodes {
            for (variable, value) in settings {
                node.set(variable, value);
            }
            node.start();
        }
    }

    /// Waits until all nodes are voters of one cluster, know its leader and serve.
    pub fn wait_formed(&self) {
        wait_until("the cluster is formed", SOON, || {
            let Some(leader) = self.leader_if_known() else { return false };
            let status = self.nodes[leader].status().unwrap_or_default();
            let voters = status["peers"].as_array().map_or(0, |peers| {
                peers.iter().filter(|peer| peer["voter"].as_bool() == Some(true)).count()
            });
            voters + 1 == self.nodes.len() && self.all_follow(leader)
        });
    }

    fn all_follow(&self, leader: usize) -> bool {
        let name = &self.nodes[leader].name;
        self.nodes.iter().all(|node| node.is_ready() && node.status_text("leader_id") == *name)
    }

    /// Which of the running nodes leads: of those that think so, the one with the highest term. Waits for one.
    pub fn leader(&self) -> usize {
        wait_for("there is a leader", SOON, || self.leader_if_known())
    }

    fn leader_if_known(&self) -> Option<usize> {
        let term = |status: &Value| status["term"].as_u64().unwrap_or(0);
        let statuses = self.nodes.iter().map(|node| match node.is_running() {
            true => node.status().unwrap_or_default(),
            false => Value::Null,
        });
        let leading = statuses.enumerate().filter(|(_, status)| status["state"] == "LEADER");
        leading.max_by_key(|(_, status)| term(status)).map(|(i, _)| i)
    }

    /// kill -9 of all these before any of them is waited for.
    pub fn kill_at_once(&mut self, which: impl IntoIterator<Item = usize> + Clone) {
        which.clone().into_iter().for_each(|i| self.nodes[i].signal(Signal::KILL));
        which.into_iter().for_each(|i| self.nodes[i].kill());
    }

    /// Which node does not lead.
    pub fn follower(&self) -> usize {
        (self.leader() + 1) % self.nodes.len()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// A client of all nodes.
    pub fn client(&self, timeout: Duration) -> Client {
        Client::connect(self.addresses(), Options::within(timeout)).expect("they are addresses")
    }
}
