//! A mesh in a simulated network: every node is the real thing, time and the wires are ours. A seed repeats a run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;

use crate::gossip::{Event, Gossip, Output, Settings, State};
use crate::wire::gossip::Node;

pub const SECOND: Duration = Duration::from_secs(1);
pub const MILLI: Duration = Duration::from_millis(1);

/// What travels, or is to happen.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Packet { from: SocketAddr, to: SocketAddr, bytes: Bytes },
    SyncRequest { from: usize, to: usize, bytes: Bytes },
    SyncReply { from: usize, to: usize, bytes: Bytes },
    Wake(usize),
}

/// One machine: its process may be down, its cable cut.
pub struct Machine {
    pub address: SocketAddr,
    pub process: Option<Gossip>,
    /// Machines of different sides do not reach each other.
    pub side: u32,
    /// The process is not run until then, and finds its packets when it is again.
    pub frozen_until: Duration,
    wakes_at: Option<Duration>,
    inbox: Vec<(SocketAddr, Bytes)>,
}

/// See the [module](self).
pub struct World {
    pub now: Duration,
    pub machines: Vec<Machine>,
    /// Round trip between two machines, in milliseconds.
    pub rtt_ms: Box<dyn Fn(usize, usize) -> f64>,
    /// A packet takes up to this share longer.
    pub jitter: f64,
    /// This share of all packets is lost.
    pub loss: f64,
    pub settings: Settings,
    /// What each process has told, and when.
    pub events: Vec<(Duration, usize, Event)>,
    pub rng: Rng,
    queue: BinaryHeap<Reverse<(Duration, u64, What)>>,
    order: u64,
}

impl World {
    /// Machines without processes.
    pub fn new(machines: usize, seed: u64) -> World {
        let machine = |i: usize| Machine {
            address: format!("[fd00::{:x}]:7946", i + 1).parse().unwrap(),
            process: None,
            side: 0,
            frozen_until: Duration::ZERO,
            wakes_at: None,
            inbox: Vec::new(),
        };
        World {
            now: SECOND,
            machines: (0..machines).map(machine).collect(),
            rtt_ms: Box::new(|_, _| 1.0),
            jitter: 0.2,
            loss: 0.0,
            settings: Settings::default(),
            events: Vec::new(),
            rng: Rng::with_seed(seed),
            queue: BinaryHeap::new(),
            order: 0,
        }
    }

    /// Machines whose processes have found together by way of the first.
    pub fn settled(machines: usize, seed: u64) -> World {
        let mut world = World::new(machines, seed);
        world.start_all();
        world.run_until(120 * SECOND, "the mesh has formed", World::is_complete);
        world
    }

    pub fn start_all(&mut self) {
        for i in 0..self.machines.len() {
            self.start(i, &self.node(i, 1));
            self.join(i, 0);
        }
    }

    /// How the process on machine `i` describes itself in its start number `starts`. Every other one does not know its
    /// address.
    pub fn node(&self, i: usize, starts: u64) -> Node {
        let advertised =
            if i.is_multiple_of(2) { self.machines[i].address.to_string() } else { String::new() };
        Node {
            raft_id: id(i),
            starts,
            nonce: starts.wrapping_mul(1000) + id(i),
            name: format!("node-{i}"),
            address: format!("host-{i}:9000"),
            gossip_address: advertised,
            region: "here".into(),
            version: "1.0.0".into(),
            ..Node::default()
        }
    }

    pub fn start(&mut self, i: usize, node: &Node) {
        let seed = self.rng.u64(..);
        let gossip = Gossip::new(self.settings.clone(), node.clone(), seed, self.now).unwrap();
        self.machines[i].process = Some(gossip);
        self.act(i, |_, _, _| ());
    }

    /// The process gets no chance to say anything.
    pub fn kill(&mut self, i: usize) {
        self.machines[i].process = None;
        self.machines[i].wakes_at = None;
        self.machines[i].inbox.clear();
    }

    pub fn join(&mut self, i: usize, seed: usize) {
        let seed = self.machines[seed].address;
        self.act(i, |gossip, now, out| gossip.join(now, &[seed], out));
    }

    /// Calls a process and does what it asks for.
    pub fn act<T>(
        &mut self,
        i: usize,
        call: impl FnOnce(&mut Gossip, Duration, &mut Output) -> T,
    ) -> Option<T> {
        let mut out = Output::default();
        let now = self.now;
        let gossip = self.machines[i].process.as_mut()?;
        let result = call(gossip, now, &mut out);
        let wake_at = gossip.wake_at().max(now);
        if self.machines[i].wakes_at != Some(wake_at) {
            self.machines[i].wakes_at = Some(wake_at);
            self.push(wake_at, What::Wake(i));
        }
        let from = self.machines[i].address;
        for (to, bytes) in out.packets {
            assert!(bytes.len() <= 1200, "a packet of {} bytes", bytes.len());
            self.send(i, from, to, bytes);
        }
        for raft_id in out.syncs {
            self.request_sync(i, index(raft_id));
        }
        self.events.extend(out.events.into_iter().map(|event| (now, i, event)));
        Some(result)
    }

    /// A datagram, as from anywhere.
    pub fn inject(&mut self, from: SocketAddr, to: usize, bytes: Bytes) {
        let to = self.machines[to].address;
        self.push(self.now, What::Packet { from, to, bytes });
    }

