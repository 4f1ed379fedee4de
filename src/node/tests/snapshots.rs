//! Nodes that are further behind than the log reaches back: they get the state as a whole, whatever happens meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::Input;
use super::digests::hear;
use super::for_seeds;
use super::storms::{Storm, calm, rounds, settle_accounts};
use crate::limits::{DISK_RESERVE, SNAPSHOT_IDLE_MAX, SNAPSHOT_WINDOW};
use crate::replica::Retention;
use crate::sim::clients::Clients;
use crate::sim::weather::Weather;
use crate::sim::world::World;
use crate::store::map::Map;
use crate::wire::client::{Get, request};
use crate::wire::peer::{SnapshotOffer, peer_frame::Frame};

const TIMEOUT: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

/// So little that a node which misses a moment is too far behind.
const LITTLE: Retention = Retention {
    count_max: 16,
    len_bytes_max: 4096,
    streaming_count_max: 256,
    streaming_len_bytes_max: 1 << 16,
    full_count: usize::MAX,
    full_len_bytes: usize::MAX,
};

/// A cluster that keeps little of its log.
pub(super) fn forgetful(seed: u64, size: usize) -> World {
    let mut world = World::new(seed, size, Weather::fair());
    world.machines.iter_mut().for_each(|machine| machine.retention = LITTLE);
    world.start_all();
    world.run_until("the cluster is formed", World::is_settled);
    world
}

/// Writes that many keys, and waits until that is done.
fn write(world: &mut World, count: usize) {
    let leader = world.leader().expect("a settled cluster has a leader");
    for key in 0..count {
        world.put(leader, &format!("key {key}"), TIMEOUT);
        if key % 10 == 9 {
            world.run_for(Duration::from_millis(20));
        }
    }
    world.run_until("all writes are answered", |world| world.unanswered(leader) == 0);
    world.take_answers();
}

/// Crashes a machine that does not lead, and has the log go on without it, until what it lacks is not there any more.
pub(super) fn leave_behind(world: &mut World, count: usize) -> usize {
    let leader = world.leader().expect("a settled cluster has a leader");
    let left = (leader + 1) % world.machines.len();
    let had = world.node(left).status().node.unwrap().last_index;
    world.crash(left);
    write(world, count);
    world.run_until("the log is compacted", |world| {
        let leader = world.leader().expect("the others have a majority");
        world.node(leader).status().node.unwrap().first_index > had + 1
    });
    left
}

fn received(world: &World, i: usize) -> u64 {
    world.node(i).counters().snapshots_received
}

/// All have the same state, each in one map.
fn check_same(world: &mut World) {
    world.run_until("all is applied", World::is_settled);
    let is_durable =
        |world: &World, i: usize| world.node(i).store.durable() == world.node(i).store.applied();
    let has_one = |world: &World, i: usize| world.machines[i].map.states().len() == 1;
    world.run_until("all is committed, and nothing left over", |world| {
        world.running().into_iter().all(|i| is_durable(world, i) && has_one(world, i))
    });
    let bytes = |i: usize| world.machines[i].map().snapshot().expect("a map in memory");
    for i in world.running() {
        assert!(bytes(i) == bytes(0), "the maps of {i} and 0 differ");
    }
}

/// How many chunks were sent, and how many different ones.
fn chunks_sent(world: &World) -> (u64, u64) {
    let different: BTreeSet<_> = world.chunks_sent.iter().collect();
    (world.chunks_sent.len() as u64, different.len() as u64)
}

