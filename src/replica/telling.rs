//! How the others learn what is committed: with the next append, or a little later.
//!
//! Left to itself raft-rs tells every advance of the commit index at once, in a message to each follower that each
//! answers: with one client, two of the five messages of a write, and a wake-up more at every node. Nobody is kept
//! waiting by it: the leader has answered, and to those who read at a follower it is told with their round. So
//! it is left out (`skip_bcast_commit`), and told here.
//!
//! Promise: what is committed is known to every member that can be reached within two fine ticks of the leader's, and
//! with any answer that speaks of it: a round of ReadIndex that one of them asked for, the outcome of what it forwarded.

use std::collections::BTreeSet;

use raft::eraftpb::{Message, MessageType};

use super::Replica;

/// What the others know, as their leader sees it.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The commit index that all of them were told.
    commit: u64,
    /// The commit index as of the last tick: by the next one, appends have told it, or it is told alone.
    at_tick: u64,
}

impl Replica {
    /// Whether something is committed that not all others were told.
    pub(super) fn has_untold_commit(&self) -> bool {
        self.leads() && self.count_others() > 0 && self.commit() > self.told.commit
    }

    fn count_others(&self) -> usize {
        let members = self.raw.raft.prs().iter();
        members.filter(|(raft_id, _)| **raft_id != self.settings.raft_id).count()
    }

    /// A fine tick has passed: tells what was committed before the one before it, if no append has.
    pub(super) fn tell_old_commit(&mut self) {
        if self.told.at_tick > self.told.commit {
            self.tell_commit();
        }
        self.told.at_tick = self.commit();
    }

    /// Tells all members what is committed, if they may not know.
    pub(super) fn tell_commit(&mut self) {
        if self.has_untold_commit() {
            self.told.commit = self.commit();
            self.raw.raft.bcast_append();
        }
    }

    /// Tells one member, which is about to be answered.
    pub fn tell_commit_to(&mut self, raft_id: u64) {
        if self.has_untold_commit() && self.raw.raft.prs().get(raft_id).is_some() {
            self.raw.raft.send_append(raft_id);
        }
    }

    /// Notes what appends that leave now tell, if they go to everybody.
    pub(super) fn note_told(&mut self, messages: &[Message]) {
        let appends = messages.iter().filter(|message| message.msg_type == MessageType::MsgAppend);
        let Some(commit) = appends.clone().map(|append| append.commit).min() else { return };
        if commit > self.told.commit {
            let informed: BTreeSet<u64> = appends.map(|append| append.to).collect();
            if informed.len() == self.count_others() {
                self.told.commit = commit;
            }
        }
    }
}
