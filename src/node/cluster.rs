//! How the node comes to belong to a cluster, and what follows from records that became durable.

use prost::Message as _;

use super::{KnownLeader, Node, Stage, peers};
use crate::error::Result;
use crate::replica::formation::Step;
use crate::replica::{FINE_TICKS, Recovered, Replica, Role, membership};
use crate::store::map::Map;
use crate::wire::log::{ConfChange, Entry, EntryKind, HardState, Record, Standing};
use crate::wire::peer::Formation as Message;

/// What follows when a record is durable.
#[derive(Debug)]
pub(super) enum Then {
    /// Consensus is told.
    Persisted(u64),
    /// Consensus is told, and the snapshot that the record installs is the node's state from now on.
    Installed(u64),
    /// A free node says what it may say now.
    Say(Vec<(u64, Message)>),
    /// The node belongs to the cluster that it founded (with this entry) or joined (with none).
    Belong(Vec<Entry>),
    /// The node ends, for this reason.
    End(String),
}

impl<M: Map> Node<M> {
    pub(super) fn on_written(&mut self, sequence: u64) -> Result<()> {
        for then in self.journal.persisted(sequence) {
            match then {
                Then::Persisted(number) => {
                    if let Stage::Member(replica) = &mut self.stage {
                        replica.persisted(number);
                    }
                }
                Then::Installed(number) => {
                    if let Stage::Member(replica) = &mut self.stage {
                        replica.persisted(number);
                    }
                    self.switch_state();
                }
                Then::Say(messages) => self.say(messages),
                Then::Belong(entries) => self.belong(entries)?,
                Then::End(why) => self.end(why),
            }
        }
        Ok(())
    }

    pub(super) fn on_tick(&mut self) {
        self.ticks += 1;
        if let Stage::Member(replica) = &mut self.stage {
            replica.tick();
        }
        self.wake_gossip();
        if self.ticks.is_multiple_of(FINE_TICKS as u64) {
            self.on_whole_tick();
        }
    }

    /// After how many ticks the node has something to do, unless something happens before. At most [`FINE_TICKS`].
    pub fn ticks_until_due(&self) -> u32 {
        let until_whole = FINE_TICKS - (self.ticks % u64::from(FINE_TICKS)) as u32;
        let until_raft = match &self.stage {
            Stage::Member(replica) => replica.ticks_until_due().try_into().unwrap_or(u32::MAX),
            _ => u32::MAX,
        };
        until_whole.min(until_raft).min(self.ticks_until_gossip()).max(1)
    }

    /// Once per TICK_MS.
    fn on_whole_tick(&mut self) {
        self.expire_requests();
        self.look_at_members();
        self.tend_snapshots();
        self.tell_fullness();
        self.to_dispatch.append(&mut self.put_off);
        let interval = self.settings.replica.tick * self.settings.replica.heartbeat_ticks;
        match &mut self.stage {
            Stage::Free(formation) => {
                let step = formation.tick();
                self.take_step(step);
            }
            Stage::Settling { .. } => {}
            Stage::Member(replica) => {
                // An answer that took two intervals of heartbeats is lost.
                replica.retry_reads(self.now.monotonic.saturating_sub(2 * interval));
                self.change_membership();
                self.propose_max_bytes();
                self.look_at_digest();
                self.leave_office();
            }
        }
        if self.ticks.is_multiple_of(FINE_TICKS as u64 * TELL_WAITING_EVERY_TICKS) {
            self.tell_waiting();
        }
    }

    /// Carries out what a free node decided: what must be durable first, then the rest. What is said meanwhile may rest on what
    /// is not durable yet (a request that is asked again finds the promise given), and is dropped: all of it is said again.
    pub(super) fn take_step(&mut self, step: Step) {
        let Step { persist, messages, form } = step;
        if form {
            return self.found();
        }
        match persist {
            None if self.journal.is_idle() => self.say(messages),
            None => {}
            Some(standing) => {
                let record = Record { standing: Some(standing), ..Record::default() };
                self.journal.push(record, Then::Say(messages));
            }
        }
    }

    fn say(&mut self, messages: Vec<(u64, Message)>) {
        for (raft_id, message) in messages {
            self.effects.frames.push((raft_id, peers::formation_frame(message)));
        }
    }

