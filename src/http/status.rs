//! What the pages tell: plain data, filled in by the shell.

use std::fmt;

use serde::Serialize;

use super::MeshPage;
use crate::metrics::{Counters, LatencySummary};

/// What all pages are made of, at one moment.
#[derive(Debug, Clone)]
pub struct Page {
    /// For `/health`.
    pub health: Health,
    /// For `/debug/status`.
    pub status: StatusPage,
}

/// Whether the node can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has a leader, or is it: 200.
    Ready {
        /// What the node is.
        role: NodeState,
        /// Whether writes are refused that would take the store over MAX_BYTES.
        is_full: bool,
    },
    /// The first cluster is not formed yet, which is no fault of the node: 200.
    Forming {
        /// For whom it waits.
        waiting_for: String,
    },
    /// It cannot serve: 503.
    Unavailable {
        /// Why, and what would help.
        reason: String,
    },
}

/// What a node is in the protocol of consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NodeState {
    /// Belongs to no cluster yet.
    Forming,
    /// A voter that follows.
    Follower,
    /// A voter that asks for votes.
    Candidate,
    /// The leader.
    Leader,
    /// A member without a vote.
    Learner,
}

impl fmt::Display for NodeState {
    /// As in the JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// `/debug/status`. Every number fits a double (raft ids end at 2^53).
#[derive(Debug, Clone, Serialize)]
pub struct StatusPage {
    /// The node's name.
    pub node_id: String,
    /// The node's identity.
    pub raft_id: u64,
    /// In hex; empty before the node belongs to a cluster.
    pub cluster_id: String,
    /// What the node is.
    pub state: NodeState,
    /// The term.
    pub term: u64,
    /// The leader's name; empty if none is known.
    pub leader_id: String,
    /// Up to where the log is committed.
    pub commit_index: u64,
    /// Up to where the log is applied.
    pub applied_index: u64,
    /// Entries of the log in memory.
    pub log_length: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// Bytes of the log's segments on disk.
    pub log_disk_bytes: u64,
    /// The other members.
    pub peers: Vec<PeerStatus>,
    /// How many keys there are.
    pub kv_size: u64,
    /// Logical bytes of keys and values.
    pub kv_bytes: u64,
    /// What they may be at most (MAX_BYTES, as it is replicated); 0: no limit.
    pub kv_bytes_max: u64,
    /// Whether a write was refused for that, and would be still.
    pub kv_full: bool,
    /// Why requests are refused at the moment; empty if they are not.
    pub unavailable: String,
    /// The store's revision.
    pub revision: u64,
    /// Of the program.
    pub version: String,
    /// Since the start.
    pub uptime_ms: u64,
    /// The mesh, members of the cluster or not.
    pub mesh: MeshPage,
    /// Since the start.
    pub counters: Counters,
    /// Durable writes of the log.
    pub syncs: LatencySummary,
    /// Commits of the state machine.
    pub commits: LatencySummary,
}

/// A member as this node sees it. `matched` and `active` are known to the leader alone, and 0 and
/// false elsewhere.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    /// Its name.
    pub node_id: String,
    /// Its identity.
    pub raft_id: u64,
    /// Where it is reached.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
    /// Whether there is a connection to it.
    pub connected: bool,
    /// Up to where its log is known to agree.
    pub matched: u64,
}
