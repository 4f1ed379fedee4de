//! How long the machine takes a core away: from a thread on each core that does nothing but look at the clock.
//!
//! On a virtual machine the host does so, and nothing that runs inside can help it. A request that is under way then is
//! late by that much, whoever serves it. Time in which another thread of this machine had the core is not counted: the kernel
//! tells how long the thread was ready and did not run.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::pin;

/// What is shorter is the machine's own business: interrupts, and the clock itself.
const PAUSE_MIN: Duration = Duration::from_micros(500);

/// What was seen on all cores together.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pauses {
    /// How long was looked, on one core.
    pub looked: Duration,
    pub count: u32,
    pub longest: Duration,
    /// All pauses together, on all cores.
    pub total: Duration,
}

impl Pauses {
    /// Looks for so long, on so many cores.
    pub fn watch(cores: usize, duration: Duration) -> io::Result<Pauses> {
        let watching: Vec<_> =
            (0..cores).map(|core| thread::spawn(move || watch(core, duration))).collect();
        let mut all = Pauses { looked: duration, ..Pauses::default() };
        for seen in watching {
            let seen = seen.join().expect("no panic in a watching thread")?;
            all.count += seen.count;
            all.total += seen.total;
            all.longest = all.longest.max(seen.longest);
        }
        Ok(all)
    }

    /// Adds what another time saw.
    pub fn add(&mut self, other: Pauses) {
        self.looked += other.looked;
        self.count += other.count;
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    pub fn per_second(&self) -> f64 {
        f64::from(self.count) / self.looked.as_secs_f64()
    }
}

impl std::fmt::Display for Pauses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cores taken away for over {} ms: {:.1} times a second, {:.1} ms at most, {:.2} % of a core",
            PAUSE_MIN.as_secs_f64() * 1e3,
            self.per_second(),
            self.longest.as_secs_f64() * 1e3,
            self.total.as_secs_f64() / self.looked.as_secs_f64() * 100.0
        )
    }
}

fn watch(core: usize, duration: Duration) -> io::Result<Pauses> {
    pin(Some(core))?;
    let mut seen = Pauses::default();
    let mut waited = run_delay()?;
    let begun = Instant::now();
    let mut before = begun;
    while before - begun < duration {
        let now = Instant::now();
        let pause = now - before;
        before = now;
        if pause < PAUSE_MIN {
            continue;
        }
        let waited_before = std::mem::replace(&mut waited, run_delay()?);
        let pause = pause.saturating_sub(waited - waited_before);
        if pause >= PAUSE_MIN {
            seen.count += 1;
            seen.total += pause;
            seen.longest = seen.longest.max(pause);
        }
        before = Instant::now();
    }
    Ok(seen)
}

/// How long this thread was ready to run, and another one ran.
fn run_delay() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns = text.split_whitespace().nth(1).and_then(|ns| ns.parse().ok());
    ns.map(Duration::from_nanos).ok_or_else(|| io::Error::other(format!("schedstat is {text:?}")))
}
