//! What two servers cannot share: a data directory, a port. The second one goes, the first goes on.

use crate::harness::Node;
use crate::{assert_serves, assert_told, refused};

#[test]
fn one_data_directory() {
    let first = Node::start_single("first");
    let mut second = Node::new("second");
    second.set("DATA_DIR", first.data_dir().display());
    let log = refused(&mut second, 1);
    let dir = first.data_dir().display().to_string();
    assert_told(&log, &[&dir, "in use by another server: stop that one, or set another DATA_DIR"]);
    assert_serves(&first);
}

#[test]
fn one_port() {
    let first = Node::start_single("first");
    let port = |address: &str| address.rsplit_once(':').unwrap().1.to_owned();
    for (variable, taken) in [("LISTEN_ADDR", &first.address), ("DEBUG_ADDR", &first.debug_address)]
    {
        // The same address, and all addresses with the same port.
        for address in [taken.clone(), format!("[::]:{}", port(taken))] {
            let mut second = Node::new("second");
            second.set(variable, &address);
            let log = refused(&mut second, 1);
            let told = format!("{variable}={address} is taken by another process: stop that one");
            assert_told(&log, &[&told, "or choose another port"]);
        }
    }
    let mut second = Node::new("second");
    second.set("BIND_PORT", first.gossip_port);
    let told = format!("BIND_PORT={} (UDP, for gossip, at 127.0.0.1) is taken", first.gossip_port);
    assert_told(&refused(&mut second, 1), &[&told, "or choose another port"]);
    assert_serves(&first);
    assert_eq!(first.health_page().0, 200);
}
