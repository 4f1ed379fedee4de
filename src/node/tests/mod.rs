//! Whole nodes in a simulated world: every test is a run, or many, that a seed determines.
//!
//! The world, its machines and clients are those of the simulator, [`sim`](crate::sim).
//!
//! - [`storms`]: writes and reads under crashes and partitions. [`forming`]: how a cluster comes about. [`leaving`]: how
//!   a node stops. [`returning`]: how one comes back without its disk. [`membership`], [`removal`]: who belongs.
//!   [`forwarding`]: writes by way of another node. [`failover`]: how long they wait for another leader. [`minority`]: what
//!   those who are cut off say.
//!   [`limits`]: bounds; [`bounded`]: of the log. [`snapshots`]: what becomes of those that it leaves behind;
//!   [`reading`]: of clients. [`digests`], [`quota`]: states that differ, and that are full. [`golden`]: transcripts.

mod bounded;
mod digests;
mod failover;
mod forming;
mod forwarding;
mod golden;
mod leaving;
mod limits;
mod membership;
mod minority;
mod quota;
mod reading;
mod removal;
mod returning;
mod snapshots;
mod storms;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs all seeds, or the one that SEED names, or as many as SEEDS says, and tells which failed.
fn for_seeds(seeds: Range<u64>, mut run: impl FnMut(u64)) {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let seeds = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => 0..count,
        (None, None) => seeds,
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("this was seed {seed}: SEED={seed} runs it alone");
            resume_unwind(panic);
        }
    }
}
