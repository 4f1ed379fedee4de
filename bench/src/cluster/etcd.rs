//! An etcd cluster with its defaults: heartbeats of 100 ms, an election timeout of 1 s, a sync of the log for each
//! batch.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Group, free_ports};
use crate::target::etcd::{Role, Slot};

const TIMEOUT_MS: u32 = 1_000;

/// Starts the members. Their addresses.
pub fn start(group: &mut Group, program: &Path, nodes: usize) -> io::Result<Vec<String>> {
    let ports = free_ports(2 * nodes)?;
    let (client_ports, peer_ports) = ports.split_at(nodes);
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let members: Vec<_> =
        (0..nodes).map(|at| format!("node-{at}={}", url(peer_ports[at]))).collect();
    for at in 0..nodes {
        let name = format!("node-{at}");
        let (client, peer) = (url(client_ports[at]), url(peer_ports[at]));
        let mut command = Command::new(program);
        command.env_clear().args(["--name", &name, "--initial-cluster-state", "new"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &members.join(","), "--data-dir"]);
        command.arg(group.directory().join(at.to_string()));
        group.spawn(&mut command, &name)?;
    }
    Ok(client_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect())
}

/// Which of the members leads, once all of them know.
pub async fn leader(addresses: &[String]) -> io::Result<usize> {
    let mut leads = Err(io::Error::other("nobody leads"));
    for (at, address) in addresses.iter().enumerate() {
        match Slot::open(address, TIMEOUT_MS).await?.status().await? {
            (Role::Waits, _) => return Err(io::Error::other(format!("{address} knows no leader"))),
            (Role::Leads, _) => leads = Ok(at),
            (Role::Follows, _) => {}
        }
    }
    leads
}
