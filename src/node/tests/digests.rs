//! One replica's state is made another: it stops, the others go on. Where nothing differs, nobody stops.

use std::time::Duration;

use crate::limits::{APPLY_VERSION, DIGEST_EVERY};
use crate::sim::machine::Config;
use crate::sim::world::World;
use crate::store::map::{Batch, Map, Snapshot, Table};
use crate::wire::client::{Code, Get, Range, request, response};
use crate::wire::peer::{Digest, PeerFrame, peer_frame};

use super::super::Input;
use super::removal::pair_of;
use super::snapshots::{forgetful, leave_behind};

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);

impl World {
    /// Writes a key by way of a machine, and waits until that is done.
    fn written(&mut self, i: usize, key: &str) {
        self.put(i, key, TIMEOUT);
        self.run_until("it is written", |world| world.unanswered(i) == 0);
        for answer in self.take_answers() {
            let result = answer.response.and_then(|response| response.result);
            assert!(matches!(result, Some(response::Result::Txn(_))), "{result:?}");
        }
    }

    /// Stops a machine, changes a value that is on its disk, and starts it again.
    fn damage(&mut self, i: usize, key: &str) {
        self.crash_damaged(i, key);
        self.start(i);
        self.run_until("it is back", World::is_settled);
    }

    /// Stops a machine, and changes a value that is on its disk.
    fn crash_damaged(&mut self, i: usize, key: &str) {
        self.compares_states = false;
        self.run_until("all is committed", |world| {
            world.node(i).store.durable() == world.node(i).store.applied()
        });
        self.crash(i);
        let map = &self.machines[i].map;
        let snapshot = map.snapshot().expect("a map in memory");
        let row = snapshot.get(Table::Data, key.as_bytes(), <[u8]>::to_vec);
        let mut row = row.expect("a map in memory").expect("the key is there");
        *row.last_mut().expect("its value is not empty") ^= 1;
        let mut batch = Batch::default();
        batch.put(Table::Data, key.as_bytes().to_vec(), row);
        map.commit(&batch).expect("a map in memory");
    }

    /// Whether a machine knows that its state is not that of the others, or knew it when it ended.
    fn knows(&self, i: usize) -> bool {
        let process = self.machines[i].process.as_ref();
        process.is_none_or(|process| process.node.digests.quarantine().is_some())
    }

    fn has_ended(&self, i: usize) -> bool {
        self.machines[i].ended.is_some()
    }

    /// Why the machine ended, which is for its state.
    fn quarantined(&mut self, i: usize) -> String {
        self.run_until("it ends", |world| world.has_ended(i));
        let why = self.machines[i].ended.clone().unwrap_or_default();
        for told in [
            "differs from that of a majority",
            "move the data directory away",
            &self.machines[i].name,
        ] {
            assert!(why.contains(told), "{why}");
        }
        why
    }
}

/// A world of three, in which the value of "key" is damaged on one: the leader, or another.
fn damaged(seed: u64) -> (World, usize) {
    let mut world = World::whole(seed, 3);
    world.run_until("all vote", World::is_at_full_strength);
    let leader = world.leader().expect("a whole cluster has a leader");
    world.written(leader, "key");
    world.run_for(2 * SECOND);
    let odd = (leader + 1) % 3;
    world.damage(odd, "key");
    if seed.is_multiple_of(2) {
        // It leads.
        world.transfer_leader(odd);
    }
    (world, odd)
}

#[test]
fn a_state_that_is_another_is_noticed_when_all_stand_still() {
    super::for_seeds(0..10, |seed| {
        let (mut world, odd) = damaged(seed);
        // What was not read or written is not noticed.
        world.run_for(20 * SECOND);
        assert!((0..3).all(|i| !world.has_ended(i)));
        world.written((odd + 1) % 3, "key");
        let why = world.quarantined(odd);
        assert!((0..3).all(|i| i == odd || why.contains(&world.machines[i].name)), "{why}");
        // It starts no more, and says why.
        let World { machines, rng, now, .. } = &mut world;
        let error = machines[odd].boot(*now, rng).err().expect("it refuses to start").to_string();
        assert_eq!(error, why);
        // The others go on, and nobody else stops.
        for round in 0..3 {
            world.written((odd + 1 + round % 2) % 3, "key");
            world.run_for(10 * SECOND);
        }
        assert!((0..3).all(|i| i == odd || !world.has_ended(i)));
        // With an empty disk it is one of them again.
        let World { machines, rng, .. } = &mut world;
        machines[odd].lose_disk(rng);
        world.start(odd);
        world.run_until("it votes again", World::is_at_full_strength);
        world.written(odd, "key");
        world.run_for(10 * SECOND);
        assert!((0..3).all(|i| !world.has_ended(i)));
    });
}

