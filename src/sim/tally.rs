//! What happened in a run, or many, in numbers.

use std::fmt;
use std::ops::AddAssign;

macro_rules! tally {
    ($($name:ident: $words:literal),* $(,)?) => {
        /// How often what happened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Tally {
            $(#[doc = $words] pub $name: u64,)*
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Tally) {
                $(self.$name += other.$name;)*
            }
        }

        impl fmt::Display for Tally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let all = [$((self.$name, $words)),*];
                let told: Vec<String> =
                    all.iter().map(|(number, words)| format!("{number} {words}")).collect();
                f.write_str(&told.join(", "))
            }
        }
    };
}

tally! {
    events: "events",
    frames: "frames",
    datagrams: "datagrams",
    elections: "elections",
    crashes: "crashes",
    power_cuts: "power cuts",
    crashes_in_turn: "crashes between two effects of a turn",
    pauses: "pauses",
    partitions: "partitions",
    broken_links: "broken connections",
    full_disks: "full disks",
    failed_disks: "failed disks",
    flipped_bits: "flipped bits",
    refused_starts: "refused starts",
    marred_states: "marred states",
    quarantines: "marred states noticed",
    lost_disks: "lost disks",
    clock_jumps: "jumps of clocks",
    orders: "orders",
    ended: "nodes that were removed or refused",
    writes: "writes acknowledged",
    reads: "linearizable reads",
    aged_reads: "stale reads of known age",
    swaps: "swaps",
    over_quota: "writes over MAX_BYTES",
    clearings: "deletes to make room",
    backups: "backups",
    forwards: "writes forwarded",
    snapshots: "snapshots installed",
    chunks: "chunks of snapshots",
    unknown: "histories without a verdict",
}
