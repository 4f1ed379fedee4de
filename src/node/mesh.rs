//! The node's part of the mesh: gossip's effects are the node's, and what gossip knows tells whom to connect to.
//!
//! Gossip decides nothing here. Whom a node speaks consensus with is decided by connections, which name their ends, and
//! by the log; gossip only says where to look, and who has been silent.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{LinkTarget, MeshSettings, Node, Stage, peers};
use crate::error::{Error, Result};
use crate::gossip::{Event, Gossip, Member, Output, State};
use crate::limits::LINK_TARGETS_MAX;
use crate::metrics::GossipCounters;
use crate::replica::FINE_TICKS;
use crate::store::map::Map;
use crate::wire::client::{Identity, MeshNode, NodeRole, mesh_node};
use crate::wire::gossip::Node as Description;
use crate::wire::peer::GossipTable;

/// A node that leaves goes on gossiping for so long, so that a lost packet does not make a death of it.
const GOODBYE: Duration = Duration::from_millis(600);

/// Gossip as it starts.
pub(super) fn start(settings: &MeshSettings, identity: &Identity, now: Duration) -> Result<Gossip> {
    let me = describe(settings, identity, NodeRole::Forming);
    Gossip::new(settings.gossip.clone(), me, settings.seed, now)
        .map_err(|e| Error::Config(format!("the node cannot be described to the mesh: {e}")))
}

fn describe(settings: &MeshSettings, identity: &Identity, role: NodeRole) -> Description {
    Description {
        raft_id: identity.raft_id,
        starts: identity.starts,
        nonce: identity.nonce,
        incarnation: 0,
        name: identity.name.clone(),
        cluster_id: identity.cluster_id.clone(),
        address: settings.address.clone(),
        gossip_address: settings.gossip_address.clone(),
        region: settings.region.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role: role as u32,
    }
}

/// Where a node serves: what it says, with the address that its packets come from where it cannot tell its own.
fn reachable(address: &str, seen: IpAddr) -> String {
    match address.parse::<SocketAddr>() {
        Ok(told) if told.ip().is_unspecified() => SocketAddr::new(seen, told.port()).to_string(),
        _ => address.to_owned(),
    }
}

fn address_of(member: &Member) -> String {
    reachable(&member.node.address, member.gossip_address.ip())
}

impl<M: Map> Node<M> {
    /// Has gossip do something, and takes over what comes of it.
    pub(super) fn gossip(&mut self, act: impl FnOnce(&mut Gossip, Duration, &mut Output)) {
        let mut out = Output::default();
        act(&mut self.gossip, self.now.monotonic, &mut out);
        self.effects.datagrams.append(&mut out.packets);
        for raft_id in out.syncs {
            self.push_table(raft_id);
        }
        for event in out.events {
            self.effects.targets_changed = true;
            self.tell_of_mesh(event);
        }
    }

