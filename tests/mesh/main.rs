//! What real nodes promise of their mesh: they find each other, form one cluster without being told, notice death, and
//! replace the dead. All with real processes, and with real networks where root can make them.

#[path = "../harness/mod.rs"]
mod harness;

mod view;

mod another_cluster;
mod death;
mod formation;
mod healing;
mod identity;
mod local;
mod lost_disk;
mod names;
mod noise;
mod orders;
mod partition;
mod script;
mod seeds;

use std::time::Duration;

use harness::{Cluster, Node, SOON, wait_until};
use view::members;

/// For a client of a node that answers at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Nodes that know each other by PEERS and have these settings, started.
fn start_with(size: usize, settings: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::new(size);
    cluster.start_all(settings);
    cluster
}

/// Waits until the leader has so many voters and learners, all with its whole log.
#[track_caller]
fn wait_roles(cluster: &Cluster, voters: usize, learners: usize) {
    let what = format!("{voters} voters and {learners} learners");
    wait_until(&what, SOON, || {
        let Some(leader) = leader_if_known(cluster) else { return false };
        let members = members(leader);
        let voting = members.values().filter(|member| member.voter).count();
        leader.is_ready() && voting == voters && members.len() == voters + learners
    });
}

fn leader_if_known(cluster: &Cluster) -> Option<&Node> {
    let leads = |node: &&Node| node.is_running() && node.status_text("state") == "LEADER";
    cluster.nodes.iter().find(leads)
}

/// Whether the node takes writes and answers reads, both through the leader.
#[track_caller]
fn assert_serves(node: &Node) {
    let client = node.client(SOON);
    let key = format!("served by {}", node.name);
    client.put(&key, "yes").unwrap_or_else(|e| panic!("{}: {e}", node.name));
    let read = client.get(&key).unwrap_or_else(|e| panic!("{}: {e}", node.name));
    assert_eq!(read.result.expect("it was put").value, "yes", "{}", node.name);
}

/// Waits until the process ends by itself with an error, and checks that it tells each of these.
#[track_caller]
fn assert_stops(node: &mut Node, wanted: &[&str]) {
    let exit = node.wait_exit(SOON);
    let log = node.log();
    assert_eq!(exit.status.code(), Some(1), "{log}");
    for text in wanted {
        assert!(log.contains(text), "not told: {text:?}. Told was:\n{log}");
    }
}
