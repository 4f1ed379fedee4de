//! `phalanx members`, `member remove` and `leader transfer`: who is in the mesh and in the cluster,
//! and the orders that change it.
//!
//! A row joins what the asked node's two tables say of one raft id: the members, which the log
//! decides, and the mesh, which gossip knows. Either may have a node that the other has not: members
//! are shown always, others while they live. How far a member is behind is known to the leader alone, which is therefore asked as
//! well; if it does not answer, that is not known, which is no failure of the command.

use std::time::Duration;

use serde_json::{Value, json};

use super::Result;
use super::args::{RemoveMember, TransferLeader};
use super::output::{Output, table};
use super::status::{ask, is_gone, print};
use crate::client::{Client, Member, MeshNode, MeshState, NodeRole, Status};
use crate::wire::client::Identity;

const HEAD: [&str; 8] = ["NAME", "RAFT ID", "ROLE", "STATE", "REGION", "ADDRESS", "RTT", "LAG"];

/// One node. `None` and what is empty is not known.
struct Row {
    name: String,
    raft_id: u64,
    role: &'static str,
    state: &'static str,
    /// For how long it is in that state.
    since_ms: Option<u64>,
    region: String,
    address: String,
    version: String,
    rtt_us: Option<u64>,
    lag: Option<u64>,
}

pub fn members(client: &Client, timeout: Duration, out: &mut Output<'_>) -> Result<()> {
    let status = client.status()?.result;
    let rows = rows(&status, timeout);
    let nodes = || rows.iter().map(row_json).collect();
    print(&status, nodes, || table(HEAD, rows.iter().map(Row::cells)), out)
}

pub fn remove(client: &Client, remove: RemoveMember, out: &mut Output<'_>) -> Result<()> {
    client.remove_member(&remove.name)?;
    out.line(|| json!({ "removed": remove.name }), || format!("removed {}", remove.name))?;
    Ok(())
}

pub fn transfer(client: &Client, transfer: TransferLeader, out: &mut Output<'_>) -> Result<()> {
    client.transfer_leader(&transfer.name)?;
    out.line(|| json!({ "leader": transfer.name }), || format!("{} leads", transfer.name))?;
    Ok(())
}

fn rows(status: &Status, timeout: Duration) -> Vec<Row> {
    let mut mesh = status.mesh.clone();
    let own = own_identity(status);
    if !mesh.iter().any(|node| node.raft_id == own.raft_id) {
        mesh.push(own_mesh_node(status));
    }
    let leader = leader_status(status, timeout);
    let member = |raft_id| status.members.iter().find(|member| member.raft_id == raft_id);
    let unheard_of = (status.members.iter())
        .filter(|member| !mesh.iter().any(|node| node.raft_id == member.raft_id));
    // Of those that are no members, who is gone is of no concern: gossip remembers them for an hour.
    let is_here = |node: &&MeshNode| {
        let is_live = matches!(node.state(), MeshState::Alive | MeshState::Suspect);
        is_live || member(node.raft_id).is_some()
    };
    let heard_of = mesh.iter().filter(is_here).map(|node| (member(node.raft_id), Some(node)));
    let mut rows: Vec<Row> = unheard_of
        .map(|member| (Some(member), None))
        .chain(heard_of)
        .map(|(member, node)| row(status, leader.as_ref(), member, node))
        .collect();
    rows.sort_by(|a, b| (&a.name, a.raft_id).cmp(&(&b.name, b.raft_id)));
    rows
}

/// The row of a node that at least one of the two tables has.
fn row(
    status: &Status,
    leader: Option<&Status>,
    member: Option<&Member>,
    node: Option<&MeshNode>,
) -> Row {
    // Gossip is ahead of the log in what a node tells of itself.
    let text = |of_node: fn(&MeshNode) -> &String, of_member: fn(&Member) -> &String| {
        let known = [node.map(of_node), member.map(of_member)];
        known.into_iter().flatten().find(|text| !text.is_empty()).cloned().unwrap_or_default()
    };
    let told = |what: fn(&MeshNode) -> &String| node.map(what).cloned().unwrap_or_default();
    let raft_id = member.map_or_else(|| node.map_or(0, |node| node.raft_id), |it| it.raft_id);
    let is_asked = raft_id == own_identity(status).raft_id;
    Row {
        name: text(|node| &node.name, |member| &member.name),
        raft_id,
        role: match member {
            Some(_) if raft_id == status.leader_raft_id => "leader",
            Some(member) if member.voter => "voter",
            Some(_) => "learner",
            None => node.map_or("none", |node| outside_role(status, node)),
        },
        state: node.map_or("", |node| state(node.state())),
        since_ms: node.map(|node| node.since_ms),
        region: told(|node| &node.region),
        address: text(|node| &node.address, |member| &member.address),
        version: told(|node| &node.version),
        rtt_us: if is_asked { Some(0) } else { node.and_then(|node| node.rtt_us) },
        lag: leader.and_then(|leader| lag(leader, raft_id)),
    }
}

