//! One cluster's hard time: who is hit, for how long, who led meanwhile, and the verdict at the end.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use phalanx::sim::history::{End, History};
use phalanx::sim::linearizability::{Verdict, judge};

use crate::clients::Clients;
use crate::harness::{Cluster, ELECTION, Node, SOON, random_time, rng, wait_for, wait_until};
use crate::{NODES, TICK_MS};

/// How long the trouble lasts at least.
const TROUBLE: Duration = Duration::from_secs(18);
/// And at most: a busy machine has fewer rounds in the same time, and needs longer for the least that is wanted.
const TROUBLE_MAX: Duration = Duration::from_secs(120);
const ELECTION_TIMEOUT: Duration = Duration::from_millis(TICK_MS * ELECTION);

/// What a run must have had to be worth its verdict.
const ANSWERED_MIN: usize = 1000;
const OPEN_MIN: usize = 5;
const LEADER_CHANGES_MIN: usize = 3;

pub struct Run {
    pub cluster: Cluster,
    clients: Clients,
    rng: fastrand::Rng,
    began: Instant,
    /// By term, who was seen to lead.
    leaders: BTreeMap<u64, String>,
}

impl Run {
    /// Starts the nodes, and the clients when they serve.
    pub fn start(mut cluster: Cluster) -> Run {
        cluster.nodes.iter_mut().for_each(|node| node.set("TICK_MS", TICK_MS).start());
        cluster.wait_formed();
        let mut rng = rng();
        let clients = Clients::start(&cluster, &mut rng);
        let began = Instant::now();
        let mut run = Run { cluster, clients, rng, began, leaders: BTreeMap::new() };
        run.recover();
        run
    }

    pub fn goes_on(&self) -> bool {
        let lasted = self.began.elapsed();
        lasted < TROUBLE || lasted < TROUBLE_MAX && !self.has_enough()
    }

    /// Whether it is worth its verdict.
    fn has_enough(&self) -> bool {
        let (answered, open) = self.clients.counts();
        answered >= ANSWERED_MIN && open >= OPEN_MIN && self.leader_changes() >= LEADER_CHANGES_MIN
    }

    /// The leader mostly.
    pub fn one(&mut self) -> usize {
        let leader = self.cluster.leader();
        (leader + [0, 0, 0, 0, 1, 2][self.rng.usize(..6)]) % NODES
    }

    /// One mostly, sometimes two, sometimes all.
    pub fn some_or_all(&mut self) -> Vec<usize> {
        let first = self.one();
        let count = [1, 1, 1, 1, 1, 1, 2, 3][self.rng.usize(..8)];
        (first..first + count).map(|i| i % NODES).collect()
    }

    pub fn toss(&mut self) -> bool {
        self.rng.bool()
    }

    /// Each of them, or not.
    pub fn some_of(&mut self, nodes: &[usize]) -> Vec<usize> {
        nodes.iter().copied().filter(|_| self.rng.bool()).collect()
    }

    /// Waits until each of them says `what` of its health.
    pub fn wait_told(&self, nodes: &[usize], what: &str) {
        for i in nodes {
            let node = &self.cluster.nodes[*i];
            wait_until(&format!("{} tells of {what}", node.name), SOON, || {
                node.health().is_some_and(|(_, body)| body.contains(what))
            });
        }
    }

    /// Leaves things as they are: for a moment, or until those that are left have a leader and have worked under it.
    pub fn linger(&mut self, victims: &[usize]) {
        thread::sleep(random_time(&mut self.rng, 2 * ELECTION_TIMEOUT));
        if victims.len() == 1 && self.rng.u8(..4) > 0 {
            self.note_leader(victims);
            thread::sleep(random_time(&mut self.rng, ELECTION_TIMEOUT / 2));
        }
    }

    /// Waits until the cluster serves again, and gives it a moment of peace.
    pub fn recover(&mut self) {
        self.note_leader(&[]);
        self.clients.wait_answers();
        thread::sleep(random_time(&mut self.rng, ELECTION_TIMEOUT / 2));
    }

    /// Waits for a leader among those that are not victims.
    fn note_leader(&mut self, victims: &[usize]) {
        let nodes = self.cluster.nodes.iter().enumerate();
        let asked: Vec<&Node> =
            nodes.filter(|(i, _)| !victims.contains(i)).map(|(_, node)| node).collect();
        let leading = wait_for("one of them leads", SOON, || {
            let of_node = |node: &&Node| {
                let status = node.status().filter(|status| status["state"] == "LEADER")?;
                Some((status["term"].as_u64()?, node.name.clone()))
            };
            asked.iter().filter_map(of_node).max()
        });
        self.leaders.extend([leading]);
    }

    fn leader_changes(&self) -> usize {
        let leaders: Vec<&String> = self.leaders.values().collect();
        leaders.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// Ends the trouble, and has the record judged.
    pub fn finish(self) {
        self.cluster.wait_formed();
        let leader_changes = self.leader_changes();
        let history = self.clients.stop(&self.cluster);
        let began = Instant::now();
        let verdict = judge(&history);
        let counts = Counts::of(&history);
        println!(
            "{} operations: {} answered, {} open, {} refused; {leader_changes} leader changes; judged in {:.1?}",
            history.operations().len(),
            counts.answered,
            counts.open,
            counts.refused,
            began.elapsed(),
        );
        match verdict {
            Verdict::Linearizable => {}
            Verdict::Violated(violation) => panic!("{}", violation.explain(&history)),
            Verdict::Unknown(why) => panic!("not found out: {why}"),
        }
        assert!(counts.answered >= ANSWERED_MIN, "only {} answers", counts.answered);
        assert!(counts.open >= OPEN_MIN, "only {} of unknown outcome", counts.open);
        assert!(leader_changes >= LEADER_CHANGES_MIN, "only {leader_changes} leader changes");
    }
}

/// How the operations of a record ended.
#[derive(Default)]
struct Counts {
    answered: usize,
    open: usize,
    refused: usize,
}

impl Counts {
    fn of(history: &History) -> Counts {
        let mut counts = Counts::default();
        for operation in history.operations() {
            *match operation.end {
                End::Answered { .. } => &mut counts.answered,
                End::Open => &mut counts.open,
                End::Failed => &mut counts.refused,
            } += 1;
        }
        counts
    }
}
