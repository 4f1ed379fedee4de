//! Network coordinates: where a node stands, so that the distance between any two nodes estimates their round trip,
//! measured or not.
//!
//! Vivaldi (Dabek, Cox, Kaashoek, Morris 2004) with a height for the way from the node to the core of the network. The
//! stabilizers are those of Ledlie, Gardner, Seltzer 2007 that Serf uses too: a moving median over the last three
//! round trips of a peer, an adjustment term averaged over the last 20 samples, and a weak gravity to the origin that
//! keeps the whole from drifting away. The constants are Serf's.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;

use crate::wire::gossip;

const DIMENSIONS: usize = 8;
/// The error of who has measured nothing yet, and the largest.
const ERROR_MAX: f64 = 1.5;
/// How much one sample may change the error, and the position.
const ERROR_GAIN: f64 = 0.25;
const FORCE_GAIN: f64 = 0.25;
const HEIGHT_MIN: f64 = 10e-6;
const ADJUSTMENT_WINDOW: usize = 20;
const FILTER_WINDOW: usize = 3;
/// In seconds: the distance at which gravity pulls a node by one second.
const GRAVITY_RHO: f64 = 150.0;
/// Below a microsecond nothing is told apart.
const ZERO: f64 = 1e-6;
/// A round trip or an extent beyond this is no measurement of a network.
const SECONDS_MAX: f64 = 10.0;

/// A position, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Coordinate {
    vec: [f64; DIMENSIONS],
    /// Relative; the smaller, the surer.
    error: f64,
    adjustment: f64,
    height: f64,
}

impl Default for Coordinate {
    fn default() -> Coordinate {
        Coordinate { vec: [0.0; DIMENSIONS], error: ERROR_MAX, adjustment: 0.0, height: HEIGHT_MIN }
    }
}

impl Coordinate {
    /// The estimated round trip between two nodes.
    pub fn distance(&self, other: &Coordinate) -> Duration {
        let raw = self.raw_distance(other);
        let adjusted = raw + self.adjustment + other.adjustment;
        Duration::from_secs_f64(if adjusted > 0.0 { adjusted } else { raw })
    }

    fn raw_distance(&self, other: &Coordinate) -> f64 {
        magnitude(&self.from(other)) + self.height + other.height
    }

    /// The way from `other` to here.
    fn from(&self, other: &Coordinate) -> [f64; DIMENSIONS] {
        std::array::from_fn(|i| self.vec[i] - other.vec[i])
    }

    /// Moves by `force` seconds away from `other`; towards it, if negative.
    fn push(&mut self, force: f64, other: &Coordinate, rng: &mut Rng) {
        let way = self.from(other);
        let length = magnitude(&way);
        if length > ZERO {
            for (here, step) in self.vec.iter_mut().zip(way) {
                *here += step / length * force;
            }
            let height = self.height + (self.height + other.height) * force / length;
            self.height = height.clamp(HEIGHT_MIN, SECONDS_MAX);
        } else {
            // Two nodes at one place part in any direction.
            let random: [f64; DIMENSIONS] = std::array::from_fn(|_| rng.f64() - 0.5);
            let length = magnitude(&random).max(ZERO);
            for (here, step) in self.vec.iter_mut().zip(random) {
                *here += step / length * force;
            }
        }
    }

    fn is_sane(&self) -> bool {
        let numbers = [self.error, self.adjustment, self.height];
        self.vec.iter().chain(&numbers).all(|x| x.is_finite() && x.abs() <= SECONDS_MAX)
            && self.height >= 0.0
            && self.error >= 0.0
    }

    /// None if that is no position a node can have.
    pub(super) fn from_wire(wire: &gossip::Coordinate) -> Option<Coordinate> {
        let vec: [f32; DIMENSIONS] = wire.vec.as_slice().try_into().ok()?;
        let coordinate = Coordinate {
            vec: vec.map(f64::from),
            error: wire.error.into(),
            adjustment: wire.adjustment.into(),
            height: wire.height.into(),
        };
        coordinate.is_sane().then_some(coordinate)
    }

    pub(super) fn to_wire(&self) -> gossip::Coordinate {
        gossip::Coordinate {
            vec: self.vec.iter().map(|&x| x as f32).collect(),
            error: self.error as f32,
            adjustment: self.adjustment as f32,
            height: self.height as f32,
        }
    }
}

