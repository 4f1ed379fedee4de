//! A mesh of three nodes to which anything comes: datagrams, tables, forged news and answers, lost packets, stalls.
//!
//! What must hold:
//! - Nothing panics, and no table of members grows over its limit.
//! - What a node sends fits into a datagram, and the others can read it; so with its table.
//! - A node that did what was due is not due again at once: what was forged makes nobody spin.
//! - The estimate of a round trip is a duration, whatever coordinates were forged.
//!
//! An input is a row of strokes, each a byte for its kind and what that needs. Datagrams get the right checksum but for
//! those of the first kind.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use phalanx::gossip::{Gossip, Output, Settings};
use phalanx::limits::{GOSSIP_MEMBERS_MAX, GOSSIP_PACKET_LEN_MAX, GOSSIP_SYNC_LEN_MAX};
use phalanx::wire::gossip::{
    Ack, Coordinate, Nack, Node, Packet, Ping, PingRequest, Sync, Update, Verdict, packet::Body,
    update::News,
};

use super::input::Input;

const NODES: usize = 3;
const STROKES_MAX: usize = 40;
/// Packets that one stroke makes the nodes exchange; what comes of it later is lost.
const DELIVERIES_MAX: usize = 200;
const WAKES_MAX: usize = 60;
const CLUSTER: &[u8] = b"the cluster's id";

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut mesh = Mesh::start();
    for _ in 0..STROKES_MAX {
        if input.is_empty() {
            break;
        }
        mesh.stroke(&mut input);
        mesh.check();
    }
}

/// The nodes, with raft ids from 1 on, and the network between them.
struct Mesh {
    now: Duration,
    nodes: Vec<Gossip>,
    /// Nothing reaches these.
    cut: [bool; NODES],
    /// Who has sent the last ping, and the ping.
    pinged: Option<(usize, Ping)>,
    network: VecDeque<Sent>,
}

struct Sent {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Bytes,
}

impl Mesh {
    /// They have found each other already.
    fn start() -> Mesh {
        let now = Duration::from_secs(1);
        let node = |i: usize| {
            let seed = 17 + i as u64;
            Gossip::new(Settings::default(), description(i), seed, now)
                .expect("it is within limits")
        };
        let nodes = (0..NODES).map(node).collect();
        let mut mesh =
            Mesh { now, nodes, cut: [false; NODES], pinged: None, network: VecDeque::new() };
        for i in 0..NODES {
            mesh.act(i, |node, now, out| node.join(now, &[address(0), address(1)], out));
        }
        mesh.run_for(Duration::from_secs(2));
        mesh
    }

    fn stroke(&mut self, input: &mut Input<'_>) {
        let kind = input.below(12);
        let to = input.below(NODES);
        match kind {
            0 => self.datagram(to, source(input), input.sized(11)),
            1 => self.datagram(to, source(input), &sealed(input.sized(11))),
            2 => {
                let mut bytes = packet(input).encode_to_vec();
                bytes.extend_from_slice(input.sized(11));
                self.datagram(to, source(input), &sealed(&bytes));
            }
            3 | 4 => {
                let updates = (0..input.below(4)).map(|_| self.news(input)).collect();
                let packet = Packet { updates, body: body(input), ..packet(input) };
                self.datagram(to, source(input), &sealed(&packet.encode_to_vec()));
            }
            5 => self.answer(input),
            6 => self.table(to, input.sized(12)),
            7 => {
                let updates = (0..input.below(16)).map(|_| self.news(input)).collect();
                self.table(to, &sync(input, updates).encode_to_vec());
            }
            8 => self.crowd(to, input),
            9 => self.cut[to] = !self.cut[to],
            10 => self.run_for(Duration::from_millis(input.u16().into())),
            _ => self.disturb(to, input),
        }
    }

    fn check(&self) {
        let ids = 0..=NODES as u64;
        for node in &self.nodes {
            assert!(node.members().count() <= GOSSIP_MEMBERS_MAX, "the table has no bound");
            for (a, b) in ids.clone().flat_map(|a| ids.clone().map(move |b| (a, b))) {
                node.estimate_rtt(a, b);
            }
        }
    }

    // ---- What comes from outside. ----

    fn datagram(&mut self, to: usize, from: SocketAddr, bytes: &[u8]) {
        self.act(to, |node, now, out| node.receive(now, from, bytes, out));
    }

    /// A table, asked for or not; the node's own comes back if that could be read.
    fn table(&mut self, to: usize, bytes: &[u8]) {
        let before = self.nodes[to].counters().malformed;
        let reply = self.act(to, |node, now, out| node.on_sync_request(now, bytes, out));
        if let Ok(reply) = reply {
            assert_eq!(self.nodes[to].counters().malformed, before);
            assert!(reply.len() <= GOSSIP_SYNC_LEN_MAX, "a table of {} bytes", reply.len());
            let other = (to + 1) % NODES;
            let read = self.act(other, |node, now, out| node.on_sync_reply(now, &reply, out));
            read.expect("a node's table can be read by the others");
        }
    }

