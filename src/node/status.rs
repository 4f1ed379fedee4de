//! What a node tells of itself.

use std::time::Duration;

use super::{Node, Stage};
use crate::metrics::Counters;
use crate::replica::Role;
use crate::store::map::Map;
use crate::wire::client::{Member, NodeRole, NodeStatus, Status};
use crate::wire::log::MemberInfo;

/// For how long after it was heard a node of another cluster is named. It is told anew once a minute.
const STRANGER_SHOWN_FOR: Duration = Duration::from_secs(120);

impl<M: Map> Node<M> {
    /// The node and the cluster, as this node sees them.
    pub fn status(&self) -> Status {
        let leader = match &self.stage {
            Stage::Member(replica) => replica.leader(),
            _ => None,
        };
        Status {
            node: Some(self.node_status()),
            members: self.member_statuses(),
            leader_raft_id: leader.unwrap_or(0),
            leader_name: leader.map(|raft_id| self.name_of(raft_id)).unwrap_or_default(),
            unavailable: self.unavailable().unwrap_or_default(),
            mesh: self.mesh_statuses(),
        }
    }

    /// Why the node serves nobody, and will not by waiting alone; `None` if there is no such reason.
    pub fn barred(&self) -> Option<String> {
        if self.stopping {
            return Some("stopping".to_owned());
        }
        let differs = self.digests.quarantine().map(str::to_owned);
        differs.or_else(|| self.refused().map(|why| format!("refused: {why}")))
    }

    /// Why requests would be refused now; `None` if they would not.
    pub fn unavailable(&self) -> Option<String> {
        if let Some(why) = self.barred() {
            return Some(why);
        }
        if let Some(waiting_for) = self.forming() {
            return Some(format!("forming: {waiting_for}"));
        }
        if self.known.leader.is_none() {
            return Some(self.no_leader());
        }
        self.no_space.as_ref().map(|why| format!("no space: {why}"))
    }

    fn no_leader(&self) -> String {
        let stranger =
            self.stranger.filter(|(_, at)| self.now.monotonic < *at + STRANGER_SHOWN_FOR);
        let stranger = stranger.map_or(String::new(), |(from, _)| {
            format!(
                "; the node that gossips from {from} is of another cluster: look at SEEDS and PEERS"
            )
        });
        format!(
            "no leader is known: a majority of the voters cannot be reached, or an election is on{stranger}"
        )
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The members of the cluster, as far as the node knows them.
    pub fn members(&self) -> &[MemberInfo] {
        self.store.membership().map_or(&[], |membership| &membership.members)
    }

    /// Bytes of the log's entries that are in memory.
    pub fn log_len(&self) -> usize {
        match &self.stage {
            Stage::Member(replica) => replica.retained_len(),
            _ => 0,
        }
    }

    /// The length of the log on disk.
    pub fn log_disk_len(&self) -> u64 {
        self.journal.log_len()
    }

    fn node_status(&self) -> NodeStatus {
        let applied = self.store.applied().index;
        let mut status = NodeStatus {
            identity: Some(self.identity.clone()),
            role: NodeRole::Forming.into(),
            applied,
            revision: self.store.revision(),
            keys: self.store.keys(),
            logical_bytes: self.store.logical_bytes(),
            max_bytes: self.store.max_bytes(),
            full: self.store.is_full(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: self.now.monotonic.saturating_sub(self.started).as_millis() as u64,
            ..NodeStatus::default()
        };
        if let Stage::Member(replica) = &self.stage {
            status.role = node_role(replica.role()).into();
            status.term = replica.term();
            status.commit = replica.commit();
            status.first_index = replica.first_index();
            status.last_index = replica.last_index();
        }
        status
    }

    fn member_statuses(&self) -> Vec<Member> {
        let Some(membership) = self.store.membership() else { return Vec::new() };
        let conf_state = membership.conf_state.clone().unwrap_or_default();
        let progress = match &self.stage {
            Stage::Member(replica) => replica.progress(),
            _ => Vec::new(),
        };
        let member = |info: &MemberInfo| {
            let is_self = info.raft_id == self.identity.raft_id;
            let matched = progress.iter().find(|node| node.raft_id == info.raft_id);
            Member {
                raft_id: info.raft_id,
                name: info.name.clone(),
                address: self.address_of(info.raft_id),
                voter: crate::replica::membership::is_voter(&conf_state, info.raft_id),
                matched: matched.map_or(0, |node| node.matched),
                connected: is_self || self.links.contains_key(&info.raft_id),
            }
        };
        membership.members.iter().map(member).collect()
    }
}

pub(super) fn node_role(role: Role) -> NodeRole {
    match role {
        Role::Follower => NodeRole::Follower,
        Role::Candidate => NodeRole::Candidate,
        Role::Leader => NodeRole::Leader,
        Role::Learner => NodeRole::Learner,
    }
}
