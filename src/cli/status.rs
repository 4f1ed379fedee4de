//! `phalanx status`: a row for each node of the cluster.
//!
//! The node that was asked tells who the members are; each of the others is then asked about
//! itself, all at once and not for long. Whoever does not answer is `unreachable`, which is no
//! failure of the command: it is what one wants to see. So is, unasked, whom gossip calls dead or
//! gone: to wait for those would take the whole of a probe's time.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::Result;
use super::output::{Output, table};
use crate::client::{Client, MeshState, Options, Status};
use crate::wire::client::{Member, NodeRole, NodeStatus};

/// How long another node gets to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const HEAD: [&str; 7] = ["ID", "ROLE", "TERM", "COMMIT", "APPLIED", "LAG", "ADDRESS"];

/// One node. `None` is what is not known.
struct Row {
    id: String,
    address: String,
    node: Option<NodeStatus>,
    lag: Option<u64>,
}

pub fn status(client: &Client, timeout: Duration, out: &mut Output<'_>) -> Result<()> {
    let status = client.status()?.result;
    let rows = rows(&status, timeout);
    let nodes = || rows.iter().map(row_json).collect();
    print(&status, nodes, || table(HEAD, rows.iter().map(Row::cells)), out)
}

/// Prints a row for each node, and with them whether the store is full, and why requests are refused, if they are.
pub(super) fn print(
    status: &Status,
    nodes: impl FnOnce() -> Vec<Value>,
    table: impl FnOnce() -> String,
    out: &mut Output<'_>,
) -> Result<()> {
    let Status { leader_name, unavailable, node, .. } = status;
    let NodeStatus { logical_bytes, max_bytes, full, .. } = node.clone().unwrap_or_default();
    out.line(
        || {
            json!({
                "leader": leader_name, "unavailable": unavailable, "bytes": logical_bytes, "max_bytes": max_bytes,
                "full": full, "nodes": nodes(),
            })
        },
        || {
            let mut text = table();
            if full {
                text += &format!(
                    "\nfull: {logical_bytes} of {max_bytes} bytes; writes that would take it over MAX_BYTES are refused"
                );
            }
            if !unavailable.is_empty() {
                text += &format!("\nunavailable: {unavailable}");
            }
            text
        },
    )?;
    Ok(())
}

fn rows(status: &Status, timeout: Duration) -> Vec<Row> {
    let own = status.node.clone().unwrap_or_default();
    let own_identity = own.identity.clone().unwrap_or_default();
    let mut members = status.members.clone();
    if !members.iter().any(|member| member.raft_id == own_identity.raft_id) {
        // A node that belongs to no cluster yet is worth a row as well.
        let (raft_id, name) = (own_identity.raft_id, own_identity.name);
        let address = own_identity.address;
        members.push(Member { raft_id, name, address, ..Member::default() });
    }
    members.sort_by(|a, b| (&a.name, a.raft_id).cmp(&(&b.name, b.raft_id)));

    let asked: Vec<_> = members
        .into_iter()
        .map(|member| {
            let known = (member.raft_id == own_identity.raft_id).then(|| own.clone());
            // Spawning fails where the system has no thread left; that node then counts as unreachable.
            let probe = match known.is_some() || is_gone(status, member.raft_id) {
                false => probe(&member, timeout),
                true => None,
            };
            (member, known, probe)
        })
        .collect();
    let mut rows: Vec<Row> = asked
        .into_iter()
        .map(|(member, known, probe)| {
            let probed = || probe.and_then(|thread| thread.join().ok()).flatten();
            Row { id: member.name, address: member.address, node: known.or_else(probed), lag: None }
        })
        .collect();
    let leader_commit = rows
        .iter()
        .filter_map(|row| row.node.as_ref())
        .filter(|node| node.role() == NodeRole::Leader)
        // Of two that think so, the one of the later term is right.
        .max_by_key(|node| node.term)
        .map(|node| node.commit);
    for row in &mut rows {
        let applied = row.node.as_ref().map(|node| node.applied);
        row.lag =
            leader_commit.zip(applied).map(|(commit, applied)| commit.saturating_sub(applied));
    }
    rows
}

/// Whether the asked node's mesh calls that one dead, or has heard that it stopped.
pub(super) fn is_gone(status: &Status, raft_id: u64) -> bool {
    let is_over = |state| matches!(state, MeshState::Dead | MeshState::Left);
    status.mesh.iter().any(|node| node.raft_id == raft_id && is_over(node.state()))
}

fn probe(member: &Member, timeout: Duration) -> Option<thread::JoinHandle<Option<NodeStatus>>> {
    let (address, raft_id) = (member.address.clone(), member.raft_id);
    thread::Builder::new().spawn(move || ask(&address, raft_id, timeout)?.node).ok()
}

/// Asks another node, which gets no longer than a probe. It must be the one that is meant: an address
/// may have changed hands.
pub(super) fn ask(address: &str, raft_id: u64, timeout: Duration) -> Option<Status> {
    let timeout = timeout.min(PROBE_TIMEOUT);
    let client = Client::connect([address], Options::within(timeout)).ok()?;
    let status = client.status().ok()?.result;
    let is_meant = status.node.as_ref()?.identity.as_ref()?.raft_id == raft_id;
    is_meant.then_some(status)
}

fn row_json(row: &Row) -> Value {
    json!({
        "id": row.id,
        "role": row.role(),
        "term": row.node.as_ref().map(|node| node.term),
        "commit": row.node.as_ref().map(|node| node.commit),
        "applied": row.node.as_ref().map(|node| node.applied),
        "lag": row.lag,
        "address": row.address,
    })
}

impl Row {
    fn role(&self) -> String {
        match &self.node {
            Some(node) => node.role().as_str_name().to_lowercase(),
            None => "unreachable".to_owned(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let number = |value: Option<u64>| value.map(|n| n.to_string()).unwrap_or_default();
        let node = self.node.as_ref();
        [
            self.id.clone(),
            self.role(),
            number(node.map(|node| node.term)),
            number(node.map(|node| node.commit)),
            number(node.map(|node| node.applied)),
            number(self.lag),
            self.address.clone(),
        ]
    }
}
