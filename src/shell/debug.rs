//! HTTP on DEBUG_ADDR: sockets and deadlines for the [http](crate::http) room.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::io::{AsyncRead, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};

use super::door::Door;
use super::pump::linger;
use super::reactor::Reactor;
use crate::http::{
    Connection, Health, Liveness, MeshNodePage, MeshPage, NodeState, Page, PeerStatus, Status,
    StatusPage, Step, reject, respond,
};
use crate::limits::{DESCRIPTORS_RESERVED, HTTP_CONNECTIONS_MAX, HTTP_TIMEOUT};
use crate::metrics::Counters;
use crate::node::hex;
use crate::wire::client::{MeshNode, NodeRole, mesh_node};

/// Serves for ever.
pub(super) async fn serve(reactor: Rc<Reactor>, listener: TcpListener) {
    let open = Rc::new(Cell::new(0));
    let mut door = Door::new(listener, DESCRIPTORS_RESERVED, 4);
    loop {
        let stream = door.next().await;
        let (reactor, open) = (reactor.clone(), open.clone());
        open.set(open.get() + 1);
        glommio::spawn_local(async move {
            // What fails is this connection's own trouble.
            let _ = converse(&reactor, stream, open.get() > HTTP_CONNECTIONS_MAX).await;
            open.set(open.get() - 1);
        })
        .detach();
    }
}

async fn converse(reactor: &Reactor, mut stream: TcpStream, full: bool) -> std::io::Result<()> {
    let _ = stream.set_write_timeout(Some(HTTP_TIMEOUT));
    if full {
        return turn_away(stream, Status::Unavailable).await;
    }
    let mut connection = Connection::default();
    let mut deadline = Instant::now() + HTTP_TIMEOUT;
    loop {
        match connection.next_step() {
            Step::Request(request) => {
                stream.write_all(&respond(&request, &page(reactor))).await?;
                deadline = Instant::now() + HTTP_TIMEOUT;
                if !request.keep_alive {
                    return Ok(());
                }
            }
            Step::Reject(status) => return turn_away(stream, status).await,
            Step::NeedMore => {
                let left = deadline
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(1));
                let _ = stream.set_read_timeout(Some(left));
                let mut bytes = [0; 2048];
                match poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut bytes)).await {
                    Ok(0) => return Ok(()),
                    Ok(len) => connection.feed(&bytes[..len]),
                    Err(e)
                        if e.kind() == std::io::ErrorKind::TimedOut
                            && connection.pending_len() > 0 =>
                    {
                        return turn_away(stream, Status::RequestTimeout).await;
                    }
                    Err(e) => return Err(e),
                }
            }
        }
    }
}

async fn turn_away(mut stream: TcpStream, status: Status) -> std::io::Result<()> {
    stream.write_all(&reject(status)).await?;
    linger(&mut stream).await;
    Ok(())
}

fn page(reactor: &Reactor) -> Page {
    let node = reactor.node();
    let status = node.status();
    let own = status.node.unwrap_or_default();
    let identity = own.identity.clone().unwrap_or_default();
    let state = node_state(own.role());
    let health = match (node.barred(), node.forming(), node.unavailable()) {
        (None, Some(waiting_for), _) => Health::Forming { waiting_for },
        (Some(reason), ..) | (None, None, Some(reason)) => Health::Unavailable { reason },
        (None, None, None) => Health::Ready { role: state, is_full: own.full },
    };
    let peers = status.members.iter().filter(|member| member.raft_id != identity.raft_id);
    let page = StatusPage {
        node_id: identity.name,
        raft_id: identity.raft_id,
        cluster_id: hex(&identity.cluster_id),
        state,
        term: own.term,
        leader_id: status.leader_name,
        commit_index: own.commit,
        applied_index: own.applied,
        log_length: (own.last_index + 1).saturating_sub(own.first_index),
        log_bytes: node.log_len() as u64,
        log_disk_bytes: node.log_disk_len(),
        peers: peers
            .map(|member| PeerStatus {
                node_id: member.name.clone(),
                raft_id: member.raft_id,
                address: member.address.clone(),
                voter: member.voter,
                connected: member.connected,
                matched: member.matched,
            })
            .collect(),
        kv_size: own.keys,
        kv_bytes: own.logical_bytes,
        kv_bytes_max: own.max_bytes,
        kv_full: own.full,
        unavailable: status.unavailable,
        revision: own.revision,
        version: own.version,
        uptime_ms: own.uptime_ms,
        mesh: mesh_page(reactor, status.mesh),
        counters: Counters {
            major_faults: major_faults(),
            ticks_dropped: reactor.ticks_dropped.get(),
            protocol_errors: node.counters().protocol_errors + reactor.protocol_errors.get(),
            ..node.counters()
        },
        syncs: reactor.disk.latency.borrow().summary(),
        commits: reactor.threads.commit_latency(),
    };
    Page { health, status: page }
}

fn node_state(role: NodeRole) -> NodeState {
    match role {
        NodeRole::Forming => NodeState::Forming,
        NodeRole::Follower => NodeState::Follower,
        NodeRole::Candidate => NodeState::Candidate,
        NodeRole::Leader => NodeState::Leader,
        NodeRole::Learner => NodeState::Learner,
    }
}

fn mesh_page(reactor: &Reactor, nodes: Vec<MeshNode>) -> MeshPage {
    let node = reactor.node();
    MeshPage {
        nodes: nodes.into_iter().map(mesh_node).collect(),
        health: node.gossip_health(),
        counters: node.gossip_counters(),
        seed_lookups_failed: reactor.mesh.seed_lookups_failed.get(),
        datagrams_dropped: reactor.mesh.datagrams_dropped.get(),
    }
}

fn mesh_node(node: MeshNode) -> MeshNodePage {
    MeshNodePage {
        state: match node.state() {
            mesh_node::State::Alive => Liveness::Alive,
            mesh_node::State::Suspect => Liveness::Suspect,
            mesh_node::State::Dead => Liveness::Dead,
            mesh_node::State::Left => Liveness::Left,
        },
        role: node_state(node.role()),
        node_id: node.name,
        raft_id: node.raft_id,
        region: node.region,
        address: node.address,
        gossip_address: node.gossip_address,
        version: node.version,
        rtt_ms: node.rtt_us.map(|us| us as f64 / 1000.0),
        since_ms: node.since_ms,
    }
}

/// How often this process had to wait for a page from the disk: field 12 of /proc/self/stat. Lookups that fault a page
/// of LMDB's map are among them.
fn major_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, in parentheses, may hold anything.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields.split(' ').nth(9).and_then(|field| field.parse().ok()).unwrap_or(0)
}
