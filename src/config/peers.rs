//! Names of nodes, and the list of a node's peers.

use std::collections::HashSet;

use super::HostPort;
use crate::limits::NAME_LEN_MAX;

/// Another node, as PEERS tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its NODE_ID.
    pub name: String,
    /// Where it is reached; else the mesh will tell.
    pub address: Option<HostPort>,
}

/// Checks a node's name.
pub(super) fn name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b',' && byte != b'@';
    if (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "a name has 1 to {NAME_LEN_MAX} printable ASCII characters without space, `,` and `@`"
    ))
}

/// Reads `name,name@host:port,...`. No name and no address may come twice: they would be two nodes that
/// are one. Empty entries are passed over, as a generated list may end in a comma.
pub(super) fn list(text: &str) -> Result<Vec<Peer>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let peers = entries.map(peer).collect::<Result<Vec<Peer>, String>>()?;
    let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
    for peer in &peers {
        if !names.insert(&peer.name) {
            return Err(format!("the name `{}` is in it twice: each node has its own", peer.name));
        }
        if let Some(address) = &peer.address
            && !addresses.insert(address)
        {
            return Err(format!("the address `{address}` is in it twice: each node has its own"));
        }
    }
    Ok(peers)
}

fn peer(entry: &str) -> Result<Peer, String> {
    let in_entry = |what: String| format!("in `{entry}`: {what}");
    let Some((name, address)) = entry.split_once('@') else {
        return Ok(Peer { name: name(entry).map_err(in_entry)?, address: None });
    };
    let address: HostPort = address.parse().map_err(in_entry)?;
    if address.port() == 0 {
        return Err(in_entry("port 0 cannot be reached".into()));
    }
    Ok(Peer { name: self::name(name).map_err(in_entry)?, address: Some(address) })
}
