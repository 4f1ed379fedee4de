//! Several replicas, with messages between them in any order and disks that are done at once. Each that is up applies what
//! is committed; one that is down hears and says nothing, and keeps what it knows. What a leader offers of its state travels
//! in one piece, after a while, or is lost.
//!
//! Held to with every step: one leader in a term, the same membership on all at the same index, and that whenever a
//! membership comes into force, a majority of each set of its voters is up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::super::membership::{Policy, Seen};
use super::super::{
    FINE_TICKS, Install, Outputs, Payload, Progress, Recovered, Replica, Settings, membership,
};
use crate::wire::log::{
    ConfChange, ConfState, Entry, EntryId, EntryKind, HardState, MemberInfo, Membership,
};
use crate::wire::peer::RaftMessage;

pub(super) const POLICY: Policy = Policy { target_voters: 5, dead_after: Duration::from_secs(300) };
pub(super) const ELECTION_TICKS: u32 = 4;

pub(super) struct Crew {
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) down: BTreeSet<u64>,
    /// What was in force from which index on.
    pub(super) history: BTreeMap<u64, Membership>,
    /// The voters that the last change leads to, if it is accepted.
    pub(super) proposed_voters: Vec<u64>,
    leaders: BTreeMap<u64, u64>,
    in_flight: Vec<RaftMessage>,
    /// How many messages were sent.
    pub(super) sent: usize,
    /// Snapshots on their way: from whom, to whom.
    offered: Vec<(u64, u64)>,
    /// How many took the place of a log.
    pub(super) installed: usize,
    rng: fastrand::Rng,
}

pub(super) struct Member {
    pub(super) replica: Replica,
    pub(super) membership: Membership,
    /// How far the state machine is.
    pub(super) applied: EntryId,
    /// The state machine applies, and nothing of it gets on disk.
    pub(super) is_stuck: bool,
    /// The state of which a snapshot was taken, until it is installed.
    taken: Option<(EntryId, Membership)>,
}

pub(super) fn info(raft_id: u64) -> MemberInfo {
    MemberInfo { raft_id, name: format!("n{raft_id}"), address: String::new() }
}

