//! One machine of the world: what survives a crash (its disk, its map, who it is), and the process that runs on it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::witness::Witness;
use crate::error::Result;
use crate::log::{self, MemDisk, recover};
use crate::node::{self, ConnectionId, LogWrite, Node, Now, RecoveredLog, Settings};
use crate::replica::Retention;
use crate::store::map::Map;
use crate::store::mem_map::MemMap;
use crate::store::transfer::{Job, Transfers};
use crate::store::{Store, WindowBounds};
use crate::wire::client::Identity;

/// What happens to a node in a world.
pub type Input = node::Input<MemMap>;

/// Small, so that a run passes through several.
const SEGMENT_LEN: usize = 64 * log::format::BLOCK_LEN;
pub const TICK: Duration = Duration::from_millis(100);
const ELECTION_TICKS: u32 = 4;
const HEARTBEAT_TICKS: u32 = 1;

/// Remembered writes: few enough that some runs pass the window.
const WINDOW: WindowBounds = WindowBounds { entries_max: 1000, len_bytes_max: 1 << 20 };

/// Small, so that a snapshot has many.
const CHUNK_LEN: usize = 512;

/// No follower is ever too far behind.
const RETAIN_ALL: Retention = Retention {
    count_max: usize::MAX,
    len_bytes_max: usize::MAX,
    streaming_count_max: usize::MAX,
    streaming_len_bytes_max: usize::MAX,
    full_count: usize::MAX,
    full_len_bytes: usize::MAX,
};

/// What an operator sets.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub expect: u32,
    pub may_form: bool,
    pub dead_after: Duration,
    /// MAX_BYTES.
    pub max_bytes: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { expect: 1, may_form: true, dead_after: Duration::from_secs(300), max_bytes: 0 }
    }
}

pub struct Machine {
    pub number: usize,
    pub name: String,
    pub raft_id: u64,
    pub config: Config,
    /// Of the log.
    pub segment_len: usize,
    /// How much of the log stays in memory.
    pub retention: Retention,
    /// How often it was started, as its disk knows.
    pub starts: u64,
    /// How often it was started, as the world knows: what events belong to.
    pub life: u64,
    pub disk: MemDisk,
    /// The state that it was last started with, and what is beside it.
    pub map: MemMap,
    pub witness: Witness,
    pub process: Option<Process>,
    /// Why the last process ended by itself, if it did.
    pub ended: Option<String>,
    /// Its clocks are not those of the others.
    pub clock_offset: Duration,
}

/// What a crash ends.
pub struct Process {
    pub node: Node<MemMap>,
    pub inbox: Vec<Input>,
    /// A turn is due.
    pub is_awake: bool,
    /// The machines that a connection is up to, and what this one greeted them with.
    pub links: BTreeMap<usize, Arc<Identity>>,
    pub writing: Option<LogWrite>,
    /// What the thread of transfers has open.
    pub transfers: Transfers<MemMap>,
    /// Jobs for that thread, the one that is being done first.
    pub jobs: VecDeque<Job<MemMap>>,
    /// Requests without an answer, with the time until which there must be one.
    pub unanswered: BTreeMap<(ConnectionId, u64), Duration>,
}

/// How much of the write in flight a crash leaves.
#[derive(Debug, Clone, Copy)]
pub enum Tear {
    Lost,
    Torn,
    Whole,
}

/// Where a machine gossips.
pub fn gossip_address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number as u8 + 1], 7946))
}

impl Machine {
    pub fn new(number: usize, config: Config, rng: &mut fastrand::Rng) -> Machine {
        Machine {
            number,
            name: format!("n{}", number + 1),
            raft_id: rng.u64(1..1 << 53),
            config,
            segment_len: SEGMENT_LEN,
            retention: RETAIN_ALL,
            starts: 0,
            life: 0,
            disk: MemDisk::default(),
            map: MemMap::default(),
            witness: Witness::default(),
            process: None,
            ended: None,
            clock_offset: Duration::from_secs(rng.u64(1..1000)),
        }
    }

    pub fn address(&self) -> String {
        format!("{}:9000", self.name)
    }

    /// The time as this machine knows it.
    pub fn clock(&self, world_now: Duration) -> Now {
        let monotonic = world_now + self.clock_offset;
        Now { monotonic, wall_ms: 1_700_000_000_000 + monotonic.as_millis() as u64 }
    }

