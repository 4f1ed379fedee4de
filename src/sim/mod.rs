//! A seeded world in which whole nodes run, and the judges of what their clients saw.
//!
//! - [`world`]: time, network, disks and threads, in a [`weather`]; [`view`], [`mesh`]: what is seen of it, and its gossip.
//!   [`machine`]: what runs in it. [`witness`]: what a disk holds, and that nothing is said before it does. [`words`]:
//!   what happens, as text.
//! - [`clients`]: requests, what became of them, and the history by which they are judged.
//! - [`history`]: what the clients asked and were answered, and when.
//! - [`linearizability`]: whether one store, asked by one client at a time, could have given those answers.
//!
//! A history may as well be recorded from real processes: the judges ask for nothing that only a simulation knows.

pub mod clients;
pub mod history;
pub mod linearizability;
pub mod machine;
pub mod mesh;
pub mod view;
pub mod weather;
pub mod witness;
pub mod words;
pub mod world;