    /// Founds a cluster: entry 1 makes this node its only voter.
    fn found(&mut self) {
        let Stage::Free(formation) = &self.stage else { return };
        let cluster_id = self.rng.u128(..).to_be_bytes();
        let change =
            membership::genesis(&cluster_id, self.settings.expect, formation.member_info());
        let entry = Entry {
            term: 1,
            index: 1,
            kind: EntryKind::ConfChange.into(),
            data: change.encode_to_vec().into(),
        };
        ::log::info!("forming cluster {}", hex(&cluster_id));
        let hard_state = HardState { term: 1, vote: 0, commit: 1 };
        self.settle(
            cluster_id.to_vec(),
            Some(hard_state),
            vec![entry],
            "the new cluster to be on disk",
        );
    }

    /// Joins the cluster that a peer belongs to. The leader adds the node when it asks as a member.
    pub(super) fn adopt(&mut self, cluster_id: Vec<u8>) {
        ::log::info!("joining cluster {}", hex(&cluster_id));
        self.settle(cluster_id, None, Vec::new(), "the cluster's id to be on disk");
    }

    fn settle(
        &mut self,
        cluster_id: Vec<u8>,
        hard_state: Option<HardState>,
        entries: Vec<Entry>,
        waiting_for: &str,
    ) {
        let standing = Standing { cluster_id: cluster_id.clone().into(), ..Standing::default() };
        let record = Record {
            entries: entries.clone(),
            hard_state,
            standing: Some(standing),
            ..Record::default()
        };
        self.identity.cluster_id = cluster_id.into();
        self.stage = Stage::Settling { waiting_for: waiting_for.to_owned() };
        self.journal.push(record, Then::Belong(entries));
    }

    fn belong(&mut self, entries: Vec<Entry>) -> Result<()> {
        let hard_state = match entries.is_empty() {
            true => HardState::default(),
            false => HardState { term: 1, vote: 0, commit: 1 },
        };
        let recovered = Recovered { entries, hard_state, ..Recovered::default() };
        self.stage =
            Stage::Member(Box::new(Replica::new(self.settings.replica.clone(), recovered)?));
        self.effects.identity_changed = true;
        self.describe_anew();
        Ok(())
    }

    /// A leader that stops, or cannot write, lets another lead. For want of space now and then only: the others may have none
    /// either.
    fn leave_office(&mut self) {
        let now = self.now.monotonic;
        if self.stopping {
            self.hand_over();
        } else if self.no_space.is_some() && now >= self.hand_over_after {
            self.hand_over_after = now + HAND_OVER_EVERY * self.settings.replica.election_timeout();
            self.hand_over();
        }
    }

    /// Tells, now and then, what the node waits for before it can serve.
    fn tell_waiting(&self) {
        if let Some(waiting_for) = self.forming() {
            ::log::info!("waiting: {waiting_for}");
        }
    }

    /// Which of PEERS are not connected, for those who wait.
    fn missing(&self) -> String {
        let linked = |name: &str| self.links.values().any(|peer| peer.name == name);
        let peers = self.settings.peers.iter().map(|peer| peer.name.as_str());
        let missing: Vec<&str> = peers.filter(|name| !linked(name)).collect();
        match missing.is_empty() {
            true => String::new(),
            false => format!("; no connection yet to {}", missing.join(", ")),
        }
    }

