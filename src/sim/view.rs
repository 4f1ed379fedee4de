//! What a test sees of a world.

use std::time::Duration;

use super::machine::Process;
use super::world::World;
use crate::node::Node;
use crate::store::mem_map::MemMap;
use crate::wire::client::{NodeRole, NodeStatus};

impl World {
    /// The machines that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.machines.len()).filter(|&i| self.machines[i].process.is_some()).collect()
    }

    fn view(&self, i: usize) -> &Process {
        self.machines[i].process.as_ref().expect("a machine that runs")
    }

    /// The node of a machine that runs.
    pub fn node(&self, i: usize) -> &Node<MemMap> {
        &self.view(i).node
    }

    fn status(&self, i: usize) -> NodeStatus {
        self.node(i).status().node.expect("a status has its node")
    }

    /// How many requests a machine has yet to answer.
    pub fn unanswered(&self, i: usize) -> usize {
        self.view(i).unanswered.len()
    }

    /// The one that leads: of several that think so, the one with the highest term.
    pub fn leader(&self) -> Option<usize> {
        let leads = |&i: &usize| self.status(i).role() == NodeRole::Leader;
        self.running().into_iter().filter(leads).max_by_key(|&i| self.status(i).term)
    }

    /// Whether all machines run and take requests, and have the same log and have applied all of it.
    pub fn is_settled(&self) -> bool {
        let all = self.running();
        if all.len() < self.machines.len() || self.leader().is_none() {
            return false;
        }
        let last = self.status(0).last_index;
        let has_all = |status: NodeStatus| status.last_index == last && status.applied == last;
        all.into_iter().all(|i| self.node(i).unavailable().is_none() && has_all(self.status(i)))
    }

    /// Whether the machines that run, of those that the cluster begins with, take requests and have the same log.
    pub fn first_is_settled(&self) -> bool {
        let running = self.running();
        let Some(leader) = self.leader() else { return false };
        let last = self.status(leader).last_index;
        running
            .into_iter()
            .all(|i| self.node(i).unavailable().is_none() && self.status(i).applied == last)
    }

    /// Whether, beyond that, all machines vote, as far as their number is odd.
    pub fn is_at_full_strength(&self) -> bool {
        let full = self.machines.len().saturating_sub(1) / 2 * 2 + 1;
        let voters = |i: usize| {
            self.node(i).status().members.into_iter().filter(|member| member.voter).count()
        };
        self.is_settled() && self.running().into_iter().all(|i| voters(i) == full)
    }

    /// By how much clocks may disagree over that long.
    pub fn drift_of(&self, duration: Duration) -> Duration {
        let most = self.machines.iter().map(|machine| machine.clock.drift_ppm.unsigned_abs()).max();
        // Twice: of the second order, too.
        duration * 2 * most.unwrap_or(0) as u32 / 1_000_000
    }

    /// A line for each machine.
    pub fn summary(&self) -> String {
        let line = |i: usize| {
            let name = &self.machines[i].name;
            if self.machines[i].process.is_none() {
                let why = self.machines[i].ended.as_deref().unwrap_or("off");
                return format!("{name}: {why}\n");
            }
            let status = self.status(i);
            let member = |member: crate::wire::client::Member| {
                format!("{}{}", member.name, if member.voter { "*" } else { "" })
            };
            let members: Vec<String> =
                self.node(i).status().members.into_iter().map(member).collect();
            format!(
                "{name}: {:?} in term {}, entries to {}, applied {}, members {}; {}\n",
                status.role(),
                status.term,
                status.last_index,
                status.applied,
                members.join(" "),
                self.node(i).unavailable().unwrap_or_default()
            )
        };
        (0..self.machines.len()).map(line).collect()
    }

    /// What all that run tell of themselves.
    pub fn describe(&self) -> String {
        let node = |i: usize| format!("{:?}\n", self.node(i).status());
        self.running().into_iter().map(node).collect()
    }

    /// The machine with that identity, unless it lost it.
    pub fn index_of(&self, raft_id: u64) -> Option<usize> {
        self.machines.iter().position(|machine| machine.raft_id == raft_id)
    }
}