#[test]
fn a_state_that_is_another_is_noticed_under_load() {
    let (mut world, odd) = damaged(1);
    world.written((odd + 1) % 3, "key");
    let begun = world.node(odd).applied_index();
    let until = begun.next_multiple_of(DIGEST_EVERY);
    while !world.knows(odd) {
        assert!(world.node((odd + 1) % 3).applied_index() < until + 10, "it goes on");
        // Too busy to stand still.
        world.put((odd + 1) % 3, "other", TIMEOUT);
        world.run_for(SECOND / 200);
    }
    assert!(world.node((odd + 1) % 3).applied_index() >= until);
    world.quarantined(odd);
    world.run_for(10 * SECOND);
    assert!((0..3).all(|i| i == odd || !world.has_ended(i)));
}

/// Who was away while the others compared is told when it comes.
#[test]
fn a_state_that_is_another_is_noticed_after_the_others_stood_still() {
    let (mut world, odd) = damaged(1);
    let other = (odd + 1) % 3;
    world.crash(odd);
    world.written(other, "key");
    world.run_for(20 * SECOND);
    world.start(odd);
    world.quarantined(odd);
}

#[test]
fn a_learner_that_differs_stops_as_well() {
    let mut world = World::new(3, 4, crate::sim::weather::Weather::fair());
    world.start_all();
    world.run_until("three of four vote", World::is_at_full_strength);
    let leader = world.leader().expect("a whole cluster has a leader");
    world.written(leader, "key");
    let members = world.node(leader).status().members;
    let learner = members.iter().find(|member| !member.voter).expect("one of four learns");
    let learner = world.index_of(learner.raft_id).expect("it is one of the machines");
    world.run_for(2 * SECOND);
    world.damage(learner, "key");
    world.written(leader, "key");
    world.quarantined(learner);
    world.run_for(10 * SECOND);
    assert!((0..4).all(|i| i == learner || !world.has_ended(i)));
}

/// A world of three with short logs, led by one whose value of "key" is damaged on its disk.
fn led_by_damaged(seed: u64) -> (World, usize) {
    let mut world = forgetful(seed, 3);
    world.run_until("all vote", World::is_at_full_strength);
    let leader = world.leader().expect("a whole cluster has a leader");
    world.written(leader, "key");
    world.run_for(2 * SECOND);
    let odd = (leader + 1) % 3;
    world.damage(odd, "key");
    world.transfer_leader(odd);
    (world, odd)
}

/// It takes all rows to see it, and these are gone through by who gets a snapshot, and for its word by who sent it.
#[test]
fn a_leader_whose_snapshot_does_not_add_up_stops() {
    super::for_seeds(0..5, |seed| {
        let (mut world, odd) = led_by_damaged(seed);
        let left = leave_behind(&mut world, 100);
        world.start(left);
        world.run_until("the leader ends", |world| world.has_ended(odd));
        let why = world.machines[odd].ended.clone().unwrap_or_default();
        for told in ["is not what its disk holds", "sums of the rows differ", "with an empty one"] {
            assert!(why.contains(told), "{why}");
        }
        // Another one leads then, and has a better one.
        world.run_until("it has a snapshot", |world| {
            world.node(left).counters().snapshots_received == 1
        });
        world.written(left, "key");
        world.run_for(10 * SECOND);
        assert!((0..3).all(|i| i == odd || !world.has_ended(i)));
    });
}

/// With one voter dead the two that are left need each other: the damaged one stays, and the other one leads.
#[test]
fn a_damaged_leader_that_is_needed_does_not_stop() {
    let (mut world, odd) = led_by_damaged(1);
    let dead = leave_behind(&mut world, 100);
    assert_ne!(dead, odd);
    assert_eq!(world.leader(), Some(odd));
    let config = Config { expect: 3, ..Config::default() };
    let fourth = crate::sim::machine::Machine::new(3, config, &mut world.rng);
    world.machines.push(fourth);
    world.start(3);
    world.run_until("it has a snapshot", |world| world.node(3).counters().snapshots_received == 1);
    assert!(world.node(odd).counters().snapshots_failed > 0, "it was refused");
    world.run_for(10 * SECOND);
    assert!(!world.has_ended(odd));
    let other = 3 - odd - dead;
    assert_eq!(world.leader(), Some(other));
    world.written(other, "another key");
}

