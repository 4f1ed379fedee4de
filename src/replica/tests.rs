//! Consensus, message by message. How whole nodes behave is tested in [`crate::node`].
//!
//! - [`formation`]: promises. [`malformed`]: messages that cannot be.
//! - [`crew`]: several replicas with a network between them; [`demotion`]: what they make of changes of the membership;
//!   [`compaction`]: how they do with little of the log; [`office`]: when they ask for votes; [`telling`]: what a write
//!   costs them.

mod compaction;
mod crew;
mod demotion;
mod formation;
mod malformed;
mod office;
mod telling;
