//! A log of which little is kept: whoever is behind gets a snapshot in its place, and goes on.

use bytes::Bytes;
use raft::eraftpb::MessageType;

use super::crew::{Crew, Member, info};
use crate::limits::UNCOMMITTED_LEN_MAX;
use crate::replica::{Install, Rejected, Replica, Retention};
use crate::wire::log::conf_change::{Kind, Step};
use crate::wire::log::{ConfChange, ConfState, Entry, EntryId};
use crate::wire::peer::RaftMessage;

const KEPT: usize = 5;

fn assert_agreed(crew: &mut Crew) {
    crew.serve();
    crew.run_until("all have applied the same", |crew| {
        let mut applied = crew.members.values().map(|member| member.applied);
        let first = applied.next();
        applied.all(|other| Some(other) == first)
    });
    let membership = crew.membership().clone();
    for (raft_id, member) in &crew.members {
        assert_eq!(member.membership, membership, "of {raft_id}");
        let first_index = member.replica.first_index();
        assert!(first_index + KEPT as u64 > member.applied.index, "{raft_id} keeps too much");
    }
}

#[test]
fn who_was_away_for_too_long_installs_a_snapshot() {
    let mut installed = 0;
    for seed in 0..40 {
        let mut crew = Crew::new(seed, 3, 1);
        crew.retain(KEPT);
        crew.serve();
        for away in 0..8 {
            // Now and then the leader.
            let raft_id = 1 + (seed + away) % 4;
            crew.down.insert(raft_id);
            for _ in 0..(seed + 3 * away) % 12 {
                crew.serve();
            }
            crew.down.remove(&raft_id);
            if away % 2 == 0 {
                assert_agreed(&mut crew);
            }
        }
        assert_agreed(&mut crew);
        installed += crew.installed;
    }
    assert!(installed > 40, "only {installed} snapshots were installed: little was tested");
}

/// Its own additions are in no entry that it could be sent: they are in the snapshot.
#[test]
fn a_learner_is_added_to_a_log_that_does_not_begin_at_the_beginning() {
    for seed in 0..20 {
        let mut crew = Crew::new(seed, 1 + 2 * (seed % 2), 0);
        crew.retain(KEPT);
        for _ in 0..10 {
            crew.serve();
        }
        let new = 9;
        crew.members.insert(new, Member::empty(new, seed));
        crew.retain(KEPT);
        let add = ConfChange {
            steps: vec![Step { kind: Kind::AddLearner.into(), raft_id: new }],
            members: vec![info(new)],
            ..ConfChange::default()
        };
        crew.run_until("the learner is added", |crew| {
            match crew.changer() {
                Some(leader) if !crew.conf_state().learners.contains(&new) => {
                    crew.propose(leader, &add);
                }
                _ => {}
            }
            crew.conf_state().learners.contains(&new)
        });
        assert_agreed(&mut crew);
        assert_eq!(crew.installed, 1);
    }
}

/// A crew of three with a log of which `KEPT` entries are left, and what 3 has, who was away.
fn one_behind() -> (Crew, EntryId, ConfState) {
    let mut crew = Crew::new(1, 3, 0);
    crew.retain(KEPT);
    crew.serve();
    crew.down.insert(3);
    for _ in 0..20 {
        crew.serve();
    }
    let leader = crew.leader().unwrap();
    let last = crew.members[&leader].applied;
    let conf_state = crew.conf_state().clone();
    (crew, last, conf_state)
}