#[test]
fn a_node_that_was_down_for_long_gets_a_snapshot_and_goes_on() {
    for_seeds(0..10, |seed| {
        let mut world = forgetful(seed, 3);
        let left = leave_behind(&mut world, 200);
        let leader = world.leader().unwrap();
        world.start(left);
        check_same(&mut world);
        assert_eq!(received(&world, left), 1);
        assert_eq!(world.machines[left].map().states(), [2]);
        world.run_until("the leader knows", |world| {
            world.node(leader).counters().snapshots_sent == 1
        });
        // It is as good as the others: with it alone the leader has a majority.
        let third = (0..3).find(|i| ![left, leader].contains(i)).unwrap();
        world.crash(third);
        write(&mut world, 20);
        // And it starts from what it was sent.
        world.crash(left);
        world.start(left);
        world.start(third);
        check_same(&mut world);
    });
}

#[test]
fn a_node_that_was_cut_off_for_long_gets_a_snapshot() {
    for_seeds(0..10, |seed| {
        let mut world = forgetful(seed, 3);
        let leader = world.leader().unwrap();
        let left = (leader + 1) % 3;
        world.isolate(&[left]);
        write(&mut world, 200);
        world.run_for(Duration::from_secs(2));
        world.heal();
        check_same(&mut world);
        assert_eq!(received(&world, left), 1);
    });
}

#[test]
fn a_new_node_joins_a_cluster_whose_log_is_compacted() {
    for_seeds(0..10, |seed| {
        let mut world = forgetful(seed, 3);
        write(&mut world, 100);
        world.run_for(Duration::from_secs(2));
        let i = world.leader().unwrap();
        assert!(world.node(i).status().node.unwrap().first_index > 50);
        let lost = (i + 1) % 3;
        world.crash(lost);
        let mut rng = world.rng.fork();
        world.machines[lost].lose_disk(&mut rng);
        world.start(lost);
        world.run_until("it is taken in", World::is_at_full_strength);
        assert_eq!(received(&world, lost), 1);
        check_same(&mut world);
        // An old key, from the new node.
        let get = Get { key: "key 1".into(), ..Get::default() };
        world.request(lost, 1, TIMEOUT, request::Command::Get(get));
        world.run_until("it is read", |world| world.unanswered(lost) == 0);
        let answer = world.take_answers().pop().expect("an answer");
        let found = answer.response.and_then(|response| response.result);
        assert!(format!("{found:?}").contains("value"), "{found:?}");
    });
}

#[test]
fn a_connection_that_breaks_costs_no_more_than_a_window() {
    for_seeds(0..20, |seed| {
        let mut world = forgetful(seed, 3);
        let left = leave_behind(&mut world, 200);
        let leader = world.leader().unwrap();
        world.start(left);
        for breaks in 1..=2 {
            world.run_until("some chunks are sent", |world| world.chunks_sent.len() > 10 * breaks);
            // Frames are lost for a while, or the connections break at once.
            world.cut(leader, left);
            if seed % 2 == 0 {
                world.break_link(leader, left);
                world.break_link(left, leader);
            }
            world.run_for(Duration::from_millis(100 * breaks as u64));
            world.heal();
        }
        check_same(&mut world);
        assert_eq!(received(&world, left), 1, "it was not begun anew");
        let (sent, different) = chunks_sent(&world);
        assert!(different > 30, "{different}");
        // Of each window, some may have been under way and some not yet read when it was asked for anew.
        assert!(sent <= different + 2 * 2 * SNAPSHOT_WINDOW, "{sent} sent, {different} different");
    });
}

#[test]
fn an_offer_that_comes_late_does_not_take_the_place_of_a_newer_one() {
    let mut world = forgetful(3, 3);
    let left = leave_behind(&mut world, 200);
    let leader = world.leader().unwrap();
    world.start(left);
    world.run_until("some chunks are sent", |world| world.chunks_sent.len() > 5);
    let node = world.node(leader);
    let durable = node.store.durable_snapshot(&node.identity().cluster_id);
    let mut header = durable.expect("a map in memory").header;
    header.index -= 1;
    let conf_state = node.store.durable_membership().and_then(|known| known.conf_state.clone());
    let late = SnapshotOffer { id: 7, header: Some(header), conf_state };
    hear(&mut world, left, leader, Frame::SnapshotOffer(late));
    check_same(&mut world);
    assert_eq!(world.node(left).counters().snapshots_failed, 0);
    assert_eq!(received(&world, left), 1);
}

