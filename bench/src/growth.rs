//! How puts on Phalanx change as one thing grows and the rest stays: keys, nodes, values, clients.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Programs, watch_signals};
use crate::load::outcome::Outcome;
use crate::load::workload::{Distribution, Extent, Mix, Operation, Pace, Workload};
use crate::load::{self, Options};
use crate::target::Target;
use crate::{machine, print_json};

const KEYS: u64 = 10_000;
const NODES: usize = 3;
const VALUE_LEN_BYTES: usize = 256;

struct Growth<'a> {
    programs: Programs,
    directory: &'a Path,
    extent: Extent,
    rows: Vec<Value>,
}

/// Measures and prints row by row.
pub fn run(
    directory: &Path,
    counted: Duration,
    keys_max: u64,
    json: Option<&str>,
) -> io::Result<()> {
    machine::require_disk(directory)?;
    let programs = Programs::find(&[Target::Phalanx])?;
    watch_signals()?;
    let extent = Extent::Time { warm_up: counted / 4, counted };
    let mut growth = Growth { programs, directory, extent, rows: Vec::new() };
    let machine = machine::describe(directory);
    println!(
        "{}\n{NODES} nodes, 1 client, {KEYS} keys, {VALUE_LEN_BYTES} bytes, but for what grows",
        machine::line(&machine)
    );
    growth.keys(keys_max)?;
    for nodes in [1, 3, 5, 7] {
        growth.alone("nodes", nodes as u64, nodes, &growth.workload())?;
    }
    for value_len_bytes in [16, 256, 4 << 10, 64 << 10, 1 << 20] {
        let workload = Workload { value_len_bytes, ..growth.workload() };
        growth.alone("value, bytes", value_len_bytes as u64, NODES, &workload)?;
    }
    for clients in [1, 4, 16, 64, 256, 1024] {
        let workload = Workload { clients, ..growth.workload() };
        growth.alone("clients", clients as u64, NODES, &workload)?;
    }
    match json {
        Some(path) => {
            print_json(path, &json!({ "bench": "growth", "machine": machine, "rows": growth.rows }))
        }
        None => Ok(()),
    }
}

impl Growth<'_> {
    /// A put by one client, unless it is changed.
    fn workload(&self) -> Workload {
        Workload {
            mix: Mix::only(Operation::Put),
            clients: 1,
            depth: 1,
            pace: Pace::Closed,
            extent: self.extent,
            keys: KEYS,
            distribution: Distribution::Uniform,
            value_len_bytes: VALUE_LEN_BYTES,
        }
    }

    /// All in one cluster, which is filled further and further.
    fn keys(&mut self, keys_max: u64) -> io::Result<()> {
        let (_cluster, options) = self.start(NODES)?;
        for keys in (3..).map(|power| 10_u64.pow(power)).take_while(|keys| *keys <= keys_max) {
            load::run(
                &Workload { clients: 64, extent: Extent::Count(keys), ..self.workload() },
                &options,
            )?;
            let outcome = load::run(&Workload { keys, ..self.workload() }, &options)?;
            self.row("keys", keys, &outcome);
        }
        Ok(())
    }

    /// In a cluster of its own.
    fn alone(
        &mut self,
        what: &str,
        value: u64,
        nodes: usize,
        workload: &Workload,
    ) -> io::Result<()> {
        let (_cluster, options) = self.start(nodes)?;
        let outcome = load::run(workload, &options)?;
        self.row(what, value, &outcome);
        Ok(())
    }

    fn start(&self, nodes: usize) -> io::Result<(Cluster, Options)> {
        let cluster = Cluster::start(&self.programs, Target::Phalanx, nodes, self.directory)?;
        let options = Options::new(Target::Phalanx, vec![cluster.leader().to_owned()]);
        Ok((cluster, options))
    }

    fn row(&mut self, what: &str, value: u64, outcome: &Outcome) {
        println!("{what:<13} {value:>9}  {}", outcome.line());
        self.rows.push(json!({ "grows": what, "value": value, "outcome": outcome.to_json() }));
    }
}
