//! One machine of the world: what survives a crash (its disk, its map, who it is), and the process that runs on it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::checkers::witness::{Durable, Witness};
use super::requests::Pending;
use crate::error::Result;
use crate::log::{self, MemDisk, recover};
use crate::node::{self, ConnectionId, LogWrite, Node, Now, RecoveredLog, Settings};
use crate::planted::{Bug, planted};
use crate::replica::Retention;
use crate::store::map::{Batch, Map, Snapshot, Table};
use crate::store::mem_map::MemMap;
use crate::store::transfer::{Job, Transfers};
use crate::store::{DIGEST_LEN, Store, WindowBounds};
use crate::wire::client::Identity;
use crate::wire::log::Membership;
use crate::wire::peer::PeerFrame;

/// What happens to a node in a world.
pub type Input = node::Input<MemMap>;

/// Small, so that a run passes through several.
const SEGMENT_LEN: usize = 64 * log::format::BLOCK_LEN;
/// TICK_MS.
pub const TICK: Duration = Duration::from_millis(100);
const HEARTBEAT_TICKS: u32 = 1;

/// Small, so that a snapshot has many.
const CHUNK_LEN: usize = 512;

/// Where a map has the sum over its rows.
const DIGEST_ROW: &[u8] = b"digest";

/// No follower is ever too far behind.
pub const RETAIN_ALL: Retention = Retention {
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
    /// EXPECT.
    pub expect: u32,
    /// BOOTSTRAP.
    pub may_form: bool,
    /// DEAD_AFTER.
    pub dead_after: Duration,
    /// ELECTION.
    pub election_ticks: u32,
    /// How many writes are remembered. Replicated state: the same on all machines of a world.
    pub remembered_max: usize,
    /// MAX_BYTES.
    pub max_bytes: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            expect: 1,
            may_form: true,
            dead_after: Duration::from_secs(300),
            election_ticks: 4,
            // Few enough that some runs pass the window.
            remembered_max: 1000,
            max_bytes: 0,
        }
    }
}

/// The clocks of a machine, as they differ from the world's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// Of the monotonic one, whose origin means nothing.
    pub offset: Duration,
    /// How much faster the monotonic one runs, in millionths.
    pub drift_ppm: i64,
    /// How far the wall clock is ahead.
    pub wall_ahead_ms: i64,
}

impl Clock {
    /// The time as this machine knows it.
    pub fn read(&self, world_now: Duration) -> Now {
        let monotonic = self.offset + self.scale(world_now, self.drift_ppm);
        let wall_ms = 1_700_000_000_000 + monotonic.as_millis() as i64 + self.wall_ahead_ms;
        Now { monotonic, wall_ms: wall_ms.max(0) as u64 }
    }

    /// How long the world waits for what this machine takes for `duration`.
    pub fn in_world(&self, duration: Duration) -> Duration {
        self.scale(duration, -self.drift_ppm)
    }

    fn scale(&self, duration: Duration, by_ppm: i64) -> Duration {
        let ns = duration.as_nanos() as i128;
        Duration::from_nanos((ns + ns * i128::from(by_ppm) / 1_000_000) as u64)
    }
}

/// See the [module](self).
pub struct Machine {
    /// Its place in the world.
    pub number: usize,
    /// NODE_ID.
    pub name: String,
    /// Its identity, which its disk holds.
    pub raft_id: u64,
    /// Its settings, from the next start on.
    pub config: Config,
    /// Of the log.
    pub segment_len: usize,
    /// How much of the log stays in memory.
    pub retention: Retention,
    /// How often it was started, as its disk knows.
    pub starts: u64,
    /// How often it was started, as the world knows: what events belong to.
    pub life: u64,
    /// Where its log is.
    pub disk: MemDisk,
    /// The state that it was last started with, and what is beside it.
    pub map: MemMap,
    /// What its disk holds durably.
    pub witness: Witness,
    /// What runs.
    pub process: Option<Process>,
    /// Why the last process ended by itself, if it did.
    pub ended: Option<String>,
    /// Its clocks are not those of the others.
    pub clock: Clock,
    /// The process stands still until then: what happens to it happens then.
    pub paused_until: Duration,
    /// The file and the bit of its log that was flipped while it was off: recovery may refuse, and the machine counts as
    /// one without a disk.
    pub damage: Option<(String, usize)>,
    /// Its map was changed while it was off: it counts as a machine without a disk, and has to notice.
    pub is_marred: bool,
}