#[test]
fn a_lost_word_that_it_is_in_does_not_keep_the_leader_waiting() {
    for_seeds(0..10, |seed| {
        let mut world = forgetful(seed, 3);
        let left = leave_behind(&mut world, 60);
        let leader = world.leader().unwrap();
        world.start(left);
        world.run_until("it is whole", |world| world.node(left).has_whole_snapshot());
        world.cut(left, leader);
        world.run_until("it is installed", |world| received(world, left) == 1);
        world.run_for(Duration::from_millis(200));
        world.heal();
        let healed = world.now;
        check_same(&mut world);
        assert!(world.now - healed < SNAPSHOT_IDLE_MAX / 2, "{:?}", world.now - healed);
        assert_eq!(received(&world, left), 1);
    });
}

#[test]
fn a_leader_that_dies_while_it_sends_is_followed_by_one_that_sends_another() {
    for_seeds(0..20, |seed| {
        let mut world = forgetful(seed, 3);
        let left = leave_behind(&mut world, 200);
        let leader = world.leader().unwrap();
        world.start(left);
        let chunks = 1 + seed as usize % 30;
        world.run_until("some chunks are sent", |world| world.chunks_sent.len() > chunks);
        world.crash(leader);
        // The third has the log and one vote. The other vote is that of the node that is behind.
        world.run_until("the snapshot is in", |world| received(world, left) == 1);
        assert_eq!(received(&world, left), 1);
        world.start(leader);
        check_same(&mut world);
        assert_eq!(world.machines[left].map().states().len(), 1, "one state is left");
    });
}

#[test]
fn a_receiver_that_crashes_at_any_moment_starts_with_a_whole_state() {
    let (mut in_transit, mut before, mut after) = (0, 0, 0);
    for_seeds(0..120, |seed| {
        let mut world = forgetful(seed, 3);
        let left = leave_behind(&mut world, 60);
        world.start(left);
        match seed % 3 {
            0 => {
                let moment = Duration::from_micros(world.rng.u64(50_000..250_000));
                world.run_for(moment);
            }
            // Around the record that installs it.
            1 => world.run_until("it is whole", |world| world.node(left).has_whole_snapshot()),
            // Between that record and the end of the old state.
            _ => world.run_until("it is installed", |world| world.node(left).state() > 1),
        }
        // The record is on disk soon: as good as nothing else happens before that.
        for _ in 0..world.rng.usize(..[40, 2, 40][seed as usize % 3]) {
            world.step();
        }
        let (state, states) = (world.node(left).state(), world.machines[left].map.states());
        let is_whole = world.node(left).has_whole_snapshot();
        in_transit += usize::from(state == 1 && !is_whole && states.len() == 2);
        world.crash(left);
        world.start(left);
        let started_from = world.node(left).state();
        assert!(started_from >= state);
        assert_eq!(world.machines[left].map.states(), [started_from], "one is left");
        before += usize::from(is_whole && started_from == 1);
        after += usize::from(states.len() == 2 && started_from > 1);
        check_same(&mut world);
    });
    assert!(in_transit > 5 && before > 5 && after > 10, "{in_transit} {before} {after}");
}

#[test]
fn a_node_without_room_for_a_second_state_waits_for_it() {
    let mut world = forgetful(1, 3);
    let left = leave_behind(&mut world, 200);
    world.machines[left].map.set_free_bytes(DISK_RESERVE);
    world.start(left);
    world.run_until("it is refused", |world| world.node(left).counters().snapshots_failed == 1);
    assert_eq!(world.machines[left].map.states(), [1]);
    assert_eq!(received(&world, left), 0);
    // What it can do with what it has, it does.
    write(&mut world, 10);
    world.machines[left].map.set_free_bytes(u64::MAX);
    check_same(&mut world);
    assert_eq!(received(&world, left), 1);
}

