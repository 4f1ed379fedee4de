//! The command line: flags to workloads.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use argh::FromArgs;
use serde_json::json;

use crate::compare::{self, Plan, Through};
use crate::floor::Floor;
use crate::load::workload::{Distribution, Extent, Mix, Pace, Workload};
use crate::load::{self, Options};
use crate::target::Target;
use crate::{cluster, growth, machine, plot, print_json};

/// Measures Phalanx and etcd with one ruler, and what the machine allows.
#[derive(FromArgs)]
struct Args {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Load(LoadArgs),
    Floor(FloorArgs),
    Compare(CompareArgs),
    Growth(GrowthArgs),
    Plot(PlotArgs),
    Leader(LeaderArgs),
}

/// Asks a cluster that runs: in a closed loop, or with --rate in an open one.
#[derive(FromArgs)]
#[argh(subcommand, name = "load")]
struct LoadArgs {
    /// addresses of the nodes, comma-separated; clients are spread over them
    #[argh(option)]
    addr: String,
    /// phalanx (default) or etcd
    #[argh(option, default = "Target::Phalanx", from_str_fn(parse_target))]
    target: Target,
    /// put (default), get (linearizable), stale-get, or a mix of them: put=10,get=90
    #[argh(option, long = "mix", from_str_fn(parse_mix))]
    mix: Option<Mix>,
    /// the same, of one operation
    #[argh(option, from_str_fn(parse_mix))]
    op: Option<Mix>,
    /// clients, each with a connection of its own; 1
    #[argh(option, default = "1")]
    clients: usize,
    /// requests outstanding on each connection; 1
    #[argh(option, default = "1")]
    depth: usize,
    /// open loop: so many requests a second, whose latency counts from when they were due
    #[argh(option)]
    rate: Option<f64>,
    /// how long, in seconds; 5
    #[argh(option, default = "5.0")]
    seconds: f64,
    /// seconds before that, which do not count; 1
    #[argh(option, default = "1.0")]
    warm_up: f64,
    /// so many operations instead, each of another key, in order; all count
    #[argh(option)]
    count: Option<u64>,
    /// how many different keys; 10000
    #[argh(option, default = "10_000")]
    keys: u64,
    /// which of them: uniform (default), zipf or sequential
    #[argh(option, default = "Distribution::Uniform", from_str_fn(parse_distribution))]
    distribution: Distribution,
    /// length of a value in bytes; 256
    #[argh(option, default = "256")]
    value_len: usize,
    /// length of a row of the timeline in milliseconds; 100
    #[argh(option, default = "100")]
    interval_ms: u64,
    /// how long the server may work on a request, in milliseconds; 10000
    #[argh(option, default = "10_000")]
    timeout_ms: u32,
    /// count failures and connect again, instead of ending with the first
    #[argh(switch)]
    keep_going: bool,
    /// write the result as JSON to this file; - for standard output, in place of the text
    #[argh(option)]
    json: Option<String>,
}

/// TCP round trips on loopback, a durable write of 4 KiB, what a put takes by these, a put without a store, many clients of a
/// server without one, and how often the machine itself stands still.
#[derive(FromArgs)]
#[argh(subcommand, name = "floor")]
struct FloorArgs {
    /// directory for the files that are written
    #[argh(option, default = "PathBuf::from(\".\")")]
    dir: PathBuf,
    /// how long in all, in seconds; 8
    #[argh(option, default = "8.0")]
    seconds: f64,
    /// write the result as JSON to this file; - for standard output, in place of the text
    #[argh(option)]
    json: Option<String>,
}

/// Starts Phalanx and etcd in turns, asks both the same, and prints them side by side, then one line of JSON. Phalanx
/// is found beside this program or in PHALANX_BIN_DIR, etcd in the PATH or as ETCD.
#[derive(FromArgs)]
#[argh(subcommand, name = "compare")]
struct CompareArgs {
    /// how often everything is run, in turns; 5
    #[argh(option)]
    rounds: Option<usize>,
    /// how long each workload counts, in seconds, after a quarter of that for warming up; 6
    #[argh(option)]
    seconds: Option<f64>,
    /// one round of short workloads, those with targets: done within a minute
    #[argh(switch)]
    quick: bool,
    /// phalanx or etcd alone
    #[argh(option, from_str_fn(parse_target))]
    only: Option<Target>,
    /// which node of three the clients speak to: leader (default) or follower
    #[argh(option, default = "Through::Leader", from_str_fn(parse_through))]
    through: Through,
    /// directory in which data directories are made, and removed again; it must be on a disk
    #[argh(option, default = "PathBuf::from(\".\")")]
    dir: PathBuf,
    /// write everything to this file as JSON, for `plot`
    #[argh(option)]
    json: Option<String>,
}

/// Puts on Phalanx as keys, nodes, values and clients grow, one of them at a time.
#[derive(FromArgs)]
#[argh(subcommand, name = "growth")]
struct GrowthArgs {
    /// directory in which data directories are made, and removed again; it must be on a disk
    #[argh(option, default = "PathBuf::from(\".\")")]
    dir: PathBuf,
    /// how long each row counts, in seconds; 6
    #[argh(option, default = "6.0")]
    seconds: f64,
    /// how many keys at most; 10000000
    #[argh(option, default = "10_000_000")]
    keys_max: u64,
    /// write the result as JSON to this file; - for standard output, after the text
    #[argh(option)]
    json: Option<String>,
}

/// Draws what load, compare or growth wrote with --json, as SVG: latency by percentile, over time, over what grows.
#[derive(FromArgs)]
#[argh(subcommand, name = "plot")]
struct PlotArgs {
    /// directory for the pictures
    #[argh(option, default = "PathBuf::from(\"plots\")")]
    out: PathBuf,
    /// the JSON files; results of load are drawn into one picture
    #[argh(positional)]
    files: Vec<String>,
}

