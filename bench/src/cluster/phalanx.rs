//! A Phalanx cluster: its defaults, but for the three timings that README.md gives for a mesh on one machine (an
//! election timeout of 1 s, as etcd's).

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Group, free_ports};
use crate::target::phalanx::{Connection, Slot};

const TIMEOUT_MS: u32 = 1_000;
/// TARGET_VOTERS, as it comes.
const VOTERS_MAX: usize = 5;

/// Starts the nodes. Their addresses.
pub fn start(group: &mut Group, program: &Path, nodes: usize) -> io::Result<Vec<String>> {
    let ports = free_ports(2 * nodes)?;
    let (client_ports, gossip_ports) = ports.split_at(nodes);
    let list = |each: &dyn Fn(usize) -> String| (0..nodes).map(each).collect::<Vec<_>>().join(",");
    let peers = list(&|at| format!("node-{at}@127.0.0.1:{}", client_ports[at]));
    let seeds = list(&|at| format!("127.0.0.1:{}", gossip_ports[at]));
    for at in 0..nodes {
        let name = format!("node-{at}");
        let mut command = Command::new(program);
        command.env_clear().envs([
            ("NODE_ID", name.as_str()),
            ("PEERS", &peers),
            ("SEEDS", &seeds),
            ("EXPECT", &nodes.to_string()),
            ("DATA_DIR", &group.directory().join(at.to_string()).to_string_lossy()),
            ("LISTEN_ADDR", &format!("127.0.0.1:{}", client_ports[at])),
            ("BIND_ADDR", "127.0.0.1"),
            ("BIND_PORT", &gossip_ports[at].to_string()),
            ("DEBUG_ADDR", "none"),
            ("TICK_MS", "100"),
            ("ELECTION", "10"),
            ("HEARTBEAT", "3"),
        ]);
        group.spawn(&mut command, &name)?;
    }
    Ok(client_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect())
}

/// Which of the nodes leads, once all of them are members and as many vote as are to.
pub async fn leader(addresses: &[String]) -> io::Result<usize> {
    let mut leads = Err(io::Error::other("nobody leads"));
    for (at, address) in addresses.iter().enumerate() {
        let connection = Connection::open(address, 1, TIMEOUT_MS).await?;
        let status = Slot::new(connection.into(), 0).status().await?;
        if !status.unavailable.is_empty() {
            return Err(io::Error::other(status.unavailable));
        }
        let voters = status.members.iter().filter(|member| member.voter).count();
        let (members, nodes) = (status.members.len(), addresses.len());
        if members != nodes || voters != nodes.min(VOTERS_MAX) {
            return Err(io::Error::other(format!(
                "of {nodes} nodes {members} are members and {voters} vote"
            )));
        }
        let node = status.node.unwrap_or_default();
        if node.identity.is_some_and(|own| own.raft_id == status.leader_raft_id) {
            leads = Ok(at);
        }
    }
    leads
}
