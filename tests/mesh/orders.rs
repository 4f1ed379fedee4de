//! What an operator orders: to remove members, and to move leadership. With what a refusal says.

use std::process::Output;

use crate::harness::{Cluster, Node, SOON, STEADY, wait_until};
use crate::view::{members, names};
use crate::{assert_serves, assert_stops, start_with, wait_roles};

/// Of five nodes.
const VOTERS: usize = 3;

fn start_five() -> Cluster {
    let cluster = start_with(5, &[("TARGET_VOTERS", "3"), STEADY]);
    wait_roles(&cluster, VOTERS, 2);
    cluster
}

fn leader(cluster: &Cluster) -> &Node {
    &cluster.nodes[cluster.leader()]
}

/// The names of the voters that do not lead.
fn followers(cluster: &Cluster) -> Vec<String> {
    let leader = leader(cluster);
    names(leader, true).into_iter().filter(|name| *name != leader.name).collect()
}

fn node<'a>(cluster: &'a mut Cluster, name: &str) -> &'a mut Node {
    cluster.nodes.iter_mut().find(|node| node.name == name).expect("it is one of them")
}

/// Has the node do as it is told, with more patience than the command line has by itself.
fn order(asked: &Node, args: &[&str]) -> Output {
    asked.phalanx(&[args, &["--timeout", "20s"]].concat())
}

#[track_caller]
fn assert_done(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[track_caller]
fn assert_refused(output: &Output, wanted: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    for text in wanted {
        assert!(told.contains(text), "not told: {text:?}. Told was: {told}");
    }
}

/// By way of a node that is neither it nor the leader, where there is one.
#[track_caller]
fn remove(cluster: &mut Cluster, name: &str) {
    let asked = cluster.nodes.iter().filter(|node| node.is_running() && node.name != name);
    let asked = asked.max_by_key(|node| node.status_text("state") != "LEADER").unwrap();
    assert_done(&order(asked, &["member", "remove", name]));
    assert_stops(node(cluster, name), &["removed"]);
    wait_until("it is no member", SOON, || !members(leader(cluster)).contains_key(name));
    leader(cluster).wait_ready();
    assert_serves(leader(cluster));
}

#[test]
fn members_are_removed_one_after_the_other() {
    let mut cluster = start_five();
    let unknown = order(leader(&cluster), &["member", "remove", "nobody"]);
    assert_refused(&unknown, &["nobody", "node-1"]);

    let learner = names(leader(&cluster), false).remove(0);
    remove(&mut cluster, &learner);
    wait_roles(&cluster, VOTERS, 1);

    // It does not come back with what it has.
    node(&mut cluster, &learner).start();
    assert_stops(node(&mut cluster, &learner), &["removed", "empty"]);
    assert!(!members(leader(&cluster)).contains_key(&learner));

    // The learner that is left takes its place.
    let follower = followers(&cluster).remove(0);
    remove(&mut cluster, &follower);
    wait_roles(&cluster, VOTERS, 0);

    let leading = leader(&cluster).name.clone();
    remove(&mut cluster, &leading);
    assert!(node(&mut cluster, &leading).log().contains("handing leadership over"));

    let follower = followers(&cluster).remove(0);
    remove(&mut cluster, &follower);
    let last = leader(&cluster);
    assert_eq!(members(last).len(), 1);
    assert_refused(&order(last, &["member", "remove", &last.name]), &["only voter"]);
    assert_serves(last);
}

#[test]
fn leadership_goes_where_it_is_ordered_to() {
    let cluster = start_five();
    // By way of each: an order is forwarded like a write.
    for asked in &cluster.nodes {
        let target = followers(&cluster).remove(0);
        assert_done(&order(asked, &["leader", "transfer", &target]));
        assert_eq!(leader(&cluster).name, target, "asked was {}", asked.name);
        assert_done(&order(asked, &["leader", "transfer", &target]));
        assert_serves(asked);
    }
    let leading = leader(&cluster).name.clone();
    let learner = names(leader(&cluster), false).remove(0);
    let asked = &cluster.nodes[0];
    assert_refused(&order(asked, &["leader", "transfer", &learner]), &[&learner, "learner"]);
    assert_refused(&order(asked, &["leader", "transfer", "nobody"]), &["nobody"]);
    assert_eq!(leader(&cluster).name, leading);
}

#[test]
fn the_members_are_listed() {
    let mut cluster = start_with(3, &[("REGION", "fra"), STEADY]);
    wait_roles(&cluster, 3, 0);
    let leading = leader(&cluster).name.clone();
    wait_until("every node's row is complete", SOON, || {
        let listed = order(leader(&cluster), &["members"]);
        assert_done(&listed);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let complete = |node: &Node| {
            let row = text.lines().find(|row| row.split_whitespace().next() == Some(&node.name));
            let role = if node.name == leading { "leader" } else { "voter" };
            row.is_some_and(|row| {
                [role, "alive", "fra", &node.address].iter().all(|cell| row.contains(cell))
            })
        };
        cluster.nodes.iter().all(complete)
    });
    let gone = followers(&cluster).remove(0);
    node(&mut cluster, &gone).kill();
    wait_until("the dead one's row tells it", SOON, || {
        let listed = order(leader(&cluster), &["members"]);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        text.lines().any(|row| row.starts_with(&gone) && row.contains("dead"))
    });
}
