//! What judges a run of the cluster: whether its clients were told the truth.
//!
//! - [`history`]: what the clients asked and were answered, and when.
//! - [`linearizability`]: whether one store, asked by one client at a time, could have given those answers.
//!
//! A history may as well be recorded from real processes: the judges ask for nothing that only a simulation knows.

pub mod history;
pub mod linearizability;
