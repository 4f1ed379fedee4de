//! The network between the machines: connections, frames and datagrams, and what is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::checkers::Checker;
use super::machine::{Input, Link, gossip_address};
use super::world::{Event, World};
use crate::wire::PROTOCOL_VERSION;
use crate::wire::client::{Code, Hello, Identity, Role};
use crate::wire::peer::{PeerFrame, peer_frame};

/// How often a machine opens the connections that are not up.
const CONNECT_EVERY: Duration = Duration::from_millis(50);
/// A connection on which more frames wait breaks.
const HELD_MAX: usize = 1000;

/// What holds of the ways between machines.
#[derive(Debug, Default)]
pub struct Network {
    /// Pairs that nothing passes between, in that direction.
    cuts: BTreeSet<(usize, usize)>,
    /// How long the way from one machine to another takes, at least.
    one_way: BTreeMap<(usize, usize), Duration>,
    /// Connections of which the frames in flight are lost.
    dead: BTreeSet<u64>,
    last_link: u64,
}

impl World {
    /// From now on nothing passes from one of `side` to another machine, nor back. Connections stay up, until something
    /// notices, or break.
    pub fn isolate(&mut self, side: &[usize]) {
        let breaks = self.rng.bool();
        for a in 0..self.machines.len() {
            for b in 0..self.machines.len() {
                if side.contains(&a) != side.contains(&b) {
                    self.cut(a, b);
                    if breaks {
                        self.break_link(a, b);
                    }
                }
            }
        }
    }