#[test]
fn a_snapshot_waits_for_a_leader_and_for_its_term() {
    let (mut crew, last, conf_state) = one_behind();
    let before = crew.members[&3].applied;
    let later = EntryId { term: last.term + 50, ..last };
    let replica = crew.replica(3);
    assert_eq!(replica.install(later, &conf_state, 2), Install::Later, "of a term to come");
    assert_eq!(replica.install(before, &conf_state, 2), Install::Declined, "it has that");
    let without = ConfState { voters: vec![1, 2], ..ConfState::default() };
    assert_eq!(replica.install(last, &without, 2), Install::Declined, "it is no member as of it");
    assert_eq!(replica.install(last, &conf_state, 2), Install::Taken);
    let beyond = EntryId { index: last.index + 1, ..last };
    assert_eq!(replica.install(beyond, &conf_state, 3), Install::Later, "one at a time");

    let leader = crew.leader().unwrap();
    assert_eq!(crew.replica(leader).install(last, &conf_state, 2), Install::Declined);
    assert_eq!(crew.replica(leader).install(beyond, &conf_state, 2), Install::Later, "it leads");
}

#[test]
fn while_a_snapshot_takes_the_place_of_the_log_no_votes_are_asked_for() {
    let (mut crew, last, conf_state) = one_behind();
    let replica = crew.replica(3);
    let term = replica.term();
    assert_eq!(replica.install(last, &conf_state, 7), Install::Taken);
    let mut out = Default::default();
    replica.drain(Default::default(), &mut out);
    let [(number, record)] = &out.persist[..] else { panic!("one record: {out:?}") };
    let snapshot = record.snapshot.expect("it installs the snapshot");
    assert_eq!((snapshot.last, snapshot.state), (Some(last), 7));
    assert!(record.hard_state.unwrap().commit >= last.index);
    assert_eq!(replica.first_index(), last.index + 1);
    assert!(out.messages.is_empty(), "nothing speaks for it before it is durable");

    // raft-rs would panic: the entries in which it looks for changes of the membership are no more.
    for _ in 0..1000 {
        replica.tick();
    }
    replica.campaign();
    replica.persisted(*number);
    replica.tick();
    assert!(replica.is_installing());
    replica.applied(last.index);
    assert_eq!((replica.term(), replica.is_installing()), (term, false));
    for _ in 0..1000 {
        replica.tick();
    }
    assert_ne!(replica.role(), crate::replica::Role::Follower, "then it asks again");
}

#[test]
fn more_is_kept_while_a_snapshot_is_on_its_way() {
    let mut crew = Crew::new(1, 1, 0);
    let bounds = Retention { count_max: 3, streaming_count_max: 10, ..Retention::default() };
    crew.replica(1).settings.retention = bounds;
    let kept = |crew: &Crew| {
        let member = &crew.members[&1];
        member.applied.index + 1 - member.replica.first_index()
    };
    for held in [false, true, false] {
        crew.replica(1).hold(held);
        (0..20).for_each(|_| crew.serve());
        assert_eq!(kept(&crew), if held { 10 } else { 3 });
    }
    crew.replica(1).settings.retention.len_bytes_max = "command".len();
    crew.serve();
    assert_eq!(kept(&crew), 1, "bytes are bounded, too");
}

#[test]
fn nothing_is_offered_that_the_receiver_cannot_use() {
    let (mut crew, last, conf_state) = one_behind();
    let leader = crew.leader().unwrap();
    let without = ConfState { voters: vec![1, 2], ..ConfState::default() };
    for (may_offer, conf_state, expected) in
        [(true, &without, 0), (false, &conf_state, 0), (true, &conf_state, 1)]
    {
        let replica = crew.replica(leader);
        replica.passed(last, conf_state);
        replica.set_may_offer(may_offer);
        replica.snapshot_failed(3);
        // It is heard of again, and asks for what is not kept.
        let rejection = RaftMessage {
            r#type: raft::eraftpb::MessageType::MsgHeartbeatResponse as u32,
            from: 3,
            to: leader,
            term: replica.term(),
            ..Default::default()
        };
        replica.receive(rejection).unwrap();
        let mut out = Default::default();
        replica.drain(Default::default(), &mut out);
        assert_eq!(out.offers, vec![3; expected]);
        let awaits = replica.progress().iter().any(|member| member.awaits_snapshot);
        assert_eq!(awaits, expected == 1);
    }
}