impl CompareArgs {
    fn plan(self) -> io::Result<Plan> {
        let (rounds, seconds_each) = if self.quick { (1, 1.2) } else { (5, 6.0) };
        let rounds = self.rounds.unwrap_or(rounds);
        if rounds == 0 {
            return Err(wrong("--rounds must be at least 1"));
        }
        Ok(Plan {
            rounds,
            quick: self.quick,
            only: self.only,
            through: self.through,
            seconds: seconds("--seconds", self.seconds.unwrap_or(seconds_each))?,
            directory: self.dir,
            json: self.json,
        })
    }
}

/// Waits until all nodes know who leads (and, of Phalanx, all of them vote), and prints the leader's address.
#[derive(FromArgs)]
#[argh(subcommand, name = "leader")]
struct LeaderArgs {
    /// addresses of all nodes, comma-separated
    #[argh(option)]
    addr: String,
    /// phalanx (default) or etcd
    #[argh(option, default = "Target::Phalanx", from_str_fn(parse_target))]
    target: Target,
    /// how long to wait, in seconds; 60
    #[argh(option, default = "60.0")]
    within: f64,
}

fn print_leader(args: &LeaderArgs) -> io::Result<()> {
    let addresses: Vec<String> = args.addr.split(',').map(str::to_owned).collect();
    let within = seconds("--within", args.within)?;
    let leader = cluster::await_leader(args.target, &addresses, within, || Ok(()))?;
    println!("{}", addresses[leader]);
    Ok(())
}

fn parse_through(name: &str) -> Result<Through, String> {
    match name {
        "leader" => Ok(Through::Leader),
        "follower" => Ok(Through::Follower),
        _ => Err(format!("{name:?}: leader or follower")),
    }
}

fn parse_target(name: &str) -> Result<Target, String> {
    Target::parse(name)
}

fn parse_mix(text: &str) -> Result<Mix, String> {
    Mix::parse(text)
}

fn parse_distribution(name: &str) -> Result<Distribution, String> {
    Distribution::parse(name)
}

pub fn run() -> io::Result<()> {
    let args: Args = argh::from_env();
    match args.command {
        Command::Load(args) => measure_load(args),
        Command::Floor(args) => measure_floor(&args),
        Command::Plot(args) => plot::run(&args.files, &args.out),
        Command::Growth(args) => growth::run(
            &args.dir,
            seconds("--seconds", args.seconds)?,
            args.keys_max,
            args.json.as_deref(),
        ),
        Command::Leader(args) => print_leader(&args),
        Command::Compare(args) => compare::run(&args.plan()?),
    }
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.into())
}

fn seconds(flag: &str, seconds: f64) -> io::Result<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| wrong(format!("{flag} {seconds}: {error}")))
}

impl LoadArgs {
    fn workload(&self) -> io::Result<Workload> {
        let least_one = [
            ("--clients", self.clients as u64),
            ("--depth", self.depth as u64),
            ("--keys", self.keys),
        ];
        if let Some((flag, _)) = least_one.into_iter().find(|(_, number)| *number == 0) {
            return Err(wrong(format!("{flag} must be at least 1")));
        }
        let mix = match (&self.mix, &self.op) {
            (Some(_), Some(_)) => {
                return Err(wrong("--mix and --op say the same: give one of them"));
            }
            (mix, op) => mix.clone().or_else(|| op.clone()),
        };
        let pace = match self.rate {
            None => Pace::Closed,
            Some(rate_per_s) if rate_per_s > 0.0 && rate_per_s.is_finite() => {
                Pace::Open { rate_per_s }
            }
            Some(rate) => {
                return Err(wrong(format!("--rate {rate}: more than 0 requests a second")));
            }
        };
        let extent = match self.count {
            Some(count) => Extent::Count(count),
            None => Extent::Time {
                warm_up: seconds("--warm-up", self.warm_up)?,
                counted: seconds("--seconds", self.seconds)?,
            },
        };
        Ok(Workload {
            mix: mix.unwrap_or(Mix::only(load::workload::Operation::Put)),
            clients: self.clients,
            depth: self.depth,
            pace,
            extent,
            keys: self.keys,
            distribution: self.distribution,
            value_len_bytes: self.value_len,
        })
    }
}

fn measure_load(args: LoadArgs) -> io::Result<()> {
    let workload = args.workload()?;
    if args.interval_ms == 0 {
        return Err(wrong("--interval-ms must be at least 1"));
    }
    let options = Options {
        interval: Duration::from_millis(args.interval_ms),
        timeout_ms: args.timeout_ms,
        keep_going: args.keep_going,
        progress: true,
        ..Options::new(args.target, args.addr.split(',').map(str::to_owned).collect())
    };
    let outcome = load::run(&workload, &options)?;
    if args.json.as_deref() != Some("-") {
        println!(
            "{}, {}, {} clients, depth {}",
            args.target.name(),
            workload.mix,
            args.clients,
            args.depth
        );
        println!("{}", outcome.text());
    }
    let Some(path) = &args.json else { return Ok(()) };
    let mut json = json!({ "target": args.target.name(), "workload": workload.to_json() });
    json["outcome"] = outcome.to_json();
    print_json(path, &json)
}

fn measure_floor(args: &FloorArgs) -> io::Result<()> {
    machine::require_disk(&args.dir)?;
    let floor = Floor::measure(&args.dir, seconds("--seconds", args.seconds)?)?;
    if args.json.as_deref() != Some("-") {
        println!("{}", floor.text());
    }
    match &args.json {
        Some(path) => print_json(path, &floor.to_json()),
        None => Ok(()),
    }
}
