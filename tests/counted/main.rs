//! What a put costs, counted: allocations, system calls, syncs, messages. Time proves nothing on a machine that others use
//! too; a count is the same on any. A bound that is exceeded shows a change that every put pays for.

mod allocations;
#[path = "../harness/mod.rs"]
mod harness;
mod system_calls;
