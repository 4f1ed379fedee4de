//! Nodes that are killed while they work: nothing acknowledged is lost, nothing is applied twice, and as long as there
//! is a majority the cluster goes on.

mod harness;

use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Cluster, ELECTION_TIMEOUT, Load, Node, SOON, exclusive, random_time, rng, wait_told, wait_until,
};
use phalanx::client::Error;
use phalanx::limits::{BUFFER_LEN_MAX, RETAINED_LEN_MAX, SEGMENT_LEN, VALUE_LEN_MAX};

const LEADER_KILLS: usize = 20;

#[test]
fn the_leader_is_killed_again_and_again() {
    let _turn = exclusive();
    let mut rng = rng();
    let mut cluster = Cluster::start(3);
    let load = Load::start(cluster.addresses());
    let mut kills = Vec::new();
    for _ in 0..LEADER_KILLS {
        load.wait_progress();
        thread::sleep(random_time(&mut rng, ELECTION_TIMEOUT));
        let leader = cluster.leader();
        kills.push(Instant::now());
        cluster.nodes[leader].kill();
        // Long enough for the others to have all but given up on it: the next leader may be killed right after its return.
        thread::sleep(random_time(&mut rng, 4 * ELECTION_TIMEOUT));
        cluster.nodes[leader].start();
    }
    load.wait_progress();
    kills.push(Instant::now());
    cluster.wait_formed();
    let account = load.stop();

    cluster.nodes.iter().for_each(|node| account.check(node));
    assert_eq!(account.errors, [], "the client's own retries see to everything");
    // How long an election may take is tested where time is simulated (`node::tests::failover`). Here the stalls of the disk
    // and of the machine count too: the bound is for a client that does not look for the new leader.
    let gap = |pair: &[Instant]| account.longest_gap(pair[0]..=pair[1]);
    let mut gaps: Vec<Duration> = kills.windows(2).map(gap).collect();
    println!("{} writes; gaps without one, in order: {gaps:.2?}", account.acknowledged_at.len());
    gaps.sort();
    let median = gaps[gaps.len() / 2];
    assert!(median <= 5 * ELECTION_TIMEOUT, "the median gap is {median:?}");
}

#[test]
fn all_nodes_are_killed_at_once() {
    let _turn = exclusive();
    let mut rng = rng();
    let mut cluster = Cluster::start(3);
    let load = Load::start(cluster.addresses());
    for _ in 0..3 {
        load.wait_progress();
        thread::sleep(random_time(&mut rng, 2 * ELECTION_TIMEOUT));
        cluster.kill_at_once(0..3);
        cluster.nodes.iter_mut().for_each(Node::start);
        cluster.wait_formed();
    }
    let account = load.stop();
    cluster.nodes.iter().for_each(|node| account.check(node));
    assert_eq!(account.errors, []);
}

#[test]
fn a_single_node_is_killed_again_and_again() {
    let _turn = exclusive();
    let mut rng = rng();
    let mut node = Node::start_single("alone");
    let load = Load::start(vec![node.address.clone()]);
    for _ in 0..10 {
        load.wait_progress();
        thread::sleep(random_time(&mut rng, Duration::from_millis(500)));
        node.restart();
    }
    load.wait_progress();
    let account = load.stop();
    account.check(&node);
    assert_eq!(account.errors, []);
}

/// Writes fill one segment of the log after the other, and what they overwrite is not kept.
#[test]
fn the_log_stays_bounded_while_a_node_is_killed_again_and_again() {
    const ROUNDS: usize = 5;
    const WRITES: usize = 60;
    const KEYS: usize = 8;
    // What followers may still need, or the database does not have yet, and the segments at both ends.
    let segments_max = (RETAINED_LEN_MAX + BUFFER_LEN_MAX) / SEGMENT_LEN + 4;
    let _turn = exclusive();
    let mut node = Node::start_single("bounded");
    let log = node.data_dir().join("log");
    let segments = || {
        let names = std::fs::read_dir(&log).expect("the log has a directory");
        let names = names.map(|entry| entry.expect("it can be read").file_name());
        let mut names: Vec<String> =
            names.map(|name| name.into_string().expect("names are ASCII")).collect();
        names.retain(|name| name.ends_with(".seg"));
        names.sort();
        names
    };
    let mut written = vec![Vec::new(); KEYS];
    for round in 0..ROUNDS {
        let client = node.client(SOON);
        for number in 0..WRITES {
            let mut value = vec![round as u8; VALUE_LEN_MAX];
            value[..8].copy_from_slice(&(number as u64).to_le_bytes());
            client.put(format!("key-{}", number % KEYS), value.clone()).unwrap();
            written[number % KEYS] = value;
            assert!(segments().len() <= segments_max, "{:?}", segments());
        }
        node.restart();
        node.wait_ready();
    }
    let client = node.client(SOON);
    for (key, value) in written.iter().enumerate() {
        let found = client.get(format!("key-{key}")).unwrap().result;
        assert!(found.is_some_and(|found| found.value == *value), "key-{key}");
    }
    let last = segments().pop().expect("there is one");
    let last = u64::from_str_radix(last.trim_end_matches(".seg"), 16).expect("it has a number");
    assert!(last as usize > segments_max, "segment {last} is the last: too little was written");
    let status = node.page();
    let told = status["log_disk_bytes"].as_u64().expect("a number") as usize;
    assert!(told <= segments_max * SEGMENT_LEN, "{told}");
    let in_memory = status["log_bytes"].as_u64().expect("a number") as usize;
    assert!(in_memory <= RETAINED_LEN_MAX + BUFFER_LEN_MAX, "{in_memory}");
}

#[test]
fn five_nodes_go_on_without_two_and_refuse_writes_without_three() {
    let _turn = exclusive();
    let mut cluster = Cluster::start(5);
    let leader = cluster.leader();
    let client = cluster.client(SOON);
    client.put("key", "before").unwrap();

    cluster.kill_at_once([leader, (leader + 1) % 5]);
    client.put("key", "without two").unwrap();
    let left = [(leader + 3) % 5, (leader + 4) % 5];
    wait_told(left.map(|left| &cluster.nodes[left]), "key", "without two");

    cluster.kill_at_once([(leader + 2) % 5]);
    for left in left {
        let node = &cluster.nodes[left];
        wait_until("the loss is noticed", SOON, || node.health().is_some_and(|(c, _)| c == 503));
        let client = node.client(2 * ELECTION_TIMEOUT);
        wait_until("the refusal tells its cause", SOON, || {
            match client.put("key", "without three") {
                Err(Error::Unavailable { cause } | Error::Unknown { cause }) => {
                    cause.contains("no quorum")
                }
                other => panic!("neither refused nor in doubt: {other:?}"),
            }
        });
        let found = client.get_stale("key").unwrap().result;
        assert_eq!(found.expect("it was written").value, "without two");
    }

    // The majority is back: so are writes.
    cluster.nodes[leader].start();
    cluster.client(SOON).put("key", "with three").unwrap();
}
