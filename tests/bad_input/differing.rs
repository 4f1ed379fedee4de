//! A replica whose data are not those of the others, and a store that is full.

use phalanx::store::lmdb::LmdbMap;
use phalanx::store::map::{Batch, Map, Snapshot, Table};

use crate::harness::{Cluster, Node, SOON, wait_until};
use crate::{TIMEOUT, assert_no_space, assert_told, refused, refused_already};

/// A value on the disk of a node that is off becomes another. False if the node has it in its log alone.
fn change_value(node: &Node, key: &str) -> bool {
    let map = LmdbMap::open(&node.data_dir().join("state-1")).unwrap();
    let row = map.snapshot().unwrap().get(Table::Data, key.as_bytes(), <[u8]>::to_vec);
    let Some(mut row) = row.unwrap() else { return false };
    *row.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    batch.put(Table::Data, key.as_bytes().to_vec(), row);
    map.commit(&batch).unwrap();
    true
}

#[test]
fn a_value_that_was_changed_on_a_disk() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client(SOON);
    client.put("changed", "value").unwrap();
    client.put("other", "value").unwrap();
    let odd = cluster.follower();
    // What the log alone had is applied again at a start, and committed soon after.
    cluster.nodes[odd].terminate();
    while !change_value(&cluster.nodes[odd], "changed") {
        cluster.nodes[odd].start();
        wait_until("it commits", SOON, || {
            let status = cluster.nodes[odd].status().unwrap_or_default();
            status["kv_size"].as_u64() == Some(2) && status["commits"]["count"].as_u64() > Some(0)
        });
        cluster.nodes[odd].terminate();
    }
    cluster.nodes[odd].start();
    cluster.wait_formed();

    client.put("changed", "anew").unwrap();
    let told = ["differs from that of a majority of the voters", "move the data directory away"];
    let log = refused_already(&mut cluster.nodes[odd], 1);
    assert_told(&log, &told);
    // It says the same whenever it is started, and the others go on.
    let before = log.len();
    let log = refused(&mut cluster.nodes[odd], 1);
    assert_told(&log[before..], &told);
    assert_eq!(client.get("changed").unwrap().result.unwrap().value, "anew");
    client.put("changed", "again").unwrap();
    let others = cluster.nodes.iter_mut().enumerate().filter(|(i, _)| *i != odd);
    others.for_each(|(_, node)| assert!(!node.has_ended(), "{} has ended", node.name));
}

#[test]
fn a_store_that_holds_what_it_may() {
    let mut node = Node::new("quota");
    node.set("MAX_BYTES", "1KiB").start();
    node.wait_ready();
    wait_until("the quota is replicated", SOON, || {
        node.status().is_some_and(|status| status["kv_bytes_max"].as_u64() == Some(1024))
    });
    let client = node.client(TIMEOUT);
    client.put("a", vec![b'v'; 1000]).unwrap();
    let refused = node.phalanx(&["put", "b", &"v".repeat(100), "--timeout", "20s"]);
    assert_ne!(refused.status.code(), Some(0));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_told(
        &told,
        &["holds 1001 bytes", "may hold 1024 (MAX_BYTES)", "delete keys", "raise MAX_BYTES"],
    );
    assert_no_space(&client, "b", &[b'v'; 100]);
    // Reads and deletes go on, and make room.
    assert_eq!(client.get("a").unwrap().result.unwrap().value.len(), 1000);
    client.delete("a").unwrap();
    client.put("b", vec![b'v'; 100]).unwrap();
    // A larger one holds from the next start on.
    node.terminate();
    node.set("MAX_BYTES", "2KiB").start();
    node.wait_ready();
    wait_until("the quota is raised", SOON, || client.put("c", vec![b'v'; 1500]).is_ok());
}
