//! Backups of real clusters: what is saved under load is restored exactly, as a cluster of its own.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use harness::{Cluster, Node, SOON, exclusive, wait_for, wait_until};
use phalanx::client::{Client, prefix};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A key, its value, and the revision that wrote it.
type Write = (String, String, u64);

/// Writes its own keys, over and over, until it is told to stop. Gives what was acknowledged.
fn write_on(client: Client, writer: usize, stop: Arc<AtomicBool>) -> Vec<Write> {
    let mut written = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (key, value) = (format!("{writer}/{}", number % 300), format!("{number}").repeat(50));
        let revision = client.put(&key, &value).expect("the cluster is whole").revision;
        written.push((key, value, revision));
    }
    written
}

/// What a store has that is as of a revision: of each key the last write up to it.
fn as_of(revision: u64, writes: &[Write]) -> BTreeMap<String, (String, u64)> {
    let mut state: BTreeMap<String, (String, u64)> = BTreeMap::new();
    for (key, value, written) in writes.iter().filter(|(.., written)| *written <= revision) {
        let known = state.get(key).map_or(0, |(_, at)| *at);
        if known < *written {
            state.insert(key.clone(), (value.clone(), *written));
        }
    }
    state
}

fn all(client: &Client) -> BTreeMap<String, (String, u64)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the tests write text");
    let entries = client.entries(prefix(""));
    let entries = entries.map(|entry| entry.expect("it can be read"));
    entries.map(|kv| (text(&kv.key), (text(&kv.value), kv.mod_revision))).collect()
}

/// Runs `phalanx snapshot ...` with JSON, and gives what it says.
fn told(output: &std::process::Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are text")
}

fn backup_of(node: &Node, dir: &Path, name: &str) -> (PathBuf, Value) {
    let file = dir.join(name);
    // A node that is in doubt of its leader gives none, and says that it is safe to ask again.
    let saved = wait_for("a snapshot is saved", SOON, || {
        let args = ["snapshot", "save", text(&file), "--json", "--timeout", "20s"];
        let saved = node.phalanx(&args);
        if saved.status.code() == Some(3) {
            println!("again: {saved:?}");
            return None;
        }
        Some(told(&saved))
    });
    let checked = told(&node.phalanx(&["snapshot", "check", text(&file), "--json"]));
    assert_eq!(saved, checked);
    (file, saved)
}

fn start_restored(node: &mut Node, file: &Path) {
    let mut command = node.command();
    command.arg("--restore").arg(file);
    node.spawn(command);
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory can be written")
}

#[test]
fn what_is_saved_under_load_is_restored_exactly_and_grows_to_a_cluster() {
    let _turn = exclusive();
    let mut old = Cluster::start(3);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (client, stop) = (old.client(TIMEOUT), stop.clone());
            thread::spawn(move || write_on(client, writer, stop))
        })
        .collect();
    let leader = old.leader();
    let key_count = || old.nodes[leader].status().and_then(|status| status["kv_size"].as_u64());
    for keys in (300..=1200).step_by(300) {
        wait_until("there is more to save", SOON, || key_count() >= Some(keys));
    }
    let dir = dir();
    let backups: Vec<_> = (0..3)
        .map(|i| backup_of(&old.nodes[(leader + i) % 3], dir.path(), &format!("{i}.snap")))
        .collect();
    stop.store(true, Ordering::SeqCst);
    let writes: Vec<Write> =
        writers.into_iter().flat_map(|writer| writer.join().expect("it writes")).collect();

    for (file, saved) in &backups {
        let revision = saved["revision"].as_u64().expect("a number");
        let expected = as_of(revision, &writes);
        assert!(writes.iter().any(|(.., written)| *written > revision), "under load");
        let mut node = Node::new("restored");
        start_restored(&mut node, file);
        node.wait_ready();
        let client = node.client(TIMEOUT);
        assert_eq!(all(&client), expected);
        assert_eq!(saved["keys"].as_u64(), Some(expected.len() as u64));
        // Revisions go on.
        assert_eq!(client.put("new", "value").expect("it takes writes").revision, revision + 1);
        assert_ne!(Value::from(node.status_text("cluster_id")), saved["cluster_id"]);
        if file == &backups[2].0 {
            grows(node, &mut old, expected, revision);
        }
    }
}

