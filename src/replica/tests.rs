//! Consensus, message by message. How whole nodes behave is tested in [`crate::node`].

mod formation;
mod malformed;
