//! The rules of promises, message by message.

use super::super::formation::{Formation, Step};
use crate::wire::client::Identity;
use crate::wire::log::Promise;
use crate::wire::peer::{
    Formation as Message, Hail, PromiseReply, PromiseRequest, formation::Message as Kind,
};

fn identity(raft_id: u64, starts: u64) -> Identity {
    Identity { raft_id, name: format!("n{raft_id}"), starts, ..Identity::default() }
}

fn free(raft_id: u64, starts: u64, promise: Option<Promise>) -> Formation {
    Formation::new(identity(raft_id, starts), 3, true, promise)
}

fn receive(node: &mut Formation, from: &Identity, kind: Kind) -> Step {
    node.receive(from, Message { message: Some(kind) })
}

fn hail(void_attempts: u64) -> Kind {
    Kind::Hail(Hail { may_form: true, promised: None, void_attempts })
}

fn request(candidate: &Identity, attempt: u64) -> Kind {
    Kind::Request(PromiseRequest { candidate: Some(promise(candidate, attempt)) })
}

fn promise(to: &Identity, attempt: u64) -> Promise {
    Promise { raft_id: to.raft_id, name: to.name.clone(), starts: to.starts, attempt }
}

fn granted(starts: u64, attempt: u64) -> Kind {
    Kind::Reply(PromiseReply { attempt, granted: true, held_by: None, starts })
}

fn grants(step: &Step) -> bool {
    step.messages
        .iter()
        .any(|(_, message)| matches!(&message.message, Some(Kind::Reply(reply)) if reply.granted))
}

/// A node that asks its one peer for a promise.
fn candidate(starts: u64) -> (Formation, Identity) {
    let peer = identity(2, 1);
    let mut node = free(1, starts, None);
    node.peer_up(&peer);
    receive(&mut node, &peer, hail(0));
    let step = node.tick();
    assert_eq!(step.persist.and_then(|standing| standing.promise).unwrap().raft_id, 1);
    (node, peer)
}

#[test]
fn a_majority_of_promises_forms() {
    let (mut node, peer) = candidate(5);
    assert!(receive(&mut node, &peer, granted(5, 1)).form);
}

#[test]
fn a_promise_to_an_earlier_start_does_not_count() {
    // The peer gave it, was slow to write it, and took it back when it heard of the new start: the answer comes all the same.
    let (mut node, peer) = candidate(5);
    assert!(!receive(&mut node, &peer, granted(4, 1)).form);
    assert!(!receive(&mut node, &peer, granted(5, 2)).form, "nor one to another attempt");
    assert!(receive(&mut node, &peer, granted(5, 1)).form);
}

#[test]
fn a_promise_is_exclusive_until_its_candidate_frees_it() {
    let (first, second) = (identity(1, 1), identity(2, 1));
    let mut node = free(3, 1, None);
    node.peer_up(&first);
    node.peer_up(&second);
    let step = receive(&mut node, &first, request(&first, 1));
    assert!(grants(&step) && step.persist.is_some(), "durable before it is told");
    assert!(!grants(&receive(&mut node, &second, request(&second, 1))));
    assert!(receive(&mut node, &first, hail(0)).persist.is_none(), "the attempt goes on");
    assert!(!grants(&receive(&mut node, &second, request(&second, 1))));
    assert!(receive(&mut node, &first, hail(1)).persist.is_some(), "the attempt is void");
    assert!(grants(&receive(&mut node, &second, request(&second, 1))));
}

#[test]
fn a_promise_survives_a_restart_of_the_one_who_gave_it_and_ends_with_the_candidate() {
    let (first, again, second) = (identity(1, 1), identity(1, 2), identity(2, 1));
    let mut node = free(3, 2, Some(promise(&first, 1)));
    node.peer_up(&second);
    assert!(!grants(&receive(&mut node, &second, request(&second, 1))));
    node.peer_up(&again);
    assert!(receive(&mut node, &again, hail(0)).persist.is_some());
    assert!(grants(&receive(&mut node, &second, request(&second, 1))));
}

#[test]
fn a_candidate_gives_way_to_a_lower_name_and_forms_no_more() {
    let peer = identity(3, 1);
    let mut node = free(2, 1, None);
    node.peer_up(&peer);
    receive(&mut node, &peer, hail(0));
    node.tick();
    let lower = identity(1, 1);
    node.peer_up(&lower);
    assert!(grants(&receive(&mut node, &lower, request(&lower, 1))));
    assert!(!receive(&mut node, &peer, granted(1, 1)).form);
}
