//! How long a suspected node has to speak up (Lifeguard, section IV.B).
//!
//! The wait begins long and shrinks with the logarithm of independent confirmations: a single suspicious node may
//! itself be what is wrong, three are rarely wrong together.

use std::collections::BTreeSet;
use std::time::Duration;

/// Confirmations after which the wait is the shortest, in meshes that are large enough to give them.
const CONFIRMATIONS: usize = 2;

/// One node under suspicion.
#[derive(Debug, Clone)]
pub(super) struct Suspicion {
    start: Duration,
    min: Duration,
    max: Duration,
    /// Confirmations wanted, beside the first suspicion.
    wanted: usize,
    /// Who suspects, the first one included.
    by: BTreeSet<u64>,
    /// The wait never shrinks into the past: to be late would look as if we had not been run.
    not_before: Duration,
}

impl Suspicion {
    /// `live` counts all nodes that are not known to be dead, ourselves and the suspect included. The wait is
    /// between `min` and `max`, both already scaled to the size of the mesh.
    pub fn new(now: Duration, first: u64, live: usize, min: Duration, max: Duration) -> Suspicion {
        // Everybody but the suspect and the first to suspect can confirm. Where those are too few, to wait for them
        // would only be slow.
        let wanted = if live.saturating_sub(2) < CONFIRMATIONS { 0 } else { CONFIRMATIONS };
        Suspicion { start: now, min, max, wanted, by: BTreeSet::from([first]), not_before: now }
    }

    /// True if that is news which shortens the wait.
    pub fn confirm(&mut self, now: Duration, by: u64) -> bool {
        let news = self.wants_confirmation() && self.by.insert(by);
        if news {
            self.not_before = now;
        }
        news
    }

    pub fn wants_confirmation(&self) -> bool {
        self.by.len() - 1 < self.wanted
    }

    /// When the suspect is to be declared dead.
    pub fn deadline(&self) -> Duration {
        let wait = if self.wants_confirmation() {
            let confirmed = self.by.len() as f64;
            let shrunk = confirmed.ln() / (self.wanted as f64 + 1.0).ln();
            self.max - (self.max - self.min).mul_f64(shrunk)
        } else {
            self.min
        };
        (self.start + wait).max(self.not_before)
    }

    /// We did not listen for so long: that time does not count.
    pub fn postpone(&mut self, by: Duration) {
        self.start += by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MIN: Duration = Duration::from_secs(4);
    const MAX: Duration = Duration::from_secs(24);

    #[test]
    fn the_wait_shrinks_with_independent_confirmations_only() {
        let mut suspicion = Suspicion::new(Duration::ZERO, 1, 5, MIN, MAX);
        assert_eq!(suspicion.deadline(), MAX);
        assert!(!suspicion.confirm(SECOND, 1));
        assert_eq!(suspicion.deadline(), MAX);
        assert!(suspicion.confirm(SECOND, 2));
        assert!(suspicion.deadline() < MAX && suspicion.deadline() > MIN);
        assert!(suspicion.confirm(SECOND, 3));
        assert_eq!(suspicion.deadline(), MIN);
        assert!(!suspicion.confirm(SECOND, 4));
    }

    #[test]
    fn the_wait_does_not_end_in_the_past() {
        let mut suspicion = Suspicion::new(Duration::ZERO, 1, 5, MIN, MAX);
        assert!(suspicion.confirm(8 * SECOND, 2) && suspicion.confirm(9 * SECOND, 3));
        assert_eq!(suspicion.deadline(), 9 * SECOND);
    }

    #[test]
    fn a_small_mesh_does_not_wait_for_confirmations_that_nobody_can_give() {
        assert_eq!(Suspicion::new(Duration::ZERO, 1, 3, MIN, MAX).deadline(), MIN);
    }
}