/// What a crash ends.
pub struct Process {
    /// The node itself.
    pub node: Node<MemMap>,
    /// What came since the last turn.
    pub inbox: Vec<Input>,
    /// A turn is due.
    pub is_awake: bool,
    /// The connections that it has opened, by machine.
    pub links: BTreeMap<usize, Link>,
    /// The write in flight.
    pub writing: Option<LogWrite>,
    /// What the thread of transfers keeps.
    pub transfers: Transfers<MemMap>,
    /// Jobs for that thread, the one that is being done first.
    pub jobs: VecDeque<Job<MemMap>>,
    /// Requests without an answer.
    pub unanswered: BTreeMap<(ConnectionId, u64), Pending>,
    /// Up to which index its committed entries were compared with the others'.
    pub compared: u64,
    /// The last term in which it was seen to lead.
    pub led: u64,
    /// Its state, as it was seen last.
    pub seen: Option<Seen>,
}

/// What checkers compare of a state before a turn and after.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As of which entry.
    pub applied: u64,
    /// Who belongs.
    pub membership: Option<Membership>,
    /// MAX_BYTES.
    pub max_bytes: u64,
    /// Of keys and values.
    pub logical_bytes: u64,
}

/// A connection to another machine that is up, as the one that opened it sees it.
#[derive(Clone)]
pub struct Link {
    /// Which connection of the world it is.
    pub id: u64,
    /// What the other was greeted with.
    pub greeted_as: Arc<Identity>,
    /// When the last frame arrives that was sent on it.
    pub last_at: Duration,
    /// Frames that wait for the network to let them pass.
    pub held: Vec<PeerFrame>,
}

/// How much of the write in flight a crash leaves.
#[derive(Debug, Clone, Copy)]
pub enum Tear {
    /// Nothing.
    Lost,
    /// Some sectors.
    Torn,
    /// All of it.
    Whole,
}

/// Where a machine gossips.
pub fn gossip_address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number as u8 + 1], 7946))
}

