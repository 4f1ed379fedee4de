//! Bytes to packets and back: checksum, version, and the limits of every field. What passes here is well formed; it
//! may still be wrong.

use std::net::IpAddr;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::limits::{
    ADDRESS_LEN_MAX, GOSSIP_MEMBERS_MAX, GOSSIP_PACKET_LEN_MAX, GOSSIP_SYNC_LEN_MAX,
    IP_ADDRESS_LEN_MAX, NAME_LEN_MAX, REGION_LEN_MAX, VERSION_LEN_MAX,
};
use crate::wire::gossip::{Node, Packet, Sync, Update, update::News, verdict::Kind};

/// Of packets and tables.
pub(super) const VERSION: u32 = 1;
const CHECKSUM_LEN: usize = 4;
const CLUSTER_ID_LEN: usize = 16;

/// Why bytes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// They are not what a node of this version sends.
    Malformed(&'static str),
    /// They come from a node of another cluster.
    OtherCluster,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Malformed(what) => write!(
                f,
                "gossip that cannot be read: {what}; another program, or a node of another version"
            ),
            Refused::OtherCluster => write!(
                f,
                "gossip of another cluster: look for an address in SEEDS or PEERS that is not of this one"
            ),
        }
    }
}

impl std::error::Error for Refused {}

/// The bytes that updates may add to a packet that has none yet.
pub(super) fn room(packet: &Packet) -> usize {
    GOSSIP_PACKET_LEN_MAX.saturating_sub(CHECKSUM_LEN + packet.encoded_len())
}

pub(super) fn encode(packet: &Packet) -> Bytes {
    let body = packet.encode_to_vec();
    debug_assert!(body.len() + CHECKSUM_LEN <= GOSSIP_PACKET_LEN_MAX);
    let mut bytes = BytesMut::with_capacity(CHECKSUM_LEN + body.len());
    bytes.put_u32(crc32c::crc32c(&body));
    bytes.put_slice(&body);
    bytes.freeze()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Packet, Refused> {
    if bytes.len() > GOSSIP_PACKET_LEN_MAX {
        return Err(Refused::Malformed("too long"));
    }
    let (checksum, body) =
        bytes.split_first_chunk::<CHECKSUM_LEN>().ok_or(Refused::Malformed("too short"))?;
    if u32::from_be_bytes(*checksum) != crc32c::crc32c(body) {
        return Err(Refused::Malformed("wrong checksum"));
    }
    let packet = Packet::decode(body).map_err(|_| Refused::Malformed("no packet"))?;
    check_header(packet.version, packet.from, &packet.cluster_id)?;
    if let Some(sender) = &packet.sender {
        check_node(sender)?;
        if sender.raft_id != packet.from || sender.cluster_id != packet.cluster_id {
            return Err(Refused::Malformed("a sender that introduces another"));
        }
    }
    packet.updates.iter().try_for_each(check_update)?;
    Ok(packet)
}

pub(super) fn decode_sync(bytes: &[u8]) -> Result<Sync, Refused> {
    if bytes.len() > GOSSIP_SYNC_LEN_MAX {
        return Err(Refused::Malformed("too long"));
    }
    let sync = Sync::decode(bytes).map_err(|_| Refused::Malformed("no table"))?;
    check_header(sync.version, sync.from, &sync.cluster_id)?;
    // A node itself, and for each member its description and a verdict.
    if sync.updates.len() > 2 * GOSSIP_MEMBERS_MAX + 1 {
        return Err(Refused::Malformed("too many members"));
    }
    sync.updates.iter().try_for_each(check_update)?;
    Ok(sync)
}

fn check_header(version: u32, from: u64, cluster_id: &[u8]) -> Result<(), Refused> {
    if version != VERSION {
        return Err(Refused::Malformed("unknown version"));
    }
    if from == 0 {
        return Err(Refused::Malformed("no sender"));
    }
    check_cluster_id(cluster_id)
}

fn check_cluster_id(cluster_id: &[u8]) -> Result<(), Refused> {
    match cluster_id.len() {
        0 | CLUSTER_ID_LEN => Ok(()),
        _ => Err(Refused::Malformed("a cluster id of the wrong length")),
    }
}

fn check_update(update: &Update) -> Result<(), Refused> {
    match &update.news {
        Some(News::Alive(node)) => check_node(node),
        Some(News::Verdict(verdict)) if verdict.kind() == Kind::Unspecified => {
            Err(Refused::Malformed("an unknown verdict"))
        }
        Some(News::Verdict(_)) => Ok(()),
        None => Err(Refused::Malformed("an unknown update")),
    }
}

/// Whether a node's description is within the limits.
pub(super) fn check_node(node: &Node) -> Result<(), Refused> {
    check_cluster_id(&node.cluster_id)?;
    let short = node.name.len() <= NAME_LEN_MAX
        && node.address.len() <= ADDRESS_LEN_MAX
        && node.gossip_address.len() <= IP_ADDRESS_LEN_MAX
        && node.region.len() <= REGION_LEN_MAX
        && node.version.len() <= VERSION_LEN_MAX;
    if !short || node.raft_id == 0 || node.name.is_empty() {
        return Err(Refused::Malformed("a node whose description is beyond the limits"));
    }
    Ok(())
}

/// Where a node is reached: what it advertises, or as far as it does not know that itself, where its packets come
/// from. None if neither tells.
pub(super) fn reachable(node: &Node, source: Option<SocketAddr>) -> Option<SocketAddr> {
    let Ok(advertised) = node.gossip_address.parse::<SocketAddr>() else {
        return source.filter(|_| node.gossip_address.is_empty());
    };
    let ip = concrete_ip(advertised.ip()).or(source.map(|source| source.ip()))?;
    let port = match advertised.port() {
        0 => source?.port(),
        port => port,
    };
    Some(SocketAddr::new(ip, port))
}

fn concrete_ip(ip: IpAddr) -> Option<IpAddr> {
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_does_not_know_of_its_address_is_filled_in() {
        let source: SocketAddr = "[fd00::7]:9999".parse().unwrap();
        let seen = |advertised: &str| {
            let node = Node { gossip_address: advertised.into(), ..Node::default() };
            reachable(&node, Some(source)).map(|address| address.to_string())
        };
        assert_eq!(seen("").as_deref(), Some("[fd00::7]:9999"));
        assert_eq!(seen("[::]:7946").as_deref(), Some("[fd00::7]:7946"));
        assert_eq!(seen("0.0.0.0:0").as_deref(), Some("[fd00::7]:9999"));
        assert_eq!(seen("[fd00::1]:7946").as_deref(), Some("[fd00::1]:7946"));
        assert_eq!(seen("no address"), None);
        assert_eq!(reachable(&Node::default(), None), None);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let packet = Packet { version: VERSION, from: 1, ..Packet::default() };
        let bytes = encode(&packet);
        assert_eq!(decode(&bytes), Ok(packet));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err());
        }
    }
}