    pub(super) fn on_datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.gossip(|gossip, now, out| gossip.receive(now, from, bytes, out));
    }

    pub(super) fn on_seeds(&mut self, seeds: &[SocketAddr]) {
        self.gossip(|gossip, now, out| gossip.join(now, seeds, out));
    }

    /// Lets gossip do what is due.
    pub(super) fn wake_gossip(&mut self) {
        if self.gossip.wake_at() <= self.now.monotonic {
            self.gossip(|gossip, now, out| gossip.wake(now, out));
        }
    }

    /// In how many ticks gossip has something to do.
    pub(super) fn ticks_until_gossip(&self) -> u32 {
        let fine_tick = self.settings.replica.tick / FINE_TICKS;
        let left = self.gossip.wake_at().saturating_sub(self.now.monotonic);
        left.as_nanos().div_ceil(fine_tick.as_nanos().max(1)).try_into().unwrap_or(u32::MAX)
    }

    /// Sends gossip's table, to be answered by that node's.
    pub(super) fn push_table(&mut self, to: u64) {
        let sync = self.gossip.sync_request();
        self.send_table(to, sync, false);
    }

    fn send_table(&mut self, to: u64, sync: Bytes, is_reply: bool) {
        // Without a connection there is no exchange: there will be others.
        if self.links.contains_key(&to) {
            let frame = peers::table_frame(GossipTable { sync, is_reply });
            self.effects.frames.push((to, frame));
        }
    }

    pub(super) fn on_gossip_table(&mut self, from: u64, table: &GossipTable) {
        let mut reply = None;
        // A table that cannot be used is counted, by gossip.
        self.gossip(|gossip, now, out| match table.is_reply {
            true => drop(gossip.on_sync_reply(now, &table.sync, out)),
            false => reply = gossip.on_sync_request(now, &table.sync, out).ok(),
        });
        if let Some(sync) = reply {
            self.send_table(from, sync, true);
        }
    }

    /// The mesh hears of a new role, or of the cluster that the node belongs to now. Whoever has left stays away: to tell
    /// something new would be to come back.
    pub(super) fn describe_anew(&mut self) {
        if self.left_mesh_at.is_some() {
            return;
        }
        let role = self.own_role();
        let me = describe(&self.settings.mesh, &self.identity, role);
        let known = self.gossip.me();
        if (known.role, &known.cluster_id) == (me.role, &me.cluster_id) {
            return;
        }
        let updated = self.gossip.update(self.now.monotonic, me);
        updated.expect("it was within the limits at the start, and cluster ids have one length");
    }

    pub(super) fn leave_mesh(&mut self) {
        self.left_mesh_at.get_or_insert(self.now.monotonic);
        self.gossip(|gossip, now, out| gossip.leave(now, out));
    }

    /// Whether the mesh has had the time to hear that this node leaves.
    pub(super) fn has_said_goodbye(&self) -> bool {
        let is_over = |left: Duration| self.now.monotonic >= left + GOODBYE;
        self.left_mesh_at.is_some_and(is_over) || self.is_alone_in_mesh()
    }

    fn tell_of_mesh(&mut self, event: Event) {
        let who = |raft_id: u64| {
            self.gossip.member(raft_id).map_or_else(
                || format!("raft id {raft_id}"),
                |member| {
                    format!("{} (raft id {raft_id}, {})", member.node.name, member.gossip_address)
                },
            )
        };
        match event {
            Event::Joined(raft_id) => ::log::info!("{} is in the mesh", who(raft_id)),
            Event::Updated(raft_id) => ::log::debug!("{} has changed", who(raft_id)),
            Event::Suspected(raft_id) => ::log::info!("{} does not answer", who(raft_id)),
            Event::Recovered(raft_id) => ::log::info!("{} is alive", who(raft_id)),
            Event::Died(raft_id) => ::log::warn!("{} is dead: nobody hears from it", who(raft_id)),
            Event::Left(raft_id) => ::log::info!("{} has left: it stops", who(raft_id)),
            Event::NameConflict { name, holders } => ::log::warn!(
                "two nodes are named {name}: {} and {}; give one of them another NODE_ID",
                holder(&holders[0]),
                holder(&holders[1])
            ),
            Event::OwnIdentityElsewhere { address, gossip_address, starts } => ::log::error!(
                "another process holds the raft id {} of this node: it serves at {address}, gossips at {gossip_address}, \
                 and its start is {starts} where this one's is {}. One of the two runs on a copy of the other's data \
                 directory: stop it, and start it with an empty one",
                self.identity.raft_id,
                self.identity.starts
            ),
            Event::OtherCluster(from) => {
                self.stranger = Some((from, self.now.monotonic));
                ::log::warn!(
                    "a node of another cluster gossips with this one, from {from}: look at its SEEDS and PEERS, and at those here"
                );
            }
        }
    }

    // ---- What the mesh knows. ----

    /// Where connections to other nodes are wanted: to the members of the cluster, to those that PEERS gives an address of, and
    /// to whoever else is alive. Of the first two at every address that is known: gossip's may be one that cannot be reached
    /// from here, as behind a translation of addresses.
    pub fn link_targets(&self) -> Vec<LinkTarget> {
        let mut targets: Vec<LinkTarget> = Vec::new();
        let own = self.identity.raft_id;
        let mut want = |name: &str, address: String| {
            let is_new = targets.iter().all(|target| target.address != address);
            if is_new && !address.is_empty() && targets.len() < LINK_TARGETS_MAX {
                targets.push(LinkTarget { name: name.to_owned(), address });
            }
        };
        for info in self.members().iter().filter(|info| info.raft_id != own) {
            want(&info.name, self.address_in_mesh(info.raft_id).unwrap_or_default());
            want(&info.name, info.address.clone());
        }
        for peer in &self.settings.peers {
            want(&peer.name, peer.address.clone().unwrap_or_default());
        }
        for member in self.gossip.members().filter(|member| member.state.is_live()) {
            want(&member.node.name, address_of(member));
        }
        targets
    }

    /// Whether to keep a link to that peer at an address where it was met. Not if another node that is known is wanted there,
    /// and the peer at its own: as where a name leads for a moment to an address that has changed hands. Who is wanted there would be
    /// out of reach for as long as such a link lasts. (A name of PEERS that nobody has is an alias, or an old one.)
    pub fn wants_at(&self, address: &str, peer: &Identity) -> std::result::Result<(), String> {
        let targets = self.link_targets();
        let expected = |at: &str| targets.iter().find(|target| target.address == at);
        let is_another = expected(address).is_some_and(|target| {
            target.name != peer.name && self.is_known_as(&target.name, peer.raft_id)
        });
        let has_its_own = peer.address != address
            && expected(&peer.address).is_some_and(|target| target.name == peer.name);
        match is_another && has_its_own {
            true => Err(format!("{} answers there, whose address is {}", peer.name, peer.address)),
            false => Ok(()),
        }
    }

    /// Whether a node other than that one is known to have this name.
    fn is_known_as(&self, name: &str, not: u64) -> bool {
        let mut members = self.members().iter();
        let mut live = self.gossip.members().filter(|member| member.state.is_live());
        members.any(|info| info.name == name && info.raft_id != not)
            || live.any(|member| member.node.name == name && member.node.raft_id != not)
    }

    /// Whether seeds are worth a look soon: gossip knows of no other live node, or too few are known for a first cluster.
    pub fn wants_seeds(&self) -> bool {
        self.is_alone_in_mesh() || self.forming().is_some()
    }

    fn is_alone_in_mesh(&self) -> bool {
        !self.gossip.members().any(|member| member.state.is_live())
    }

    /// What gossip has counted.
    pub fn gossip_counters(&self) -> GossipCounters {
        *self.gossip.counters()
    }

    /// Lifeguard's score: 0 is healthy.
    pub fn gossip_health(&self) -> u32 {
        self.gossip.health_score()
    }

    /// Whether gossip takes that node for alive; None if it does not know it.
    pub(super) fn is_live_in_mesh(&self, raft_id: u64) -> Option<bool> {
        self.gossip.member(raft_id).map(|member| member.state.is_live())
    }

    /// Where gossip has seen a live node.
    pub(super) fn address_in_mesh(&self, raft_id: u64) -> Option<String> {
        self.gossip.member(raft_id).filter(|member| member.state.is_live()).map(address_of)
    }

    pub(super) fn own_role(&self) -> NodeRole {
        match &self.stage {
            Stage::Member(replica) => super::status::node_role(replica.role()),
            Stage::Free(_) | Stage::Settling { .. } => NodeRole::Forming,
        }
    }

    /// The mesh as this node sees it, itself first.
    pub(super) fn mesh_statuses(&self) -> Vec<MeshNode> {
        let me = self.gossip.me();
        let uptime = self.now.monotonic.saturating_sub(self.started);
        let own = mesh_status(me, self.identity.address.clone(), State::Alive, uptime);
        let own = MeshNode { rtt_us: Some(0), ..own };
        let others = self.gossip.members().map(|member| {
            let since = self.now.monotonic.saturating_sub(member.since);
            let rtt = self.gossip.estimate_rtt(me.raft_id, member.node.raft_id);
            MeshNode {
                gossip_address: member.gossip_address.to_string(),
                rtt_us: rtt.map(|rtt| rtt.as_micros() as u64),
                ..mesh_status(&member.node, address_of(member), member.state, since)
            }
        });
        std::iter::once(own).chain(others).collect()
    }
}

