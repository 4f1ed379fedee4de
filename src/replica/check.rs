//! What a message of a peer must be, for raft-rs trusts it: it panics at some that cannot be, and believes others.
//!
//! A peer that follows the protocol sends none of what is refused here. One that runs another version, or on damaged
//! memory, shall not take this node with it.

use std::collections::BTreeSet;

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::{Malformed, Replica};
use crate::limits::MEMBERS_MAX;
use crate::wire::log::{ConfState, EntryId};

/// No log comes to so many entries.
const INDEX_END: u64 = 1 << 62;

impl Replica {
    /// Whether there can be a snapshot as of that entry, with those members: raft-rs would end the process over another.
    pub fn can_be(last: EntryId, conf_state: &ConfState) -> bool {
        (1..INDEX_END).contains(&last.index) && last.term > 0 && is_configuration(conf_state)
    }

    pub(super) fn check(&self, message: &Message) -> Result<(), Malformed> {
        let is_request_to_read = message.msg_type == MessageType::MsgReadIndex;
        // raft-rs takes what has no term for its own.
        if (message.term == 0) != is_request_to_read {
            return Err(Malformed("a raft message with the term missing, or in excess"));
        }
        if message.request_snapshot != 0 {
            return Err(Malformed("a request for a snapshot, of which there are none"));
        }
        match message.msg_type {
            MessageType::MsgReadIndex if message.entries.len() != 1 => {
                Err(Malformed("a request to read without its context"))
            }
            MessageType::MsgAppend => check_append(message),
            MessageType::MsgAppendResponse => self.check_append_response(message),
            MessageType::MsgHeartbeat
                if message.term >= self.term() && message.commit > self.last_index() =>
            {
                Err(Malformed("a heartbeat that commits what this node never acknowledged"))
            }
            MessageType::MsgRequestVoteResponse if self.awaits_own_vote() => {
                Err(Malformed("a vote that was not asked for yet"))
            }
            MessageType::MsgTimeoutNow if self.is_sole_voter() => {
                Err(Malformed("an office handed over to the only one who can hold it"))
            }
            _ => Ok(()),
        }
    }

    fn check_append_response(&self, message: &Message) -> Result<(), Malformed> {
        let is_answer = self.leads() && message.term == self.term();
        if is_answer && (message.index > self.last_index() || message.reject_hint > message.index) {
            return Err(Malformed("an answer about entries that this leader does not have"));
        }
        Ok(())
    }

    /// Whether this node is a candidate whose requests are held until its own vote is durable.
    fn awaits_own_vote(&self) -> bool {
        let raft = &self.raw.raft;
        let is_recorded = (raft.term, raft.vote) == self.recorded_vote;
        raft.state == StateRole::Candidate && !(is_recorded && self.persisted == self.last_record)
    }
}

/// The entries follow each other and what they are to follow, and none is of a later term than its leader.
fn check_append(message: &Message) -> Result<(), Malformed> {
    if (message.index == 0) != (message.log_term == 0) {
        return Err(Malformed("an append that follows no entry"));
    }
    let mut before = (message.index, message.log_term);
    for entry in &message.entries {
        if before.0.checked_add(1) != Some(entry.index) || entry.term < before.1 {
            return Err(Malformed("an append with entries out of order"));
        }
        before = (entry.index, entry.term);
    }
    if before.1 > message.term {
        return Err(Malformed("an append with entries of a later term than its leader's"));
    }
    Ok(())
}

/// Whether nodes can be members in that way.
fn is_configuration(conf_state: &ConfState) -> bool {
    let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave } = conf_state;
    let lists = [voters, learners, voters_outgoing, learners_next];
    let is_list = |ids: &&Vec<u64>| {
        let distinct: BTreeSet<&u64> = ids.iter().collect();
        distinct.len() == ids.len() && ids.len() <= MEMBERS_MAX && !ids.contains(&0)
    };
    let is_joint = !voters_outgoing.is_empty();
    lists.iter().all(is_list)
        && !voters.is_empty()
        && learners.iter().all(|id| !voters.contains(id) && !voters_outgoing.contains(id))
        // Who becomes a learner votes in the configuration before, and not in the one after.
        && learners_next.iter().all(|id| voters_outgoing.contains(id) && !voters.contains(id))
        && (is_joint || !auto_leave)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_that_cannot_be_are_told_from_those_that_can() {
        let of = |lists: [&[u64]; 4], auto_leave| {
            let [voters, learners, voters_outgoing, learners_next] = lists.map(<[u64]>::to_vec);
            is_configuration(&ConfState {
                voters,
                learners,
                voters_outgoing,
                learners_next,
                auto_leave,
            })
        };
        assert!(of([&[1], &[], &[], &[]], false));
        assert!(of([&[1, 2, 3], &[4], &[], &[]], false));
        assert!(of([&[1, 2, 4], &[5], &[1, 2, 3], &[3]], true));
        for lists in [
            [&[][..], &[], &[], &[]],
            [&[], &[1], &[], &[]],
            [&[1, 1], &[], &[], &[]],
            [&[0], &[], &[], &[]],
            [&[1, 2], &[2], &[], &[]],
            [&[1], &[2], &[1, 2], &[]],
            [&[1], &[], &[], &[2]],
            [&[1, 2], &[], &[1, 2], &[2]],
        ] {
            assert!(!of(lists, false), "{lists:?}");
        }
        assert!(!of([&[1], &[], &[], &[]], true));
    }
}
