//! Two holders of one identity: a data directory was copied. One of them would answer for the other, so the cluster hears
//! only the one that started last, and says so.

use crate::assert_told;
use crate::harness::{Cluster, Node, SOON, STEADY, copy_dir, wait_until};

fn wait_revision(node: &Node, revision: u64) {
    wait_until("the node has applied the write", SOON, || {
        node.status().is_some_and(|status| status["revision"].as_u64() >= Some(revision))
    });
}

#[test]
fn a_copy_of_a_data_directory_is_refused_by_the_cluster() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let [follower, other] = [(leader + 1) % 3, (leader + 2) % 3];

    let client = cluster.client(SOON);
    let revision = client.put("before", "the copy").unwrap().revision;
    wait_revision(&cluster.nodes[follower], revision);
    cluster.nodes[follower].kill();
    let mut copy = Node::new(&cluster.nodes[follower].name);
    copy_dir(&cluster.nodes[follower].data_dir(), &copy.data_dir());
    cluster.nodes[follower].start();
    cluster.wait_formed();

    let peers = [leader, other].map(|i| {
        let node = &cluster.nodes[i];
        format!("{}@{}", node.name, node.address)
    });
    copy.set("PEERS", peers.join(","));
    copy.start();
    let told = "runs on an old copy of a data directory; stop it, and start it with an empty one";
    copy.wait_log(told);
    cluster.nodes[leader].wait_log(told);

    // The original keeps its place, and the copy never learns of what is written now.
    let revision = client.put("after", "the copy").unwrap().revision;
    wait_revision(&cluster.nodes[follower], revision);
    // It is refused before it has applied what the copied log holds, and until then it does not know that a cluster was formed.
    wait_until("the copy knows of the cluster, and that it has no leader", SOON, || {
        let (code, said) = copy.health_page();
        code == 503 && said.starts_with("no leader is known")
    });
    let status = copy.page();
    assert!(status["revision"].as_u64() < Some(revision), "{status}");
    assert_eq!(status["leader_id"], "", "the copy takes no part");
}

#[test]
fn a_copy_that_its_original_can_reach_is_told_by_it() {
    let mut node = Node::start_single("original");
    node.terminate();
    let mut copy = Node::new("copy");
    copy_dir(&node.data_dir(), &copy.data_dir());
    node.start();
    node.wait_ready();
    copy.set("PEERS", format!("original@{}", node.address));
    copy.start();
    let told = "runs on a copy of the other's data directory; stop it, and start it with an empty";
    copy.wait_log(told);
    node.wait_log(told);
    assert_told(&copy.log(), &["no connection to original"]);
}

#[test]
fn a_second_node_of_a_name_is_refused() {
    let cluster = Cluster::start_with(3, &[STEADY]);
    let leader = cluster.leader();
    let [leader, follower] = [leader, (leader + 1) % 3].map(|i| &cluster.nodes[i]);
    // The leader's own name, and that of a member that it is connected to.
    for name in [&leader.name, &follower.name] {
        let mut second = Node::new(name);
        // Under its own name it would be taken for an entry of the node itself.
        second.set("PEERS", format!("other@{}", leader.address));
        second.start();
        let exit = second.wait_exit(SOON);
        assert_eq!(exit.status.code(), Some(1), "{}", second.log());
        let holder = cluster.nodes.iter().find(|node| node.name == *name).unwrap();
        let told = format!("a node named {name} is a member already, at {}", holder.address);
        assert_told(&second.log(), &[&told, "two nodes cannot share one NODE_ID", "stop that one"]);
        assert_told(&leader.log(), &["is not added", &told]);
    }
    let client = cluster.client(SOON);
    client.put("still", "here").unwrap();
    let members = client.status().unwrap().result.members;
    assert_eq!(members.iter().filter(|member| member.voter).count(), 3, "{members:?}");
    assert_eq!(members.len(), 3, "{members:?}");
}
