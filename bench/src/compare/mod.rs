//! Phalanx and etcd side by side, by the same generator, on the same machine and disk, in turns.
//!
//! One round is: measure the floor; for each size, start one cluster with empty directories, fill it, run the
//! workloads, end it; then the other system the same. So neither is there while the other is measured, and what a
//! machine does over time falls on both. The system that goes first changes from round to round.

mod footprint;
mod suite;
mod table;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, Programs, watch_signals};
use crate::floor::Floor;
use crate::load::outcome::Outcome;
use crate::load::{self, Options};
use crate::machine;
use crate::target::Target;
use footprint::Footprint;
use suite::{FloorOf, Lengths, Metric, Part};
use table::Line;

/// How long the floor is looked for, in each round.
const FLOOR_LENGTH: Duration = Duration::from_millis(4500);

/// Through which node the clients of three go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    Leader,
    Follower,
}

/// What to compare.
pub struct Plan {
    pub rounds: usize,
    pub quick: bool,
    /// One system alone.
    pub only: Option<Target>,
    pub through: Through,
    pub seconds: Duration,
    /// Data directories are made in it.
    pub directory: PathBuf,
    /// For everything, timelines and percentiles included.
    pub json: Option<String>,
}

/// What was measured of one part.
struct Measured {
    part: Part,
    /// Of each target, round by round.
    rounds: [Vec<Outcome>; 2],
}

/// Runs the comparison and prints it. The last line is one JSON object.
pub fn run(plan: &Plan) -> io::Result<()> {
    machine::require_disk(&plan.directory)?;
    let targets: Vec<Target> =
        Target::ALL.into_iter().filter(|it| plan.only.is_none_or(|only| only == *it)).collect();
    let programs = Programs::find(&targets)?;
    watch_signals()?;
    let about = About::new(plan, &programs, &targets)?;
    println!("{}\n", about.text(plan));
    let mut measured: Vec<Measured> = suite::parts(plan.lengths(), plan.quick)
        .into_iter()
        .map(|part| Measured { part, rounds: Default::default() })
        .collect();
    let begun = Instant::now();
    let mut floor: Option<Floor> = None;
    let mut footprint = Footprint::default();
    let mut placements: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for round in 0..plan.rounds {
        progress(&format!("round {} of {}: floor", round + 1, plan.rounds));
        let now = Floor::measure(&plan.directory, FLOOR_LENGTH)?;
        match &mut floor {
            Some(floor) => floor.add(&now),
            None => floor = Some(now),
        }
        for nodes in [3, 1] {
            for turn in 0..targets.len() {
                let target = targets[(turn + round) % targets.len()];
                progress(&format!(
                    "round {} of {}: {}, {nodes} nodes",
                    round + 1,
                    plan.rounds,
                    target.name()
                ));
                let cluster = measure(plan, &programs, target, nodes, &mut measured)?;
                let kind = format!("{}, {nodes} nodes, the leader first", target.name());
                let placement = cluster.placement()?.join(", ");
                // Which node leads is chance, and so may be where.
                let seen: &mut Vec<String> = placements.entry(kind).or_default();
                if !seen.contains(&placement) {
                    seen.push(placement);
                }
                // Once is enough: it is the same in each round, and takes as long as one.
                if round == 0 && nodes > 1 && !plan.quick {
                    progress(&format!("{}: a million keys", target.name()));
                    footprint.measure(target, &cluster)?;
                }
            }
        }
    }
    progress("");
    let floor =
        floor.ok_or_else(|| io::Error::other("without a round there is nothing to tell"))?;
    println!("cores that each node may use:");
    for (nodes, cores) in &placements {
        println!("{nodes}: {}", cores.join("; or "));
    }
    println!("\n{}\n", floor.text());
    let lines = measured.iter().flat_map(|it| it.lines(plan.through, &floor));
    let lines: Vec<Line> = lines.chain(footprint.lines()).collect();
    println!("{}\n", table::table(&lines));
    println!("{}", measured.iter().flat_map(Measured::warnings).collect::<String>());
    println!("{:.0} s in all", begun.elapsed().as_secs_f64());
    let mut json = about.json;
    json["placements"] = json!(placements);
    json["floor"] = floor.to_json();
    json["lines"] = lines.iter().map(Line::to_json).collect();
    if let Some(path) = &plan.json {
        let mut whole = json.clone();
        whole["outcomes"] = measured.iter().map(Measured::to_json).collect();
        std::fs::write(path, format!("{whole:#}\n"))?;
    }
    println!("{json}");
    Ok(())
}

fn progress(text: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r{text}\x1b[K");
    }
}

impl Plan {
    fn lengths(&self) -> Lengths {
        Lengths { warm_up: self.seconds / 4, counted: self.seconds }
    }
}

