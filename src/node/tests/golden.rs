//! Transcripts of what nodes say to each other, held against files in `golden/`. `UPDATE_GOLDEN=1` writes them anew; what
//! has changed is then to be read, and to be right.
//!
//! Heartbeats that carry no read, and the answers to them, are left out.

use std::path::PathBuf;
use std::time::Duration;

use raft::eraftpb::MessageType;

use super::weather::Weather;
use super::witness::kind;
use super::world::World;
use crate::wire::client::{Get, Response, request, response};
use crate::wire::peer::{PeerFrame, RaftMessage, formation, peer_frame};

// ---- In words. ----

fn name(world: &World, raft_id: u64) -> String {
    let machine = world.index_of(raft_id).map(|i| world.machines[i].name.clone());
    machine.unwrap_or_else(|| "nobody".to_owned())
}

/// A frame that is sent.
pub(super) fn frame(
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
pub(super) fn disk(world: &World, i: usize) -> Option<String> {
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
pub(super) fn answer(world: &World, i: usize, response: &Response) -> Option<String> {
    Some(format!("{} answers: {}", world.machines[i].name, result(response)))
}

// ---- The scripts. ----

fn heading(world: &mut World, what: &str) {
    let lines = world.transcript.as_mut().expect("this world has one");
    lines.push(format!("\n# {what}\n"));
}

/// Runs until nothing but heartbeats is left.
fn quiet(world: &mut World) {
    world.run_until("the cluster is whole", World::is_settled);
    world.run_for(Duration::from_millis(150));
}

fn compare(file: &str, world: World) {
    let mut text = world.transcript.expect("this world has one").join("\n");
    text.push('\n');
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/node/tests/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return std::fs::write(&path, text).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (is, was)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, was, "{file}, line {}: UPDATE_GOLDEN=1 accepts it", number + 1);
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "{file} has another length");
}

fn began(seed: u64) -> World {
    let mut world = World::new(seed, 3, Weather::fair());
    world.transcript = Some(Vec::new());
    heading(&mut world, "Three machines start, and form a cluster.");
    world.start_all();
    quiet(&mut world);
    world
}

#[test]
fn formation_of_three() {
    compare("formation.txt", began(1));
}

#[test]
fn a_write_and_a_read_by_way_of_a_follower() {
    let mut world = began(1);
    world.transcript = Some(Vec::new());
    let leader = world.leader().expect("a whole cluster has a leader");
    let follower = (leader + 1) % 3;
    heading(&mut world, "A write by way of a follower.");
    world.put(follower, "key", Duration::from_secs(1));
    quiet(&mut world);
    heading(&mut world, "A read there.");
    let get = Get { key: "key".into(), stale: false };
    world.request(follower, 0, Duration::from_secs(1), request::Command::Get(get.clone()));
    quiet(&mut world);
    heading(&mut world, "A read at the leader.");
    world.request(leader, 0, Duration::from_secs(1), request::Command::Get(get));
    quiet(&mut world);
    compare("write_and_read.txt", world);
}

#[test]
fn the_leader_crashes_and_comes_back() {
    let mut world = began(1);
    world.transcript = Some(Vec::new());
    let leader = world.leader().expect("a whole cluster has a leader");
    heading(&mut world, "A write that reaches nobody; then the leader crashes.");
    (0..3).for_each(|other| world.cut(leader, other));
    world.put(leader, "lost", Duration::from_secs(1));
    world.run_for(Duration::from_millis(50));
    world.crash(leader);
    world.heal();
    heading(&mut world, "The others elect, and write.");
    world.run_until("another leads", |world| world.leader().is_some());
    let next = world.leader().expect("waited for");
    world.put(next, "key", Duration::from_secs(1));
    world.run_until("it is answered", |world| world.unanswered(next) == 0);
    world.run_for(Duration::from_millis(50));
    heading(&mut world, "The old leader comes back, and takes over the others' log.");
    world.start(leader);
    quiet(&mut world);
    compare("election.txt", world);
}