    /// Starts the process, through the recovery that the real shell runs.
    pub fn start(&mut self, world_now: Duration, rng: &mut fastrand::Rng) {
        let node = self
            .boot(world_now, rng)
            .unwrap_or_else(|error| panic!("{} does not start: {error}", self.name));
        self.process = Some(Process {
            node,
            inbox: Vec::new(),
            is_awake: true,
            links: BTreeMap::new(),
            writing: None,
            transfers: Transfers::with_chunks_of(CHUNK_LEN),
            jobs: VecDeque::new(),
            unanswered: BTreeMap::new(),
        });
    }

    /// A node on this machine, or why it refuses to start.
    pub fn boot(&mut self, world_now: Duration, rng: &mut fastrand::Rng) -> Result<Node<MemMap>> {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.starts += 1;
        self.life += 1;
        self.ended = None;
        let recovery = recover(&self.disk, self.segment_len, self.starts as u32)
            .unwrap_or_else(|error| panic!("{} does not recover: {error}", self.name));
        self.witness.check_recovered(&recovery.contents);
        self.map = self.live_map(recovery.contents.state);
        let store = Store::open_with(self.map.clone(), WINDOW).expect("a map in memory opens");
        let identity = Identity {
            cluster_id: Default::default(),
            raft_id: self.raft_id,
            name: self.name.clone(),
            address: self.address(),
            starts: self.starts,
            nonce: rng.u64(..),
        };
        let settings = Settings {
            replica: crate::replica::Settings {
                raft_id: self.raft_id,
                nonce: identity.nonce,
                seed: rng.u64(..),
                election_ticks: ELECTION_TICKS,
                heartbeat_ticks: HEARTBEAT_TICKS,
                tick: TICK,
                retention: self.retention,
            },
            expect: self.config.expect,
            may_form: self.config.may_form,
            peers: Vec::new(),
            policy: crate::replica::membership::Policy {
                target_voters: 5,
                dead_after: self.config.dead_after,
            },
            max_bytes: self.config.max_bytes,
            mesh: crate::node::MeshSettings {
                gossip: Default::default(),
                address: identity.address.clone(),
                gossip_address: gossip_address(self.number).to_string(),
                region: String::new(),
                seed: self.raft_id ^ self.starts,
            },
        };
        let recovered = RecoveredLog { log: recovery.log, contents: recovery.contents };
        Node::new(settings, identity, recovered, store, self.clock(world_now))
    }

    /// The map of the state that the log names; all others are left over from transfers.
    fn live_map(&self, state: u64) -> MemMap {
        for other in self.map.states().into_iter().filter(|other| *other != state) {
            let left_over = self.map.at(other).expect("it was just there");
            left_over.remove().expect("a map in memory is removed");
        }
        self.map.at(state).unwrap_or_else(|| panic!("{} has lost state {state}", self.name))
    }

    /// What the map holds that the node serves from now, or would after a start.
    pub fn map(&self) -> MemMap {
        match &self.process {
            Some(process) => self.map.at(process.node.state()).expect("the node has its state"),
            None => self.map.clone(),
        }
    }

    /// Ends the process at once. Gives the requests that nobody will answer.
    pub fn crash(&mut self, tear: Tear, rng: &mut fastrand::Rng) -> Vec<(ConnectionId, u64)> {
        let Some(process) = self.process.take() else { return Vec::new() };
        if let Some(write) = process.writing {
            let density = rng.f64();
            let mut is_whole = true;
            let keep = |_| {
                let kept = match tear {
                    Tear::Lost => false,
                    Tear::Torn => rng.f64() < density,
                    Tear::Whole => true,
                };
                is_whole &= kept;
                kept
            };
            let file = log::segment::file_name(write.place.ordinal);
            let written = self.disk.write_torn(&file, write.place.offset, &write.bytes, keep);
            written.expect("the segment was prepared");
            if is_whole {
                self.witness.note(&write.bytes);
            }
        }
        process.unanswered.into_keys().collect()
    }

    /// Loses everything but its name, while it is off.
    pub fn lose_disk(&mut self, rng: &mut fastrand::Rng) {
        assert!(self.process.is_none(), "{} runs", self.name);
        let Machine { number, config, segment_len, retention, life, .. } = *self;
        let name = std::mem::take(&mut self.name);
        *self = Machine { name, segment_len, retention, life, ..Machine::new(number, config, rng) };
    }

    /// The write in flight ends: it is durable.
    pub fn end_write(&mut self) -> Input {
        let process = self.process.as_mut().expect("events of the dead are not delivered");
        let write = process.writing.take().expect("one write is in flight");
        let file = log::segment::file_name(write.place.ordinal);
        let written = self.disk.write_at(&file, write.place.offset, &write.bytes);
        written.expect("the segment was prepared");
        self.witness.note(&write.bytes);
        Input::Written(write.sequence)
    }
}