    /// The last ping is answered by somebody, with coordinates of any kind.
    fn answer(&mut self, input: &mut Input<'_>) {
        let Some((to, ping)) = self.pinged else { return };
        let from = if ping.to == 0 { raft_id(input) } else { ping.to };
        let sender = match input.u8() {
            0 => node(input),
            _ => Node { incarnation: input.u64(), ..description(from.min(NODES as u64) as usize) },
        };
        let mut float = || f32::from_le_bytes((input.u64() as u32).to_le_bytes());
        let coordinate = Coordinate {
            vec: (0..8).map(|_| float()).collect(),
            error: float(),
            adjustment: float(),
            height: float(),
        };
        let packet = Packet {
            version: 1,
            from,
            cluster_id: sender.cluster_id.clone(),
            sender: Some(Node { raft_id: from, ..sender }),
            coordinate: Some(coordinate),
            updates: Vec::new(),
            body: Some(Body::Ack(Ack { number: ping.number })),
        };
        self.now += Duration::from_millis(input.u8().into());
        self.datagram(to, source(input), &sealed(&packet.encode_to_vec()));
    }

    /// Many nodes that nobody has seen, with the longest descriptions that there are.
    fn crowd(&mut self, to: usize, input: &mut Input<'_>) {
        let first = input.u64();
        let len = input.below(256);
        let name = "n".repeat(input.below(140));
        let address = "a".repeat(usize::from(input.u16()) % 280);
        let updates = (0..input.u8()).map(|i| {
            let raft_id = first.wrapping_add(i.into());
            let node = Node {
                raft_id,
                starts: u64::MAX,
                nonce: u64::MAX,
                incarnation: raft_id,
                name: name.clone(),
                address: address.clone(),
                gossip_address: format!("[fd00::bad:{i}]:7946"),
                region: "r".repeat(len % 70),
                version: "v".repeat(len / 3),
                ..Node::default()
            };
            Update { news: Some(News::Alive(node)) }
        });
        let updates = updates.collect();
        self.table(to, &sync(input, updates).encode_to_vec());
    }

    fn disturb(&mut self, to: usize, input: &mut Input<'_>) {
        match input.below(4) {
            // The machine slept.
            0 => self.now += Duration::from_secs(input.u16().into()),
            1 => {
                let me = Node { role: input.u8().into(), ..description(to) };
                let updated = self.act(to, |node, now, _| node.update(now, me));
                updated.expect("it is within limits");
            }
            2 => {
                let seeds = [source(input), source(input)];
                self.act(to, |node, now, out| node.join(now, &seeds, out));
            }
            _ => self.act(to, |node, now, out| node.leave(now, out)),
        }
    }

    /// News of one of the nodes, or of another.
    fn news(&self, input: &mut Input<'_>) -> Update {
        if input.u8() & 1 == 0 {
            return Update { news: Some(News::Alive(node(input))) };
        }
        let raft_id = raft_id(input);
        let known = self.nodes.iter().map(Gossip::me).find(|me| me.raft_id == raft_id);
        let near = i64::from(input.u8() as i8);
        let verdict = Verdict {
            raft_id,
            starts: known.map_or(1, |me| me.starts),
            incarnation: match known {
                Some(me) if near != 0 => me.incarnation.wrapping_add_signed(near - 1),
                _ => input.u64(),
            },
            kind: i32::from(input.u8() % 4),
            by: self::raft_id(input),
        };
        Update { news: Some(News::Verdict(verdict)) }
    }

    // ---- What the nodes do. ----

    /// Calls a node, and does what it asks for until all is quiet.
    fn act<T>(
        &mut self,
        i: usize,
        call: impl FnOnce(&mut Gossip, Duration, &mut Output) -> T,
    ) -> T {
        let mut out = Output::default();
        let result = call(&mut self.nodes[i], self.now, &mut out);
        self.send(i, out);
        for _ in 0..DELIVERIES_MAX {
            let Some(sent) = self.network.pop_front() else { break };
            self.deliver(&sent);
        }
        self.network.clear();
        result
    }

    fn send(&mut self, i: usize, out: Output) {
        for (to, bytes) in out.packets {
            assert!(bytes.len() <= GOSSIP_PACKET_LEN_MAX, "a datagram of {} bytes", bytes.len());
            let packet = Packet::decode(&bytes[4..]).expect("a node sends packets");
            if let Some(Body::Ping(ping)) = packet.body {
                self.pinged = Some((i, ping));
            }
            self.network.push_back(Sent { from: address(i), to, bytes });
        }
        for raft_id in out.syncs {
            let to = (0..NODES).find(|&to| self.nodes[to].me().raft_id == raft_id);
            if let Some(to) = to.filter(|&to| !self.cut[to] && to != i) {
                self.exchange(i, to);
            }
        }
    }

    fn deliver(&mut self, sent: &Sent) {
        let Some(to) = (0..NODES).find(|&i| address(i) == sent.to && !self.cut[i]) else { return };
        let mut out = Output::default();
        let before = self.nodes[to].counters().malformed;
        self.nodes[to].receive(self.now, sent.from, &sent.bytes, &mut out);
        let after = self.nodes[to].counters().malformed;
        assert_eq!(after, before, "a node cannot read what another sends: {:?}", sent.bytes);
        self.send(to, out);
    }

