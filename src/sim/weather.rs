//! How good the network and the disks of a world are.

use std::ops::Range;

/// How long things take and how often they fail.
#[derive(Debug, Clone)]
pub struct Weather {
    pub frame_us: Range<u64>,
    /// Of a frame.
    pub loss: f64,
    pub write_us: Range<u64>,
    /// A write that is held up: how often, and for how long.
    pub stall: f64,
    pub stall_us: Range<u64>,
    /// Commits, range reads and segments.
    pub thread_us: Range<u64>,
}

impl Weather {
    pub fn fair() -> Weather {
        Weather {
            frame_us: 200..400,
            loss: 0.0,
            write_us: 150..400,
            stall: 0.0,
            stall_us: 1..2,
            thread_us: 1_000..10_000,
        }
    }

    /// Frames overtake each other; disks are slow now and then.
    pub fn foul(rng: &mut fastrand::Rng) -> Weather {
        Weather {
            frame_us: 100..[1_000, 10_000, 60_000][rng.usize(..3)],
            loss: [0.0, 0.01, 0.05][rng.usize(..3)],
            write_us: 150..[500, 5_000, 40_000][rng.usize(..3)],
            stall: [0.0, 0.01, 0.1][rng.usize(..3)],
            stall_us: 50_000..600_000,
            thread_us: 1_000..300_000,
        }
    }
}