/// The role of a node that is no member, as far as the asked node knows.
fn outside_role(status: &Status, node: &MeshNode) -> &'static str {
    let own_cluster = own_identity(status).cluster_id;
    if node.cluster_id.is_empty() {
        "none"
    } else if own_cluster.is_empty() {
        // The asked node has yet to join, and knows of the cluster what gossip tells.
        match node.role() {
            NodeRole::Forming => "none",
            NodeRole::Leader => "leader",
            NodeRole::Learner => "learner",
            NodeRole::Follower | NodeRole::Candidate => "voter",
        }
    } else if node.cluster_id != own_cluster {
        "foreign"
    } else {
        // Removed, or just added.
        "none"
    }
}

fn state(state: MeshState) -> &'static str {
    match state {
        MeshState::Alive => "alive",
        MeshState::Suspect => "suspect",
        MeshState::Dead => "dead",
        MeshState::Left => "left",
    }
}

/// The status of the leader: the asked node's if it leads.
fn leader_status(status: &Status, timeout: Duration) -> Option<Status> {
    let raft_id = status.leader_raft_id;
    if raft_id == own_identity(status).raft_id {
        return Some(status.clone());
    }
    if is_gone(status, raft_id) {
        return None;
    }
    let of_mesh = status.mesh.iter().filter(|node| node.raft_id == raft_id).map(|it| &it.address);
    let of_log = status.members.iter().filter(|it| it.raft_id == raft_id).map(|it| &it.address);
    let address = of_mesh.chain(of_log).find(|address| !address.is_empty())?;
    ask(address, raft_id, timeout).filter(|leader| leader.leader_raft_id == raft_id)
}

/// How many entries of the log the member is behind.
fn lag(leader: &Status, raft_id: u64) -> Option<u64> {
    let member = leader.members.iter().find(|member| member.raft_id == raft_id)?;
    Some(leader.node.as_ref()?.last_index.saturating_sub(member.matched))
}

fn own_identity(status: &Status) -> Identity {
    status.node.as_ref().and_then(|node| node.identity.clone()).unwrap_or_default()
}

/// The asked node, where its mesh does not have it. It has just answered.
fn own_mesh_node(status: &Status) -> MeshNode {
    let node = status.node.clone().unwrap_or_default();
    let Identity { raft_id, name, address, cluster_id, .. } = own_identity(status);
    let (role, version, since_ms) = (node.role, node.version, node.uptime_ms);
    let state = MeshState::Alive.into();
    let told = MeshNode::default();
    MeshNode { raft_id, name, address, cluster_id, role, version, since_ms, state, ..told }
}

fn row_json(row: &Row) -> Value {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "name": row.name,
        "raft_id": row.raft_id,
        "role": row.role,
        "state": known(row.state),
        "since_ms": row.since_ms,
        "region": row.region,
        "address": row.address,
        "version": row.version,
        "rtt_us": row.rtt_us,
        "lag": row.lag,
    })
}

impl Row {
    fn cells(&self) -> [String; 8] {
        [
            self.name.clone(),
            self.raft_id.to_string(),
            self.role.to_owned(),
            self.state.to_owned(),
            self.region.clone(),
            self.address.clone(),
            self.rtt_us.map(milliseconds).unwrap_or_default(),
            self.lag.map(|lag| lag.to_string()).unwrap_or_default(),
        ]
    }
}

/// A round trip as one speaks of it: tenths where there are few, as on one machine.
fn milliseconds(us: u64) -> String {
    match us {
        0 => "0ms".to_owned(),
        1..50 => "<0.1ms".to_owned(),
        50..9_950 => format!("{:.1}ms", us as f64 / 1000.0),
        _ => format!("{:.0}ms", us as f64 / 1000.0),
    }
}