    /// Two nodes exchange their tables. What they ask for because of it is lost.
    fn exchange(&mut self, from: usize, to: usize) {
        let now = self.now;
        let mut lost = Output::default();
        let request = self.nodes[from].sync_request();
        let reply = self.nodes[to].on_sync_request(now, &request, &mut lost);
        let reply = reply.expect("a node's table can be read by the others");
        let read = self.nodes[from].on_sync_reply(now, &reply, &mut lost);
        read.expect("a node's table can be read by the others");
    }

    fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        for _ in 0..WAKES_MAX {
            let due = (0..NODES).map(|i| (self.nodes[i].wake_at(), i)).min();
            let Some((at, i)) = due.filter(|(at, _)| *at <= until) else { break };
            self.now = self.now.max(at);
            let now = self.now;
            let mut out = Output::default();
            self.nodes[i].wake(now, &mut out);
            let next = self.nodes[i].wake_at();
            assert!(next > now, "it did what was due at {now:?}, and is due again at {next:?}");
            self.act(i, |_, _, kept| *kept = out);
        }
        self.now = until.max(self.now);
    }
}

// ---- What is forged. ----

fn address(i: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, i as u8 + 1], 7946))
}

/// How a node of the mesh describes itself. The last belongs to no cluster.
fn description(i: usize) -> Node {
    let cluster_id = if i + 1 < NODES { Bytes::from_static(CLUSTER) } else { Bytes::new() };
    Node {
        raft_id: i as u64 + 1,
        starts: 1,
        nonce: 1000 + i as u64,
        name: format!("node-{i}"),
        cluster_id,
        address: format!("host-{i}:9000"),
        gossip_address: if i == 0 { String::new() } else { address(i).to_string() },
        ..Node::default()
    }
}

/// Where a packet comes from: a node of the mesh, or another place.
fn source(input: &mut Input<'_>) -> SocketAddr {
    match input.u8() {
        i if usize::from(i) < NODES => address(i.into()),
        0xff => SocketAddr::from(([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1], 7946)),
        other => SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, other.into()], 666)),
    }
}

fn raft_id(input: &mut Input<'_>) -> u64 {
    match input.u8() {
        0xff => input.u64(),
        id => u64::from(id % 8),
    }
}

fn cluster_id(input: &mut Input<'_>) -> Bytes {
    match input.u8() % 4 {
        0 | 1 => Bytes::from_static(CLUSTER),
        2 => Bytes::new(),
        _ => Bytes::copy_from_slice(input.sized(5)),
    }
}

fn text(input: &mut Input<'_>) -> String {
    String::from_utf8_lossy(input.sized(9)).into_owned()
}

/// A node of the mesh in another life, or one that never was.
fn node(input: &mut Input<'_>) -> Node {
    let flags = input.u8();
    let raft_id = raft_id(input);
    let near = u64::from(input.u8());
    let mut node = description(raft_id.wrapping_sub(1).min(NODES as u64) as usize);
    node.raft_id = raft_id;
    node.cluster_id = cluster_id(input);
    node.incarnation = if flags & 1 == 0 { near } else { input.u64() };
    if flags & 2 != 0 {
        node.starts = input.u64();
    }
    if flags & 4 != 0 {
        node.nonce = input.u64();
    }
    if flags & 8 != 0 {
        node.name = text(input);
        node.region = text(input);
    }
    if flags & 16 != 0 {
        node.address = text(input);
        node.version = text(input);
    }
    if flags & 32 != 0 {
        node.role = input.u64() as u32;
    }
    node.gossip_address = match flags >> 6 {
        0 => node.gossip_address,
        1 => source(input).to_string(),
        2 => "0.0.0.0:0".into(),
        _ => text(input),
    };
    node
}

/// The head of a packet, sometimes with its sender.
fn packet(input: &mut Input<'_>) -> Packet {
    let (from, cluster_id) = (raft_id(input), cluster_id(input));
    let sender = (input.u8() & 1 == 1).then(|| Node {
        raft_id: from,
        cluster_id: cluster_id.clone(),
        ..node(input)
    });
    Packet { version: 1, from, cluster_id, sender, ..Packet::default() }
}

fn body(input: &mut Input<'_>) -> Option<Body> {
    match input.u8() % 5 {
        0 => None,
        1 => Some(Body::Ping(Ping { number: input.u64(), to: raft_id(input) })),
        2 => Some(Body::Ack(Ack { number: input.u64() })),
        3 => Some(Body::Nack(Nack { number: input.u64() })),
        _ => Some(Body::Request(PingRequest {
            number: input.u64(),
            target: raft_id(input),
            target_address: source(input).to_string(),
            nack_after_ms: input.u64() as u32,
        })),
    }
}

fn sync(input: &mut Input<'_>, updates: Vec<Update>) -> Sync {
    Sync { version: 1, from: raft_id(input), cluster_id: cluster_id(input), updates }
}

/// A datagram with its checksum in front.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = crc32c::crc32c(body).to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}
