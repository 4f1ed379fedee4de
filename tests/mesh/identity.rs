//! The data directory is the identity. Its name and its addresses may change; a copy of it is nobody.

use rustix::process::Signal;

use crate::harness::{Cluster, Node, SOON, copy_dir, wait_until};
use crate::view::{all_see_all, members};
use crate::{TIMEOUT, assert_serves, assert_stops, start_with, wait_roles};

fn start_three() -> Cluster {
    let cluster = start_with(3, &[]);
    wait_roles(&cluster, 3, 0);
    cluster
}

#[test]
fn a_node_changes_its_name() {
    let mut cluster = start_three();
    let leader = cluster.leader();
    let renamed = (leader + 1) % 3;
    let raft_id = members(&cluster.nodes[leader])[&cluster.nodes[renamed].name].raft_id;
    let taken = cluster.nodes[leader].address.clone();
    let names = [cluster.nodes[leader].name.clone(), "renamed".to_owned()];

    // A name that is taken is refused, and nothing is spoilt by the attempt.
    cluster.nodes[renamed].terminate();
    cluster.nodes[renamed].set("NODE_ID", &names[0]).start();
    assert_stops(&mut cluster.nodes[renamed], &[&names[0], &taken, "NODE_ID"]);

    cluster.nodes[renamed].name = names[1].clone();
    cluster.nodes[renamed].set("NODE_ID", &names[1]).start();
    wait_until("it is a member under the new name alone", SOON, || {
        let members = members(&cluster.nodes[cluster.leader()]);
        let member = members.get(&names[1]);
        members.len() == 3 && member.is_some_and(|member| member.raft_id == raft_id)
    });
    wait_until("gossip has the new name alone", SOON, || all_see_all(&cluster.nodes));
    assert_serves(&cluster.nodes[renamed]);
}

#[test]
fn a_node_changes_its_addresses() {
    let mut cluster = start_three();
    for moved in [cluster.follower(), cluster.leader()] {
        let node = &mut cluster.nodes[moved];
        node.kill();
        node.move_house();
        let (name, address) = (node.name.clone(), node.address.clone());
        // It has its own new address in its list. The others have the old one in theirs.
        let peers: Vec<String> =
            cluster.nodes.iter().map(|node| format!("{}@{}", node.name, node.address)).collect();
        cluster.nodes[moved].set("PEERS", peers.join(",")).start();
        wait_until("all members know the new address", SOON, || {
            let knows =
                |node: &Node| members(node).get(&name).is_some_and(|m| m.address == address);
            cluster.nodes.iter().all(knows) && all_see_all(&cluster.nodes)
        });
        cluster.nodes[moved].wait_ready();
        assert_serves(&cluster.nodes[moved]);
    }
}

#[test]
fn a_copied_volume_is_refused_loudly() {
    let mut cluster = start_three();
    let original = cluster.follower();
    cluster.nodes[original].kill();
    let mut copy = Node::new(&cluster.nodes[original].name);
    copy_dir(&cluster.nodes[original].data_dir(), &copy.data_dir());
    cluster.nodes[original].start();
    cluster.wait_formed();
    wait_until("the original is back", SOON, || all_see_all(&cluster.nodes));

    let leader = &cluster.nodes[cluster.leader()];
    let before = members(leader);
    copy.set("SEEDS", leader.gossip_address()).set("EXPECT", 3).start();
    copy.wait_log("copy of");
    leader.wait_log("copy of");
    assert_eq!(copy.page()["leader_id"], "", "the copy takes no part");
    assert_serves(&cluster.nodes[original]);
    assert_eq!(members(leader), before);
    wait_until("the original keeps its place", SOON, || all_see_all(&cluster.nodes));
}

/// A copy of an older state of a disk, started beside its original, does not lend its vote to a leader that lacks what was
/// acknowledged since.
#[test]
fn a_copy_of_a_live_disk_takes_nothing_back() {
    let mut cluster = start_three();
    let b = cluster.leader();
    let [a, c] = [(b + 1) % 3, (b + 2) % 3];
    cluster.nodes[b].client(TIMEOUT).put("key", "old").unwrap();
    cluster.nodes[c].kill();
    let mut copy = Node::new(&cluster.nodes[a].name);
    // It stands still meanwhile, and makes no new file under our hands.
    cluster.nodes[a].signal(Signal::STOP);
    copy_dir(&cluster.nodes[a].data_dir(), &copy.data_dir());
    cluster.nodes[a].signal(Signal::CONT);
    // On the disks of a and b alone.
    cluster.nodes[b].client(TIMEOUT).put("key", "new").unwrap();
    cluster.nodes[b].kill();

    // c knows neither a nor its copy, and may meet either first.
    let peers = [a, c].map(|i| {
        let node = &cluster.nodes[i];
        let name = if i == a { "original" } else { &node.name };
        format!("{name}@{}", node.address)
    });
    copy.set("PEERS", peers.join(",")).start();
    copy.wait_log("starts: node");
    cluster.nodes[c].start();
    if let Ok(reply) = cluster.nodes[c].client(TIMEOUT).get("key") {
        assert_eq!(reply.result.expect("it was put").value, "new");
    }
    copy.kill();
    cluster.nodes[b].start();
    // With the original or, where that was refused for its copy's sake, with c.
    let reply = cluster.nodes[b].client(SOON).get("key").expect("two of three know each other");
    assert_eq!(reply.result.expect("it was put").value, "new");
}

#[test]
fn a_node_that_may_not_form_a_cluster_joins_that_of_others() {
    let mut cluster = Cluster::new(3);
    // The lowest name would be the one to do it.
    cluster.nodes[0].set("BOOTSTRAP", "never");
    cluster.nodes.iter_mut().for_each(Node::start);
    wait_roles(&cluster, 3, 0);
    assert!(!cluster.nodes[0].log().contains("forming cluster"));
    assert_serves(&cluster.nodes[0]);
}
