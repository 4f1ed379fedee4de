//! The simulator: whole nodes in a world that a seed determines, and the judges of what their clients saw.
//!
//! The nodes, the log's recovery and the state machine are the real ones; time, network, disks and threads are simulated.
//! The same seed gives the same run, event by event.
//!
//! - [`run`]: one seed, from its [`scenario`] to its report. `src/bin/sim.rs` runs many.
//! - [`world`]: time and events. [`machine`]: what runs in it. [`turns`]: the stand-in for the real shell. [`network`], in a
//!   [`weather`]. [`requests`] and their answers. [`view`]: what is seen of it, [`words`]: the same as text, [`trace`] and
//!   [`tally`]: as numbers.
//! - [`faults`]: what goes wrong, and [`budget`]: what must not.
//! - [`clients`]: what they ask, what they were told, and the history by which they are judged. [`backups`]: those that an
//!   operator takes.
//! - [`checkers`]: what must hold; [`observe`]: what they are told.
//! - [`history`]: what clients asked and were answered, and when. [`linearizability`]: whether one store, asked by one client
//!   at a time, could have given those answers. A history may as well be recorded from real processes.
//!
//! Whether the checkers see anything is found out by planting [bugs](crate::planted), one at a time. `tests` has the table:
//! who finds each, and within how many seeds.

pub mod backups;
pub mod budget;
pub mod checkers;
pub mod clients;
pub mod faults;
pub mod history;
pub mod linearizability;
pub mod machine;
pub mod network;
pub mod observe;
pub mod requests;
pub mod run;
pub mod scenario;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod turns;
pub mod view;
pub mod weather;
pub mod words;
pub mod world;