    fn send(&mut self, sender: usize, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let Some(receiver) = self.machines.iter().position(|machine| machine.address == to) else {
            return;
        };
        if self.rng.f64() >= self.loss && self.connected(sender, receiver) {
            let at = self.now + self.flight(sender, receiver);
            self.push(at, What::Packet { from, to, bytes });
        }
    }

    fn request_sync(&mut self, from: usize, to: usize) {
        let Some(gossip) = self.machines[from].process.as_mut() else { return };
        let bytes = gossip.sync_request();
        // TCP: a handshake first, and nothing is lost.
        let at = self.now + 3 * self.flight(from, to);
        self.push(at, What::SyncRequest { from, to, bytes });
    }

    fn connected(&self, a: usize, b: usize) -> bool {
        self.machines[a].side == self.machines[b].side
    }

    /// Whether a table sent by one is read by the other.
    fn speak(&self, a: usize, b: usize) -> bool {
        self.connected(a, b) && self.machines[b].frozen_until <= self.now
    }

    fn flight(&mut self, a: usize, b: usize) -> Duration {
        let one_way = (self.rtt_ms)(a, b) / 2.0;
        MILLI.mul_f64(one_way * (1.0 + self.jitter * self.rng.f64()))
    }

    fn push(&mut self, at: Duration, what: What) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order, what)));
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `condition` holds, or fails after `limit`. Returns how long it took.
    pub fn run_until(
        &mut self,
        limit: Duration,
        what: &str,
        condition: impl Fn(&World) -> bool,
    ) -> Duration {
        let (start, end) = (self.now, self.now + limit);
        while !condition(self) {
            let next = (self.now + 50 * MILLI).min(end);
            while self.step(next) {}
            self.now = next;
            assert!(self.now < end, "not within {limit:?}: {what}\n{}", self.picture());
        }
        self.now - start
    }

    /// One thing happens, unless nothing does before `end`.
    fn step(&mut self, end: Duration) -> bool {
        if self.queue.peek().is_none_or(|Reverse((at, ..))| *at > end) {
            return false;
        }
        let Some(Reverse((at, _, what))) = self.queue.pop() else { return false };
        self.now = self.now.max(at);
        match what {
            What::Wake(i) => self.wake(i, at),
            What::Packet { from, to, bytes } => self.deliver(from, to, bytes),
            What::SyncRequest { from, to, bytes } if self.speak(from, to) => {
                let reply =
                    self.act(to, |gossip, now, out| gossip.on_sync_request(now, &bytes, out));
                if let Some(Ok(bytes)) = reply {
                    let at = self.now + self.flight(to, from);
                    self.push(at, What::SyncReply { from: to, to: from, bytes });
                }
            }
            What::SyncReply { from, to, bytes } if self.speak(from, to) => {
                self.act(to, |gossip, now, out| gossip.on_sync_reply(now, &bytes, out));
            }
            What::SyncRequest { .. } | What::SyncReply { .. } => {}
        }
        true
    }

    fn wake(&mut self, i: usize, at: Duration) {
        let machine = &mut self.machines[i];
        if machine.wakes_at != Some(at) {
            return;
        }
        if machine.frozen_until > self.now {
            let thaw = machine.frozen_until;
            machine.wakes_at = Some(thaw);
            return self.push(thaw, What::Wake(i));
        }
        // What has come meanwhile is read after the timers have run: the harder order.
        let inbox = std::mem::take(&mut machine.inbox);
        machine.wakes_at = None;
        self.act(i, |gossip, now, out| {
            gossip.wake(now, out);
            assert!(gossip.wake_at() > now, "it would be woken again and again");
        });
        for (from, bytes) in inbox {
            self.act(i, |gossip, now, out| gossip.receive(now, from, &bytes, out));
        }
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        let Some(i) = self.machines.iter().position(|machine| machine.address == to) else {
            return;
        };
        if self.machines[i].frozen_until > self.now {
            self.machines[i].inbox.push((from, bytes));
        } else {
            self.act(i, |gossip, now, out| gossip.receive(now, from, &bytes, out));
        }
    }

    pub fn gossip(&self, i: usize) -> &Gossip {
        self.machines[i].process.as_ref().expect("the process runs")
    }

    /// What the process on machine `i` believes of `raft_id`.
    pub fn state(&self, i: usize, raft_id: u64) -> Option<State> {
        self.gossip(i).member(raft_id).map(|member| member.state)
    }

    /// Machines whose process runs.
    pub fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.machines.len()).filter(|i| self.machines[*i].process.is_some())
    }

    /// Whether all running processes hold each other for alive.
    pub fn is_complete(&self) -> bool {
        self.running()
            .all(|i| self.running().all(|j| i == j || self.state(i, id(j)) == Some(State::Alive)))
    }

    /// Whether all running processes but itself hold this of `raft_id`.
    pub fn all_hold(&self, raft_id: u64, state: State) -> bool {
        self.running().all(|i| id(i) == raft_id || self.state(i, raft_id) == Some(state))
    }

    pub fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, _, event)| is(event)).count()
    }

    fn picture(&self) -> String {
        let tail = self.events.iter().rev().take(20).rev();
        tail.map(|(at, i, event)| format!("{at:?} machine {i}: {event:?}\n")).collect()
    }
}

/// The raft id of the process on machine `i`.
pub fn id(i: usize) -> u64 {
    i as u64 + 1
}

fn index(raft_id: u64) -> usize {
    raft_id as usize - 1
}