    /// Whether nothing passes from one machine to another.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.network.cuts.contains(&(from, to))
    }

    /// From now on nothing passes from one machine to another.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.network.cuts.insert((from, to));
    }

    /// Everything passes again, and what waited comes now.
    pub fn heal(&mut self) {
        self.network.cuts.clear();
        for from in self.running() {
            let links = self.process(from).links.iter_mut();
            let held: Vec<_> =
                links.map(|(to, link)| (*to, std::mem::take(&mut link.held))).collect();
            for (to, frames) in held {
                frames.into_iter().for_each(|frame| self.send_in_order(from, to, frame));
            }
        }
    }

    /// How long the way from one machine to another takes, at least.
    pub fn set_one_way(&mut self, from: usize, to: usize, takes: Duration) {
        self.network.one_way.insert((from, to), takes);
    }

    fn one_way(&self, from: usize, to: usize) -> Duration {
        self.network.one_way.get(&(from, to)).copied().unwrap_or_default()
    }

    // ---- Connections. ----

    /// Opens the connections of a machine that are not up.
    pub(super) fn connect(&mut self, i: usize) {
        self.schedule(i, CONNECT_EVERY, Event::Connect);
        for other in 0..self.machines.len() {
            let is_cut = self.is_cut(i, other) || self.is_cut(other, i);
            let is_up = self.process(i).links.contains_key(&other);
            let is_deaf = self.machines[other].paused_until > self.now;
            if other == i || is_cut || is_up || is_deaf {
                continue;
            }
            let from = self.process(i).node.identity().clone();
            let Some(process) = &mut self.machines[other].process else { continue };
            let hello = Hello {
                version: PROTOCOL_VERSION,
                role: Role::Peer.into(),
                cluster_id: from.cluster_id.clone(),
                from: Some(from.clone()),
            };
            match process.node.greet(&hello) {
                Ok(welcome) => {
                    let peer = welcome.node.expect("a welcome names the node");
                    match self.process(i).node.admits(&peer) {
                        Ok(()) => self.link(i, other, from, peer),
                        Err(_) => self.end_inbound(other, Arc::new(from)),
                    }
                }
                Err(refused) if refused.code() == Code::Removed => {
                    self.post(i, Input::Removed(refused.message));
                }
                Err(_) => {}
            }
        }
    }

    fn link(&mut self, from: usize, to: usize, greeted_as: Identity, peer: Identity) {
        self.network.last_link += 1;
        let id = self.network.last_link;
        let greeted_as = Arc::new(greeted_as);
        let link = Link { id, greeted_as, last_at: Duration::ZERO, held: Vec::new() };
        self.process(from).links.insert(to, link);
        self.post(from, Input::PeerUp(peer));
    }

    /// Ends the connection that a machine has opened to another, if it is up.
    pub fn break_link(&mut self, from: usize, to: usize) {
        let raft_id = self.machines[to].raft_id;
        let Some(process) = &mut self.machines[from].process else { return };
        if let Some(link) = process.links.remove(&to) {
            self.tally.broken_links += 1;
            self.post(from, Input::PeerDown(raft_id));
            self.end(to, link);
        }
    }

    /// The other end of a connection notices its end, and what is in flight may be lost.
    pub(super) fn end(&mut self, at: usize, link: Link) {
        if self.weather.in_order && self.rng.bool() {
            self.network.dead.insert(link.id);
        }
        self.end_inbound(at, link.greeted_as);
    }

    fn end_inbound(&mut self, at: usize, opened_by: Arc<Identity>) {
        if self.machines[at].process.is_some() {
            self.post(at, Input::PeerGone(opened_by));
        }
    }

    // ---- Frames. ----

    /// Sends a frame to whoever has that identity.
    pub(super) fn send(&mut self, from: usize, raft_id: u64, frame: PeerFrame) {
        let to = self.index_of(raft_id);
        let Some(to) = to.filter(|to| self.process(from).links.contains_key(to)) else {
            return self.post(from, Input::Unsent(raft_id));
        };
        let sender = self.machines[from].raft_id;
        let said = self.machines[from].witness.check_sent(sender, raft_id, &frame);
        self.check(Checker::SaidIsDurable, said);
        if let Some(peer_frame::Frame::Forward(forward)) = &frame.frame {
            self.tally.forwards += 1;
            let asked = self.is_asked(from, forward);
            self.check(Checker::OneHop, asked);
        }
        if let Some(peer_frame::Frame::SnapshotPart(part)) = &frame.frame {
            self.chunks_sent.extend(part.chunk.iter().map(|chunk| (part.id, chunk.number)));
        }
        self.tally.frames += 1;
        self.trace.add(to as u64);
        self.trace.add_bytes(&frame.encode_to_vec());
        match self.weather.in_order {
            true => self.send_in_order(from, to, frame),
            false => self.send_alone(from, to, frame),
        }
    }

    /// As TCP does.
    fn send_in_order(&mut self, from: usize, to: usize, frame: PeerFrame) {
        if self.rng.f64() < self.weather.breaks {
            return self.break_link(from, to);
        }
        let is_cut = self.is_cut(from, to);
        self.tell(|world| super::words::frame(world, from, to, &frame, false));
        let range = self.weather.frame_us.clone();
        let takes = self.one_way(from, to) + Duration::from_micros(self.rng.u64(range));
        let now = self.now;
        let Some(link) = self.process(from).links.get_mut(&to) else { return };
        if is_cut {
            link.held.push(frame);
            if link.held.len() > HELD_MAX {
                self.break_link(from, to);
            }
            return;
        }
        link.last_at = link.last_at.max(now + takes);
        let (after, id, greeted_as) = (link.last_at - now, link.id, link.greeted_as.clone());
        if self.machines[to].process.is_some() {
            self.schedule(to, after, Event::Frame(id, greeted_as, frame));
        }
    }

    /// Worse.
    fn send_alone(&mut self, from: usize, to: usize, frame: PeerFrame) {
        let lost = self.is_cut(from, to) || self.rng.f64() < self.weather.loss;
        self.tell(|world| super::words::frame(world, from, to, &frame, lost));
        if !lost && self.machines[to].process.is_some() {
            let range = self.weather.frame_us.clone();
            let takes = self.one_way(from, to) + Duration::from_micros(self.rng.u64(range));
            let Some(link) = self.process(from).links.get(&to) else { return };
            let event = Event::Frame(link.id, link.greeted_as.clone(), frame);
            self.schedule(to, takes, event);
        }
    }

    /// Whether the frames in flight on a connection are lost.
    pub(super) fn is_dead(&self, link: u64) -> bool {
        self.network.dead.contains(&link)
    }

    // ---- Gossip. ----

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

    pub(super) fn send_datagram(&mut self, from: usize, to: SocketAddr, bytes: Bytes) {
        let Some(to) = (0..self.machines.len()).find(|i| gossip_address(*i) == to) else { return };
        self.tally.datagrams += 1;
        self.trace.add_bytes(&bytes);
        let is_twice = self.weather.duplicates > 0.0 && self.rng.f64() < self.weather.duplicates;
        for _ in 0..=u8::from(is_twice) {
            let lost = self.is_cut(from, to) || self.rng.f64() < self.weather.loss;
            if !lost && self.machines[to].process.is_some() {
                let range = self.weather.frame_us.clone();
                let takes = self.one_way(from, to) + Duration::from_micros(self.rng.u64(range));
                let input = Input::Datagram(gossip_address(from), bytes.to_vec());
                self.schedule(to, takes, Event::Input(input));
            }
        }
    }
}
