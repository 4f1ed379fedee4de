//! What a node counts and measures of itself: plain counters, and a histogram of latencies.
//!
//! Pure and of fixed size: whoever records never allocates, and the figures are read by
//! [`crate::http`]'s status page alone.
//!
//! # The histogram
//!
//! Log-linear: values below 32 have a bucket each, and every further power of two is cut into 32
//! buckets of equal width. A bucket is thus at most 1/32 as wide as the smallest value in it, and a
//! quantile, which is told as the top of its bucket, is never below the true one and at most
//! 1/32 (3.2 %) above it. The whole range of `u64` is covered, in 15 KiB.

#![forbid(unsafe_code)]

use serde::Serialize;

const SUB_BITS: u32 = 5;
const SUB_COUNT: usize = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB_COUNT;

/// What a node has counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Raft messages sent to peers.
    pub messages_sent: u64,
    /// Raft messages received from peers.
    pub messages_received: u64,
    /// Writes proposed here, as the leader.
    pub proposals: u64,
    /// Reads answered here.
    pub reads: u64,
    /// Requests passed on to the leader.
    pub forwarded: u64,
    /// Requests refused, for any reason.
    pub refused: u64,
    /// Connections closed for bytes that are no protocol.
    pub protocol_errors: u64,
    /// Greetings and joins of peers that were refused: of another cluster, a copy of a disk, a removed node, a name twice.
    pub peers_refused: u64,
    /// Snapshots that a follower has got from here.
    pub snapshots_sent: u64,
    /// Bytes of rows that were sent for snapshots.
    pub snapshot_bytes_sent: u64,
    /// Snapshots that took the place of this node's state.
    pub snapshots_received: u64,
    /// Bytes of rows that came for them.
    pub snapshot_bytes_received: u64,
    /// Snapshots that were begun, in or out, and given up.
    pub snapshots_failed: u64,
    /// Page faults that had to wait for the disk.
    pub major_faults: u64,
    /// Ticks that came too late and were dropped.
    pub ticks_dropped: u64,
}

/// What gossip has counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GossipCounters {
    /// Datagrams received, the refused ones included.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Datagrams sent.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Bytes of tables sent and received.
    pub sync_bytes: u64,
    /// Datagrams or tables that could not be read.
    pub malformed: u64,
    /// Datagrams, tables or news of another cluster.
    pub other_cluster: u64,
    /// Pings that were meant for another node.
    pub misaddressed: u64,
    /// Answers to what was not asked, or is long over.
    pub unexpected_answers: u64,
    /// News of a node without an address.
    pub unreachable: u64,
    /// News of a known node from a second process under its identity.
    pub identity_conflicts: u64,
    /// New nodes refused because the table is full.
    pub members_refused: u64,
    /// Pings not sent, for others or to seeds, because too many are out.
    pub pings_refused: u64,
    /// Probes begun.
    pub probes: u64,
    /// Probes for which others were asked, because the direct ping was not answered in time.
    pub indirect_probes: u64,
    /// Probes without an answer, direct or by others.
    pub probes_failed: u64,
    /// Claims that this node was suspect or dead, or other forgeries of it, that it refuted.
    pub refuted: u64,
    /// Suspicions that began.
    pub suspicions: u64,
    /// Suspected nodes that were alive after all.
    pub false_suspicions: u64,
    /// Nodes taken for dead that were alive after all, in the same start.
    pub false_deaths: u64,
    /// Times that this process was not run for longer than it should have been.
    pub stalls: u64,
}

/// A histogram's figures, for the status page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LatencySummary {
    /// How many were recorded.
    pub count: u64,
    /// The median.
    pub p50_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
    /// The largest, exactly.
    pub max_us: u64,
}

/// Durations in microseconds. See the [module](self).
///
/// ```
/// let mut syncs = phalanx::metrics::Histogram::default();
/// for us in [120, 130, 140, 9_000] {
///     syncs.record_us(us);
/// }
/// assert_eq!(syncs.quantile_us(0.5), 131); // 130 lies in the bucket of 128 to 131
/// assert_eq!(syncs.max_us(), 9_000);
/// ```
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: Box::new([0; BUCKETS]), count: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Records one duration.
    pub fn record_us(&mut self, us: u64) {
        self.buckets[bucket_of(us)] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    /// The duration that a share `q` (0 to 1) of all recorded do not exceed; 0 if there are none.
    ///
    /// # Panics
    /// If `q` is not within 0 to 1.
    pub fn quantile_us(&self, q: f64) -> u64 {
        assert!((0.0..=1.0).contains(&q), "a quantile of {q} was asked for");
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return top_of(bucket).min(self.max_us);
            }
        }
        self.max_us
    }

    /// The longest duration recorded, exactly; 0 if there is none.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The figures for the status page.
    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.count,
            p50_us: self.quantile_us(0.50),
            p99_us: self.quantile_us(0.99),
            max_us: self.max_us,
        }
    }
}

/// Below 32 the value itself; above, 32 buckets to each power of two, by the five bits behind the
/// leading one.
fn bucket_of(us: u64) -> usize {
    if us < SUB_COUNT as u64 {
        return us as usize;
    }
    let shift = us.ilog2() - SUB_BITS;
    let sub = (us >> shift) as usize - SUB_COUNT;
    (shift as usize + 1) * SUB_COUNT + sub
}

/// The largest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    if bucket < SUB_COUNT {
        return bucket as u64;
    }
    let shift = bucket / SUB_COUNT - 1;
    let first = ((SUB_COUNT + bucket % SUB_COUNT) as u64) << shift;
    first + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_all_values_without_gap_or_overlap() {
        let mut next = 0u64;
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(next), bucket, "first value of the bucket");
            let top = top_of(bucket);
            assert_eq!(bucket_of(top), bucket, "last value of the bucket");
            assert!(top - next <= next / SUB_COUNT as u64, "too wide: {next} to {top}");
            next = top.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last bucket ends at u64::MAX");
    }

    #[test]
    fn quantiles_are_within_the_stated_bound() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut histogram = Histogram::default();
            let mut all: Vec<u64> =
                (0..rng.usize(1..2000)).map(|_| rng.u64(..) >> rng.u32(0..64)).collect();
            all.iter().for_each(|us| histogram.record_us(*us));
            all.sort_unstable();

            assert_eq!(histogram.count(), all.len() as u64, "seed {seed}");
            assert_eq!(Some(&histogram.max_us()), all.last(), "seed {seed}");
            for q in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
                let rank = (q * all.len() as f64).ceil().max(1.0) as usize;
                let (told, real) = (histogram.quantile_us(q), all[rank - 1]);
                assert!(told >= real, "seed {seed}, quantile {q}: {told} < {real}");
                assert!(told - real <= real / 32, "seed {seed}, quantile {q}: {told}, not {real}");
            }
        }
    }

    #[test]
    fn an_empty_histogram_tells_zeros() {
        assert_eq!(Histogram::default().summary(), LatencySummary::default());
    }

    #[test]
    fn small_values_are_exact() {
        let mut histogram = Histogram::default();
        (1..=20).for_each(|us| histogram.record_us(us));
        let expected = LatencySummary { count: 20, p50_us: 10, p99_us: 20, max_us: 20 };
        assert_eq!(histogram.summary(), expected);
    }
}
