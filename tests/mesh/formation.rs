//! However nodes start, fail and are cut off from each other while they form a cluster: it is one at most, all along, and
//! one in the end. PHALANX_ROUNDS sets how often that is tried, in each way that nodes find each other.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::assert_serves;
use crate::harness::{Cluster, ELECTION_TIMEOUT, Lab, Node, SOON, random_time, rng};
use crate::view::members;

const SIZE: usize = 5;
const ROUNDS_DEFAULT: usize = 2;
/// What happens to the nodes happens within one of these: while the first of them are about to form a cluster, or while
/// late ones come to it.
const TROUBLE_TIMES: [Duration; 2] = [Duration::from_millis(600), Duration::from_secs(4)];
const CUT_TIME_MAX: Duration = Duration::from_secs(4);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[test]
fn by_peers_with_addresses() {
    rounds(|nodes, _| {
        let entry = |node: &Node| format!("{}@{}", node.name, node.address);
        let peers: Vec<String> = nodes.iter().map(entry).collect();
        set_all(nodes, "PEERS", &peers.join(","));
    });
}

#[test]
fn by_names_and_seeds() {
    rounds(|nodes, rng| {
        let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        set_all(nodes, "PEERS", &names.join(","));
        set_seeds(nodes, rng);
    });
}

#[test]
fn by_seeds_and_a_number() {
    rounds(|nodes, rng| {
        set_all(nodes, "EXPECT", &SIZE.to_string());
        set_seeds(nodes, rng);
    });
}

/// Each half has a seed of its own, and one that it cannot reach.
#[test]
fn halves_that_have_never_met_become_one() {
    let mut mesh = Mesh::new();
    if mesh.lab.is_none() {
        return;
    }
    let nodes = &mut mesh.cluster.nodes;
    let seeds = [0, 1].map(|node| nodes[node].gossip_address().to_string());
    set_all(nodes, "SEEDS", &seeds.join(","));
    set_all(nodes, "EXPECT", &SIZE.to_string());
    let starts = (0..SIZE).map(|node| (Duration::ZERO, Event::Start(node)));
    let cut = [(Duration::ZERO, Event::Cut(vec![1, 4]))];
    let heal = [(CUT_TIME_MAX, Event::Heal)];
    mesh.suffer(cut.into_iter().chain(starts).chain(heal).collect());
    mesh.becomes_one();
}

fn set_all(nodes: &mut [Node], variable: &str, value: &str) {
    for node in nodes {
        node.set(variable, value);
    }
}

/// Two of them are the seeds of all.
fn set_seeds(nodes: &mut [Node], rng: &mut fastrand::Rng) {
    let mut seeds: Vec<String> =
        nodes.iter().map(|node| node.gossip_address().to_string()).collect();
    rng.shuffle(&mut seeds);
    set_all(nodes, "SEEDS", &seeds[..2].join(","));
}

