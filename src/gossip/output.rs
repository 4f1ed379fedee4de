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
    /// A node of another cluster sends packets here, from this address, or answers ours. Told once a minute.
    OtherCluster(SocketAddr),
}
