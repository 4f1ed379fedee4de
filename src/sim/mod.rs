//! The proof that nothing is lost: what judges a run of the cluster, and the simulator that produces such runs.
//!
//! The simulator is a second shell: it runs the same pure rooms as [`shell`](crate::shell), under a world in which
//! clock, network and disk come out of a seed.
//!
//! - [`history`]: what the clients asked and were answered, and when.
//! - [`linearizability`]: whether one store, asked by one client at a time, could have given those answers.
//!
//! A history may as well be recorded from real processes: the judges ask for nothing that only a simulation knows.

pub mod history;
pub mod linearizability;
