//! Who belongs to the cluster: whom the leader sees and for how long it has not, which change it proposes, how a node asks
//! to be added, and what becomes of one that was removed. The rules are in [`membership`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Node, Stage, hex, peers};
use crate::error::refusal;
use crate::limits::{ADDRESS_LEN_MAX, MEMBERS_MAX, NAME_LEN_MAX};
use crate::replica::membership::{self, NotAdded, Seen};
use crate::store::map::Map;
use crate::wire::client::Code;
use crate::wire::log::{ConfChange, MemberInfo};
use crate::wire::peer::{Formation as Message, JoinReply, JoinRequest, formation};

/// A member whose connection is up for so many election timeouts is trusted with a vote.
const STABLE_AFTER: u32 = 2;
/// Two nodes of one name, both answering for so many election timeouts: the one that came later gives up. A holder that was
/// seen within that time may be back: nobody gets its name.
const CONFLICT_STANDS: u32 = 4;
/// And for so long at the least: by then the end of a connection is noticed.
const CONFLICT_STANDS_MIN: Duration = Duration::from_secs(3);
/// A member that the leader has not heard for so many election timeouts cannot be reached, though a connection to it is up:
/// the kernel of a process that hangs goes on acknowledging.
const HEARD_WITHIN: u32 = 2;
/// Between two looks at the members more time passes only when this process was not run.
const STALL: Duration = Duration::from_secs(1);

/// When a member was last seen.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    /// By a connection or by gossip.
    last: Duration,
    /// Since when a connection to it is up.
    linked_since: Option<Duration>,
}

/// What a node has seen of the members.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    by_id: BTreeMap<u64, Sighting>,
    looked_at: Duration,
}

/// A node that is not added because its name is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conflict {
    since: Duration,
    /// The holder of the name answered each time.
    last: Duration,
}

impl<M: Map> Node<M> {
    /// Notes who is there. Every node does, that a new leader need not begin to wait for the dead.
    pub(super) fn look_at_members(&mut self) {
        let now = self.now.monotonic;
        let mut sightings = std::mem::take(&mut self.sightings);
        let unseen = now.saturating_sub(sightings.looked_at);
        if unseen > STALL.max(4 * self.settings.replica.tick) {
            // This process was not run: that was nobody's silence.
            sightings.by_id.values_mut().for_each(|sighting| sighting.last += unseen);
        }
        sightings.looked_at = now;
        sightings.by_id.retain(|raft_id, _| self.is_member(*raft_id));
        for member in self.members() {
            let raft_id = member.raft_id;
            let linked = self.reaches(raft_id);
            let seen = sightings
                .by_id
                .entry(raft_id)
                .or_insert(Sighting { last: now, linked_since: None });
            seen.linked_since = linked.then(|| seen.linked_since.unwrap_or(now));
            if linked || self.is_live_in_mesh(raft_id) == Some(true) {
                seen.last = now;
            }
        }
        self.sightings = sightings;
    }

    pub(super) fn is_member(&self, raft_id: u64) -> bool {
        self.members().iter().any(|member| member.raft_id == raft_id)
    }

    /// Whether a connection to a node is up, and, where this one leads and so is answered, whether it answers.
    fn reaches(&self, raft_id: u64) -> bool {
        let patience = HEARD_WITHIN * self.settings.replica.election_timeout();
        let now = self.now.monotonic;
        let leads = matches!(&self.stage, Stage::Member(replica) if replica.leads());
        let is_silent = || self.seats.heard(raft_id).is_none_or(|heard| now > heard + patience);
        let linked = self.links.get(&raft_id);
        linked.is_some() && !(leads && now > self.known.leads_since + patience && is_silent())
    }

