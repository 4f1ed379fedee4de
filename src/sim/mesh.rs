//! Gossip between the machines of a world.

use std::net::SocketAddr;

use bytes::Bytes;

use super::machine::{Input, gossip_address};
use super::world::World;

impl World {
    /// Tells a machine of all the others: its seeds.
    pub fn seed(&mut self, i: usize) {
        let seeds = (0..self.machines.len()).map(gossip_address).collect();
        self.input(i, Input::Seeds(seeds));
    }

    /// All machines that run know each other through gossip.
    pub fn mesh(&mut self) {
        self.is_meshed = true;
        for i in self.running() {
            self.seed(i);
        }
        self.run_until("all know each other", |world| {
            let running = world.running();
            let know = |i: &usize| world.node(*i).mesh().members().count() + 1 >= running.len();
            running.iter().all(know)
        });
    }

    pub fn send_datagram(&mut self, from: usize, to: SocketAddr, bytes: Bytes) {
        let Some(to) = (0..self.machines.len()).find(|i| gossip_address(*i) == to) else { return };
        let lost = self.is_cut(from, to) || self.rng.f64() < self.weather.loss;
        if !lost && self.machines[to].process.is_some() {
            let input = Input::Datagram(gossip_address(from), bytes.to_vec());
            self.deliver(to, input);
        }
    }

    /// A node that has come to its end by itself is gone once it may stop.
    pub fn note_end(&mut self, i: usize) {
        let node = self.node(i);
        if let Some(why) = node.ended().filter(|_| node.may_stop()) {
            let why = why.to_owned();
            self.crash(i);
            self.machines[i].ended = Some(why);
        }
    }
}