impl Crew {
    /// Raft ids from 1 on: first the voters, then the learners.
    pub(super) fn new(seed: u64, voter_count: u64, learner_count: u64) -> Crew {
        let all = 1..=voter_count + learner_count;
        let genesis = membership::genesis(&[7; 16], voter_count as u32, info(1));
        let conf_state = ConfState {
            voters: (1..=voter_count).collect(),
            learners: all.clone().skip(voter_count as usize).collect(),
            ..ConfState::default()
        };
        let start = Membership {
            members: all.clone().map(info).collect(),
            ..membership::apply(None, &genesis, conf_state)
        };
        let member = |raft_id| (raft_id, Member::new(raft_id, seed, &genesis, &start, Vec::new()));
        Crew {
            members: all.map(member).collect(),
            down: BTreeSet::new(),
            history: BTreeMap::from([(1, start)]),
            proposed_voters: Vec::new(),
            leaders: BTreeMap::new(),
            in_flight: Vec::new(),
            sent: 0,
            offered: Vec::new(),
            installed: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// A member of a crew that has done nothing yet is started with entries that nobody has committed.
    pub(super) fn restart_with(&mut self, raft_id: u64, uncommitted: Vec<Entry>) {
        let (_, start) = self.history.first_key_value().expect("it begins with one");
        let voter_count = self.conf_state().voters.len() as u32;
        let genesis = membership::genesis(&[7; 16], voter_count, info(1));
        let member = Member::new(raft_id, 1, &genesis, start, uncommitted);
        self.members.insert(raft_id, member);
    }

    pub(super) fn is_up(&self, raft_id: u64) -> bool {
        !self.down.contains(&raft_id)
    }

    /// The membership in force, as far as anyone knows.
    pub(super) fn membership(&self) -> &Membership {
        self.history.last_key_value().expect("it begins with one").1
    }

    pub(super) fn conf_state(&self) -> &ConfState {
        self.membership().conf_state.as_ref().expect("all have one")
    }

    /// Of those that are up, the one that leads in the latest term.
    pub(super) fn leader(&self) -> Option<u64> {
        let up = self.members.iter().filter(|(raft_id, _)| self.is_up(**raft_id));
        let leading = up.filter(|(_, member)| member.replica.leads());
        leading.max_by_key(|(_, member)| member.replica.term()).map(|(raft_id, _)| *raft_id)
    }

    /// From now on so many entries stay in memory that are applied.
    pub(super) fn retain(&mut self, count_max: usize) {
        for member in self.members.values_mut() {
            member.replica.settings.retention.count_max = count_max;
        }
    }

    pub(super) fn replica(&mut self, raft_id: u64) -> &mut Replica {
        &mut self.members.get_mut(&raft_id).expect("it exists").replica
    }

    /// The others as the leader sees them: who is down is dead.
    pub(super) fn seen(&self, leader: u64) -> Vec<Seen> {
        let seen = |Progress { raft_id, matched, .. }| {
            let linked = self.is_up(raft_id);
            let gone_for = (!linked).then_some(POLICY.dead_after);
            Seen { raft_id, matched, linked, is_stable: linked, gone_for }
        };
        self.members[&leader].replica.progress().into_iter().map(seen).collect()
    }

    /// The leader, if it may change the membership now.
    pub(super) fn changer(&self) -> Option<u64> {
        let leader = self.leader()?;
        self.members[&leader].replica.may_change_membership().then_some(leader)
    }

    pub(super) fn propose(&mut self, leader: u64, change: &ConfChange) {
        let mut voters = self.conf_state().voters.clone();
        for step in &change.steps {
            voters.retain(|raft_id| *raft_id != step.raft_id);
            if step.kind() == crate::wire::log::conf_change::Kind::AddVoter {
                voters.push(step.raft_id);
            }
        }
        self.proposed_voters = voters;
        // Rejected while the leader hands over: whoever wants it proposes it again.
        let _ = self.replica(leader).propose_conf_change(change);
    }

    /// The leader proposes what is due.
    pub(super) fn heal(&mut self) {
        let Some(leader) = self.changer() else { return };
        let member = &self.members[&leader];
        let commit = member.replica.commit();
        if let Some(change) =
            membership::due(&member.membership, &POLICY, &self.seen(leader), commit)
        {
            self.propose(leader, &change);
        }
    }

    /// Whether a majority of all voters that there are or may soon be is up.
    pub(super) fn is_safe(&self) -> bool {
        let ConfState { voters, voters_outgoing, .. } = self.conf_state();
        [voters, voters_outgoing, &self.proposed_voters].into_iter().all(|voters| {
            let up = voters.iter().filter(|raft_id| self.is_up(**raft_id)).count();
            voters.is_empty() || 2 * up > voters.len()
        })
    }

    /// A tick, and all that follows from it, in an order of chance.
    pub(super) fn tick(&mut self) {
        let up: Vec<u64> = self.members.keys().copied().filter(|id| self.is_up(*id)).collect();
        for raft_id in &up {
            self.replica(*raft_id).tick();
        }
        self.settle();
    }

    /// All that follows from what was done to those that are up, in an order of chance.
    pub(super) fn settle(&mut self) {
        let up: Vec<u64> = self.members.keys().copied().filter(|id| self.is_up(*id)).collect();
        up.iter().for_each(|raft_id| self.turn(*raft_id));
        while !self.in_flight.is_empty() {
            let message = self.in_flight.swap_remove(self.rng.usize(..self.in_flight.len()));
            let (from, to) = (message.from, message.to);
            if self.is_up(from) && self.is_up(to) {
                self.replica(to).receive(message).expect("replicas send what replicas take");
                self.turn(to);
            } else {
                self.replica(from).unreachable(to);
            }
        }
        self.carry_snapshots();
    }

    fn carry_snapshots(&mut self) {
        for (from, to) in std::mem::take(&mut self.offered) {
            let is_lost = !self.is_up(from) || !self.is_up(to) || self.rng.u8(..8) == 0;
            if is_lost {
                self.replica(from).snapshot_failed(to);
            } else if self.rng.u8(..4) > 0 || !self.install(from, to) {
                self.offered.push((from, to));
            }
        }
    }

    /// False if the receiver asks to try again.
    fn install(&mut self, from: u64, to: u64) -> bool {
        let Member { applied, membership, .. } = &self.members[&from];
        let (last, membership) = (*applied, membership.clone());
        let conf_state = membership.conf_state.clone().expect("all have one");
        let receiver = self.members.get_mut(&to).expect("it exists");
        match receiver.replica.install(last, &conf_state, 2) {
            Install::Later => return false,
            Install::Declined => {}
            Install::Taken => {
                receiver.taken = Some((last, membership));
                self.installed += 1;
                self.turn(to);
            }
        }
        self.replica(from).snapshot_sent(to);
        true
    }

    fn turn(&mut self, raft_id: u64) {
        let Crew { members, history, leaders, in_flight, sent, offered, .. } = self;
        let member = members.get_mut(&raft_id).expect("it exists");
        let mut came = Vec::new();
        let out = member.turn(&mut came);
        *sent += out.messages.len();
        in_flight.extend(out.messages);
        offered.extend(out.offers.into_iter().map(|to| (raft_id, to)));
        if member.replica.leads() {
            let leader = *leaders.entry(member.replica.term()).or_insert(raft_id);
            assert_eq!(leader, raft_id, "two leaders in a term");
        }
        for (index, membership) in came {
            let known = history.entry(index).or_insert_with(|| membership.clone());
            assert_eq!(*known, membership, "as of index {index} on {raft_id}");
            if history.last_key_value().is_some_and(|(last, _)| *last == index) {
                assert_live_majorities(&membership, &self.down);
            }
        }
    }

    pub(super) fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Crew) -> bool) {
        for _ in 0..100 * ELECTION_TICKS * FINE_TICKS {
            if done(self) {
                return;
            }
            self.tick();
        }
        panic!("never: {what}; the membership is {:?}", self.conf_state());
    }

