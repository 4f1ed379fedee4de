//! What real nodes promise while nobody kills them: they form one cluster, serve through any node, hand over, read
//! nothing stale after a pause, and cost little.

mod harness;

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use harness::{
    Cluster, ELECTION_TIMEOUT, Load, Node, SOON, STEADY, exclusive, random_time, rng, wait_until,
};
use phalanx::client::Client;
use phalanx::limits::{SEGMENT_LEN, VALUE_LEN_MAX};
use rustix::process::Signal;

#[test]
fn the_command_line_works_with_every_node() {
    let _turn = exclusive();
    let cluster = Cluster::start(3);
    for (i, writer) in cluster.nodes.iter().enumerate() {
        let value = format!("value {i}");
        let put = phalanx(&["put", "key", &value, "-addr", &writer.address]);
        assert!(put.status.success(), "through {}: {put:?}", writer.name);
        for reader in &cluster.nodes {
            let get = phalanx(&["get", "key", "-addr", &reader.address]);
            assert!(get.status.success(), "through {}: {get:?}", reader.name);
            assert_eq!(String::from_utf8_lossy(&get.stdout), value, "through {}", reader.name);
        }
    }
}

fn phalanx(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phalanx"));
    let command = command.args(args).args(["--timeout", "20s"]).output();
    command.expect("the command line can be started")
}

#[test]
fn a_leader_that_was_stopped_serves_no_stale_read() {
    let _turn = exclusive();
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let others = cluster.nodes.iter().filter(|node| node.name != cluster.nodes[leader].name);
    let others: Vec<String> = others.map(|node| node.address.clone()).collect();
    let writing = Client::connect(others, phalanx::client::Options::within(SOON)).unwrap();
    writing.put("key", "0").unwrap();

    // The last write that was acknowledged.
    let acknowledged = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let (acknowledged, done) = (acknowledged.clone(), done.clone());
        move || {
            for number in 1.. {
                writing.put("key", number.to_string()).unwrap();
                acknowledged.store(number, Ordering::SeqCst);
                if done.load(Ordering::SeqCst) {
                    return;
                }
            }
        }
    });
    let stopped = &cluster.nodes[leader];
    // Connected before, so that their reads are the first that the node sees when it goes on.
    let clients: Vec<Client> = (0..4).map(|_| stopped.client(SOON)).collect();
    clients.iter().for_each(|client| read_fresh(client, &acknowledged));
    stopped.signal(Signal::STOP);
    thread::sleep(10 * ELECTION_TIMEOUT);
    assert!(acknowledged.load(Ordering::SeqCst) > 0, "the others go on");

    let readers = clients.into_iter().map(|client| {
        let acknowledged = acknowledged.clone();
        thread::spawn(move || (0..200).for_each(|_| read_fresh(&client, &acknowledged)))
    });
    let readers: Vec<_> = readers.collect();
    thread::sleep(ELECTION_TIMEOUT / 4);
    let before = acknowledged.load(Ordering::SeqCst);
    stopped.signal(Signal::CONT);
    readers.into_iter().for_each(|reader| reader.join().expect("no stale read"));
    wait_until("writes go on", SOON, || acknowledged.load(Ordering::SeqCst) > before);
    done.store(true, Ordering::SeqCst);
    writer.join().expect("no failed write");
}

