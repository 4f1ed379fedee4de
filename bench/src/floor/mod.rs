//! What the machine allows: a TCP round trip on loopback, and a durable write of 4 KiB as the log does it. A put
//! takes about what it is made of:
//!
//! - 1 node: the client's round trip, then the durable write;
//! - 3 nodes: the client's round trip, a round trip to the follower that is reached soonest, and its durable write,
//!   beside which the leader's own is done.
//!
//! Medians are added, which is not the median of a sum, but close to it where one part does not dominate by its tail.
//! What the sum leaves out is that the nodes of one machine share its disk and its cores: [`bare`] measures that. What many
//! clients can get at most, whatever is behind a server, [`crowd`] measures; and how often the machine itself stands still,
//! [`pauses`].

mod bare;
mod crowd;
mod pauses;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use glommio::io::OpenOptions;
use glommio::{LocalExecutorBuilder, Placement};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::load::outcome::{Outcome, histogram, quantile_ms};
use crate::load::workload::Operation;
use pauses::Pauses;

/// From the kernel's asm-generic/fcntl.h.
const O_DSYNC: i32 = 0o10000;
const BLOCK_LEN: usize = 4096;
const FILE_LEN: usize = 16 << 20;
/// About what a put of 256 bytes and its answer take on the wire.
const REQUEST_LEN: usize = 330;
const ANSWER_LEN: usize = 50;
const ROUNDS_MAX: u32 = 100_000;

/// A core, or wherever the scheduler likes.
type Core = Option<usize>;

/// Where two ends of a connection run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    asking: Core,
    answering: Core,
}

/// The machine's floor.
pub struct Floor {
    cores: usize,
    round_trips_ns: Vec<(Ends, Histogram<u64>)>,
    write_ns: Histogram<u64>,
    /// Puts without a store, by the number of nodes.
    bare_ns: Vec<(usize, Histogram<u64>)>,
    /// What many clients get of a server that knows every answer.
    crowds: Vec<(Operation, Outcome)>,
    pauses: Pauses,
}

/// What a crowd is asked to do.
const CROWDS: [Operation; 2] = [Operation::Put, Operation::Get];

/// As many nodes as are compared.
const NODES: [usize; 2] = [1, 3];

/// Where the nodes of a machine are, whose ports follow each other: each on the next core, and the leader on the first.
fn core_of(node: usize, cores: usize) -> usize {
    node % cores
}

impl Floor {
    /// Measures for so long in all.
    pub fn measure(directory: &Path, duration: Duration) -> io::Result<Floor> {
        let cores = std::thread::available_parallelism()?.get();
        let mut ends = vec![CLIENT, Ends { asking: Some(0), answering: Some(0) }];
        if cores > 1 {
            ends.push(Ends { asking: Some(0), answering: Some(1) });
        }
        let each = duration / 9;
        let round_trips = ends.into_iter().map(|ends| Ok((ends, tcp_round_trip(ends, each)?)));
        let round_trips_ns = round_trips.collect::<io::Result<Vec<_>>>()?;
        let write_ns = durable_write(directory, each)?;
        let bare = |nodes| {
            let on: Vec<Core> = (0..nodes).map(|node| Some(core_of(node, cores))).collect();
            Ok((nodes, bare::put(directory, &on, each)?))
        };
        let bare_ns = NODES.into_iter().map(bare).collect::<io::Result<Vec<_>>>()?;
        let crowd = |operation| Ok((operation, crowd::ask(operation, Some(0), each)?));
        let crowds = CROWDS.into_iter().map(crowd).collect::<io::Result<Vec<_>>>()?;
        let pauses = Pauses::watch(cores, each)?;
        Ok(Floor { cores, round_trips_ns, write_ns, bare_ns, crowds, pauses })
    }