impl Machine {
    /// One that is off, with an empty disk.
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
            clock: Clock { offset: Duration::from_secs(rng.u64(1..1000)), ..Clock::default() },
            paused_until: Duration::ZERO,
            damage: None,
            is_marred: false,
        }
    }

    /// Whether its disk says that it belongs to a cluster.
    pub fn has_cluster(&self) -> bool {
        self.witness.is_member() && self.damage.is_none()
    }

    /// Whether nothing is wrong on its disk.
    pub fn has_sound_disk(&self) -> bool {
        self.damage.is_none() && !self.is_marred
    }

    /// A bit flips in what its map says of the rows that it has, while it is off. False if the map is empty yet.
    pub fn mar(&mut self, rng: &mut fastrand::Rng) -> bool {
        assert!(self.process.is_none(), "{} runs", self.name);
        let bit = rng.usize(..8 * DIGEST_LEN);
        for state in self.map.states() {
            let map = self.map.at(state).expect("it was just there");
            let snapshot = map.snapshot().expect("a map in memory");
            let sum = snapshot.get(Table::Meta, DIGEST_ROW, <[u8]>::to_vec);
            let Some(mut sum) = sum.expect("a map in memory") else { continue };
            sum[bit / 8] ^= 1 << (bit % 8);
            let mut batch = Batch::default();
            batch.put(Table::Meta, DIGEST_ROW, sum);
            map.commit(&batch).expect("a map in memory");
            self.is_marred = true;
        }
        self.is_marred
    }

    /// host:port of its clients and peers.
    pub fn address(&self) -> String {
        format!("{}:9000", self.name)
    }

    /// How many of the last writes are remembered.
    pub fn window(&self) -> WindowBounds {
        WindowBounds { entries_max: self.config.remembered_max, len_bytes_max: 1 << 20 }
    }

    /// Starts the process, through the recovery that the real shell runs. Gives what recovery added to what is known to be
    /// durable; an error of the outer kind says what recovery found that it must not, one of the inner why it refuses.
    pub fn start(
        &mut self,
        world_now: Duration,
        rng: &mut fastrand::Rng,
    ) -> std::result::Result<Result<Durable>, String> {
        let (node, durable) = match self.try_boot(world_now, rng)? {
            Ok(booted) => booted,
            Err(error) => return Ok(Err(error)),
        };
        self.process = Some(Process {
            node,
            inbox: Vec::new(),
            is_awake: true,
            links: BTreeMap::new(),
            writing: None,
            transfers: Transfers::with_chunks_of(CHUNK_LEN),
            jobs: VecDeque::new(),
            unanswered: BTreeMap::new(),
            compared: 0,
            led: 0,
            seen: None,
        });
        Ok(Ok(durable))
    }

    /// A node on this machine, or why it refuses to start.
    pub fn boot(&mut self, world_now: Duration, rng: &mut fastrand::Rng) -> Result<Node<MemMap>> {
        let booted = self.try_boot(world_now, rng);
        let booted = booted.unwrap_or_else(|found| panic!("{}: {found}", self.name));
        booted.map(|(node, _)| node)
    }

    fn try_boot(
        &mut self,
        world_now: Duration,
        rng: &mut fastrand::Rng,
    ) -> std::result::Result<Result<(Node<MemMap>, Durable)>, String> {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.starts += 1;
        self.life += 1;
        self.ended = None;
        self.paused_until = Duration::ZERO;
        let recovery = match recover(&self.disk, self.segment_len, self.starts as u32) {
            Ok(recovery) => recovery,
            Err(error) => return Ok(Err(error)),
        };
        let durable = self.witness.check_recovered(&recovery.contents)?;
        self.map = self.live_map(recovery.contents.state)?;
        let recovered = RecoveredLog { log: recovery.log, contents: recovery.contents };
        let node = self.node(recovered, self.clock.read(world_now), rng);
        Ok(node.map(|node| (node, durable)))
    }

    fn node(
        &self,
        recovered: RecoveredLog,
        now: Now,
        rng: &mut fastrand::Rng,
    ) -> Result<Node<MemMap>> {
        let store = Store::open_with(self.map.clone(), self.window())?;
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
                election_ticks: self.config.election_ticks,
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
        Node::new(settings, identity, recovered, store, now)
    }

    /// The map of the state that the log names; all others are left over from transfers.
    fn live_map(&self, state: u64) -> std::result::Result<MemMap, String> {
        for other in self.map.states().into_iter().filter(|other| *other != state) {
            let left_over = self.map.at(other).expect("it was just there");
            left_over.remove().expect("a map in memory is removed");
        }
        self.map.at(state).ok_or_else(|| format!("state {state} is lost"))
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
                self.witness.doubt(write.bytes);
            }
        }
        process.unanswered.into_keys().collect()
    }

    /// Loses everything but its name, while it is off.
    pub fn lose_disk(&mut self, rng: &mut fastrand::Rng) {
        assert!(self.process.is_none(), "{} runs", self.name);
        let Machine {
            number, config, segment_len, retention, life, clock, raft_id, starts, ..
        } = *self;
        let name = std::mem::take(&mut self.name);
        let new = Machine::new(number, config, rng);
        let clock = Clock { offset: new.clock.offset, ..clock };
        *self = Machine { name, segment_len, retention, life, clock, ..new };
        if planted(Bug::KeepIdentity) {
            (self.raft_id, self.starts) = (raft_id, starts);
        }
    }

    /// The write in flight ends: it is durable. Gives what to tell the process.
    pub fn end_write(&mut self) -> (Input, Durable) {
        let process = self.process.as_mut().expect("events of the dead are not delivered");
        let write = process.writing.take().expect("one write is in flight");
        let file = log::segment::file_name(write.place.ordinal);
        let written = self.disk.write_durable(&file, write.place.offset, &write.bytes);
        written.expect("the segment was prepared");
        (Input::Written(write.sequence), self.witness.note(&write.bytes))
    }
}