fn measure(
    plan: &Plan,
    programs: &Programs,
    target: Target,
    nodes: usize,
    measured: &mut [Measured],
) -> io::Result<Cluster> {
    let cluster = Cluster::start(programs, target, nodes, &plan.directory)?;
    let leader = Options::new(target, vec![cluster.leader().to_owned()]);
    let asked = match plan.through {
        Through::Follower if nodes > 1 => Options::new(target, vec![cluster.addresses[1].clone()]),
        _ => leader.clone(),
    };
    load::run(&suite::fill(), &leader)?;
    for it in measured.iter_mut().filter(|it| it.part.nodes == nodes) {
        it.rounds[target as usize].push(load::run(&it.part.workload, &asked)?);
    }
    Ok(cluster)
}

impl Measured {
    fn lines(&self, through: Through, floor: &Floor) -> Vec<Line> {
        let value = |outcome: &Outcome, metric| match metric {
            Metric::P50 => outcome.quantile_ms(0.5),
            Metric::P99 => outcome.quantile_ms(0.99),
            Metric::P999 => outcome.quantile_ms(0.999),
            Metric::Throughput => outcome.throughput_per_s(),
            Metric::Resident | Metric::Anonymous | Metric::IdleCpu => {
                unreachable!("those are figures of a footprint, not of a workload")
            }
        };
        let nodes = self.part.nodes;
        let line = |figure: &suite::Figure| {
            let values = |target: Target| {
                self.rounds[target as usize]
                    .iter()
                    .map(|outcome| value(outcome, figure.metric))
                    .collect()
            };
            // A follower passes requests on, which is a round trip more than the floor has.
            let direct = nodes == 1 || through == Through::Leader;
            let floor = match (self.part.floor, figure.metric) {
                _ if !direct => None,
                (FloorOf::Put, Metric::P50) => Some(floor.put_ms(nodes, 0.5)),
                (FloorOf::Get, Metric::P50) => Some(floor.get_ms(nodes, 0.5)),
                (FloorOf::Crowd(operation), Metric::Throughput) => {
                    Some(floor.crowd_per_s(operation))
                }
                _ => None,
            };
            let (phalanx, etcd) = (values(Target::Phalanx), values(Target::Etcd));
            Line { nodes, part: self.part.name, figure: *figure, phalanx, etcd, floor }
        };
        self.part.figures.iter().map(line).collect()
    }

    /// What makes a figure worth less than it looks.
    fn warnings(&self) -> Vec<String> {
        let of = |target: Target| {
            let rounds = &self.rounds[target as usize];
            let sum = |count: fn(&Outcome) -> u64| rounds.iter().map(count).sum::<u64>();
            let counts =
                [(sum(|it| it.refused), "refused"), (sum(|it| it.unsent), "due and never sent")];
            counts.into_iter().filter(|(count, _)| *count > 0).map(move |(count, what)| {
                format!(
                    "{}, {} nodes, {}: {count} {what}\n",
                    target.name(),
                    self.part.nodes,
                    self.part.name
                )
            })
        };
        Target::ALL.into_iter().flat_map(of).collect()
    }

    fn to_json(&self) -> Value {
        let of = |target: Target| {
            let (first, others) = self.rounds[target as usize].split_first()?;
            let mut sum = first.clone();
            others.iter().for_each(|other| sum.add(other));
            Some((target.name().to_owned(), sum.to_json()))
        };
        let systems: Map<String, Value> = Target::ALL.into_iter().filter_map(of).collect();
        let nodes = if self.part.nodes > 1 {
            format!("{} nodes", self.part.nodes)
        } else {
            "1 node".to_owned()
        };
        json!({
            "name": format!("{nodes}, {}", self.part.name),
            "workload": self.part.workload.to_json(), "systems": systems,
        })
    }
}

/// What is compared, and on what.
struct About {
    json: Value,
}

impl About {
    fn new(plan: &Plan, programs: &Programs, targets: &[Target]) -> io::Result<About> {
        let version =
            |target: &Target| Ok((target.name().to_owned(), programs.version(*target)?.into()));
        let versions: Map<String, Value> =
            targets.iter().map(version).collect::<io::Result<_>>()?;
        let through = if plan.through == Through::Leader { "leader" } else { "follower" };
        Ok(About {
            json: json!({
                "bench": "compare", "machine": machine::describe(&plan.directory), "versions": versions,
                "rounds": plan.rounds, "seconds": plan.seconds.as_secs_f64(), "through": through,
                "placement": "nothing is pinned from outside; Phalanx pins its reactors itself, by its port (CPU=auto)",
            }),
        })
    }

    fn text(&self, plan: &Plan) -> String {
        let versions = self.json["versions"].as_object().into_iter().flatten();
        let versions: Vec<_> = versions
            .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("")))
            .collect();
        let through = match plan.through {
            Through::Leader => "the clients speak to the leader of each",
            Through::Follower => "the clients of three nodes speak to one follower",
        };
        format!(
            "{}\n{}; {} round{}, in each of which both start with empty directories, one after the other\n\
             N clients are N connections with one request outstanding; {through}; values of 256 bytes\n\
             cores: {}",
            machine::line(&self.json["machine"]),
            versions.join(", "),
            plan.rounds,
            if plan.rounds == 1 { "" } else { "s" },
            self.json["placement"].as_str().unwrap_or_default()
        )
    }
}
