//! Seven nodes: five vote, two learn. Dead voters are replaced without anyone asking, and come back as learners.

use crate::harness::{Cluster, Load, SOON, wait_until};
use crate::view::{members, names};
use crate::{TIMEOUT, start_with, wait_roles};

/// How long after a voter's death it is replaced.
const DEAD_AFTER: &str = "3s";

fn index(cluster: &Cluster, name: &str) -> usize {
    cluster.nodes.iter().position(|node| node.name == *name).expect("it is one of them")
}

/// Waits until all that run vote, as far as five can, and none of the others does.
#[track_caller]
fn wait_replaced(cluster: &Cluster) {
    let running = cluster.nodes.iter().filter(|node| node.is_running()).count();
    wait_until("the dead are replaced", SOON, || {
        let voters = names(&cluster.nodes[cluster.leader()], true);
        voters.len() == running.min(5)
            && voters.iter().all(|name| cluster.nodes[index(cluster, name)].is_running())
    });
}

#[test]
fn dead_voters_are_replaced_by_learners() {
    let mut cluster = start_with(7, &[("DEAD_AFTER", DEAD_AFTER)]);
    wait_roles(&cluster, 5, 2);
    cluster.client(TIMEOUT).put("key", "value").unwrap();
    let learners = names(&cluster.nodes[cluster.leader()], false);
    for learner in &learners {
        let node = &cluster.nodes[index(&cluster, learner)];
        wait_until("it learns", SOON, || node.status_text("state") == "LEARNER");
        wait_until("a learner serves what was written", SOON, || {
            node.phalanx(&["get", "key", "--stale"]).stdout == b"value"
        });
    }
    let load = Load::start(cluster.addresses());
    load.wait_progress();

    // One voter dies, and comes back.
    let leader = cluster.leader();
    let voters = names(&cluster.nodes[leader], true);
    let dead = voters.iter().find(|name| **name != cluster.nodes[leader].name).unwrap().clone();
    let dead = index(&cluster, &dead);
    cluster.nodes[dead].kill();
    wait_replaced(&cluster);
    load.wait_progress();
    assert_eq!(
        members(&cluster.nodes[cluster.leader()]).len(),
        7,
        "the dead one is a member still"
    );
    cluster.nodes[dead].start();
    cluster.nodes[dead].wait_ready();
    wait_until("it is back as a learner", SOON, || {
        cluster.nodes[dead].status_text("state") == "LEARNER"
    });

    // Two voters die at once, the leader among them.
    let leader = cluster.leader();
    let voters = names(&cluster.nodes[leader], true);
    let second = voters.iter().find(|name| **name != cluster.nodes[leader].name).unwrap().clone();
    let dead = [leader, index(&cluster, &second)];
    cluster.kill_at_once(dead);
    load.wait_progress();
    wait_replaced(&cluster);
    load.wait_progress();
    // What is left has a majority of its own: it can lose two more.
    let leader = cluster.leader();
    let more: Vec<usize> =
        (0..7).filter(|node| *node != leader && !dead.contains(node)).take(2).collect();
    cluster.kill_at_once(more);
    load.wait_progress();

    cluster.nodes.iter_mut().filter(|node| !node.is_running()).for_each(|node| node.start());
    wait_roles(&cluster, 5, 2);
    let account = load.stop();
    assert_eq!(account.errors, [], "writes went on");
    cluster.nodes.iter().for_each(|node| node.wait_ready());
    cluster.nodes.iter().for_each(|node| account.check(node));
}