    /// Why the cluster is not formed yet; `None` once it is.
    pub fn forming(&self) -> Option<String> {
        match &self.stage {
            Stage::Free(formation) => {
                Some(format!("{}{}", formation.waiting_for(), self.missing()))
            }
            Stage::Settling { waiting_for } => Some(waiting_for.clone()),
            Stage::Member(_) => match self.store.membership() {
                Some(membership) if membership.formed => None,
                Some(membership) => Some(format!(
                    "the cluster has {} of the {} voters that a first cluster of {} needs; members: {}",
                    membership.conf_state.as_ref().map_or(0, membership::voter_count),
                    membership::voters_to_form(membership.expect),
                    membership.expect,
                    membership
                        .members
                        .iter()
                        .map(|member| member.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                )),
                None if self.refused().is_some() => self.refused(),
                None => Some(
                    "added to the cluster soon: the leader has not sent its log yet".to_owned(),
                ),
            },
        }
    }

    /// Why the cluster that this node asks to join will not have it, as it was last told.
    pub(super) fn refused(&self) -> Option<String> {
        let refused = match &self.stage {
            Stage::Free(formation) => formation.refused().unwrap_or_default(),
            Stage::Member(_) if self.store.membership().is_none() => &self.told_refusal,
            Stage::Member(_) | Stage::Settling { .. } => "",
        };
        (!refused.is_empty()).then(|| format!("the cluster refuses this node: {refused}"))
    }

    /// Notes and tells who leads, where that has changed.
    pub(super) fn tell_changes(&mut self) {
        let Stage::Member(replica) = &self.stage else { return };
        let (role, leader) = (Some(replica.role()), replica.leader());
        if (self.known.role, self.known.leader) == (role, leader) {
            return;
        }
        let leaderless_since = match (self.known.leader, leader) {
            (Some(_), None) => self.now.monotonic,
            _ => self.known.leaderless_since,
        };
        let name = leader.map_or("none".to_owned(), |raft_id| self.name_of(raft_id));
        ::log::info!("{} in term {}, leader: {name}", role_name(role), replica.term());
        if let Some(lost) = self.known.leader.filter(|lost| leader != Some(*lost)) {
            // Silent, or deposed because it was.
            self.gossip.doubt(self.now.monotonic, lost);
        }
        let leads_since = self.now.monotonic;
        self.known = KnownLeader { role, leader, leaderless_since, leads_since };
        self.describe_anew();
        if let Some(leader) = leader {
            // Writes that the leader before it has go to this one: it knows whether they were applied.
            self.take_back(|to| to != leader);
            self.to_dispatch.append(&mut self.put_off);
        }
    }

    /// A member's name, or its raft id where the name is not known.
    pub(super) fn name_of(&self, raft_id: u64) -> String {
        let members = self.store.membership().map(|membership| membership.members.as_slice());
        members
            .unwrap_or_default()
            .iter()
            .find(|member| member.raft_id == raft_id)
            .map(|member| member.name.clone())
            .or_else(|| self.links.get(&raft_id).map(|peer| peer.name.clone()))
            .unwrap_or_else(|| format!("raft id {raft_id}"))
    }

    /// A change of the membership is applied.
    pub(super) fn apply_conf_change(&mut self, index: u64, term: u64, change: &ConfChange) {
        let Stage::Member(replica) = &mut self.stage else { return };
        let after = replica.apply_conf_change(self.store.membership(), change);
        let conf_state = after.conf_state.clone().unwrap_or_default();
        let names = |ids: &[u64]| {
            let name = |id: &u64| {
                let member = after.members.iter().find(|member| member.raft_id == *id);
                member.map_or_else(|| id.to_string(), |member| member.name.clone())
            };
            match ids.is_empty() {
                true => "none".to_owned(),
                false => ids.iter().map(name).collect::<Vec<_>>().join(", "),
            }
        };
        ::log::info!(
            "voters: {}; learners: {}",
            names(&conf_state.voters),
            names(&conf_state.learners)
        );
        let known: &[u64] = self.store.membership().map_or(&[], |before| &before.removed);
        let removed = after.removed.iter().filter(|raft_id| !known.contains(raft_id));
        let removed = removed.copied().collect();
        self.store.apply_membership(index, term, after);
        self.effects.targets_changed = true;
        self.part_with(removed);
    }

    pub(super) fn on_disk_space(&mut self, space: std::result::Result<(), String>) {
        match (&self.no_space, &space) {
            (None, Err(why)) => ::log::warn!("writes are refused: {why}"),
            (Some(_), Ok(())) => {
                ::log::info!("there is room on the disk again: writes are accepted")
            }
            _ => {}
        }
        self.no_space = space.err();
    }
}

/// Between two attempts of a leader without disk space to let another lead, in election timeouts.
const HAND_OVER_EVERY: u32 = 10;
/// How often a node that waits says for whom, in ticks of TICK_MS.
const TELL_WAITING_EVERY_TICKS: u64 = 30;

fn role_name(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Leader) => "leader",
        Some(Role::Candidate) => "candidate",
        Some(Role::Learner) => "learner",
        Some(Role::Follower) | None => "follower",
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
