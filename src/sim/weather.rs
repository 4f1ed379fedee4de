//! How good the network and the disks of a world are.
//!
//! What a connection does to frames is one of two things:
//! - **As TCP does** ([`Weather::in_order`]): frames of one connection arrive in order and all of them, until it breaks.
//!   Then those in flight are lost, or arrive yet, perhaps after the first ones of the next connection. While the network
//!   lets nothing pass, they wait.
//! - **Worse**: frames overtake each other, and single ones are lost. Raft asks for no more, and nor does anything that a
//!   node sends to another; so what holds in this weather holds over any transport.

use std::ops::Range;

/// How long things take and how often they fail.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Whether connections are like TCP's.
    pub in_order: bool,
    /// Beyond what the way between the two machines takes.
    pub frame_us: Range<u64>,
    /// Of a frame, if it can be lost alone; of a datagram in any case.
    pub loss: f64,
    /// Of a frame, that its connection breaks.
    pub breaks: f64,
    /// Of a datagram, that it arrives twice.
    pub duplicates: f64,
    /// A write of the log.
    pub write_us: Range<u64>,
    /// A write that is held up: how often, and for how long.
    pub stall: f64,
    /// See [`Weather::stall`].
    pub stall_us: Range<u64>,
    /// Commits, range reads and segments.
    pub thread_us: Range<u64>,
    /// Of a turn, that the machine stops while its effects are carried out.
    pub stop_in_turn: f64,
    /// That it stops when a term, a vote, a promise or a cluster has just got on its disk, and nobody was told.
    pub stop_at_turning_points: f64,
}

impl Weather {
    /// A local network, good disks.
    pub fn fair() -> Weather {
        Weather {
            in_order: false,
            frame_us: 200..400,
            loss: 0.0,
            breaks: 0.0,
            duplicates: 0.0,
            write_us: 150..400,
            stall: 0.0,
            stall_us: 1..2,
            thread_us: 1_000..10_000,
            stop_in_turn: 0.0,
            stop_at_turning_points: 0.0,
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
            ..Weather::fair()
        }
    }
}