    /// Adds what another time measured on the same machine.
    pub fn add(&mut self, other: &Floor) {
        for ((_, own), (_, others)) in self.round_trips_ns.iter_mut().zip(&other.round_trips_ns) {
            own.add(others).expect("all have the same bounds");
        }
        self.write_ns.add(&other.write_ns).expect("all have the same bounds");
        for ((_, own), (_, others)) in self.bare_ns.iter_mut().zip(&other.bare_ns) {
            own.add(others).expect("all have the same bounds");
        }
        for ((_, own), (_, others)) in self.crowds.iter_mut().zip(&other.crowds) {
            own.add(others);
        }
        self.pauses.add(other.pauses);
    }

    /// What many clients get in a second, at most.
    pub fn crowd_per_s(&self, operation: Operation) -> f64 {
        let found = self.crowds.iter().find(|(of, _)| *of == operation);
        found.map_or(f64::NAN, |(_, outcome)| outcome.throughput_per_s())
    }

    fn round_trip_ms(&self, ends: Ends, quantile: f64) -> f64 {
        let found = self.round_trips_ns.iter().find(|(at, _)| *at == ends);
        found.map_or(f64::NAN, |(_, latency_ns)| quantile_ms(latency_ns, quantile))
    }

    fn client_ms(&self, quantile: f64) -> f64 {
        self.round_trip_ms(CLIENT, quantile)
    }

    /// To the follower that the leader reaches soonest.
    fn peer_ms(&self, nodes: usize, quantile: f64) -> f64 {
        let to = |node| Ends { asking: Some(0), answering: Some(core_of(node, self.cores)) };
        (1..nodes)
            .map(|node| self.round_trip_ms(to(node), quantile))
            .reduce(f64::min)
            .unwrap_or(0.0)
    }

    /// Of a put by one client.
    pub fn put_ms(&self, nodes: usize, quantile: f64) -> f64 {
        let write_ms = quantile_ms(&self.write_ns, quantile);
        self.client_ms(quantile) + self.peer_ms(nodes, quantile) + write_ms
    }

    /// Of a linearizable read by one client: a majority is asked who leads.
    pub fn get_ms(&self, nodes: usize, quantile: f64) -> f64 {
        self.client_ms(quantile) + self.peer_ms(nodes, quantile)
    }

    pub fn text(&self) -> String {
        let line = |name: &str, latency_ns: &Histogram<u64>| {
            let us = |quantile| quantile_ms(latency_ns, quantile) * 1e3;
            format!(
                "{name:<52} p50 {:>7.1} us  p99 {:>7.1} us  p99.9 {:>7.1} us",
                us(0.5),
                us(0.99),
                us(0.999)
            )
        };
        let mut lines: Vec<String> = self
            .round_trips_ns
            .iter()
            .map(|(ends, ns)| line(&format!("TCP round trip, {ends}"), ns))
            .collect();
        lines.push(line("durable write of 4 KiB (O_DIRECT, O_DSYNC), core 0", &self.write_ns));
        for (nodes, bare_ns) in &self.bare_ns {
            let of = format!("{nodes} node{}", if *nodes > 1 { "s" } else { "" });
            let floor_us = self.put_ms(*nodes, 0.5) * 1e3;
            lines.push(format!("{:<52} p50 {floor_us:>7.1} us", format!("floor of a put, {of}")));
            lines.push(line(&format!("the same measured: a put without a store, {of}"), bare_ns));
        }
        for (operation, outcome) in &self.crowds {
            let name = format!("64 clients, {}, of a server without a store", operation.name());
            lines.push(format!(
                "{name:<52} {:>7.0}/s  p50 {:>7.1} us  p99 {:>7.1} us",
                outcome.throughput_per_s(),
                outcome.quantile_ms(0.5) * 1e3,
                outcome.quantile_ms(0.99) * 1e3
            ));
        }
        lines.push(self.pauses.to_string());
        lines.join("\n")
    }

