//! A full disk: no crash, no acknowledged write lost; puts are refused with the reason, reads and deletes go on, and all
//! is well again when there is space. On a small file system of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use phalanx::client::{Client, Code, Error, Range};

use crate::harness::{Node, SOON, SmallDisk, wait_for, wait_until};
use crate::{TIMEOUT, assert_told};

fn node_on(disk: &SmallDisk, name: &str) -> Node {
    let mut node = Node::new(name);
    node.set("DATA_DIR", disk.root().join("data").display());
    node.start();
    node.wait_ready();
    node
}

/// Writers that note what was acknowledged, and what was refused for want of space.
struct Load {
    stop: Arc<AtomicBool>,
    noted: Arc<Mutex<Noted>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Noted {
    /// By key: the last acknowledged number, and the last that was sent.
    keys: HashMap<String, (u64, u64)>,
    no_space: u64,
}

impl Load {
    const WRITERS: usize = 4;
    const KEYS: u64 = 50;
    const VALUE_LEN: usize = 8 << 10;

    fn start(node: &Node) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let noted = Arc::new(Mutex::new(Noted::default()));
        let spawn = |writer| {
            let client = node.client(TIMEOUT);
            let (stop, noted) = (stop.clone(), noted.clone());
            std::thread::spawn(move || {
                for number in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    put_noted(
                        &client,
                        &format!("{writer}/{}", number % Self::KEYS),
                        number,
                        &noted,
                    );
                }
            })
        };
        let threads = (0..Self::WRITERS).map(spawn).collect();
        Load { stop, noted, threads }
    }

    fn refused(&self) -> u64 {
        self.noted.lock().unwrap().no_space
    }

    fn acknowledged(&self) -> u64 {
        self.noted.lock().unwrap().keys.values().map(|(acknowledged, _)| acknowledged).sum()
    }

    fn finish(self) -> Noted {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a writer panicked"));
        Arc::into_inner(self.noted).unwrap().into_inner().unwrap()
    }
}

fn put_noted(client: &Client, key: &str, number: u64, noted: &Mutex<Noted>) {
    noted.lock().unwrap().keys.entry(key.to_owned()).or_default().1 = number;
    let mut value = vec![0x55; Load::VALUE_LEN];
    value[..8].copy_from_slice(&number.to_be_bytes());
    match client.put(key, value) {
        Ok(_) => noted.lock().unwrap().keys.get_mut(key).expect("it was sent").0 = number,
        Err(Error::Refused { code: Code::NoSpace, message }) => {
            assert!(message.contains("make space on"), "{message}");
            noted.lock().unwrap().no_space += 1;
        }
        // Acknowledged or not: not known, and so nothing to hold the node to.
        Err(Error::Unknown { .. } | Error::Unavailable { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

/// Each key has its last acknowledged value, or one that was sent after it.
#[track_caller]
fn assert_kept(client: &Client, noted: &Noted) {
    assert!(noted.keys.values().any(|(acknowledged, _)| *acknowledged > 0), "nothing was written");
    for (key, (acknowledged, sent)) in &noted.keys {
        let read = client.get(key).unwrap().result;
        let number = read.map_or(0, |kv| u64::from_be_bytes(kv.value[..8].try_into().unwrap()));
        assert!((*acknowledged..=*sent).contains(&number), "{key}: {acknowledged}, read {number}");
    }
}

fn wait_for_puts(client: &Client) {
    wait_until("puts are taken again", SOON, || client.put("again", "and again").is_ok());
}

#[test]
fn a_disk_that_fills_up_under_load() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut node = node_on(&disk, "disk-full");
    let client = node.client(TIMEOUT);
    for i in 0..100 {
        client.put(format!("gone/{i}"), "v").unwrap();
    }

    let load = Load::start(&node);
    wait_until("the load has begun", SOON, || load.acknowledged() > 1000);
    disk.fill(0);
    wait_until("puts are refused", SOON, || load.refused() > 100);
    let noted = load.finish();
    assert_told(&node.log(), &["writes are refused", "make space on it"]);

    // Reads and deletes go on, the next writes are refused, and the node says so where it is asked.
    assert_kept(&client, &noted);
    let page = client.range(Range { from: "gone/".into(), to: "gone0".into(), ..Range::default() });
    assert_eq!(page.unwrap().result.kvs.len(), 100);
    for i in 0..50 {
        assert_eq!(client.delete(format!("gone/{i}")).unwrap().result.deleted, 1);
    }
    assert_eq!(client.delete_range("gone/", "gone0").unwrap().result, 50);
    let refused = client.put("more", "v").unwrap_err();
    assert!(matches!(refused, Error::Refused { code: Code::NoSpace, .. }), "{refused}");
    let (code, body) = node.health_page();
    assert_eq!(code, 503, "{body}");
    assert!(body.contains("no space"), "{body}");

    // A crash on the full disk.
    node.restart();
    wait_for("the node is back", SOON, || client.get("more").ok());
    assert_kept(&client, &noted);
    assert_eq!(client.get("gone/0").unwrap().result, None);
    wait_until("the node knows that the disk is full", SOON, || {
        matches!(client.put("more", "v"), Err(Error::Refused { code: Code::NoSpace, .. }))
    });

    disk.make_space();
    wait_for_puts(&client);
    node.wait_log("there is room on the disk again");
    wait_until("the node is healthy again", SOON, || node.health_page().0 == 200);
    // And all of it survives the next crash.
    node.restart();
    node.wait_ready();
    assert_kept(&client, &noted);
}

#[test]
fn many_range_reads_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let node = node_on(&disk, "scans");
    let client = node.client(TIMEOUT);
    client.put("k", "v").unwrap();
    disk.fill(0);
    // Each holds a read transaction: LMDB's table of readers is a file as well.
    for _ in 0..4 {
        let reads: Vec<_> = (0..1000).map(|_| client.send_range(Range::default())).collect();
        for read in reads {
            assert_eq!(read.wait().unwrap().result.kvs.len(), 1);
        }
    }
}

#[test]
fn a_disk_that_is_full_from_the_start() {
    let Some(disk) = SmallDisk::mount() else { return };
    disk.fill(0);
    let mut node = Node::new("never-fits");
    let dir = disk.root().join("data");
    node.set("DATA_DIR", dir.display());
    let log = crate::refused(&mut node, 1);
    assert_told(&log, &[&dir.display().to_string(), "No space left on device"]);
    disk.make_space();
    node.start();
    node.wait_ready();
    crate::assert_serves(&node);
}