/// Reads the key and checks that it is at least as new as what was acknowledged before.
fn read_fresh(client: &Client, acknowledged: &AtomicU64) {
    let floor = acknowledged.load(Ordering::SeqCst);
    let found = client.get("key").unwrap().result.expect("it was written");
    let number: u64 = std::str::from_utf8(&found.value).unwrap().parse().unwrap();
    assert!(number >= floor, "a stale read: {number}, after {floor} was acknowledged");
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over() {
    let _turn = exclusive();
    let mut cluster = Cluster::start_with(3, &[STEADY]);
    let leader = cluster.leader();
    let load = Load::start(cluster.addresses());
    load.wait_progress();
    let exit = cluster.nodes[leader].terminate();
    // Normally within a second. What hangs takes longer than any stall of the machine.
    println!("it has stopped after {:.1?}", exit.took);
    assert!(exit.status.success() && exit.took < Duration::from_secs(10), "{exit:?}");
    assert!(cluster.nodes[leader].log().contains("handing leadership over"));
    assert_ne!(cluster.leader(), leader);
    load.wait_progress();
    cluster.nodes[leader].start();
    cluster.wait_formed();
    let account = load.stop();
    assert_eq!(account.errors, []);
    cluster.nodes.iter().for_each(|node| account.check(node));
}

#[test]
fn a_second_signal_ends_a_node_at_once() {
    let _turn = exclusive();
    let mut cluster = Cluster::start_with(3, &[STEADY]);
    let leader = cluster.leader();
    // A write that cannot be finished keeps the leader from stopping at the first signal.
    for (i, node) in cluster.nodes.iter().enumerate() {
        if i != leader {
            node.signal(Signal::STOP);
        }
    }
    let pending = cluster.nodes[leader].client(SOON).send_put("key", "value");
    let proposals = || cluster.nodes[leader].page()["counters"]["proposals"].as_u64();
    wait_until("the write is proposed", SOON, || proposals() > Some(0));
    let node = &mut cluster.nodes[leader];
    // Two of one kind could become one.
    node.signal(Signal::TERM);
    node.signal(Signal::INT);
    let exit = node.wait_exit(SOON);
    assert_eq!(exit.status.code(), Some(130), "{exit:?}");
    drop(pending);
}

#[test]
fn nodes_that_start_in_any_order_form_one_cluster() {
    let _turn = exclusive();
    let mut rng = rng();
    for round in 0..4 {
        let mut cluster = Cluster::new(3);
        let mut order = [0, 1, 2];
        rng.shuffle(&mut order);
        for i in order {
            thread::sleep(random_time(&mut rng, ELECTION_TIMEOUT));
            cluster.nodes[i].start();
        }
        cluster.wait_formed();
        let ids: Vec<String> =
            cluster.nodes.iter().map(|node| node.status_text("cluster_id")).collect();
        assert!(!ids[0].is_empty() && ids.iter().all(|id| *id == ids[0]), "{round}: {ids:?}");
        let founders = cluster.nodes.iter().filter(|node| node.log().contains("forming cluster"));
        assert_eq!(founders.count(), 1, "round {round}");
    }
}

#[test]
fn a_node_that_may_not_form_a_cluster_waits() {
    let mut node = Node::new("alone");
    node.set("BOOTSTRAP", "never").start();
    // It says so every few seconds: by the second time it had every occasion to form one.
    wait_until("the node waits", SOON, || node.log().matches("waiting: ").count() >= 2);
    let (code, body) = node.health_page();
    assert!(code == 200 && body.contains("forming"), "{code} {body}");
    assert_eq!(node.page()["cluster_id"], "");
}

/// More than a node keeps of its log for those who are behind.
const LONG_VALUES: usize = 32;

#[test]
fn a_new_node_gets_the_state_where_the_log_does_not_reach_back() {
    let _turn = exclusive();
    let cluster = Cluster::start(3);
    let client = cluster.client(SOON);
    client.put("old", "value").unwrap();
    for number in 0..LONG_VALUES {
        client.put(format!("long {number}"), vec![number as u8; VALUE_LEN_MAX]).unwrap();
    }
    let is_short = |node: &Node| {
        let status = node.page();
        status["log_length"].as_u64() < status["commit_index"].as_u64()
    };
    for node in &cluster.nodes {
        wait_until("the log is cut short", SOON, || is_short(node));
    }

    let mut joining = Node::new("node-4");
    let known = cluster.nodes.iter().map(|node| format!("{}@{}", node.name, node.address));
    joining.set("PEERS", known.collect::<Vec<_>>().join(","));
    joining.start();
    joining.wait_log("the snapshot as of entry");
    joining.wait_ready();
    let check = |joining: &Node| {
        let reading = joining.client(SOON);
        assert_eq!(reading.get("old").unwrap().result.expect("it was written").value, "value");
        let stale = joining.phalanx(&["get", "long 7", "--stale"]);
        assert!(
            stale.status.success() && stale.stdout == vec![7; VALUE_LEN_MAX],
            "{}",
            stale.status
        );
    };
    check(&joining);
    let status = joining.page();
    assert_eq!(status["counters"]["snapshots_received"], 1);
    let states = || {
        let names = fs::read_dir(joining.data_dir()).unwrap().map(|it| it.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| name.starts_with("state-")).collect::<Vec<_>>()
    };
    // Numbers are of attempts: which one succeeds is up to the leaders that there are meanwhile.
    wait_until("the old state is removed", SOON, || {
        let states = states();
        states.len() == 1 && states != ["state-1"]
    });
    // It starts from what it was sent.
    joining.restart();
    joining.wait_ready();
    check(&joining);
    assert_eq!(joining.page()["counters"]["snapshots_received"], 0);
}

const IDLE_TIME: Duration = Duration::from_secs(5);
/// In percent of a core: it does not spin. That it is below 1 % is for the benchmark to show, on a machine that does nothing
/// else.
const IDLE_SHARE_MAX: f64 = 10.0;
/// For ten ticks a second, heartbeats and gossip. At 1 % of a core, which is to be too much, each would take 170 us.
const IDLE_WAKEUPS_MAX: u64 = 60 * IDLE_TIME.as_secs();
const IDLE_RSS_MAX_BYTES: u64 = 64 << 20;

#[test]
fn an_idle_node_costs_little() {
    let _turn = exclusive();
    let cluster = Cluster::start(3);
    // What the start left to do is done when LMDB has it all, and the log its next segment.
    for node in &cluster.nodes {
        drop(node.client(SOON).snapshot().expect("it opens"));
        let is_prepared = || node.page()["log_disk_bytes"].as_u64() == Some(2 * SEGMENT_LEN as u64);
        wait_until("the next segment is there", SOON, is_prepared);
    }
    let before: Vec<(Duration, u64)> =
        cluster.nodes.iter().map(|node| (cpu_time(node), wakeups(node))).collect();
    thread::sleep(IDLE_TIME);
    for (node, (cpu_before, woken_before)) in cluster.nodes.iter().zip(before) {
        let (used, rss) = (cpu_time(node) - cpu_before, rss_bytes(node));
        let share = 100.0 * used.as_secs_f64() / IDLE_TIME.as_secs_f64();
        let woken = wakeups(node) - woken_before;
        println!("{}: {woken} wake-ups, {share:.2} % of a core, {} KiB", node.name, rss >> 10);
        assert!(share < IDLE_SHARE_MAX, "{} uses {share:.2} % of a core", node.name);
        assert!(woken < IDLE_WAKEUPS_MAX, "{} wakes up {woken} times", node.name);
        assert!(rss < IDLE_RSS_MAX_BYTES, "{} uses {rss} bytes", node.name);
    }
}

/// What a file of each of the process's threads says. One may end meanwhile.
fn of_threads(node: &Node, file: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", node.pid())).expect("it runs");
    threads.filter_map(|it| fs::read_to_string(it.ok()?.path().join(file)).ok()).collect()
}

/// What the process has used of the cores, by the scheduler's account.
fn cpu_time(node: &Node) -> Duration {
    let of_thread = |schedstat: &String| schedstat.split(' ').next()?.parse().ok();
    of_threads(node, "schedstat").iter().filter_map(of_thread).map(Duration::from_nanos).sum()
}

/// How often its threads had nothing to do and waited.
fn wakeups(node: &Node) -> u64 {
    let of_thread = |status: &String| -> Option<u64> {
        let told = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        told?.trim().parse().ok()
    };
    of_threads(node, "status").iter().filter_map(of_thread).sum()
}

fn rss_bytes(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.expect("the kernel tells it") << 10
}