    /// The members as this leader sees them; itself among them.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let Stage::Member(replica) = &self.stage else { return Vec::new() };
        let now = self.now.monotonic;
        let stable_after = STABLE_AFTER * self.settings.replica.election_timeout();
        let progress = replica.progress();
        let seen = progress.iter().map(|node| {
            let raft_id = node.raft_id;
            let own = raft_id == self.identity.raft_id;
            let sighting = self.sightings.by_id.get(&raft_id);
            let linked = own || self.reaches(raft_id);
            let linked_since = sighting.and_then(|sighting| sighting.linked_since);
            Seen {
                raft_id,
                matched: node.matched,
                linked,
                is_stable: own || linked && linked_since.is_some_and(|at| now >= at + stable_after),
                gone_for: sighting
                    .filter(|sighting| !own && !linked && sighting.last < now)
                    .map(|sighting| now - sighting.last),
            }
        });
        seen.collect()
    }

    /// Proposes the change that is due, or has this node ask for what it lacks.
    pub(super) fn change_membership(&mut self) {
        let Stage::Member(replica) = &self.stage else { return };
        let own = self.member_info();
        let known = self.members().iter().find(|member| member.raft_id == own.raft_id);
        let is_as_known = known.is_some_and(|known| {
            known.name == own.name && (own.address.is_empty() || known.address == own.address)
        });
        if !is_as_known {
            self.ask_to_be_added(own);
        } else if replica.may_change_membership() {
            self.propose_due_change();
        }
    }

    fn propose_due_change(&mut self) {
        let seen = self.seen();
        let Stage::Member(replica) = &mut self.stage else { return };
        let Some(membership) = self.store.membership() else { return };
        let policy = &self.settings.policy;
        if let Some(change) = membership::due(membership, policy, &seen, replica.commit()) {
            // Rejected: it is due still, and proposed again.
            let _ = replica.propose_conf_change(&change);
        }
    }

    /// Asks all members that are connected: to be added, or to be known under a new name or address.
    fn ask_to_be_added(&mut self, own: MemberInfo) {
        let request = JoinRequest { member: Some(own), forwarded: false };
        if matches!(&self.stage, Stage::Member(replica) if replica.leads()) {
            return self.on_join(self.identity.raft_id, request);
        }
        for (raft_id, peer) in &self.links {
            if peer.cluster_id == self.identity.cluster_id {
                let message = formation::Message::Join(request.clone());
                self.effects.frames.push((*raft_id, frame(message)));
            }
        }
    }

    fn member_info(&self) -> MemberInfo {
        MemberInfo {
            raft_id: self.identity.raft_id,
            name: self.identity.name.clone(),
            address: self.identity.address.clone(),
        }
    }

    /// A node asks to be added: the leader does it, another member tells the leader.
    ///
    /// Without a leader it is not answered, and asks again. What is left of a cluster may never have one, and a node that is told
    /// yes belongs to it for good.
    pub(super) fn on_join(&mut self, from: u64, request: JoinRequest) {
        let Stage::Member(replica) = &self.stage else { return };
        let speaks_for_itself = |member: &&MemberInfo| {
            let is_valid = member.raft_id != 0
                && (1..=NAME_LEN_MAX).contains(&member.name.len())
                && member.address.len() <= ADDRESS_LEN_MAX;
            is_valid && (request.forwarded || member.raft_id == from)
        };
        let Some(member) = request.member.as_ref().filter(speaks_for_itself) else {
            self.counters.protocol_errors += 1;
            return;
        };
        let mut reply =
            JoinReply { cluster_id: self.identity.cluster_id.clone(), ..JoinReply::default() };
        match replica.leader() {
            _ if replica.has_committed_in_term() => {
                let member = MemberInfo {
                    address: match member.address.as_str() {
                        "" => self.address_in_mesh(member.raft_id).unwrap_or_default(),
                        told => told.to_owned(),
                    },
                    ..member.clone()
                };
                if let Err((refused, is_final)) = self.add(&member) {
                    reply = JoinReply { refused, is_final, ..reply };
                }
            }
            Some(leader) if !replica.leads() && !request.forwarded => {
                let forwarded = JoinRequest { forwarded: true, ..request.clone() };
                self.effects.frames.push((leader, frame(formation::Message::Join(forwarded))));
            }
            _ => return,
        }
        if from == self.identity.raft_id {
            self.on_join_reply(reply);
        } else if !request.forwarded {
            self.effects.frames.push((from, frame(formation::Message::JoinReply(reply))));
        }
    }

    /// The leader adds a node, or says why not, and whether that is its last word.
    fn add(&mut self, node: &MemberInfo) -> Result<(), (String, bool)> {
        let Some(membership) = self.store.membership() else { return Ok(()) };
        let why = match membership::join(membership, node, |raft_id| self.answers(raft_id)) {
            Ok(Some(change)) => {
                self.propose_change(node, &change);
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Err(why) => why,
        };
        let is_final = match &why {
            NotAdded::Removed => true,
            NotAdded::NameTaken(holder) => self.conflict_stands(node.raft_id, holder.raft_id),
            NotAdded::Full => false,
        };
        self.counters.peers_refused += 1;
        let why = why.to_string();
        // The node keeps asking, and may not be reached from here.
        let told = format!("{} (raft id {}) is not added: {why}", node.name, node.raft_id);
        self.tell_refusal(node.raft_id, &told);
        Err((why, is_final))
    }

    fn propose_change(&mut self, node: &MemberInfo, change: &ConfChange) {
        let Stage::Member(replica) = &mut self.stage else { return };
        if replica.may_change_membership() {
            let MemberInfo { name, raft_id, address } = node;
            ::log::info!("taking in {name} (raft id {raft_id}) at {address}");
            // Rejected: the node asks again.
            let _ = replica.propose_conf_change(change);
        }
    }

    /// Whether a member still answers under its raft id, or did lately: to this node, or to anybody in the mesh. One that
    /// was seen a moment ago may be starting anew.
    fn answers(&self, raft_id: u64) -> bool {
        let seen = self.sightings.by_id.get(&raft_id).map(|sighting| sighting.last);
        raft_id == self.identity.raft_id
            || self.links.contains_key(&raft_id)
            || self.is_live_in_mesh(raft_id) == Some(true)
            || seen.is_none_or(|last| self.now.monotonic < last + self.conflict_patience())
    }

    fn conflict_patience(&self) -> Duration {
        CONFLICT_STANDS_MIN.max(CONFLICT_STANDS * self.settings.replica.election_timeout())
    }

    /// Whether the holder of a name has gone on answering this node while another asked for the name, for so long that a
    /// process which had died would have been noticed.
    fn conflict_stands(&mut self, newcomer: u64, holder: u64) -> bool {
        let (now, patience) = (self.now.monotonic, self.conflict_patience());
        self.conflicts.retain(|_, conflict| now <= conflict.last + patience / 2);
        if holder != self.identity.raft_id && !self.links.contains_key(&holder)
            || self.conflicts.len() >= MEMBERS_MAX
        {
            self.conflicts.remove(&newcomer);
            return false;
        }
        let since = self.conflicts.get(&newcomer).map_or(now, |conflict| conflict.since);
        self.conflicts.insert(newcomer, Conflict { since, last: now });
        now >= since + patience
    }

    /// The leader's answer to this node's wish to belong.
    pub(super) fn on_join_reply(&mut self, reply: JoinReply) {
        if reply.refused.is_empty() {
            return;
        }
        if reply.is_final {
            return self.end(format!("the cluster refuses this node: {}", reply.refused));
        }
        // The node keeps asking; the same answer is told once.
        if self.told_refusal != reply.refused {
            ::log::warn!("the cluster refuses this node: {}", reply.refused);
            self.told_refusal = reply.refused;
        }
    }

    /// Whoever a change has taken out is told so when it comes again: connections with it end.
    ///
    /// Where it is this node, it does not end for that alone, but when a member [says so](Node::on_removed). Only then do those
    /// who stay know of it for good: if it has led when its own removal was committed, its vote and its log may be what
    /// the others still need to find out.
    pub(super) fn part_with(&mut self, mut removed: Vec<u64>) {
        if removed.contains(&self.identity.raft_id) {
            ::log::info!(
                "this node was removed from the cluster: it ends when a member says so too"
            );
            removed.retain(|raft_id| *raft_id != self.identity.raft_id);
        }
        self.effects.unlink.extend(removed);
    }

    /// A member says that this node was removed: whoever ordered that here has what they wanted.
    pub(super) fn on_removed(&mut self, why: String) {
        self.answer_own_removal();
        self.end(why);
    }

    /// What a removed node is told.
    pub(super) fn was_removed(&self, name: &str) -> String {
        format!(
            "{name} was removed from the cluster {}: its data directory can join no more. Start it with an empty one to \
             join under a new identity",
            hex(&self.identity.cluster_id)
        )
    }

    /// The node has no place in the cluster: it answers what waits, says good-bye and stops.
    pub(super) fn end(&mut self, why: String) {
        if self.ended.is_some() {
            return;
        }
        ::log::error!("{why}");
        self.drive_orders();
        self.refuse_all(&why);
        self.ended = Some(why);
        self.on_stop();
    }

    /// Refuses whatever waits.
    pub(super) fn refuse_all(&mut self, why: &str) {
        for token in self.requests.select(|_| true) {
            let mut refused = refusal(Code::Stopping, format!("this node stops: {why}"));
            refused.maybe_applied = self.requests.is_open(token);
            self.answer_refused(token, refused);
        }
    }
}

fn frame(message: formation::Message) -> crate::wire::peer::PeerFrame {
    peers::formation_frame(Message { message: Some(message) })
}