/// A restored node is started again, is joined by another, and has nothing to do with the old cluster.
fn grows(
    mut node: Node,
    old: &mut Cluster,
    mut expected: BTreeMap<String, (String, u64)>,
    revision: u64,
) {
    node.restart();
    node.wait_ready();
    expected.insert("new".to_owned(), ("value".to_owned(), revision + 1));
    assert_eq!(all(&node.client(TIMEOUT)), expected);

    let mut others: Vec<Node> = ["second", "third"].map(Node::new).into_iter().collect();
    let names = format!(
        "restored@{},second@{},third@{}",
        node.address, others[0].address, others[1].address
    );
    for other in &mut others {
        other.set("PEERS", &names).start();
    }
    // As each of them knows: who does not know that the change is over still needs the one voter that there was before.
    wait_until("both have joined and vote", SOON, || {
        std::iter::once(&node).chain(&others).all(|node| {
            let status = node.status().unwrap_or_default();
            let peers = status["peers"].as_array().cloned().unwrap_or_default();
            peers.len() == 2 && peers.iter().all(|peer| peer["voter"].as_bool() == Some(true))
        })
    });
    node.kill();
    others.iter().for_each(Node::wait_ready);
    assert_eq!(all(&others[0].client(TIMEOUT)), expected);

    // A node of the old cluster that finds its way here is refused.
    let stray = &mut old.nodes[0];
    stray.terminate();
    stray.set("PEERS", format!("second@{}", others[0].address)).set("EXPECT", "3").start();
    wait_until("it is refused", SOON, || {
        let status = others[0].status().unwrap_or_default();
        status["counters"]["peers_refused"].as_u64() > Some(0)
    });
    assert_eq!(all(&others[1].client(TIMEOUT)), expected);
}

#[test]
fn a_backup_is_restored_once_and_into_an_empty_directory() {
    let _turn = exclusive();
    let node = Node::start_single("source");
    let client = node.client(TIMEOUT);
    client.put("key", "value").expect("it takes writes");
    let dir = dir();
    let (file, _) = backup_of(&node, dir.path(), "backup.snap");

    let mut restored = Node::new("restored");
    start_restored(&mut restored, &file);
    restored.wait_ready();
    restored.terminate();
    // The flag is for once.
    start_restored(&mut restored, &file);
    assert_eq!(restored.wait_exit(SOON).status.code(), Some(1));
    assert!(restored.log().contains("is not empty"), "{}", restored.log());
    restored.start();
    restored.wait_ready();
    let read = restored.client(TIMEOUT).get("key").expect("it answers").result;
    assert_eq!(read.expect("it was in the backup").value, "value");

    // A damaged backup changes nothing.
    let mut bytes = fs::read(&file).expect("it was saved");
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    let damaged = dir.path().join("damaged.snap");
    fs::write(&damaged, bytes).expect("the directory can be written");
    let check = node.phalanx(&["snapshot", "check", text(&damaged)]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    assert!(String::from_utf8_lossy(&check.stderr).contains("at byte"), "{check:?}");
    let mut another = Node::new("another");
    start_restored(&mut another, &damaged);
    assert_eq!(another.wait_exit(SOON).status.code(), Some(1));
    assert!(another.log().contains("Nothing was changed"), "{}", another.log());
    assert!(!another.data_dir().exists());

    // One that was cut short is no node: neither a start nor another restore goes on from it.
    start_restored(&mut another, &file);
    another.wait_ready();
    another.terminate();
    fs::write(another.data_dir().join("RESTORING"), "").expect("the directory can be written");
    for restores in [true, false] {
        let log = another.log().len();
        match restores {
            true => start_restored(&mut another, &file),
            false => another.start(),
        }
        assert_eq!(another.wait_exit(SOON).status.code(), Some(1));
        assert!(another.log()[log..].contains("was cut short"), "{}", another.log());
    }
}

#[test]
fn a_backup_has_its_name_only_when_it_is_whole() {
    let _turn = exclusive();
    let mut node = Node::start_single("source");
    let dir = dir();
    let (file, saved) = backup_of(&node, dir.path(), "backup.snap");
    node.client(TIMEOUT).put("key", "value").expect("it takes writes");
    let refused = node.phalanx(&["snapshot", "save", text(&file)]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--force"), "{refused:?}");
    assert_eq!(told(&node.phalanx(&["snapshot", "check", text(&file), "--json"])), saved);
    let replaced = told(&node.phalanx(&[
        "snapshot",
        "save",
        "--force",
        text(&file),
        "--json",
        "--timeout",
        "20s",
    ]));
    assert!(replaced["revision"].as_u64() > saved["revision"].as_u64());

    node.kill();
    let other = dir.path().join("other.snap");
    let unavailable = node.phalanx(&["snapshot", "save", text(&other), "--timeout", "1s"]);
    assert_eq!(unavailable.status.code(), Some(3), "{unavailable:?}");
    let names: Vec<_> = fs::read_dir(dir.path()).expect("it is there").collect();
    assert_eq!(names.len(), 1, "nothing is left of what was not saved: {names:?}");
}
