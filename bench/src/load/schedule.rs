//! When the requests of an open loop are due.
//!
//! Promises that each request has an intended time, which follows from the rate alone: a server that stalls delays no
//! intention, so that latency counted from there shows the stall to every request that it hit. Pure: time comes in.

use std::time::Duration;

/// The requests of one run at a fixed rate, from time zero on.
#[derive(Debug)]
pub struct Schedule {
    rate_per_s: f64,
    end: Duration,
    taken: u64,
}

impl Schedule {
    /// Requests are due from zero until `end`, which is excluded.
    pub fn new(rate_per_s: f64, end: Duration) -> Schedule {
        assert!(rate_per_s > 0.0 && rate_per_s.is_finite(), "a rate of {rate_per_s} is none");
        Schedule { rate_per_s, end, taken: 0 }
    }

    /// When the next request is to be sent. `None`: all have been taken.
    pub fn next(&self) -> Option<Duration> {
        let at = Duration::from_secs_f64(self.taken as f64 / self.rate_per_s);
        (at < self.end).then_some(at)
    }

    /// Takes the next request, if it is due, and tells its intended time.
    pub fn take(&mut self, now: Duration) -> Option<Duration> {
        let at = self.next().filter(|at| *at <= now)?;
        self.taken += 1;
        Some(at)
    }

    /// How many are due and not taken: who waits for a free slot.
    pub fn waiting(&self, now: Duration) -> u64 {
        let end = now.min(self.end).as_secs_f64();
        // One is due at time zero. Rounding may hide one that is due just now.
        let due = (end * self.rate_per_s).floor() as u64 + u64::from(now < self.end);
        due.saturating_sub(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn requests_are_due_at_the_rate() {
        let mut schedule = Schedule::new(500.0, ms(10));
        let mut sent = Vec::new();
        for now in 0..20 {
            while let Some(intended) = schedule.take(ms(now)) {
                sent.push((now, intended));
            }
        }
        assert_eq!(sent, [0, 2, 4, 6, 8].map(|at| (at, ms(at))));
        assert_eq!(schedule.next(), None);
    }

    /// A stall is not hidden: what became due in it has waited since then.
    #[test]
    fn after_a_stall_all_that_was_due_is_taken_with_its_own_time() {
        let mut schedule = Schedule::new(1000.0, ms(1000));
        assert_eq!(schedule.take(ms(0)), Some(ms(0)));
        assert_eq!(schedule.take(ms(0)), None);
        // Nobody was free for 100 ms.
        let now = ms(100);
        assert_eq!(schedule.waiting(now), 100);
        let waited: Vec<_> = std::iter::from_fn(|| schedule.take(now)).map(|at| now - at).collect();
        assert_eq!(waited.len(), 100);
        assert_eq!((waited[0], waited[99]), (ms(99), ms(0)));
        assert_eq!((schedule.waiting(now), schedule.next()), (0, Some(ms(101))));
    }

    #[test]
    fn the_end_bounds_what_waits() {
        let mut schedule = Schedule::new(100.0, ms(100));
        assert_eq!(schedule.waiting(ms(5_000)), 10);
        assert_eq!(std::iter::from_fn(|| schedule.take(ms(5_000))).count(), 10);
        assert_eq!(schedule.waiting(ms(5_000)), 0);
    }
}
