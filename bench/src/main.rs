//! `phalanx-bench`: measures a running cluster, and what the machine allows.

mod connection;
mod floor;
mod load;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use argh::FromArgs;
use load::{Load, Operation};

/// Measures Phalanx.
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
}

/// Closed loop: each client has one request outstanding.
#[derive(FromArgs)]
#[argh(subcommand, name = "load")]
struct LoadArgs {
    /// addresses of the nodes, comma-separated; clients are spread over them
    #[argh(option)]
    addr: String,
    /// put, get (linearizable) or stale-get
    #[argh(option, default = "String::from(\"put\")")]
    op: String,
    /// clients, each with a connection of its own
    #[argh(option, default = "1")]
    clients: usize,
    /// how long, in seconds
    #[argh(option, default = "5")]
    seconds: u64,
    /// so many operations instead, each of another key, in order
    #[argh(option)]
    count: Option<u64>,
    /// how many different keys
    #[argh(option, default = "10000")]
    keys: u64,
    /// length of a value in bytes
    #[argh(option, default = "256")]
    value_len: usize,
}

/// A TCP round trip on loopback, and a durable write of 4 KiB.
#[derive(FromArgs)]
#[argh(subcommand, name = "floor")]
struct FloorArgs {
    /// directory for the file that is written
    #[argh(option, default = "PathBuf::from(\".\")")]
    dir: PathBuf,
}

fn main() -> io::Result<()> {
    let args: Args = argh::from_env();
    match args.command {
        Command::Load(args) => measure_load(&args),
        Command::Floor(args) => measure_floor(&args),
    }
}

fn measure_load(args: &LoadArgs) -> io::Result<()> {
    let operation = match args.op.as_str() {
        "put" => Operation::Put,
        "get" => Operation::Get,
        "stale-get" => Operation::StaleGet,
        other => return Err(io::Error::other(format!("--op {other}: put, get or stale-get"))),
    };
    let load = Load {
        addresses: args.addr.split(',').map(str::to_owned).collect(),
        operation,
        clients: args.clients,
        duration: Duration::from_secs(args.seconds),
        count: args.count,
        keys: args.keys,
        value_len_bytes: args.value_len,
    };
    let outcome = load::run(&load)?;
    println!("{:>9} {:>4} clients  {}", args.op, args.clients, outcome.line());
    if outcome.overloaded > 0 {
        println!("          {} refused as overloaded", outcome.overloaded);
    }
    Ok(())
}

fn measure_floor(args: &FloorArgs) -> io::Result<()> {
    let line = |name: &str, latency_us: &hdrhistogram::Histogram<u64>| {
        let us = |quantile| latency_us.value_at_quantile(quantile);
        println!(
            "{name:<44} p50 {:>5} us  p99 {:>5} us  p99.9 {:>5} us",
            us(0.5),
            us(0.99),
            us(0.999)
        );
    };
    line("TCP round trip, two cores", &floor::tcp_round_trip([0, 1], 20_000)?);
    line("TCP round trip, one core", &floor::tcp_round_trip([0, 0], 20_000)?);
    line(
        "durable write of 4 KiB (O_DIRECT, O_DSYNC)",
        &floor::durable_write(&args.dir, Duration::from_secs(2))?,
    );
    Ok(())
}
