//! What a write costs in messages, and when the others know of it.

use bytes::Bytes;

use super::crew::Crew;

/// A crew whose members all know what is committed, and its leader.
fn all_told(voter_count: u64) -> (Crew, u64) {
    let mut crew = Crew::new(1, voter_count, 0);
    crew.serve();
    crew.run_until("all is told", |crew| {
        crew.leader().is_some_and(|leader| !crew.replica(leader).has_untold_commit())
    });
    let leader = crew.leader().expect("it leads");
    (crew, leader)
}

/// Has the leader commit a command, without a tick. Gives its index.
fn commit(crew: &mut Crew, leader: u64) -> u64 {
    let (_, index) = crew.replica(leader).propose(&[Bytes::from_static(b"command")]).unwrap();
    crew.settle();
    assert_eq!(crew.replica(leader).commit(), index);
    index
}

#[test]
fn a_write_is_one_exchange_with_each_follower() {
    for voter_count in [3, 5] {
        let (mut crew, leader) = all_told(voter_count);
        let before = crew.sent;
        let index = commit(&mut crew, leader);
        assert_eq!((crew.sent - before) as u64, 2 * (voter_count - 1));
        for raft_id in (1..=voter_count).filter(|raft_id| *raft_id != leader) {
            assert_eq!(crew.replica(raft_id).commit(), index - 1, "{raft_id} was told nothing yet");
        }
    }
}

#[test]
fn all_know_what_is_committed_two_fine_ticks_later() {
    let (mut crew, leader) = all_told(3);
    let index = commit(&mut crew, leader);
    assert_eq!(crew.replica(leader).ticks_until_due(), 1);
    crew.tick();
    assert_eq!(crew.replica(leader).ticks_until_due(), 1);
    crew.tick();
    for raft_id in 1..=3 {
        assert_eq!(crew.replica(raft_id).commit(), index, "at {raft_id}");
    }
    assert!(crew.replica(leader).ticks_until_due() > 1, "then nothing is due");
    // And nobody is told twice.
    let before = crew.sent;
    crew.replica(leader).tell_commit();
    crew.settle();
    assert_eq!(crew.sent, before);
}

/// With one write after the other, all is told with the next one.
#[test]
fn a_tick_between_writes_adds_no_message() {
    let (mut crew, leader) = all_told(3);
    commit(&mut crew, leader);
    for _ in 0..20 {
        let before = crew.sent;
        commit(&mut crew, leader);
        crew.replica(leader).tell_old_commit();
        crew.settle();
        assert_eq!(crew.sent - before, 4);
    }
}

#[test]
fn who_asks_for_a_round_of_reads_is_told_with_it() {
    let (mut crew, leader) = all_told(3);
    let index = commit(&mut crew, leader);
    let asking = (1..=3).find(|raft_id| *raft_id != leader).unwrap();
    crew.replica(asking).read(7);
    crew.settle();
    assert_eq!(crew.replica(asking).commit(), index);
}

#[test]
fn who_is_answered_is_told_alone() {
    let (mut crew, leader) = all_told(3);
    let index = commit(&mut crew, leader);
    let [answered, other] = [1, 2].map(|by| 1 + (leader - 1 + by) % 3);
    crew.replica(leader).tell_commit_to(answered);
    crew.settle();
    assert_eq!(crew.replica(answered).commit(), index);
    assert_eq!(crew.replica(other).commit(), index - 1);
    assert!(crew.replica(leader).has_untold_commit(), "the other is still to be told");
}

/// It waits for no heartbeat.
#[test]
fn who_can_be_reached_again_gets_what_it_lacks_without_a_tick() {
    let (mut crew, leader) = all_told(3);
    let away = 1 + leader % 3;
    crew.down.insert(away);
    let index = commit(&mut crew, leader);
    crew.down.remove(&away);
    crew.settle();
    assert!(crew.replica(away).commit() < index, "nobody has said that it is back");
    crew.replica(leader).reconnected(away);
    crew.settle();
    assert_eq!(crew.replica(away).commit(), index);
}

/// Nobody else needs to know.
#[test]
fn a_leader_without_others_has_nothing_to_tell() {
    let (mut crew, leader) = all_told(1);
    commit(&mut crew, leader);
    assert!(!crew.replica(leader).has_untold_commit());
}
