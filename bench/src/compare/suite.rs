//! The workloads that a comparison runs, what is looked at in each, and how far Phalanx is meant to be ahead.

use std::time::Duration;

use crate::load::workload::{Distribution, Extent, Mix, Operation, Pace, Workload};

/// Values of 256 bytes, on so many keys.
const KEYS: u64 = 10_000;
const VALUE_LEN_BYTES: usize = 256;

/// One figure of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    P50,
    P99,
    P999,
    Throughput,
    /// Memory in all.
    Resident,
    /// Memory without what is mapped from files.
    Anonymous,
    IdleCpu,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::P50 => "p50",
            Metric::P99 => "p99",
            Metric::P999 => "p99.9",
            Metric::Throughput => "throughput",
            Metric::Resident => "resident memory",
            Metric::Anonymous => "of it anonymous",
            Metric::IdleCpu => "idle CPU",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Metric::Throughput => "/s",
            Metric::Resident | Metric::Anonymous => "MiB",
            Metric::IdleCpu => "% of a core",
            Metric::P50 | Metric::P99 | Metric::P999 => "ms",
        }
    }
}

/// A figure of a workload, and what is meant to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    pub metric: Metric,
    /// So many times better than etcd, at least.
    pub ahead: Option<f64>,
    /// So many times the floor, at most.
    pub above_floor: Option<f64>,
    /// That, at most.
    pub at_most: Option<f64>,
}

const fn figure(metric: Metric) -> Figure {
    Figure { metric, ahead: None, above_floor: None, at_most: None }
}

const fn ahead(metric: Metric, times: f64) -> Figure {
    Figure { ahead: Some(times), ..figure(metric) }
}

/// What the floor of a workload is, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloorOf {
    Nothing,
    Put,
    Get,
    /// Of a throughput: what as many clients get of a server that knows every answer.
    Crowd(Operation),
}

/// One workload of the suite.
#[derive(Debug, Clone)]
pub struct Part {
    pub name: &'static str,
    pub nodes: usize,
    pub workload: Workload,
    pub floor: FloorOf,
    pub figures: Vec<Figure>,
}

/// How long each workload runs.
#[derive(Debug, Clone, Copy)]
pub struct Lengths {
    pub warm_up: Duration,
    pub counted: Duration,
}

fn workload(mix: &str, clients: usize, depth: usize, pace: Pace, lengths: Lengths) -> Workload {
    Workload {
        mix: Mix::parse(mix).expect("the suite's mixes are valid"),
        clients,
        depth,
        pace,
        extent: Extent::Time { warm_up: lengths.warm_up, counted: lengths.counted },
        keys: KEYS,
        distribution: Distribution::Uniform,
        value_len_bytes: VALUE_LEN_BYTES,
    }
}

/// Puts every key once, so that reads find something.
pub fn fill() -> Workload {
    let nothing = Lengths { warm_up: Duration::ZERO, counted: Duration::ZERO };
    let fill = workload(Operation::Put.name(), 64, 1, Pace::Closed, nothing);
    Workload { extent: Extent::Count(KEYS), ..fill }
}

/// A million keys, so that what each takes is seen. The time it takes does not count.
pub fn fill_million() -> Workload {
    const MILLION: u64 = 1_000_000;
    const OUTSTANDING: usize = 8;
    Workload { extent: Extent::Count(MILLION), keys: MILLION, depth: OUTSTANDING, ..fill() }
}

/// The suite. A quick one leaves out the workloads that have no target.
pub fn parts(lengths: Lengths, quick: bool) -> Vec<Part> {
    use Metric::{P50, P99, P999, Throughput};
    let closed = |name, nodes, mix, clients, floor, figures: &[Figure]| Part {
        name,
        nodes,
        workload: workload(mix, clients, 1, Pace::Closed, lengths),
        floor,
        figures: figures.to_vec(),
    };
    let open = Pace::Open { rate_per_s: 500.0 };
    let all = [figure(P50), figure(P99), figure(Throughput)];
    let put_3 = [Figure { above_floor: Some(1.4), ..ahead(P50, 2.5) }, ahead(P99, 4.0)];
    let put_1 = [Figure { above_floor: Some(1.15), ..ahead(P50, 1.0) }, figure(P99)];
    let mut parts = vec![
        closed("put, 1 client", 3, "put", 1, FloorOf::Put, &put_3),
        closed(
            "put, 64 clients",
            3,
            "put",
            64,
            FloorOf::Crowd(Operation::Put),
            &[ahead(Throughput, 8.0), figure(P50), ahead(P99, 8.0)],
        ),
        closed("get, 1 client", 3, "get", 1, FloorOf::Get, &[ahead(P50, 2.0), figure(P99)]),
        closed(
            "get, 64 clients",
            3,
            "get",
            64,
            FloorOf::Crowd(Operation::Get),
            &[ahead(Throughput, 8.0), figure(P50), figure(P99)],
        ),
        Part {
            name: "put, open loop, 500/s",
            nodes: 3,
            workload: workload("put", 64, 1, open, lengths),
            floor: FloorOf::Nothing,
            figures: vec![figure(P50), figure(P99), ahead(P999, 10.0)],
        },
        closed("put, 1 client", 1, "put", 1, FloorOf::Put, &put_1),
    ];
    if !quick {
        parts.extend([
            closed(
                "stale get, 64 clients",
                3,
                "stale-get",
                64,
                FloorOf::Crowd(Operation::Get),
                &all,
            ),
            closed(
                "10 % put, 90 % get, 64 clients",
                3,
                "put=10,get=90",
                64,
                FloorOf::Nothing,
                &all,
            ),
            Part {
                name: "put, 4 clients, 16 outstanding each",
                nodes: 3,
                workload: workload("put", 4, 16, Pace::Closed, lengths),
                floor: FloorOf::Nothing,
                figures: all.to_vec(),
            },
            closed("put, 64 clients", 1, "put", 64, FloorOf::Crowd(Operation::Put), &all),
            closed("get, 1 client", 1, "get", 1, FloorOf::Get, &[figure(P50), figure(P99)]),
            closed("get, 64 clients", 1, "get", 64, FloorOf::Crowd(Operation::Get), &all),
        ]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_has_every_target() {
        let lengths = Lengths { warm_up: Duration::from_secs(1), counted: Duration::from_secs(1) };
        let targets = |quick| {
            let figures = parts(lengths, quick).into_iter().flat_map(|part| part.figures);
            figures.filter(|it| it.ahead.is_some() || it.above_floor.is_some()).count()
        };
        assert_eq!(targets(true), targets(false));
        assert_eq!(targets(true), 8);
    }
}