fn magnitude(vec: &[f64; DIMENSIONS]) -> f64 {
    vec.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The median of a peer's last round trips: a single slow one moves nobody.
#[derive(Debug, Clone, Default)]
pub(super) struct LatencyFilter {
    samples: VecDeque<Duration>,
}

impl LatencyFilter {
    pub fn median(&mut self, rtt: Duration) -> Duration {
        if self.samples.len() == FILTER_WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(rtt);
        let mut sorted: Vec<Duration> = self.samples.iter().copied().collect();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) / 2]
    }
}

/// This node's own position, and what moves it.
#[derive(Debug, Default)]
pub(super) struct Vivaldi {
    coordinate: Coordinate,
    /// Measured less estimated, without adjustments, of the last samples.
    residuals: VecDeque<f64>,
}

impl Vivaldi {
    pub fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    /// A round trip to a node at `other`, filtered already.
    pub fn observe(&mut self, other: &Coordinate, rtt: Duration, rng: &mut Rng) {
        let rtt = rtt.as_secs_f64().max(ZERO);
        if rtt > SECONDS_MAX {
            return;
        }
        self.spring(other, rtt, rng);
        self.adjust(other, rtt);
        self.gravitate(rng);
        if !self.coordinate.is_sane() {
            *self = Vivaldi::default();
        }
    }

    /// The spring between the two pulls or pushes, the more the surer the other and the less sure we are.
    fn spring(&mut self, other: &Coordinate, rtt: f64, rng: &mut Rng) {
        let here = &mut self.coordinate;
        let distance = here.raw_distance(other);
        let wrongness = (distance - rtt).abs() / rtt;
        let weight = here.error / (here.error + other.error).max(ZERO);
        let gain = ERROR_GAIN * weight;
        here.error = (wrongness * gain + here.error * (1.0 - gain)).min(ERROR_MAX);
        here.push(FORCE_GAIN * weight * (rtt - distance), other, rng);
    }

    fn adjust(&mut self, other: &Coordinate, rtt: f64) {
        if self.residuals.len() == ADJUSTMENT_WINDOW {
            self.residuals.pop_front();
        }
        self.residuals.push_back(rtt - self.coordinate.raw_distance(other));
        // Half: the other node has its own adjustment.
        self.coordinate.adjustment =
            self.residuals.iter().sum::<f64>() / (2.0 * ADJUSTMENT_WINDOW as f64);
    }

    fn gravitate(&mut self, rng: &mut Rng) {
        let origin = Coordinate::default();
        let distance = self.coordinate.raw_distance(&origin);
        self.coordinate.push(-(distance / GRAVITY_RHO).powi(2), &origin, rng);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_find_their_distance() {
        let mut rng = Rng::with_seed(1);
        let (mut a, mut b) = (Vivaldi::default(), Vivaldi::default());
        let rtt = Duration::from_millis(80);
        for _ in 0..200 {
            a.observe(&b.coordinate.clone(), rtt, &mut rng);
            b.observe(&a.coordinate.clone(), rtt, &mut rng);
        }
        let estimate = a.coordinate.distance(&b.coordinate);
        assert!(estimate.abs_diff(rtt) < Duration::from_millis(2), "{estimate:?}");
    }

    #[test]
    fn a_single_slow_round_trip_is_filtered_out() {
        let mut filter = LatencyFilter::default();
        for millis in [10, 900, 11, 10] {
            let median = filter.median(Duration::from_millis(millis));
            assert!(median < Duration::from_millis(12), "{median:?}");
        }
    }

    #[test]
    fn a_position_that_no_node_can_have_is_refused() {
        let sane = Coordinate::default().to_wire();
        assert!(Coordinate::from_wire(&sane).is_some());
        for bad in [f32::NAN, f32::INFINITY, -1e9, 1e9] {
            assert!(
                Coordinate::from_wire(&gossip::Coordinate { error: bad, ..sane.clone() }).is_none()
            );
            let vec = [&[bad][..], &[0.0; DIMENSIONS - 1]].concat();
            assert!(Coordinate::from_wire(&gossip::Coordinate { vec, ..sane.clone() }).is_none());
        }
        assert!(Coordinate::from_wire(&gossip::Coordinate { vec: vec![], ..sane }).is_none());
    }
}
