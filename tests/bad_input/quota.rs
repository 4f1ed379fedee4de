//! More than MAX_BYTES: it is refused, and said wherever one looks.

use crate::harness::{Node, SOON, wait_until};
use crate::{TIMEOUT, assert_no_space, assert_told};

#[test]
fn a_store_that_is_full_says_so_until_there_is_room() {
    let mut node = Node::new("full");
    node.set("MAX_BYTES", 100).start();
    node.wait_ready();
    let client = node.client(TIMEOUT);
    let max_bytes = || node.page()["kv_bytes_max"].as_u64();
    wait_until("its setting holds", SOON, || max_bytes() == Some(100));
    let is_full = || node.page()["kv_full"].as_bool();
    client.put("a", vec![b'v'; 60]).unwrap();
    assert_eq!(is_full(), Some(false));
    assert_no_space(&client, "b", &[b'v'; 60]);

    assert_eq!(is_full(), Some(true));
    node.wait_log("the store is full: it holds 61 bytes of keys and values and may hold 100");
    let (code, body) = node.health_page();
    assert_eq!(
        (code, &*body),
        (200, "LEADER\nthe store is full: writes that would take it over MAX_BYTES are refused\n")
    );
    let status = node.phalanx(&["status"]);
    assert_told(
        &String::from_utf8_lossy(&status.stdout),
        &["full: 61 of 100 bytes; writes that would take it over MAX_BYTES are refused"],
    );

    client.delete("a").unwrap();
    wait_until("there is room", SOON, || is_full() == Some(false));
    node.wait_log("the store has room again");
    assert_eq!(node.health_page().1, "LEADER\n");
}
