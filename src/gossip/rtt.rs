//! The measured round trip to one peer, and the timeout that follows from it: smoothed mean plus four times the
//! smoothed deviation (RFC 6298).

use std::time::Duration;

/// A timeout grows no further.
const TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Of one peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Rtt {
    smoothed: Option<Smoothed>,
}

#[derive(Debug, Clone)]
struct Smoothed {
    mean: Duration,
    deviation: Duration,
}

impl Rtt {
    pub fn sample(&mut self, rtt: Duration) {
        let Some(Smoothed { mean, deviation }) = &mut self.smoothed else {
            self.smoothed = Some(Smoothed { mean: rtt, deviation: rtt / 2 });
            return;
        };
        *deviation = *deviation * 3 / 4 + mean.abs_diff(rtt) / 4;
        *mean = *mean * 7 / 8 + rtt / 8;
    }

    /// The smoothed round trip, once there is a measurement.
    pub fn mean(&self) -> Option<Duration> {
        self.smoothed.as_ref().map(|smoothed| smoothed.mean)
    }

    /// How long to wait for an answer: at least `floor`, and `initial` before anything was measured.
    pub fn timeout(&self, floor: Duration, initial: Duration) -> Duration {
        match &self.smoothed {
            None => initial,
            Some(Smoothed { mean, deviation }) => {
                (*mean + *deviation * 4).max(floor).min(TIMEOUT_MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Duration = Duration::from_millis(100);
    const INITIAL: Duration = Duration::from_secs(1);

    #[test]
    fn the_timeout_follows_the_peer() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(FLOOR, INITIAL), INITIAL);
        for _ in 0..50 {
            rtt.sample(Duration::from_millis(1));
        }
        assert_eq!(rtt.timeout(FLOOR, INITIAL), FLOOR);
        for millis in [280, 330, 300, 270, 320].repeat(10) {
            rtt.sample(Duration::from_millis(millis));
        }
        let timeout = rtt.timeout(FLOOR, INITIAL);
        assert!((330..600).contains(&timeout.as_millis()), "{timeout:?}");
        rtt.sample(Duration::from_secs(3600));
        assert_eq!(rtt.timeout(FLOOR, INITIAL), TIMEOUT_MAX);
    }
}
