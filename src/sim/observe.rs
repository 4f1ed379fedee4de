//! What the checkers are told, while a world turns.

use bytes::Bytes;

use super::checkers::witness::Durable;
use super::checkers::{Checker, Finding};
use super::machine::{Machine, Seen};
use super::world::World;
use crate::node::ConnectionId;
use crate::wire::client::{ServerFrame, response, server_frame};

impl World {
    /// After a turn: who leads, and what is committed.
    pub(super) fn observe(&mut self, i: usize) {
        let raft_id = self.machines[i].raft_id;
        let World { machines, watch, compares_states, .. } = self;
        let Machine { name, process, witness, is_marred, .. } = &mut machines[i];
        let Some(process) = process else { return };
        let Some(replica) = process.node.replica() else { return };
        let store = process.node.store();
        let applied = store.applied().index;
        watch.configurations.applied(store.applied(), store.membership());
        let same = match *is_marred {
            true => Ok(()),
            false => watch.states.applied(name, applied, store.digest()),
        };
        let seen = Seen {
            applied,
            membership: store.membership().cloned(),
            max_bytes: store.max_bytes(),
            logical_bytes: store.logical_bytes(),
        };
        let before = process.seen.replace(seen.clone());
        let known = match before.as_ref().is_some_and(|it| it.membership == seen.membership) {
            true => Ok(()),
            false => witness.check_membership(applied, store.durable().index),
        };
        let within = before.map_or(Ok(()), |before| check_quota(&before, &seen));
        let rightly = match process.node.quarantine() {
            Some(_) if *compares_states && !*is_marred => {
                Err(format!("{name} takes its state for damaged"))
            }
            _ => Ok(()),
        };
        let term_at = |index| replica.term_at(index);
        let (mut found, mut complete, mut agree) = (Ok(false), Ok(()), Ok(()));
        let mut own = Ok(());
        // What is before the first entry is committed, and known by its snapshot alone.
        process.compared = process.compared.max(replica.first_index() - 1);
        if replica.leads() {
            found = watch.elections.leads(replica.term(), raft_id);
            let (term, commit) = (replica.term(), replica.commit());
            let was_leader = std::mem::replace(&mut process.led, term) == term;
            if was_leader && commit > process.compared && term_at(commit) != Some(term) {
                own = Err(format!(
                    "the leader of term {term} commits {commit}, which is of {:?}, after {}; it has {} to {}",
                    term_at(commit),
                    process.compared,
                    replica.first_index(),
                    replica.last_index()
                ));
            }
            if found == Ok(true) {
                complete = watch.logs.elected(replica.term(), replica.first_index(), term_at);
            }
        }
        for index in process.compared + 1..=replica.commit() {
            let term = term_at(index).unwrap_or(0);
            agree = agree.and_then(|()| watch.logs.committed(index, term, replica.term()));
            process.compared = index;
        }
        if self.compares_states {
            self.check(Checker::EqualStates, same);
        }
        self.check(Checker::DurableMembership, known);
        self.check(Checker::Quota, within);
        self.check(Checker::Quarantine, rightly);
        self.check(Checker::ElectionSafety, found.map(|_| ()));
        self.check(Checker::LeaderCompleteness, complete);
        self.check(Checker::OwnTerm, own);
        self.check(Checker::Agreement, agree);
        self.tally.elections = self.watch.elections.count();
    }

    /// A machine's disk has something new.
    pub(super) fn note_durable(&mut self, i: usize, durable: Durable) {
        let Durable { entries, vote, is_installed, .. } = durable;
        self.tally.snapshots += u64::from(is_installed);
        let (mut found, mut votes) = (Ok(()), Ok(()));
        for (entry, term_before) in &entries {
            found = found.and_then(|()| self.watch.logs.durable(entry, *term_before));
            let leader = self.watch.elections.leader(entry.term);
            votes = votes.and(self.watch.configurations.durable(entry, leader));
        }
        self.check(Checker::LeaderVotes, votes);
        let belongs = self.watch.belongs(self.machines[i].witness.cluster_id());
        self.check(Checker::OneCluster, belongs);
        self.check(Checker::LogMatching, found);
        if let Some((term, vote)) = vote {
            let found = self.watch.elections.votes(self.machines[i].raft_id, term, vote);
            self.check(Checker::OneVote, found);
        }
    }

    /// A turn of a machine that knew before that its state is not that of the others: it answers refusals alone.
    pub(super) fn check_refusals(&mut self, i: usize, replies: &[(ConnectionId, ServerFrame)]) {
        let is_refusal = |frame: &ServerFrame| match &frame.frame {
            Some(server_frame::Frame::Response(response)) => {
                matches!(response.result, Some(response::Result::Error(_)))
            }
            _ => true,
        };
        if !replies.iter().all(|(_, frame)| is_refusal(frame)) {
            let what =
                format!("{} answers from a state that it knows is wrong", self.machines[i].name);
            self.fail(Checker::Quarantine, what);
        }
    }

    /// Whether a write that a machine acknowledges is on the disks of a majority.
    pub(super) fn is_durable(&self, i: usize, request_id: &Bytes) -> Finding {
        let has_majority = |voters: &[u64]| {
            let have = voters.iter().filter(|raft_id| self.has_write(**raft_id, request_id));
            2 * have.count() > voters.len()
        };
        if self.watch.configurations.voters().any(has_majority) {
            return Ok(());
        }
        let have: Vec<&str> = self
            .machines
            .iter()
            .filter(|machine| machine.witness.has_write(request_id))
            .map(|machine| machine.name.as_str())
            .collect();
        Err(format!(
            "{} acknowledges a write that is on the disks of {have:?} alone",
            self.machines[i].name
        ))
    }

    fn has_write(&self, raft_id: u64, request_id: &Bytes) -> bool {
        let on_disk = self.machines.iter().map(|machine| (machine.raft_id, &machine.witness));
        let lost = self.lost.iter().map(|(raft_id, witness)| (*raft_id, witness));
        let written_at = self.watch.logs.written_at(request_id).unwrap_or(u64::MAX);
        on_disk.chain(lost).any(|(of, witness)| {
            of == raft_id && (witness.has_write(request_id) || written_at <= witness.covered())
        })
    }
}

/// One entry makes the store no larger than MAX_BYTES, if it makes it larger at all.
fn check_quota(before: &Seen, now: &Seen) -> Finding {
    let Seen { applied, max_bytes, logical_bytes, .. } = *now;
    let grows = applied == before.applied + 1 && logical_bytes > before.logical_bytes;
    match grows && max_bytes != 0 && logical_bytes > max_bytes {
        true => Err(format!("the store grows to {logical_bytes} bytes, and may have {max_bytes}")),
        false => Ok(()),
    }
}
