//! Settings that make no sense: nothing starts, exit code 2. What each setting allows is tested in `config`.

use crate::harness::Node;
use crate::{assert_told, refused};

/// Of a name that is known to have no address, and where no name server says so.
const NO_NAME: &str = "failed to lookup address information";

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    for (variable, value, told) in [
        ("TICK_MS", "0", "TICK_MS is `0`: it must be a number of 1 to 10000"),
        ("TICK_MS", "fast", "TICK_MS is `fast`: it must be a number of 1 to 10000"),
        ("ELECTION", "3", "ELECTION is `3` and HEARTBEAT is `3`: ELECTION must be the larger"),
        ("PEERS", "b@h:1,b@h:2", "the name `b` is in it twice: each node has its own"),
        ("PEERS", "b@h:1,c@h:1", "the address `h:1` is in it twice: each node has its own"),
        ("PEERS", "b,b", "the name `b` is in it twice: each node has its own"),
        ("SEEDS", "b", "SEEDS is set, and neither PEERS nor EXPECT: set EXPECT"),
        ("SEEDS", "b:0", "port 0 cannot be reached"),
        ("BIND_ADDR", "127.0.0.1:1", "BIND_ADDR is `127.0.0.1:1`: it must be an IP address or a"),
        ("BIND_PORT", "-1", "BIND_PORT is `-1`: it must be a number of 0 to 65535"),
        ("ADVERTISE_ADDR", "0.0.0.0", "nobody can be reached at a wildcard"),
        ("REGION", "a\u{e9}", "a region has at most 64 printable ASCII characters"),
        ("TARGET_VOTERS", "4", "TARGET_VOTERS is `4`: it must be 1, 3 or 5"),
        ("DEAD_AFTER", "500ms", "DEAD_AFTER is `500ms`: it must be of 1s to 168h"),
        ("PEERS", "b@localhost", "the port is missing: write `localhost:PORT`"),
        ("LISTEN_ADDR", "127.0.0.1", "the port is missing: write `127.0.0.1:PORT`"),
        ("DEBUG_ADDR", "nowhere", "the port is missing: write `nowhere:PORT`"),
        ("EXPECT", "0", "EXPECT is `0`: it must be a number of 1 to 64"),
        ("EXPECT", "-1", "EXPECT is `-1`: it must be a number of 1 to 64"),
        ("EXPECT", "three", "EXPECT is `three`: it must be a number of 1 to 64"),
        ("NODE_ID", "a,b", "NODE_ID is `a,b`: a name has 1 to 128 printable ASCII characters"),
        ("BOOTSTRAP", "maybe", "BOOTSTRAP is `maybe`: it must be `auto` or `never`"),
        ("CPU", "all", "CPU is `all`: it must be `auto`, `none`, or the number of a core"),
    ] {
        let mut node = Node::new("settings");
        node.set(variable, value);
        let told_all = refused(&mut node, 2);
        assert_told(&told_all, &[variable, told, "phalanx-server --help lists the settings"]);
        assert!(!node.data_dir().exists(), "nothing starts: {told_all}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let mut node = Node::new("a");
    node.set("PEERS", "b@127.0.0.1:1,c@127.0.0.1:2").set("EXPECT", 1);
    let log = refused(&mut node, 2);
    assert_told(&log, &["EXPECT is `1`", "could each form a cluster", "Leave it unset"]);

    let mut node = Node::new("a");
    node.set("DEBUG_ADDR", node.address.clone());
    let log = refused(&mut node, 2);
    assert_told(&log, &["LISTEN_ADDR and DEBUG_ADDR are both", "give each its own port"]);
}

#[test]
fn what_only_the_machine_can_tell_is_refused_on_start() {
    for (variable, value, told) in [
        ("CPU", "100000", ["CPU 100000 doesn't exist", "set `auto`, `none`, or a core"]),
        ("LISTEN_ADDR", "no-such.invalid:1", ["LISTEN_ADDR=no-such.invalid:1", NO_NAME]),
        (
            "DEBUG_ADDR",
            "192.0.2.1:1",
            ["DEBUG_ADDR=192.0.2.1:1 is no address of this machine", "[::]"],
        ),
        ("BIND_ADDR", "192.0.2.1", ["BIND_ADDR=192.0.2.1 is no address of this machine", "[::]"]),
        ("BIND_ADDR", "no-such.invalid", ["BIND_ADDR=no-such.invalid", NO_NAME]),
    ] {
        let mut node = Node::new("machine");
        node.set("RES_OPTIONS", "timeout:1 attempts:1").set(variable, value);
        assert_told(&refused(&mut node, 1), &told);
    }
}
