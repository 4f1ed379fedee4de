//! Local health: is it the others that fail, or do we hear badly ourselves? (Lifeguard, section IV.A.)
//!
//! A node that fails to hear nacks, is suspected by others or was stalled raises its score, and an answered
//! probe lowers it. The probe period and all timeouts are multiplied by the score plus one.

use std::time::Duration;

/// The score at which a node trusts itself least.
const SCORE_MAX: u32 = 8;

/// The local health multiplier.
#[derive(Debug, Default)]
pub(super) struct Awareness {
    score: u32,
}

impl Awareness {
    pub fn worse(&mut self, by: u32) {
        self.score = self.score.saturating_add(by).min(SCORE_MAX);
    }

    pub fn better(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// 0 is healthy.
    pub fn score(&self) -> u32 {
        self.score
    }

    pub fn scale(&self, timeout: Duration) -> Duration {
        timeout * (self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_stays_within_its_bounds() {
        let mut awareness = Awareness::default();
        awareness.better();
        assert_eq!(awareness.scale(Duration::from_secs(1)), Duration::from_secs(1));
        awareness.worse(u32::MAX);
        assert_eq!(awareness.scale(Duration::from_secs(1)), Duration::from_secs(9));
        awareness.better();
        assert_eq!(awareness.score(), 7);
    }
}
