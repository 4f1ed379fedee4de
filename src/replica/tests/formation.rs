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

const EXPECT: u32 = 3;
const ELECTION_TICKS: u32 = 4;

fn free(raft_id: u64, starts: u64, promise: Option<Promise>) -> Formation {
    Formation::new(identity(raft_id, starts), EXPECT, true, ELECTION_TICKS, promise)
}

/// A node with BOOTSTRAP=never. Its EXPECT says nothing.
fn never_forms(raft_id: u64) -> Formation {
    Formation::new(identity(raft_id, 1), 1, false, ELECTION_TICKS, None)
}

/// A member of a cluster.
fn member(raft_id: u64) -> Identity {
    Identity { cluster_id: vec![7; 16].into(), ..identity(raft_id, 1) }
}

fn receive(node: &mut Formation, from: &Identity, kind: Kind) -> Step {
    node.receive(from, Message { message: Some(kind) })
}

fn hail(void_attempts: u64) -> Kind {
    Kind::Hail(Hail { may_form: true, promised: None, void_attempts, expect: EXPECT })
}

fn request(candidate: &Identity, attempt: u64) -> Kind {
    let candidate = Some(promise(candidate, attempt));
    Kind::Request(PromiseRequest { candidate, expect: EXPECT })
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

fn asks(step: &Step) -> bool {
    step.messages.iter().any(|(_, message)| matches!(message.message, Some(Kind::Request(_))))
}

/// A peer that answers, and has said that it is free.
fn hailed_by(node: &mut Formation, peer: &Identity, expect: u32) {
    node.peer_up(peer);
    let hail = Hail { may_form: expect != 0, expect, ..Hail::default() };
    receive(node, peer, Kind::Hail(hail));
}

/// One election timeout, less the tick that ends it: in none of it is anybody asked for a promise.
fn waits(node: &mut Formation) {
    for tick in 0..ELECTION_TICKS {
        assert!(!asks(&node.tick()), "after {tick} ticks");
    }
}

/// A node that asks its one peer for a promise.
fn candidate(starts: u64) -> (Formation, Identity) {
    let peer = identity(2, 1);
    let mut node = free(1, starts, None);
    hailed_by(&mut node, &peer, EXPECT);
    waits(&mut node);
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
    hailed_by(&mut node, &peer, EXPECT);
    waits(&mut node);
    assert!(asks(&node.tick()));
    let lower = identity(1, 1);
    node.peer_up(&lower);
    assert!(grants(&receive(&mut node, &lower, request(&lower, 1))));
    assert!(!receive(&mut node, &peer, granted(1, 1)).form);
}

#[test]
fn a_majority_must_answer_for_an_election_timeout_without_a_break() {
    let (peer, other) = (identity(2, 1), identity(3, 1));
    let mut node = free(1, 1, None);
    hailed_by(&mut node, &peer, EXPECT);
    waits(&mut node);
    // One of the two is enough, and it may be the other.
    hailed_by(&mut node, &other, EXPECT);
    node.peer_down(peer.raft_id);
    node.peer_down(other.raft_id);
    hailed_by(&mut node, &peer, EXPECT);
    waits(&mut node);
    hailed_by(&mut node, &other, EXPECT);
    node.peer_down(peer.raft_id);
    assert!(asks(&node.tick()));
}

#[test]
fn an_attempt_whose_majority_breaks_off_goes_on_after_another_timeout() {
    let (mut node, peer) = candidate(1);
    node.peer_down(peer.raft_id);
    assert!(!receive(&mut node, &peer, granted(1, 1)).form, "what was granted stands");
    hailed_by(&mut node, &peer, EXPECT);
    for _ in 0..ELECTION_TICKS {
        assert!(!node.tick().form);
    }
    assert!(node.tick().form);
}

#[test]
fn who_knows_a_member_neither_forms_nor_promises() {
    let (mut node, peer) = candidate(1);
    node.peer_up(&member(3));
    assert!(!receive(&mut node, &peer, granted(1, 1)).form);
    assert_eq!(node.tick().persist.map(|standing| standing.promise), Some(None), "it is void");

    let mut node = free(4, 1, None);
    node.peer_up(&member(3));
    node.peer_up(&peer);
    assert!(!grants(&receive(&mut node, &peer, request(&peer, 1))));
    assert_eq!(
        node.waiting_for(),
        "asked to join the cluster of n3, and wait to be added: a cluster without a leader adds nobody"
    );
    node.peer_down(3);
    assert!(grants(&receive(&mut node, &peer, request(&peer, 1))));
}

#[test]
fn more_free_nodes_than_expect_form_nothing_and_promise_nothing() {
    let (mut node, peer) = candidate(1);
    hailed_by(&mut node, &identity(3, 1), EXPECT);
    assert!(asks(&node.tick()), "three are as many as EXPECT");
    // One that never forms is one of them all the same: it promises.
    hailed_by(&mut node, &identity(4, 1), 0);
    assert!(!receive(&mut node, &peer, granted(1, 1)).form);
    assert_eq!(node.tick().persist.map(|standing| standing.promise), Some(None), "it is void");
    assert_eq!(
        node.waiting_for(),
        "4 nodes without a cluster are here, and EXPECT is 3: two groups of them could each form one. Set EXPECT to 4 \
         on all of them, or start those beyond 3 when the cluster is formed"
    );
    waits(&mut node);
    node.peer_down(4);
    waits(&mut node);
    assert!(asks(&node.tick()), "the fourth is gone");
}

#[test]
fn no_promise_is_given_where_more_nodes_are_free_than_expect() {
    for mut node in [free(5, 1, None), never_forms(5)] {
        let first = identity(1, 1);
        for raft_id in 1..=3 {
            hailed_by(&mut node, &identity(raft_id, 1), EXPECT);
        }
        assert!(!grants(&receive(&mut node, &first, request(&first, 1))));
        assert!(node.waiting_for().contains("EXPECT is 3"), "{}", node.waiting_for());
        // A member is not one of those without a cluster.
        node.greeted(&member(3));
        node.peer_down(3);
        assert!(grants(&receive(&mut node, &first, request(&first, 1))));
    }
}

#[test]
fn those_who_differ_about_expect_form_nothing_and_promise_nothing() {
    let (mut node, peer) = candidate(1);
    hailed_by(&mut node, &identity(3, 1), 5);
    assert!(!receive(&mut node, &peer, granted(1, 1)).form);
    waits(&mut node);
    assert_eq!(
        node.waiting_for(),
        "nodes without a cluster differ about EXPECT, the size of the first one: it is 3 on n1, n2; 5 on n3. Set it to \
         the same on all of them"
    );
    for mut node in [free(4, 1, None), never_forms(4)] {
        node.peer_up(&peer);
        hailed_by(&mut node, &identity(3, 1), 5);
        assert!(!grants(&receive(&mut node, &peer, request(&peer, 1))), "told by the request");
    }
    let mut node = never_forms(4);
    node.peer_up(&peer);
    assert!(grants(&receive(&mut node, &peer, request(&peer, 1))), "its own is of no matter");
}

#[test]
fn an_expect_that_is_not_told_differs_from_none() {
    let older = identity(2, 1);
    let mut node = free(1, 1, None);
    node.peer_up(&older);
    receive(&mut node, &older, Kind::Hail(Hail { may_form: true, ..Hail::default() }));
    waits(&mut node);
    assert!(asks(&node.tick()));
}

#[test]
fn what_a_lone_node_waits_for() {
    let never = never_forms(1);
    assert_eq!(
        never.waiting_for(),
        "this node never forms a cluster (BOOTSTRAP=never): it waits for a member of one to let it in; peers that answer: \
         none"
    );
    let mut single = Formation::new(identity(1, 1), 1, true, ELECTION_TICKS, None);
    assert_eq!(
        single.waiting_for(),
        "a first cluster of 1 node is formed when no other node has been found for one election timeout"
    );
    waits(&mut single);
    assert!(single.tick().form);
    assert_eq!(
        free(1, 1, None).waiting_for(),
        "a first cluster of 3 nodes needs 2 that answer for one election timeout without a break; there are this one and: \
         none"
    );
}
