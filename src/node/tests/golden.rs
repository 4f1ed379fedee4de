//! Transcripts of what nodes say to each other, held against files in `golden/`. `UPDATE_GOLDEN=1` writes them anew; what
//! has changed is then to be read, and to be right.

use std::path::PathBuf;
use std::time::Duration;

use crate::sim::weather::Weather;
use crate::sim::world::World;
use crate::wire::client::{Get, request};

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

#[test]
fn a_node_that_is_far_behind_gets_a_snapshot() {
    let mut world = super::snapshots::forgetful(1, 3);
    let left = super::snapshots::leave_behind(&mut world, 40);
    world.transcript = Some(Vec::new());
    heading(&mut world, "A machine comes back, and lacks more than the leader's log has.");
    world.start(left);
    quiet(&mut world);
    compare("snapshot.txt", world);
}
