//! Closed loop: so many clients, each with one request outstanding on a connection of its own.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::LocalSet;

use crate::connection::Connection;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Put,
    Get,
    StaleGet,
}

/// A workload.
#[derive(Debug, Clone)]
pub struct Load {
    /// Clients are spread over them in turn.
    pub addresses: Vec<String>,
    pub operation: Operation,
    pub clients: usize,
    pub duration: Duration,
    /// So many operations instead, each of another key, in order.
    pub count: Option<u64>,
    pub keys: u64,
    pub value_len_bytes: usize,
}

/// What came of it.
pub struct Outcome {
    pub latency_us: Histogram<u64>,
    pub elapsed: Duration,
    pub overloaded: u64,
}

impl Outcome {
    pub fn throughput_per_s(&self) -> f64 {
        self.latency_us.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// p50, p99, p99.9 in milliseconds and the throughput.
    pub fn line(&self) -> String {
        let ms = |quantile: f64| self.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        format!(
            "p50 {:>8.3} ms  p99 {:>8.3} ms  p99.9 {:>8.3} ms  max {:>8.3} ms  {:>9.0}/s",
            ms(0.5),
            ms(0.99),
            ms(0.999),
            self.latency_us.max() as f64 / 1000.0,
            self.throughput_per_s()
        )
    }
}

/// Runs the workload on this thread.
pub fn run(load: &Load) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let latency_us = Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?;
    let shared = Rc::new(RefCell::new(Shared { latency_us, overloaded: 0, begun: 0 }));
    let tasks = LocalSet::new();
    let begun = Instant::now();
    tasks.block_on(&runtime, async {
        let clients = (0..load.clients).map(|client| {
            tokio::task::spawn_local(work(
                load.clone(),
                client,
                begun + load.duration,
                shared.clone(),
            ))
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.map_err(io::Error::other)??;
        }
        io::Result::Ok(())
    })?;
    let elapsed = begun.elapsed();
    drop(tasks);
    let Shared { latency_us, overloaded, .. } =
        Rc::into_inner(shared).expect("all clients are done").into_inner();
    Ok(Outcome { latency_us, elapsed, overloaded })
}

/// What the clients have done so far, all together.
struct Shared {
    latency_us: Histogram<u64>,
    overloaded: u64,
    /// Operations begun, those that were refused included.
    begun: u64,
}

async fn work(
    load: Load,
    client: usize,
    until: Instant,
    shared: Rc<RefCell<Shared>>,
) -> io::Result<()> {
    let mut connection = Connection::open(&load.addresses[client % load.addresses.len()]).await?;
    let mut rng = fastrand::Rng::with_seed(client as u64);
    let value = Bytes::from(vec![b'v'; load.value_len_bytes]);
    loop {
        let number = shared.borrow().begun;
        let (is_over, key) = match load.count {
            Some(count) => (number >= count, number),
            None => (Instant::now() >= until, rng.u64(..load.keys)),
        };
        if is_over {
            return Ok(());
        }
        shared.borrow_mut().begun += 1;
        let key = format!("key-{key:012}");
        let begun = Instant::now();
        let done = match load.operation {
            Operation::Put => connection.put(key.as_bytes(), &value).await?,
            Operation::Get => connection.get(key.as_bytes(), false).await?,
            Operation::StaleGet => connection.get(key.as_bytes(), true).await?,
        };
        let us = begun.elapsed().as_micros() as u64;
        let mut shared = shared.borrow_mut();
        match done {
            true => shared.latency_us.saturating_record(us.max(1)),
            false => shared.overloaded += 1,
        }
    }
}
