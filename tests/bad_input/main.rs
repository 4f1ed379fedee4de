//! What bad input gets: each is refused with its cause and the way out, and nothing else is disturbed. All against the
//! real server process.

#[path = "../harness/mod.rs"]
mod harness;

mod wire;

mod backups;
mod copies;
mod crowds;
mod damage;
mod differing;
mod disk_full;
mod http;
mod limits;
mod machine;
mod pipes;
mod protocol;
mod quota;
mod settings;
mod sharing;

use std::io::{self, ErrorKind};
use std::time::Duration;

use harness::{Node, SOON, wait_until};
use phalanx::client::{Client, Code, Error};

/// For a client of a node that answers at once.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a node that does not come up, and gives what it says.
#[track_caller]
fn refused(node: &mut Node, exit_code: i32) -> String {
    node.start();
    refused_already(node, exit_code)
}

/// The same for a node that was started.
#[track_caller]
fn refused_already(node: &mut Node, exit_code: i32) -> String {
    let exit = node.wait_exit(SOON);
    let log = node.log();
    assert_eq!(exit.status.code(), Some(exit_code), "{log}");
    log
}

/// Whether `log` tells each of these: the cause, and the way out.
#[track_caller]
fn assert_told(log: &str, wanted: &[&str]) {
    for text in wanted {
        assert!(log.contains(text), "not told: {text:?}. Told was:\n{log}");
    }
}

/// Puts what is over MAX_BYTES until it is refused for that: of an attempt that a slow disk held up, the node may not know.
#[track_caller]
fn assert_no_space(client: &Client, key: &str, value: &[u8]) {
    wait_until("it is refused", SOON, || match client.put(key, value) {
        Err(Error::Refused { code: Code::NoSpace, .. }) => true,
        Err(Error::Unknown { .. } | Error::Unavailable { .. }) => false,
        other => panic!("{other:?}"),
    });
}

/// Whether the other end has had enough: what it sent before is there to be read.
fn is_end(e: &io::Error) -> bool {
    [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&e.kind())
}

/// Whether the node serves, as before.
#[track_caller]
fn assert_serves(node: &Node) {
    let client = node.client(TIMEOUT);
    client.put("still", "here").expect("the node takes writes");
    let read = client.get("still").expect("the node answers reads").result.expect("it was put");
    assert_eq!(read.value, "here");
}
