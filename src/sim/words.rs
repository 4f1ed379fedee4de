//! What happens in a world, in words: for transcripts.
//!
//! Heartbeats that carry no read, and the answers to them, are left out.

use raft::eraftpb::MessageType;

use super::checkers::witness::kind;
use super::world::World;
use crate::wire::client::{Response, response};
use crate::wire::peer::{PeerFrame, RaftMessage, formation, peer_frame};

fn name(world: &World, raft_id: u64) -> String {
    let machine = world.index_of(raft_id).map(|i| world.machines[i].name.clone());
    machine.unwrap_or_else(|| "nobody".to_owned())
}

/// A frame that is sent.
pub fn frame(
    world: &World,
    from: usize,
    to: usize,
    frame: &PeerFrame,
    lost: bool,
) -> Option<String> {
    let said = match frame.frame.as_ref()? {
        peer_frame::Frame::Raft(message) => raft(message)?,
        peer_frame::Frame::Forward(_) => "Forward".to_owned(),
        peer_frame::Frame::ForwardReply(reply) => {
            format!("ForwardReply: {}", result(reply.response.as_ref()?))
        }
        peer_frame::Frame::Formation(message) => formation(world, message.message.as_ref()?),
        peer_frame::Frame::SnapshotOffer(offer) => {
            format!("SnapshotOffer as of {}", offer.header.as_ref()?.index)
        }
        peer_frame::Frame::SnapshotRequest(request) => {
            format!("SnapshotRequest of the chunks {} to {}", request.from, request.until)
        }
        peer_frame::Frame::SnapshotPart(part) => match &part.chunk {
            Some(chunk) => format!("SnapshotPart: chunk {}", chunk.number),
            None => "SnapshotPart: gone".to_owned(),
        },
        peer_frame::Frame::Digest(_) | peer_frame::Frame::GossipTable(_) => return None,
    };
    let [from, to] = [from, to].map(|i| &world.machines[i].name);
    let lost = if lost { "  (lost)" } else { "" };
    Some(format!("{from} -> {to}  {said}{lost}"))
}

fn raft(message: &RaftMessage) -> Option<String> {
    let RaftMessage { term, index, log_term, commit, .. } = message;
    let reads = !message.context.is_empty();
    let granted = if message.reject { "refused" } else { "granted" };
    let said = match kind(message) {
        MessageType::MsgHeartbeat | MessageType::MsgHeartbeatResponse if !reads => return None,
        MessageType::MsgHeartbeat => format!("Heartbeat, with a read; commit {commit}"),
        MessageType::MsgHeartbeatResponse => "HeartbeatResponse, to a read".to_owned(),
        MessageType::MsgAppend => {
            let entries = match message.entries.as_slice() {
                [] => "nothing".to_owned(),
                [entry] => format!("entry {}", entry.index),
                [first, .., last] => format!("entries {} to {}", first.index, last.index),
            };
            format!("Append {entries} after {index} of term {log_term}, commit {commit}")
        }
        MessageType::MsgAppendResponse if message.reject => {
            format!("AppendResponse: refused at {index}, has {}", message.reject_hint)
        }
        MessageType::MsgAppendResponse => format!("AppendResponse: has {index}"),
        MessageType::MsgRequestPreVote => {
            format!("PreVote? log ends at {index} of term {log_term}")
        }
        MessageType::MsgRequestVote => format!("Vote? log ends at {index} of term {log_term}"),
        MessageType::MsgRequestPreVoteResponse => format!("PreVote {granted}"),
        MessageType::MsgRequestVoteResponse => format!("Vote {granted}"),
        MessageType::MsgReadIndex => return Some("ReadIndex?".to_owned()),
        MessageType::MsgReadIndexResp => format!("ReadIndex is {index}"),
        MessageType::MsgTimeoutNow => "TimeoutNow".to_owned(),
        other => format!("{other:?}"),
    };
    Some(format!("[term {term}] {said}"))
}

fn formation(world: &World, message: &formation::Message) -> String {
    match message {
        formation::Message::Hail(hail) => match &hail.promised {
            Some(promise) => format!("Hail, promised to {}", name(world, promise.raft_id)),
            None => "Hail".to_owned(),
        },
        formation::Message::Request(_) => "Promise?".to_owned(),
        formation::Message::Reply(reply) if reply.granted => "Promise granted".to_owned(),
        formation::Message::Reply(_) => "Promise refused".to_owned(),
        formation::Message::Join(join) if join.forwarded => {
            format!("Join? for {}", join.member.as_ref().map_or("", |member| &member.name))
        }
        formation::Message::Join(_) => "Join?".to_owned(),
        formation::Message::JoinReply(reply) if reply.refused.is_empty() => "Join: yes".to_owned(),
        formation::Message::JoinReply(reply) => format!("Join: {}", reply.refused),
    }
}

fn result(response: &Response) -> String {
    match &response.result {
        Some(response::Result::Txn(_)) => format!("done, revision {}", response.revision),
        Some(response::Result::Get(got)) => {
            format!("{:?}", got.kv.as_ref().map(|kv| String::from_utf8_lossy(&kv.value)))
        }
        Some(response::Result::Error(refused)) => format!("{:?}", refused.code()),
        other => format!("{other:?}"),
    }
}

/// A write of a log has ended.
pub fn disk(world: &World, i: usize) -> Option<String> {
    let machine = &world.machines[i];
    let (hard_state, last) = machine.witness.summary();
    let promise = match machine.witness.promised_to() {
        Some(raft_id) => format!("promised to {}", name(world, raft_id)),
        None if hard_state.term == 0 => "no promise".to_owned(),
        None => format!(
            "entries to {last}, term {}, vote {}, commit {}",
            hard_state.term,
            name(world, hard_state.vote),
            hard_state.commit
        ),
    };
    Some(format!("{} disk: {promise}", machine.name))
}

/// A client is answered.
pub fn answer(world: &World, i: usize, response: &Response) -> Option<String> {
    Some(format!("{} answers: {}", world.machines[i].name, result(response)))
}
