//! Who leads, as one replica sees it: what it is to the others, and how the office passes on.
//!
//! Promises: the office is handed over to voters only, and to none that is about to lose its vote. A leader that has lost
//! its own steps down before raft-rs asks anything more of it: raft-rs would go on with a leader that is not among those it
//! counts, and panics where that one is not even a member. The leader does not propose such a change of itself
//! ([`membership`](super::membership)), but one that was proposed by the leader before it may become its to apply.

use raft::{ProgressState, StateRole};

use super::Replica;
use crate::planted::{Bug, planted};

/// What a node is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Receives the log and does not vote.
    Learner,
}

/// A member as the leader sees its log.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The member.
    pub raft_id: u64,
    /// How far its log is known to agree with the leader's.
    pub matched: u64,
    /// Whether it gets no entries, but waits for a snapshot.
    pub awaits_snapshot: bool,
}

impl Replica {
    /// What this replica is to the others.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if self.raw.raft.promotable() => Role::Follower,
            StateRole::Follower => Role::Learner,
        }
    }

    /// Whether this replica leads.
    pub fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Whether this replica leads, and has committed an entry of its term: a majority has followed it.
    pub fn has_committed_in_term(&self) -> bool {
        self.leads() && self.raw.raft.commit_to_current_term()
    }

    /// The raft id of the leader, if one is known.
    pub fn leader(&self) -> Option<u64> {
        Some(self.raw.raft.leader_id).filter(|raft_id| *raft_id != raft::INVALID_ID)
    }

    /// Whether this replica votes alone.
    pub fn is_sole_voter(&self) -> bool {
        self.raw.raft.promotable() && self.raw.raft.prs().is_singleton()
    }

    /// Whether a change of the membership may be proposed: none is under way.
    pub fn may_change_membership(&self) -> bool {
        self.has_committed_in_term() && !self.raw.raft.has_pending_conf()
    }

    /// The members as the leader sees them, itself included; empty elsewhere.
    pub fn progress(&self) -> Vec<Progress> {
        if !self.leads() {
            return Vec::new();
        }
        let members = self.raw.raft.prs().iter();
        members
            .map(|(raft_id, progress)| Progress {
                raft_id: *raft_id,
                matched: progress.matched,
                awaits_snapshot: progress.state == ProgressState::Snapshot,
            })
            .collect()
    }

    /// Asks for votes now. A sole voter does so at its start.
    pub fn campaign(&mut self) {
        if self.is_installing() {
            return;
        }
        // Ok or not, the outcome shows in the role.
        let _ = self.raw.campaign();
        self.own_election_timeout();
    }

    /// Whether this replica leads and is handing leadership over: it accepts no proposals meanwhile.
    pub fn is_handing_over(&self) -> bool {
        self.heir().is_some()
    }

    /// To whom this replica is handing leadership over, if it is.
    pub fn heir(&self) -> Option<u64> {
        self.raw.raft.lead_transferee
    }

    /// Begins to hand leadership over to the voter whose log is furthest, among those that `reachable` admits. False if
    /// this replica does not lead, or there is nobody.
    pub fn hand_over(&mut self, reachable: impl Fn(u64) -> bool) -> bool {
        let heirs = self.heirs();
        let best = self
            .progress()
            .into_iter()
            .filter(|node| heirs.contains(&node.raft_id) && reachable(node.raft_id))
            .max_by_key(|node| (node.matched, node.raft_id));
        if let Some(best) = &best {
            self.raw.transfer_leader(best.raft_id);
        }
        best.is_some()
    }

    /// Begins to hand leadership over to that voter. Nothing happens if this replica does not lead, if it is the voter that
    /// is meant, or if there is no such voter: raft-rs would pass the order on to whoever leads.
    pub fn transfer_to(&mut self, raft_id: u64) {
        if self.leads() && self.heirs().contains(&raft_id) {
            self.raw.transfer_leader(raft_id);
        }
    }

    /// The voters beside this one that stay voters when a joint configuration is left.
    fn heirs(&self) -> Vec<u64> {
        let mut heirs = self.raw.raft.prs().conf().to_conf_state().voters;
        heirs.retain(|raft_id| *raft_id != self.settings.raft_id);
        heirs
    }

    /// Where wrong rules are planted, by which entries would be committed.
    pub(super) fn commit_wrongly(&mut self) {
        if !self.leads() {
            return;
        }
        let mut matched: Vec<u64> = self.progress().iter().map(|member| member.matched).collect();
        let index = if planted(Bug::CountLearners) {
            matched.sort_unstable_by(|a, b| b.cmp(a));
            matched[self.heirs().len().div_ceil(2).min(matched.len() - 1)]
        } else if planted(Bug::CommitEarlierTerm) {
            self.raw.raft.mut_prs().maximal_committed_index().0
        } else {
            return;
        };
        let index = index.max(self.commit());
        self.raw.raft.raft_log.commit_to(index);
    }

    /// Steps down if a change of the membership took this leader's vote.
    pub(super) fn leave_lost_office(&mut self) {
        if self.leads() && !self.raw.raft.promotable() {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
            self.own_election_timeout();
        }
    }

    /// Replaces the election timeout that raft-rs drew from the thread's generator by one of ours. raft-rs draws with every
    /// change of term or state.
    pub(super) fn own_election_timeout(&mut self) {
        if self.drawn_for != (self.raw.raft.term, self.raw.raft.state) {
            self.draw_election_timeout();
        }
        assert_eq!(
            self.raw.raft.randomized_election_timeout(),
            self.election_timeout_ticks,
            "raft-rs drew an election timeout at another occasion than a change of term or state"
        );
    }

    /// A follower waits for its leader between one election timeout E and 5/4 of it, instead of Raft's 2 (Ongaro's thesis,
    /// 9.3): what comes on top of E is time without a leader. So it happens more often that two ask for votes at once and
    /// neither gets enough. A candidate without an answer therefore asks again after 1/5 to 3/5 of E. With each time the
    /// bound grows, up to Raft's 2 E: where answers and disks are slow it would else overtake its own votes for ever. One
    /// that a majority has refused is a follower again.
    pub(super) fn draw_election_timeout(&mut self) {
        let raft = &mut self.raw.raft;
        let election = raft.election_timeout();
        let timeout = match raft.state {
            StateRole::PreCandidate | StateRole::Candidate => {
                self.candidacies += 1;
                let bound = (2 + self.candidacies).min(10) * election / 5;
                let wait = self.rng.usize(election / 5..bound);
                // raft-rs takes no timeout below E: part of it is over already.
                let timeout = wait.max(election);
                raft.election_elapsed = timeout - wait;
                timeout
            }
            StateRole::Follower | StateRole::Leader => {
                self.candidacies = 0;
                self.rng.usize(election..5 * election / 4)
            }
        };
        raft.set_randomized_election_timeout(timeout);
        self.election_timeout_ticks = timeout;
        self.drawn_for = (raft.term, raft.state);
    }
}
