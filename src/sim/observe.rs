//! What the checkers are told, while a world turns.

use bytes::Bytes;

use super::checkers::witness::Durable;
use super::checkers::{Checker, Finding};
use super::machine::Machine;
use super::world::World;

impl World {
    /// After a turn: who leads, and what is committed.
    pub(super) fn observe(&mut self, i: usize) {
        let raft_id = self.machines[i].raft_id;
        let World { machines, watch, .. } = self;
        let Machine { name, process, .. } = &mut machines[i];
        let Some(process) = process else { return };
        let Some(replica) = process.node.replica() else { return };
        let store = process.node.store();
        let applied = store.applied().index;
        watch.configurations.applied(applied, store.membership());
        let same = watch.states.applied(name, applied, store.digest());
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
            agree = agree.and_then(|()| watch.logs.committed(index, term));
            process.compared = index;
        }
        if self.compares_states {
            self.check(Checker::EqualStates, same);
        }
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
        let mut found = Ok(());
        for (entry, term_before) in &entries {
            found = found.and_then(|()| self.watch.logs.durable(entry, *term_before));
            self.watch.configurations.durable(entry);
        }
        let belongs = self.watch.belongs(self.machines[i].witness.cluster_id());
        self.check(Checker::OneCluster, belongs);
        self.check(Checker::LogMatching, found);
        if let Some((term, vote)) = vote {
            let found = self.watch.elections.votes(self.machines[i].raft_id, term, vote);
            self.check(Checker::OneVote, found);
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
