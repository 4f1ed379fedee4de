//! What the status page tells of the mesh: plain data, filled in by the shell.

use serde::Serialize;

use super::NodeState;

/// The mesh as the node sees it.
#[derive(Debug, Clone, Serialize)]
pub struct MeshPage {
    /// The node itself, and every node that it has heard of.
    pub nodes: Vec<MeshNodePage>,
    /// How badly the node hears the others: 0 is healthy.
    pub health: u32,
    /// Since the start.
    pub counters: MeshCounters,
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

/// What gossip counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MeshCounters {
    /// Datagrams received, the refused ones included.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Bytes of tables sent and received.
    pub sync_bytes: u64,
    /// Datagrams or tables that could not be read.
    pub malformed: u64,
    /// Datagrams, tables or news of another cluster.
    pub other_cluster: u64,
    /// Pings that were meant for another node.
    pub misaddressed: u64,
    /// Answers to what was not asked, or is long over.
    pub unexpected_answers: u64,
    /// News of a node without an address.
    pub unreachable: u64,
    /// News of a known node from a second process under its identity.
    pub identity_conflicts: u64,
    /// New nodes refused because the table is full.
    pub members_refused: u64,
    /// Pings not sent, for others or to seeds, because too many are out.
    pub pings_refused: u64,
    /// Probes begun.
    pub probes: u64,
    /// Probes for which others were asked, because the direct ping was not answered in time.
    pub indirect_probes: u64,
    /// Probes without an answer, direct or by others.
    pub probes_failed: u64,
    /// Claims that this node was suspect or dead, or other forgeries of it, that it refuted.
    pub refuted: u64,
    /// Suspicions that began.
    pub suspicions: u64,
    /// Suspected nodes that were alive after all.
    pub false_suspicions: u64,
    /// Nodes taken for dead that were alive after all, in the same start.
    pub false_deaths: u64,
    /// Times that this process was not run for longer than it should have been.
    pub stalls: u64,
}