/// What would make room is the snapshot that waits: the old state goes with it.
#[test]
fn a_commit_of_the_old_state_that_waits_for_room_does_not_hold_the_new_one_up() {
    let mut world = forgetful(1, 3);
    let leader = world.leader().unwrap();
    let left = (leader + 1) % 3;
    world.machines[left].map().set_cramped(true);
    world.put(leader, "key", TIMEOUT);
    world.run_until("a commit is put off", |world| world.node(left).no_space.is_some());
    world.isolate(&[left]);
    write(&mut world, 200);
    world.run_for(2 * SECOND);
    world.heal();
    world.run_until("the snapshot is in", |world| received(world, left) == 1);
    world.input(left, Input::DiskSpace(Ok(())));
    check_same(&mut world);
}

#[test]
fn a_commit_that_was_put_off_comes_again() {
    let mut world = forgetful(2, 3);
    let leader = world.leader().unwrap();
    let map = world.machines[leader].map();
    map.set_cramped(true);
    world.put(leader, "key", TIMEOUT);
    world.run_until("it is put off", |world| world.node(leader).no_space.is_some());
    let durable = world.node(leader).store.durable();
    world.run_for(5 * SECOND);
    assert_eq!(world.node(leader).store.durable(), durable);
    map.set_cramped(false);
    world.input(leader, Input::DiskSpace(Ok(())));
    check_same(&mut world);
}

#[test]
fn more_is_written_than_is_kept_for_a_slow_receiver() {
    let mut world = forgetful(2, 3);
    let leader = world.leader().unwrap();
    let left = leave_behind(&mut world, 200);
    world.start(left);
    world.run_until("some chunks are sent", |world| world.chunks_sent.len() > 5);
    world.isolate(&[left]);
    write(&mut world, 400);
    world.run_until("it is given up", |world| world.node(leader).counters().snapshots_failed == 1);
    world.heal();
    check_same(&mut world);
    assert_eq!(received(&world, left), 1);
}

/// Each new leader offers a snapshot of its own, and the one before may come to its end just then.
#[test]
fn leaders_that_follow_each_other_leave_the_receiver_a_state() {
    for_seeds(0..60, |seed| {
        let mut world = forgetful(seed, 3);
        let left = leave_behind(&mut world, 40);
        // So slow that what has come goes on being taken in while another is elected.
        world.weather.thread_us = 200_000..400_000;
        world.start(left);
        for _ in 0..3 {
            let moment = Duration::from_millis(world.rng.u64(1_000..6_000));
            world.run_for(moment);
            if let Some(leader) = world.leader().filter(|leader| *leader != left) {
                world.crash(leader);
                world.run_for(SECOND);
                world.start(leader);
            }
        }
        calm(&mut world);
        check_same(&mut world);
        // It has what the log names.
        world.crash(left);
        world.start(left);
    });
}

/// As the storms of `storms`, over clusters that keep little of their logs.
#[test]
fn storms_over_short_logs_lose_nothing() {
    let (mut installed, mut acknowledged) = (0, 0);
    for_seeds(0..60, |seed| {
        let mut world = forgetful(seed, [3, 3, 5, 2][seed as usize % 4]);
        world.weather = Weather::foul(&mut world.rng);
        let mut clients = Clients::new(4);
        let storm = Storm { crashes: 0.02, partitions: 0.03, returns: 0.03 };
        rounds(&mut world, &mut clients, storm, 400);
        calm(&mut world);
        clients.take_answers(&mut world);
        settle_accounts(&mut world, &mut clients);
        acknowledged += clients.acknowledged();
        installed += world.running().iter().map(|&i| world.node(i).state() - 1).sum::<u64>();
        check_same(&mut world);
    });
    assert!(installed > 30 && acknowledged > 3_000, "{installed} {acknowledged}");
}
