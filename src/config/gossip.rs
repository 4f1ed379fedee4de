//! Where a node meets the mesh: where its gossip listens, whom it asks first, and what it tells of itself.
//!
//! Most of it follows from other settings where it is not given. A node whose client address is a loopback address can
//! only be one of several on this machine: its gossip stays on that address, takes the first free port of a small range,
//! and looks for the others on all of them. A BIND_PORT of its own keeps a node out of that range.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{HostPort, Peer};
use crate::limits::{GOSSIP_LOOPBACK_PORTS, GOSSIP_PORT_DEFAULT, GOSSIP_SEEDS_MAX, REGION_LEN_MAX};

/// Where a node meets the mesh, and what it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gossip {
    /// What it binds.
    pub bind: GossipBind,
    /// Where other nodes may be: SEEDS, or what can be guessed.
    pub seeds: Vec<HostPort>,
    /// Where others reach this node, for clients and peers; port 0 stands for the one that it listens on. `None`: at
    /// LISTEN_ADDR, if that is no wildcard; else only the others can tell.
    pub advertise_addr: Option<HostPort>,
    /// REGION; may be empty.
    pub region: String,
}

/// An address for datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipBind {
    /// An IP address without brackets, or a name.
    pub host: String,
    /// The first of these that is free; 0 is any.
    pub ports: RangeInclusive<u16>,
}

const LOOPBACK_PORTS: RangeInclusive<u16> =
    GOSSIP_PORT_DEFAULT..=GOSSIP_PORT_DEFAULT + GOSSIP_LOOPBACK_PORTS - 1;

/// What BIND_ADDR and BIND_PORT say, or else follows from where clients are served.
pub(super) fn bind(addr: Option<String>, port: Option<u16>, listen_addr: &HostPort) -> GossipBind {
    let shares_machine = addr.is_none() && listen_addr.is_loopback();
    let host = addr.unwrap_or_else(|| match shares_machine {
        true => listen_addr.host().to_owned(),
        false => HostPort::any(0).host().to_owned(),
    });
    let ports = match port {
        Some(port) => port..=port,
        None if shares_machine => LOOPBACK_PORTS,
        None => GOSSIP_PORT_DEFAULT..=GOSSIP_PORT_DEFAULT,
    };
    GossipBind { host, ports }
}

/// Where others may be if SEEDS does not tell: on the ports that nodes of one machine share, or else where PEERS are, at
/// the port that this node has itself.
pub(super) fn guessed_seeds(
    bind: &GossipBind,
    listen_addr: &HostPort,
    peers: &[Peer],
) -> Vec<HostPort> {
    if bind.ports == LOOPBACK_PORTS {
        return LOOPBACK_PORTS.map(|port| listen_addr.at_port(port)).collect();
    }
    let port = match *bind.ports.start() {
        0 => GOSSIP_PORT_DEFAULT,
        port => port,
    };
    let addresses = peers.iter().filter_map(|peer| peer.address.as_ref());
    without_repeats(addresses.map(|address| address.at_port(port)))
}

/// Reads SEEDS. Empty entries are passed over, and so is what comes twice: the list may be generated.
pub(super) fn seeds(text: &str) -> Result<Vec<HostPort>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let seeds = entries.map(seed).collect::<Result<Vec<HostPort>, String>>()?;
    let seeds = without_repeats(seeds);
    match seeds.len() {
        0 => Err("there is no seed in it: write `HOST,...`, or leave it unset".into()),
        count if count > GOSSIP_SEEDS_MAX => {
            Err(format!("it has {count} seeds, and {GOSSIP_SEEDS_MAX} are the most: give some"))
        }
        _ => Ok(seeds),
    }
}

fn seed(entry: &str) -> Result<HostPort, String> {
    let in_entry = |what: String| format!("in `{entry}`: {what}");
    let seed = HostPort::parse_or(entry, GOSSIP_PORT_DEFAULT).map_err(in_entry)?;
    match seed.port() {
        0 => Err(in_entry("port 0 cannot be reached".into())),
        _ => Ok(seed),
    }
}

fn without_repeats(addresses: impl IntoIterator<Item = HostPort>) -> Vec<HostPort> {
    let mut once = Vec::new();
    for address in addresses {
        if !once.contains(&address) {
            once.push(address);
        }
    }
    once
}

/// Reads BIND_ADDR: a host without a port, IPv6 with or without brackets.
pub(super) fn bind_addr(text: &str) -> Result<String, String> {
    let host = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !host.is_empty() && host.bytes().all(in_name);
    match is_name || host.parse::<IpAddr>().is_ok() {
        true => Ok(host.to_owned()),
        false => Err("it must be an IP address or a host name; the port is BIND_PORT".into()),
    }
}

/// Reads ADVERTISE_ADDR; port 0 stands for the one that the node listens on.
pub(super) fn advertise_addr(text: &str) -> Result<HostPort, String> {
    let address = HostPort::parse_or(text, 0)?;
    match address.ip().is_some_and(|ip| ip.is_unspecified()) {
        true => {
            Err("nobody can be reached at a wildcard: give the address that the others use".into())
        }
        false => Ok(address),
    }
}

/// Reads FLY_PRIVATE_IP.
pub(super) fn private_ip(text: &str) -> Result<HostPort, String> {
    let ip: IpAddr =
        text.parse().map_err(|_| "it must be an IP address; unset it if it is not used")?;
    Ok(HostPort::of_ip(ip))
}

/// Reads REGION.
pub(super) fn region(text: &str) -> Result<String, String> {
    match text.len() <= REGION_LEN_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "a region has at most {REGION_LEN_MAX} printable ASCII characters without space"
        )),
    }
}
