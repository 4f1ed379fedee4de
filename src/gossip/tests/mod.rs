//! The room in a simulated network: see [`world`].

mod coordinates;
mod detection;
mod hostile;
mod identity;
mod partition;
mod spread;
mod world;