    pub fn to_json(&self) -> Value {
        let quantiles = |latency_ns: &Histogram<u64>| {
            json!({
                "p50_ms": quantile_ms(latency_ns, 0.5), "p99_ms": quantile_ms(latency_ns, 0.99),
                "p999_ms": quantile_ms(latency_ns, 0.999),
            })
        };
        let round_trips =
            self.round_trips_ns.iter().map(|(ends, ns)| (ends.to_string(), quantiles(ns)));
        let bare = self.bare_ns.iter().map(|(nodes, ns)| (nodes.to_string(), quantiles(ns)));
        json!({
            "round_trips": round_trips.collect::<serde_json::Map<_, _>>(),
            "durable_write": quantiles(&self.write_ns),
            "put_1_node_p50_ms": self.put_ms(1, 0.5), "put_3_nodes_p50_ms": self.put_ms(3, 0.5),
            "get_1_node_p50_ms": self.get_ms(1, 0.5), "get_3_nodes_p50_ms": self.get_ms(3, 0.5),
            "bare_put": bare.collect::<serde_json::Map<_, _>>(),
            "crowd_put_per_s": self.crowd_per_s(Operation::Put),
            "crowd_get_per_s": self.crowd_per_s(Operation::Get),
            "pauses_per_s": self.pauses.per_second(), "pause_longest_ms": self.pauses.longest.as_secs_f64() * 1e3,
        })
    }
}

/// A client is not pinned, and a Phalanx server pins its reactor.
const CLIENT: Ends = Ends { asking: None, answering: Some(0) };

impl std::fmt::Display for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |core: Core| core.map_or("not pinned".to_owned(), |core| format!("core {core}"));
        write!(f, "{} to {}", name(self.asking), name(self.answering))
    }
}

fn tcp_round_trip(ends: Ends, duration: Duration) -> io::Result<Histogram<u64>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        pin(ends.answering)?;
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut request = [0; REQUEST_LEN];
        while stream.read_exact(&mut request).is_ok() {
            stream.write_all(&[1; ANSWER_LEN])?;
        }
        Ok(())
    });
    let asking = std::thread::spawn(move || ask(address, ends.asking, duration));
    let latency_ns = asking.join().expect("no panic in the asking thread")?;
    echo.join().expect("no panic in the answering thread")?;
    Ok(latency_ns)
}

fn ask(
    address: std::net::SocketAddr,
    core: Core,
    duration: Duration,
) -> io::Result<Histogram<u64>> {
    pin(core)?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut latency_ns = histogram();
    let mut answer = [0; ANSWER_LEN];
    let until = Instant::now() + duration;
    for _ in 0..ROUNDS_MAX {
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        stream.write_all(&[0; REQUEST_LEN])?;
        stream.read_exact(&mut answer)?;
        latency_ns.saturating_record(begun.elapsed().as_nanos() as u64);
    }
    Ok(latency_ns)
}

fn pin(core: Core) -> io::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn failed(error: glommio::GlommioError<()>) -> io::Error {
    error.into()
}

/// Durable writes of 4 KiB over a file that was written before, one after the other, on io_uring: O_DIRECT and O_DSYNC.
fn durable_write(directory: &Path, duration: Duration) -> io::Result<Histogram<u64>> {
    let scratch = tempfile::Builder::new().prefix("phalanx-floor-").tempdir_in(directory)?;
    let path = scratch.path().join("blocks");
    std::fs::write(&path, vec![0; FILE_LEN])?;
    std::fs::File::open(&path)?.sync_all()?;
    // On a thread of its own: it stays pinned.
    let writing = std::thread::spawn(move || {
        let executor = LocalExecutorBuilder::new(Placement::Fixed(0)).make().map_err(failed)?;
        executor.run(write_blocks(&path, duration))
    });
    writing.join().expect("no panic in the writing thread")
}

async fn write_blocks(path: &Path, duration: Duration) -> io::Result<Histogram<u64>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(O_DSYNC);
    let file = options.dma_open(path).await.map_err(failed)?;
    let mut latency_ns = histogram();
    let until = Instant::now() + duration;
    let mut offset = 0;
    while Instant::now() < until {
        let buffer = file.alloc_dma_buffer(BLOCK_LEN);
        let begun = Instant::now();
        file.write_at(buffer, offset).await.map_err(failed)?;
        latency_ns.saturating_record(begun.elapsed().as_nanos() as u64);
        offset = (offset + BLOCK_LEN as u64) % FILE_LEN as u64;
    }
    file.close().await.map_err(failed)?;
    Ok(latency_ns)
}