#[test]
fn a_follower_whose_state_machine_is_stuck_takes_no_more_and_catches_up_later() {
    const FULL: usize = 30;
    for seed in 0..20 {
        let mut crew = Crew::new(seed, 3, 0);
        crew.serve();
        let stuck = 1 + (crew.leader().unwrap() % 3);
        let member = crew.members.get_mut(&stuck).unwrap();
        member.is_stuck = true;
        member.replica.settings.retention.full_count = FULL;
        for _ in 0..100 {
            crew.tick();
            let Some(leader) = crew.leader() else { continue };
            let many: Vec<_> = (0..10).map(|_| "command".into()).collect();
            // Rejected if it has just lost the office.
            let _ = crew.replica(leader).propose(&many);
        }
        let replica = crew.replica(stuck);
        let count = replica.last_index() + 1 - replica.first_index();
        assert!((FULL as u64..FULL as u64 + 40).contains(&count), "{count} entries in memory");
        assert_eq!(replica.commit(), replica.last_index(), "it hears what is committed");
        let term = replica.term();
        assert!(crew.leader().is_some_and(|leader| leader != stuck));
        assert_eq!(crew.replica(stuck).term(), term, "and does not ask for votes");

        crew.members.get_mut(&stuck).unwrap().is_stuck = false;
        crew.retain(KEPT);
        assert_agreed(&mut crew);
    }
}

/// Has a replica do what there is to do, with a disk that is done at once, and gives what it sends to a voter.
fn drain(replica: &mut Replica, to: u64) -> Vec<RaftMessage> {
    let mut out = Default::default();
    replica.drain(Default::default(), &mut out);
    out.persist.iter().for_each(|(number, _)| replica.persisted(*number));
    let mut after = Default::default();
    replica.drain(Default::default(), &mut after);
    let messages = out.messages.into_iter().chain(after.messages);
    messages.filter(|message| message.to == to).collect()
}

/// The answer of a voter that says yes to everything.
fn yes(to: &RaftMessage, kind: MessageType, index: u64) -> RaftMessage {
    let (from, to, term) = (to.to, to.from, to.term);
    RaftMessage { r#type: kind as u32, from, to, term, index, ..RaftMessage::default() }
}

#[test]
fn what_leaders_before_did_not_commit_counts_with_what_this_one_has_not() {
    const MIB: usize = 1 << 20;
    let command = Bytes::from(vec![7; MIB]);
    let before = 20;
    let entry = |index| Entry { term: 1, index, data: command.clone(), ..Entry::default() };
    let mut crew = Crew::new(1, 3, 0);
    crew.restart_with(1, (2..2 + before as u64).map(entry).collect());
    let replica = crew.replica(1);
    replica.campaign();
    for (asks, answers) in [
        (MessageType::MsgRequestPreVote, MessageType::MsgRequestPreVoteResponse),
        (MessageType::MsgRequestVote, MessageType::MsgRequestVoteResponse),
    ] {
        let asked = drain(replica, 2);
        let asked = asked.iter().find(|message| message.r#type == asks as u32).expect("it asks");
        replica.receive(yes(asked, answers, 0)).unwrap();
    }
    assert!(replica.leads());
    let appends = drain(replica, 2);
    let mut proposed = 0;
    while replica.propose(std::slice::from_ref(&command)).is_ok() {
        proposed += 1;
        drain(replica, 2);
    }
    assert_eq!(before + proposed, UNCOMMITTED_LEN_MAX / MIB);
    // When they are committed, and only then, there is room again.
    let last = replica.last_index();
    replica.receive(yes(&appends[0], MessageType::MsgAppendResponse, last - 1)).unwrap();
    drain(replica, 2);
    assert!(replica.propose(std::slice::from_ref(&command)).is_ok());
    drain(replica, 2);
    for _ in 0..proposed + before {
        if replica.propose(std::slice::from_ref(&command)) == Err(Rejected::Overloaded) {
            return;
        }
        drain(replica, 2);
    }
    panic!("those of its own term are bounded by raft-rs");
}
