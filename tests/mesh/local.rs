//! Five commands in five terminals, with nothing else set, are a cluster of five voters. In a network of its own, so
//! that the ports which a node takes by default are free.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::harness::{Cluster, Namespace, Node, SOON, wait_until};
use crate::view::names;

/// What is typed into the terminal of that number.
fn command_line(number: usize) -> String {
    let others = (0..5).filter(|other| *other != number).map(|other| format!("node-{other}"));
    let peers = others.collect::<Vec<_>>().join(",");
    format!(
        "NODE_ID=node-{number} PEERS={peers} DATA_DIR=./data/{number} GRPC_ADDR=127.0.0.1:900{number} \
         DEBUG_ADDR=127.0.0.1:808{number} TICK_MS=100 ELECTION=10 HEARTBEAT=3 ./phalanx-server"
    )
}

/// A node that a shell starts by that line, in that folder.
fn type_in(number: usize, folder: &Path, namespace: &Namespace) -> Node {
    let mut node = Node::new(&format!("node-{number}"));
    node.address = format!("127.0.0.1:900{number}");
    node.debug_address = format!("127.0.0.1:808{number}");
    node.namespace = Some(namespace.clone());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("exec env {}", command_line(number))]);
    shell.env_clear().current_dir(folder);
    node.spawn(shell);
    node
}

#[test]
fn the_five_commands_form_a_cluster() {
    let Some(namespace) = Namespace::new() else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    symlink(env!("CARGO_BIN_EXE_phalanx-server"), folder.path().join("phalanx-server")).unwrap();
    let nodes = (0..5).map(|number| type_in(number, folder.path(), &namespace)).collect();
    let cluster = Cluster { nodes };
    let began = Instant::now();
    wait_until("there are five voters and a leader", SOON, || {
        cluster.nodes.iter().all(|node| {
            let leader = node.status_text("leader_id");
            node.is_ready() && !leader.is_empty() && names(node, true).len() == 5
        })
    });
    println!("five voters and a leader after {:.1?}", began.elapsed());
    let put = cluster.nodes[0].phalanx(&["put", "hello", "world", "--timeout", "20s"]);
    assert!(put.status.success(), "{put:?}");
    for node in &cluster.nodes[1..] {
        let get = node.phalanx(&["get", "hello", "--timeout", "20s"]);
        assert_eq!(String::from_utf8_lossy(&get.stdout), "world", "{}: {get:?}", node.name);
    }
}

#[test]
fn the_readme_has_the_five_commands() {
    let readme = include_str!("../../README.md");
    for number in 0..5 {
        assert!(readme.contains(&command_line(number)), "{}", command_line(number));
    }
}