/// It cannot stop, and nobody gets a snapshot of it: so another one leads, until a third one is there to judge.
#[test]
fn a_leader_of_two_whose_snapshot_does_not_add_up_lets_the_other_lead() {
    let mut led = 0;
    for seed in 0..10 {
        let (mut world, [odd, other]) = pair_of(forgetful(seed, 3));
        (0..100).for_each(|_| world.written(odd, "key"));
        world.crash_damaged(odd, "key");
        world.start(odd);
        world.run_until("one leads", |world| world.leader().is_some());
        led += usize::from(world.leader() == Some(odd));
        let third = 3 - odd - other;
        world.lose_disk(third);
        world.start(third);
        world.run_until("it has a snapshot", |world| {
            world.node(third).counters().snapshots_received == 1
        });
        world.written(other, "key");
        world.run_until("the damaged one is outvoted", |world| world.has_ended(odd));
        assert!([other, third].iter().all(|i| !world.has_ended(*i)), "seed {seed}");
    }
    assert!(led > 0, "it never led");
}

/// Of two voters neither is a majority: both say that something is wrong, and go on.
#[test]
fn without_a_majority_against_it_nobody_stops() {
    let mut world = World::whole(5, 1);
    let config = Config { expect: 1, ..Config::default() };
    let learner = crate::sim::machine::Machine::new(1, config, &mut world.rng);
    world.machines.push(learner);
    world.start(1);
    world.run_until("the second has all", World::is_settled);
    world.written(0, "key");
    world.run_for(2 * SECOND);
    // The voter is damaged: the learner, which is right, is outvoted by it.
    world.damage(0, "key");
    world.written(0, "key");
    world.quarantined(1);
    assert!(!world.has_ended(0));
}

fn digest(index: u64, bytes: u8, len: usize) -> peer_frame::Frame {
    peer_frame::Frame::Digest(Digest {
        index,
        digest: vec![bytes; len].into(),
        apply: APPLY_VERSION,
    })
}

pub(super) fn hear(world: &mut World, i: usize, from: usize, frame: peer_frame::Frame) {
    let identity = world.node(from).identity().clone().into();
    world.input(i, Input::PeerFrame(identity, PeerFrame { frame: Some(frame) }));
    world.run_for(SECOND / 1000);
}

#[test]
fn digests_of_no_length_and_of_indexes_that_are_far_off_change_nothing() {
    let mut world = World::whole(1, 3);
    world.run_until("all vote", World::is_at_full_strength);
    world.compares_states = false;
    let errors = world.node(0).counters().protocol_errors;
    hear(&mut world, 0, 1, digest(1, 7, 15));
    assert_eq!(world.node(0).counters().protocol_errors, errors + 1);
    for index in 1..1000 {
        hear(&mut world, 0, 1, digest(1 << 40 | index, 7, 16));
    }
    assert!(world.node(0).digests.len() <= 4 * crate::limits::DIGESTS_MAX);
    world.run_for(10 * SECOND);
    assert!((0..3).all(|i| !world.has_ended(i)));
    // Nor do they take the place of those that count.
    let index = world.node(0).applied_index();
    hear(&mut world, 0, 2, digest(index, 7, 16));
    hear(&mut world, 0, 1, digest(index, 7, 16));
    assert!(world.knows(0));
}

/// From the moment when it knows, before that is durable, it serves nobody.
#[test]
fn who_knows_that_it_is_wrong_answers_refusals_alone() {
    let mut world = World::whole(1, 3);
    world.run_until("all vote", World::is_at_full_strength);
    world.compares_states = false;
    let leader = world.leader().expect("a whole cluster has a leader");
    world.run_for(10 * SECOND);
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    let index = world.node(leader).applied_index();
    // A write of its log takes a while from now on.
    let write_us = std::mem::replace(&mut world.weather.write_us, 500_000..600_000);
    hear(&mut world, leader, others[0], digest(index, 7, 16));
    assert!(world.node(leader).unavailable().is_none(), "one of three is no majority");
    world.put(leader, "key", TIMEOUT);
    hear(&mut world, leader, others[1], digest(index, 7, 16));
    let why = world.node(leader).unavailable().expect("it serves no more");
    assert!(why.contains("differs"), "{why}");
    assert!(world.node(leader).ended().is_none(), "it is not durable yet");
    let key: bytes::Bytes = "key".into();
    for stale in [true, false] {
        let get = Get { key: key.clone(), stale };
        world.request(leader, 0, TIMEOUT, request::Command::Get(get));
        let range = Range { stale, ..Range::default() };
        world.request(leader, 0, TIMEOUT, request::Command::Range(range));
    }
    world.put(leader, "key", TIMEOUT);
    world.run_for(SECOND / 1000);
    let answers = world.take_answers();
    assert_eq!(answers.len(), 6, "the write that waited among them");
    for answer in answers {
        match answer.response.and_then(|response| response.result) {
            Some(response::Result::Error(refused)) => assert_eq!(refused.code(), Code::Stopping),
            other => panic!("{other:?}"),
        }
    }
    world.weather.write_us = write_us;
    world.quarantined(leader);
    world.run_until("another leads", |world| world.leader().is_some_and(|now| now != leader));
}
