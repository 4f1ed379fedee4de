//! What a message of a peer must be, for raft-rs trusts it: it panics at some that cannot be, and believes others.
//!
//! A peer that follows the protocol sends none of what is refused here. One that runs another version, or on damaged
//! memory, shall not take this node with it.

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::{Malformed, Replica};

impl Replica {
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
