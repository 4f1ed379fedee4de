//! Whole nodes in a simulated world: every test is a run, or many, that a seed determines.
//!
//! - [`world`]: time, network, disks and threads; [`machine`]: what runs in it; [`witness`]: what a disk holds, and that
//!   nothing is said before it does; [`clients`]: requests, and what became of them.
//! - [`storms`]: writes and reads under crashes and partitions. [`forming`]: how a cluster comes about. [`leaving`]: how a
//!   node stops. [`limits`]: bounds. [`golden`]: transcripts.

mod clients;
mod golden;
mod machine;
mod storms;
mod witness;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs all seeds, or the one that SEED names, and says which failed.
fn for_seeds(seeds: Range<u64>, mut run: impl FnMut(u64)) {
    let seeds = match std::env::var("SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => seed..seed + 1,
        _ => seeds,
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("this was seed {seed}: SEED={seed} runs it alone");
            resume_unwind(panic);
        }
    }
}