fn rounds(settings: impl Fn(&mut [Node], &mut fastrand::Rng)) {
    let mut rng = rng();
    let rounds = std::env::var("PHALANX_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS_DEFAULT, |rounds| rounds.parse().expect("it is a number"));
    for round in 0..rounds {
        let mut mesh = Mesh::new();
        settings(&mut mesh.cluster.nodes, &mut rng);
        let trouble = trouble(&mut rng, TROUBLE_TIMES[round % 2]);
        println!("round {round}: {trouble:.1?}");
        mesh.suffer(trouble);
        mesh.becomes_one();
    }
}

#[derive(Debug, Clone)]
enum Event {
    Start(usize),
    Kill(usize),
    Cut(Vec<usize>),
    Heal,
}

/// What happens to the nodes and when, in order.
fn trouble(rng: &mut fastrand::Rng, within: Duration) -> Vec<(Duration, Event)> {
    let mut events = Vec::new();
    for node in 0..SIZE {
        let late = rng.bool();
        let at = if late { random_time(rng, within) } else { Duration::ZERO };
        events.push((at, Event::Start(node)));
    }
    for _ in 0..3 {
        let (node, at) = (rng.usize(..SIZE), random_time(rng, within));
        events.push((at, Event::Kill(node)));
        events.push((at + random_time(rng, ELECTION_TIMEOUT), Event::Start(node)));
    }
    let mut away: Vec<usize> = (0..SIZE).collect();
    rng.shuffle(&mut away);
    away.truncate(rng.usize(1..SIZE));
    let at = random_time(rng, within / 2);
    events.push((at, Event::Cut(away)));
    events.push((at + random_time(rng, CUT_TIME_MAX), Event::Heal));
    events.sort_by_key(|(at, _)| *at);
    events
}

/// Nodes on machines of their own, if that can be had. Otherwise nodes that are cut off are stopped for the time.
struct Mesh {
    lab: Option<Lab>,
    cluster: Cluster,
    stopped: Vec<usize>,
    /// Of every cluster that any of the nodes ever belonged to.
    cluster_ids: BTreeSet<String>,
}

impl Mesh {
    fn new() -> Mesh {
        let lab = Lab::new(SIZE);
        let node = |host: usize| {
            let name = format!("node-{}", host + 1);
            lab.as_ref().map_or_else(|| Node::new(&name), |lab| lab.node(host, &name))
        };
        let cluster = Cluster { nodes: (0..SIZE).map(node).collect() };
        Mesh { lab, cluster, stopped: Vec::new(), cluster_ids: BTreeSet::new() }
    }

    fn suffer(&mut self, trouble: Vec<(Duration, Event)>) {
        let began = Instant::now();
        for (at, event) in trouble {
            while began.elapsed() < at {
                self.look();
                thread::sleep(POLL_INTERVAL.min(at.saturating_sub(began.elapsed())));
            }
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let nodes = &mut self.cluster.nodes;
        match event {
            Event::Start(node) if nodes[node].is_running() => {}
            Event::Start(node) => nodes[node].start(),
            Event::Kill(node) => {
                nodes[node].kill();
                self.stopped.retain(|stopped| *stopped != node);
            }
            Event::Cut(away) => match &self.lab {
                Some(lab) => lab.cut(&away),
                None => {
                    self.stopped = away.into_iter().filter(|i| nodes[*i].is_running()).collect();
                    self.stopped.iter().for_each(|node| nodes[*node].signal(Signal::STOP));
                }
            },
            Event::Heal => match &self.lab {
                Some(lab) => lab.heal(),
                None => self.stopped.drain(..).for_each(|node| nodes[node].signal(Signal::CONT)),
            },
        }
    }

    /// Notes who belongs to which cluster: there is one at most.
    fn look(&mut self) {
        for (i, node) in self.cluster.nodes.iter().enumerate() {
            if node.is_running() && !self.stopped.contains(&i) {
                self.cluster_ids.insert(node.status_text("cluster_id"));
            }
        }
        self.cluster_ids.remove("");
        assert!(self.cluster_ids.len() <= 1, "two clusters: {:?}", self.cluster_ids);
    }

    /// Waits until all are members of one cluster and serve.
    fn becomes_one(&mut self) {
        let began = Instant::now();
        while !self.is_one() {
            self.look();
            assert!(began.elapsed() < SOON, "the nodes are not one cluster after {SOON:?}");
            thread::sleep(POLL_INTERVAL);
        }
        println!("one cluster {:.1?} after the last of it", began.elapsed());
        self.look();
        self.cluster.nodes.iter().for_each(assert_serves);
    }

    fn is_one(&self) -> bool {
        let leader = &self.cluster.nodes[self.cluster.leader()];
        let follows = |node: &Node| {
            node.is_ready()
                && node.status_text("leader_id") == leader.name
                && Some(&node.status_text("cluster_id")) == self.cluster_ids.first()
        };
        members(leader).len() == SIZE && self.cluster.nodes.iter().all(follows)
    }
}
