//! What the status page tells of the mesh: plain data, filled in by the shell.

use serde::Serialize;

use super::NodeState;
use crate::metrics::GossipCounters;

/// The mesh as the node sees it.
#[derive(Debug, Clone, Serialize)]
pub struct MeshPage {
    /// The node itself, and every node that it has heard of.
    pub nodes: Vec<MeshNodePage>,
    /// How badly the node hears the others: 0 is healthy.
    pub health: u32,
    /// Since the start.
    pub counters: GossipCounters,
    /// Lookups of a seed that gave no address.
    pub seed_lookups_failed: u64,
    /// Datagrams that could not be sent.
    pub datagrams_dropped: u64,
}

/// What gossip knows of a node.
#[derive(Debug, Clone, Serialize)]
pub struct MeshNodePage {
    /// Its name.
    pub node_id: String,
    /// Its identity.
    pub raft_id: u64,
    /// Whether it lives.
    pub state: Liveness,
    /// Its region; may be empty.
    pub region: String,
    /// Where clients and peers reach it; empty if nobody can tell.
    pub address: String,
    /// Where its gossip is.
    pub gossip_address: String,
    /// Of its program.
    pub version: String,
    /// What it is in the protocol of consensus, as it says.
    pub role: NodeState,
    /// The estimated round trip between it and this node; null before it is known.
    pub rtt_ms: Option<f64>,
    /// For how long it is in that state.
    pub since_ms: u64,
}

/// Whether a node lives, as far as gossip can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// It answers.
    Alive,
    /// Somebody got no answer from it.
    Suspect,
    /// It did not refute that.
    Dead,
    /// It said that it stops.
    Left,
}
