//! System calls of real nodes while one client puts, as strace counts them, and the writes of the log.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Cluster, Node, SOON};

const PUTS: u64 = 300;

/// What a put may cost a node of three. Ticks, gossip and commits to LMDB meanwhile are counted too.
struct Bounds {
    /// At the leader: an append to each follower, and the answer. At a follower: its acknowledgement.
    sends: f64,
    /// Each message once.
    receives: f64,
    /// The reactor's waits and what it asks of the ring: one or two for each thing that wakes it.
    ring_enters: f64,
}

const LEADER: Bounds = Bounds { sends: 3.5, receives: 3.5, ring_enters: 6.0 };
const FOLLOWER: Bounds = Bounds { sends: 1.5, receives: 1.5, ring_enters: 6.0 };
/// Of LMDB and of segments, on other threads.
const SYNCS_MAX: f64 = 0.1;
/// One batch of the log for each put. An entry of the leader's own may need another.
const LOG_WRITES_MAX: f64 = 1.1;

/// strace on a process and its threads, which counts until it is asked.
struct Counting {
    strace: Child,
    output: PathBuf,
}

impl Counting {
    /// `None`, and said out loud, where there is no strace.
    fn begin(node: &Node) -> Option<Counting> {
        let output = node.data_dir().with_extension("calls");
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(&output);
        command.args(["-p", &node.pid().as_raw_nonzero().to_string()]).stderr(Stdio::piped());
        let Ok(mut strace) = command.spawn() else {
            println!("SKIPPED: strace is not installed");
            return None;
        };
        // All threads are attached to before the first line.
        let told = strace.stderr.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(told).read_line(&mut line).expect("strace tells that it is attached");
        assert!(line.contains("attached"), "strace: {line}");
        Some(Counting { strace, output })
    }

    /// How often each system call was made, for each put.
    fn end(mut self) -> BTreeMap<String, f64> {
        kill_process(Pid::from_child(&self.strace), Signal::INT).expect("it runs");
        self.strace.wait().expect("it ends");
        let table = fs::read_to_string(&self.output).expect("it has counted");
        let row = |line: &str| {
            let mut words = line.split_whitespace().skip(3);
            let calls: f64 = words.next()?.parse().ok()?;
            Some((words.last()?.to_owned(), calls / PUTS as f64))
        };
        table.lines().filter_map(row).filter(|(name, _)| name != "total").collect()
    }
}

fn log_writes(node: &Node) -> u64 {
    node.page()["syncs"]["count"].as_u64().expect("a number")
}

fn assert_within(of: &str, calls: &BTreeMap<String, f64>, bounds: &Bounds) {
    let sum = |names: &[&str]| names.iter().filter_map(|name| calls.get(*name)).sum::<f64>();
    let counts = [
        ("sends", sum(&["sendto", "sendmsg"]), bounds.sends),
        ("receives", sum(&["recvfrom", "recvmsg"]), bounds.receives),
        ("waits", sum(&["io_uring_enter"]), bounds.ring_enters),
        ("syncs", sum(&["fsync", "fdatasync", "msync", "sync_file_range"]), SYNCS_MAX),
    ];
    for (what, count, most) in counts {
        println!("{of}: {count:.2} {what} for a put");
        assert!(count <= most, "{of}: {count:.2} {what} for a put, over {most}: {calls:?}");
    }
}

#[test]
fn a_put_is_few_system_calls_and_one_write_of_the_log() {
    // Little that time alone brings about, on a slow machine too; and one leader all along.
    let cluster = Cluster::start_with(3, &[("TICK_MS", "500")]);
    let leader = cluster.leader();
    let [leader, follower] = [leader, (leader + 1) % 3].map(|i| &cluster.nodes[i]);
    let client = leader.client(SOON);
    client.put("key", "before").expect("the cluster serves");
    let writes = [leader, follower].map(log_writes);
    let (Some(of_leader), Some(of_follower)) = (Counting::begin(leader), Counting::begin(follower))
    else {
        return;
    };
    for number in 0..PUTS {
        client.put("key", format!("{number:0256}")).expect("the cluster serves");
    }
    let [of_leader, of_follower] = [of_leader, of_follower].map(Counting::end);
    assert_within("the leader", &of_leader, &LEADER);
    assert_within("a follower", &of_follower, &FOLLOWER);
    for (node, before) in [leader, follower].into_iter().zip(writes) {
        let writes = (log_writes(node) - before) as f64 / PUTS as f64;
        println!("{}: {writes:.2} writes of the log for a put", node.name);
        assert!(writes <= LOG_WRITES_MAX, "{}: {writes:.2} writes for a put", node.name);
    }
}