    /// A command goes through, and all members that are up have it.
    pub(super) fn serve(&mut self) {
        let mut asked_of = None;
        self.run_until("a command is committed", |crew| {
            if let Some(leader) = crew.leader()
                && asked_of.is_none_or(|(asked, _)| asked != leader)
            {
                let command = crew.replica(leader).propose(&[Bytes::from_static(b"command")]);
                asked_of = command.ok().map(|(_, index)| (leader, index));
            }
            let Some((_, index)) = asked_of else { return false };
            let ConfState { voters, learners, .. } = crew.conf_state();
            let mut members = voters.iter().chain(learners).filter(|id| crew.is_up(**id));
            members.all(|raft_id| crew.members[raft_id].replica.commit() >= index)
        });
    }
}

impl Member {
    /// One with entries that it does not know to be committed.
    fn new(
        raft_id: u64,
        seed: u64,
        genesis: &ConfChange,
        start: &Membership,
        uncommitted: Vec<Entry>,
    ) -> Member {
        let first = Entry {
            term: 1,
            index: 1,
            kind: EntryKind::ConfChange.into(),
            data: genesis.encode_to_vec().into(),
        };
        let recovered = Recovered {
            entries: [vec![first], uncommitted].concat(),
            hard_state: HardState { term: 1, vote: 0, commit: 1 },
            applied: 1,
            membership: Some(start.clone()),
            ..Recovered::default()
        };
        let applied = EntryId { index: 1, term: 1 };
        Member { membership: start.clone(), applied, ..Member::started(raft_id, seed, recovered) }
    }

    /// One that knows nothing yet.
    pub(super) fn empty(raft_id: u64, seed: u64) -> Member {
        Member::started(raft_id, seed, Recovered::default())
    }

    fn started(raft_id: u64, seed: u64, recovered: Recovered) -> Member {
        let settings = Settings {
            raft_id,
            nonce: 1,
            seed: seed ^ raft_id << 32,
            election_ticks: ELECTION_TICKS,
            heartbeat_ticks: 1,
            tick: Duration::from_millis(100),
            retention: Default::default(),
        };
        let mut replica = Replica::new(settings, recovered).expect("it starts");
        replica.set_may_offer(true);
        Member {
            replica,
            membership: Membership::default(),
            applied: EntryId::default(),
            is_stuck: false,
            taken: None,
        }
    }

    /// Does what there is to do. Gives what leaves, and the memberships that came into force.
    fn turn(&mut self, came: &mut Vec<(u64, Membership)>) -> Outputs {
        let mut left = Outputs::default();
        loop {
            let mut out = Outputs::default();
            self.replica.drain(Duration::ZERO, &mut out);
            left.messages.append(&mut out.messages);
            left.offers.append(&mut out.offers);
            if out.persist.is_empty() && out.committed.is_empty() {
                if !self.is_stuck {
                    let conf_state = self.membership.conf_state.clone().unwrap_or_default();
                    self.replica.passed(self.applied, &conf_state);
                }
                return left;
            }
            for (number, record) in out.persist {
                self.replica.persisted(number);
                if let Some(snapshot) = record.snapshot {
                    let (last, membership) = self.taken.take().expect("it was taken");
                    assert_eq!(snapshot.last, Some(last));
                    (self.applied, self.membership) = (last, membership);
                    self.replica.applied(last.index);
                }
            }
            for committed in out.committed {
                assert_eq!(committed.index, self.applied.index + 1, "it is applied in order");
                self.applied = EntryId { index: committed.index, term: committed.term };
                match committed.payload {
                    Payload::ConfChange(change) => {
                        self.membership =
                            self.replica.apply_conf_change(Some(&self.membership), &change);
                        came.push((committed.index, self.membership.clone()));
                    }
                    Payload::Command(_) | Payload::Blank => {}
                }
                self.replica.applied(committed.index);
            }
        }
    }
}

fn assert_live_majorities(membership: &Membership, down: &BTreeSet<u64>) {
    let ConfState { voters, voters_outgoing, .. } =
        membership.conf_state.as_ref().expect("all have one");
    for voters in [voters, voters_outgoing] {
        let down = voters.iter().filter(|raft_id| down.contains(raft_id)).count();
        assert!(voters.is_empty() || 2 * down < voters.len(), "no quorum in {membership:?}");
    }
}