fn holder((raft_id, address): &(u64, Option<SocketAddr>)) -> String {
    match address {
        Some(address) => format!("the one at {address} (raft id {raft_id})"),
        None => format!("this one (raft id {raft_id})"),
    }
}

fn mesh_status(node: &Description, address: String, state: State, since: Duration) -> MeshNode {
    MeshNode {
        raft_id: node.raft_id,
        name: node.name.clone(),
        state: match state {
            State::Alive => mesh_node::State::Alive,
            State::Suspect => mesh_node::State::Suspect,
            State::Dead => mesh_node::State::Dead,
            State::Left => mesh_node::State::Left,
        }
        .into(),
        address,
        gossip_address: node.gossip_address.clone(),
        region: node.region.clone(),
        version: node.version.clone(),
        role: i32::try_from(node.role).unwrap_or_default(),
        cluster_id: node.cluster_id.clone(),
        rtt_us: None,
        since_ms: since.as_millis() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_where_it_is_seen() {
        let seen = IpAddr::from([10, 0, 0, 7]);
        for (told, expected) in [
            ("[::]:9000", "10.0.0.7:9000"),
            ("0.0.0.0:9000", "10.0.0.7:9000"),
            ("10.0.0.1:9000", "10.0.0.1:9000"),
            ("node-1.internal:9000", "node-1.internal:9000"),
            ("", ""),
        ] {
            assert_eq!(reachable(told, seen), expected);
        }
    }
}
