//! Backups that cannot be saved or restored: nothing is left of them, and the cause is told.

use std::fs;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Node, SOON, SmallDisk, wait_until};
use crate::{TIMEOUT, assert_serves, assert_told, refused_already};

const VALUE_LEN: usize = 512 << 10;

/// A node with some MiB.
fn source() -> Node {
    let node = Node::start_single("source");
    let client = node.client(TIMEOUT);
    for key in ["a", "b", "c", "d"] {
        client.put(key, vec![b'v'; VALUE_LEN]).expect("it takes writes");
    }
    // A snapshot opens when what was applied is durable: the next ones need not wait.
    drop(client.snapshot().expect("it opens"));
    node
}

/// Where a node is reached that says no more than so many bytes, and then hangs.
fn hangs_after(node: &Node, len: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let (address, behind) = (listener.local_addr().expect("it is bound"), node.address.clone());
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client comes");
        let mut server = TcpStream::connect(behind).expect("the node listens");
        let [mut asks, mut is_asked] =
            [&client, &server].map(|it| it.try_clone().expect("there are descriptors"));
        thread::spawn(move || {
            // An error is the end of the client too.
            let _ = io::copy(&mut asks, &mut is_asked);
            let _ = is_asked.shutdown(Shutdown::Both);
        });
        io::copy(&mut Read::by_ref(&mut server).take(len as u64), &mut client)
            .expect("the client reads");
        loop {
            thread::park();
        }
    });
    address.to_string()
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory can be written")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("it is there");
    entries
        .map(|entry| entry.expect("it is read").file_name().into_string().expect("text"))
        .collect()
}

fn save(file: &Path, addr: &str, timeout: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phalanx"));
    command.args(["snapshot", "save", "--addr", addr, "--timeout", timeout]).arg(file);
    command
}

#[test]
fn a_save_that_is_told_to_end_leaves_nothing_behind() {
    let node = source();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let dir = dir();
        let hung = hangs_after(&node, 3 * VALUE_LEN);
        let mut saving = save(&dir.path().join("backup"), &hung, "60s").spawn().expect("it starts");
        wait_until("it has begun", SOON, || names(dir.path()).len() == 1);
        kill_process(Pid::from_child(&saving), signal).expect("it runs");
        assert_eq!(saving.wait().expect("it is a child").code(), Some(code));
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

#[test]
fn of_a_node_that_hangs_the_cause_is_told_and_another_is_asked() {
    let (node, dir) = (source(), dir());
    let file = dir.path().join("backup");
    // Before the first word, after the greeting, and in the middle.
    for len in [0, 100, 3 * VALUE_LEN] {
        let failed = save(&file, &hangs_after(&node, len), "1s").output().expect("it starts");
        assert_eq!(failed.status.code(), Some(3), "{failed:?}");
        let said = String::from_utf8_lossy(&failed.stderr);
        assert_told(&said, &["no answer within 1s"]);
        assert!(!said.contains("os error"), "{said}");
        assert_eq!(names(dir.path()), [""; 0]);
    }
    for len in [0, 100] {
        let addr = format!("{},{}", hangs_after(&node, len), node.address);
        let saved = save(&file, &addr, "5s").arg("--force").output().expect("it starts");
        assert!(saved.status.success(), "{saved:?}");
    }
}

#[test]
fn a_backup_is_not_restored_where_it_has_no_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let node = Node::start_single("source");
    let client = node.client(TIMEOUT);
    // Each takes a page of its own, and needs half of one.
    let puts: Vec<_> =
        (0..4000).map(|key| client.send_put(format!("{key}"), vec![b'v'; 2100])).collect();
    for put in puts {
        put.wait().expect("it takes writes");
    }
    let dir = dir();
    let file = dir.path().join("backup");
    assert!(save(&file, &node.address, "20s").status().expect("it starts").success());

    let mut restored = Node::new("restored");
    let data_dir = disk.root().join("new/data");
    restored.set("DATA_DIR", data_dir.display());
    let start = |restored: &mut Node| {
        let mut command = restored.command();
        command.arg("--restore").arg(&file);
        restored.spawn(command);
    };
    disk.fill(64 << 20);
    start(&mut restored);
    let log = refused_already(&mut restored, 1);
    assert_told(&log, &["MiB free", &data_dir.display().to_string(), "Nothing was changed"]);
    let needed = log.split_once(" needs ").and_then(|(_, rest)| rest.split_once(" MiB"));
    let needed: u64 = needed.expect("it is told").0.parse().expect("a number");
    assert!(!disk.root().join("new").exists());

    // What is asked for is enough: the node takes writes.
    disk.make_space();
    // To a block, more or less.
    disk.fill((needed << 20) + (64 << 10));
    start(&mut restored);
    restored.wait_ready();
    assert_serves(&restored);
}
