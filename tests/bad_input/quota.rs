//! More than MAX_BYTES: it is refused, and said wherever one looks.

use phalanx::client::{Code, Error};

use crate::harness::{Node, SOON, wait_until};
use crate::{TIMEOUT, assert_told};

#[test]
fn a_store_that_is_full_says_so_until_there_is_room() {
    let mut node = Node::new("full");
    node.set("MAX_BYTES", 100).start();
    node.wait_ready();
    let client = node.client(TIMEOUT);
    let max_bytes = || node.status().unwrap_or_default()["kv_bytes_max"].as_u64();
    wait_until("its setting holds", SOON, || max_bytes() == Some(100));
    let is_full = || node.status().unwrap_or_default()["kv_full"].as_bool();
    client.put("a", vec![b'v'; 60]).unwrap();
    assert_eq!(is_full(), Some(false));
    let refused = client.put("b", vec![b'v'; 60]).unwrap_err();
    assert!(matches!(refused, Error::Refused { code: Code::NoSpace, .. }), "{refused}");

    assert_eq!(is_full(), Some(true));
    node.wait_log("the store is full: it holds 61 bytes of keys and values and may hold 100");
    let (code, body) = node.health().unwrap();
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
    assert_eq!(node.health().unwrap().1, "LEADER\n");
}
