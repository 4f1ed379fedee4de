//! What the room asks of its shell and tells it: effects are values.

use std::net::SocketAddr;

use bytes::Bytes;

/// What is to be done now. The shell drains it after each call.
#[derive(Debug, Default)]
pub struct Output {
    /// Datagrams to send.
    pub packets: Vec<(SocketAddr, Bytes)>,
    /// Raft ids of members with which tables are to be exchanged, over TCP at [`Node::address`]. It is no harm if
    /// one fails: there will be others.
    ///
    /// [`Node::address`]: crate::wire::gossip::Node::address
    pub syncs: Vec<u64>,
    /// What became known, in order.
    pub events: Vec<Event>,
}

/// Something became known. Numbers are raft ids; [`Gossip::member`](super::Gossip::member) knows more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node that was not there is alive: new, or back after it had left.
    Joined(u64),
    /// A live node was started anew, or changed its role, cluster, name or an address.
    Updated(u64),
    /// A node does not answer somebody.
    Suspected(u64),
    /// A suspected or dead node is alive.
    Recovered(u64),
    /// A node is taken for dead.
    Died(u64),
    /// A node said that it goes.
    Left(u64),
    /// Two live nodes have one name. Told once a minute while it lasts and there is news of either.
    NameConflict {
        /// The name of both.
        name: String,
        /// Raft id and gossip address of each; the address is None for this node itself.
        holders: [(u64, Option<SocketAddr>); 2],
    },
    /// Another process runs under this node's raft id: its data directory was copied, or started a second time.
    /// Told once a minute.
    OwnIdentityElsewhere {
        /// Where it serves clients and peers, as it says.
        address: String,
        /// Its gossip address, as it says or as it was seen.
        gossip_address: String,
        /// Its start counter. Larger than the own one: the other nodes follow that process now.
        starts: u64,
    },
    /// A node of another cluster sends packets here, from this address. Told once a minute.
    OtherCluster(SocketAddr),
}

/// What happened since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
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
