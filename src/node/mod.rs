//! A node: consensus, log and state machine joined, and the requests that pass through them. Pure: both shells, the real
//! one and the simulator, run it; what they add is sockets, disks, threads and a clock.
//!
//! # Place in the flow
//!
//! A shell calls [`Node::step`] for everything that happens (a request, a peer's frame, a finished write, a tick) and then,
//! once for all that had gathered, [`Node::turn`], and carries out the [`Effects`]. A write passes through here like this:
//!
//! 1. `requests`: a client's frame becomes a request with a deadline (`clients`).
//! 2. The leader proposes all writes of the turn at once; another node forwards them to the leader (`writes`).
//! 3. The [replica](crate::replica) gives messages for the followers and a record for the disk: both leave with this turn.
//! 4. The `journal` makes one batch of the records, and the shell writes it: [`Effects::write`].
//! 5. When a majority has it, the entry is committed: the [store](crate::store) applies it, and the answer goes back to
//!    where the request came from (`writes`).
//!
//! # Invariants
//!
//! - Nothing that speaks for the disk leaves before [`Input::Written`] says that the disk has it.
//! - Every request is answered once, at its deadline at the latest.
//! - An error returned by [`Node::step`] or [`Node::turn`] stops the node.

#![forbid(unsafe_code)]

mod clients;
mod cluster;
mod digests;
mod effects;
mod journal;
mod members;
mod mesh;
mod orders;
mod peers;
mod quota;
mod reads;
mod requests;
mod seats;
mod snapshots;
mod status;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::VecDeque;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::gossip;
use crate::limits::APPEND_LEN_MAX;
use crate::log::{Contents, Log, Start};
use crate::metrics::Counters;
use crate::planted::{Bug, planted};
use crate::replica::formation::Formation;
use crate::replica::membership::Policy;
use crate::replica::{Outputs, Recovered, Replica, Role};
use crate::store::map::Map;
use crate::store::transfer;
use crate::store::{Applied, Commit, Committed, ScanResult, Store};
use crate::wire::client::{Identity, Request};
use crate::wire::log::EntryId;
use crate::wire::peer::PeerFrame;

pub use clients::without_room;
pub use cluster::hex;
pub use effects::Effects;
pub use journal::LogWrite;
pub use requests::{ConnectionId, Token};

use cluster::Then;
use digests::Digests;
use journal::Journal;
use members::{Conflict, Sightings};
use quota::ProposedQuota;
use reads::ReadQueue;
use requests::Requests;
use seats::Seats;
use snapshots::Snapshots;

/// The time, as a shell tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never goes back; from any origin.
    pub monotonic: Duration,
    /// The wall clock, in milliseconds since 1970: a stamp for entries, on which nothing depends.
    pub wall_ms: u64,
}

/// What does not change while a node runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For consensus.
    pub replica: crate::replica::Settings,
    /// EXPECT: the size of the first cluster.
    pub expect: u32,
    /// BOOTSTRAP: whether this node may form one.
    pub may_form: bool,
    /// PEERS, without this node.
    pub peers: Vec<Peer>,
    /// TARGET_VOTERS and DEAD_AFTER.
    pub policy: Policy,
    /// MAX_BYTES; 0: no limit.
    pub max_bytes: u64,
    /// For gossip.
    pub mesh: MeshSettings,
}

/// A node that the settings name.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its NODE_ID.
    pub name: String,
    /// host:port, where it is told.
    pub address: Option<String>,
}

/// What a node tells the mesh of itself beside its identity.
#[derive(Debug, Clone)]
pub struct MeshSettings {
    /// How gossip is timed.
    pub gossip: gossip::Settings,
    /// host:port where clients and peers reach the node, with a wildcard for the host if it cannot tell.
    pub address: String,
    /// ip:port of its datagrams, with a wildcard if it cannot tell.
    pub gossip_address: String,
    /// REGION; may be empty.
    pub region: String,
    /// Seeds gossip's choices.
    pub seed: u64,
}

/// Where a connection to another node is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// Whom to expect there, for the log.
    pub name: String,
    /// host:port
    pub address: String,
}

/// What recovery read back of the log.
#[derive(Debug)]
pub struct RecoveredLog {
    /// To go on with.
    pub log: Log,
    /// Entries, hard state and standing.
    pub contents: Contents,
}

/// What happens to a node whose map is an `M`.
#[derive(Debug)]
// Requests are most of what comes: they are moved twice, and not allocated.
#[allow(clippy::large_enum_variant)]
pub enum Input<M: Map> {
    /// TICK_MS / [`FINE_TICKS`](crate::replica::FINE_TICKS) have passed.
    Tick,
    /// A client's request came.
    Request(ConnectionId, Request),
    /// The connection to a peer is up: who answered there.
    PeerUp(Identity),
    /// The connection to a peer is gone.
    PeerDown(u64),
    /// A frame for that raft id was not sent: there is no connection to it.
    Unsent(u64),
    /// The connection that a peer had opened to this node is gone.
    PeerGone(Arc<Identity>),
    /// A client's connection is gone.
    ClientGone(ConnectionId),
    /// A frame of a peer, with the identity of its connection.
    PeerFrame(Arc<Identity>, PeerFrame),
    /// The write of that sequence returned: it is durable.
    Written(u64),
    /// The segment of that ordinal is ready.
    Prepared(u64),
    /// A commit of the state machine returned: it is durable.
    Committed(Committed),
    /// A commit of the state machine was not begun, for want of room on the disk.
    CommitPutOff(Commit<M>),
    /// A range read was run.
    Scanned(Token, ScanResult),
    /// The thread of transfers tells what became of a job.
    Transfer(transfer::News<M>),
    /// A datagram of gossip.
    Datagram(SocketAddr, Vec<u8>),
    /// Where other nodes may be: SEEDS, as they resolve now.
    Seeds(Vec<SocketAddr>),
    /// A member of the cluster says that this node was removed, and how to go on.
    Removed(String),
    /// Whether the disk has room for more writes; if not, why.
    DiskSpace(std::result::Result<(), String>),
    /// The node is to stop: hand over, finish what is in flight, accept nothing new.
    Stop,
}

/// How the node stands towards clusters.
enum Stage {
    /// Belongs to none.
    Free(Box<Formation>),
    /// Decided to found or to join one, and waits until that is durable.
    Settling { waiting_for: String },
    /// Member of one.
    Member(Box<Replica>),
}

/// See the [module](self).
pub struct Node<M: Map> {
    settings: Settings,
    identity: Identity,
    now: Now,
    started: Duration,
    rng: fastrand::Rng,
    stage: Stage,
    store: Store<M>,
    /// The number of the state machine's directory.
    state: u64,
    snapshots: Snapshots<M>,
    journal: Journal<Then>,
    requests: Requests,
    reads: ReadQueue,
    /// Writes and orders that wait for a leader.
    to_dispatch: Vec<Token>,
    /// Writes that the leader that is known does not take: given to the next one, or to this one with the next whole tick.
    put_off: Vec<Token>,
    /// Writes that the leader proposes at the end of this turn.
    to_propose: Vec<Token>,
    /// Orders that are not done.
    orders: Vec<Token>,
    /// Peers that are answered what they forwarded, and are to know that it is committed.
    answered_peers: BTreeSet<u64>,
    /// Committed entries that wait until the store has room.
    to_apply: VecDeque<crate::replica::Committed>,
    /// Who is at the other end of the connections to peers.
    links: BTreeMap<u64, Identity>,
    seats: Seats,
    known: KnownLeader,
    /// No majority has confirmed anything while a request waited for it for long. Until one does, none waits for long.
    doubts_quorum: bool,
    gossip: gossip::Gossip,
    left_mesh_at: Option<Duration>,
    /// Where a node of another cluster was heard from last, and when.
    stranger: Option<(SocketAddr, Duration)>,
    sightings: Sightings,
    digests: Digests,
    proposed_quota: Option<ProposedQuota>,
    /// Whether the store is full, as was told last.
    told_full: bool,
    /// Since when, and until when, nodes asked for a name that is taken.
    conflicts: BTreeMap<u64, Conflict>,
    /// Why this node was last refused by the cluster.
    told_refusal: String,
    /// Why others were refused here, by raft id.
    told_refusals: BTreeMap<u64, String>,
    no_space: Option<String>,
    /// Not before this time is leadership handed over again for want of space.
    hand_over_after: Duration,
    stopping: bool,
    /// Why the node has come to its end by itself.
    ended: Option<String>,
    ticks: u64,
    counters: Counters,
    effects: Effects<M>,
    /// Bytes of the answers among them.
    replies_len: usize,
}

/// What was last told about who leads, to tell changes.
#[derive(Debug, Default, PartialEq, Clone, Copy)]
struct KnownLeader {
    role: Option<Role>,
    leader: Option<u64>,
    /// Since when no leader is known.
    leaderless_since: Duration,
    /// Since when this one leads, if it does.
    leads_since: Duration,
}

impl<M: Map> Node<M> {
    /// A node as it starts. `identity` is without a cluster id: that is in the log.
    pub fn new(
        settings: Settings,
        mut identity: Identity,
        recovered: RecoveredLog,
        store: Store<M>,
        now: Now,
    ) -> Result<Node<M>> {
        let RecoveredLog { log, contents } = recovered;
        let (hard_state, standing) = (contents.hard_state, contents.standing.clone());
        let state = contents.state;
        if !standing.quarantine.is_empty() {
            return Err(Error::Environment(standing.quarantine));
        }
        let Start { base, entries } = contents.start(entry_id(store.applied()))?;
        identity.cluster_id = standing.cluster_id;
        let stage = if identity.cluster_id.is_empty() {
            assert!(entries.is_empty(), "a node without a cluster has no entries");
            let (expect, may_form) = (settings.expect, settings.may_form);
            Stage::Free(Box::new(Formation::new(
                identity.clone(),
                expect,
                may_form,
                settings.replica.election_ticks,
                standing.promise,
            )))
        } else {
            let replica = Replica::new(
                settings.replica.clone(),
                Recovered {
                    base,
                    entries,
                    hard_state,
                    applied: store.applied().index,
                    membership: store.membership().cloned(),
                },
            )?;
            Stage::Member(Box::new(replica))
        };
        let gossip = mesh::start(&settings.mesh, &identity, now.monotonic)?;
        let mut rng = fastrand::Rng::with_seed(settings.replica.seed ^ settings.replica.nonce);
        let mut node = Node {
            settings,
            identity,
            now,
            started: now.monotonic,
            stage,
            store,
            state,
            snapshots: Snapshots::default(),
            journal: Journal::new(log),
            requests: Requests::new(&mut rng),
            rng,
            reads: ReadQueue::default(),
            to_dispatch: Vec::new(),
            put_off: Vec::new(),
            to_propose: Vec::new(),
            orders: Vec::new(),
            answered_peers: BTreeSet::new(),
            to_apply: Default::default(),
            links: BTreeMap::new(),
            seats: Seats::default(),
            known: KnownLeader { leaderless_since: now.monotonic, ..KnownLeader::default() },
            doubts_quorum: false,
            gossip,
            left_mesh_at: None,
            stranger: None,
            sightings: Sightings::default(),
            digests: Digests::default(),
            proposed_quota: None,
            told_full: false,
            conflicts: BTreeMap::new(),
            told_refusal: String::new(),
            told_refusals: BTreeMap::new(),
            no_space: None,
            hand_over_after: Duration::ZERO,
            stopping: false,
            ended: None,
            ticks: 0,
            counters: Counters::default(),
            effects: Effects::default(),
            replies_len: 0,
        };
        node.give_up_passed();
        Ok(node)
    }

    /// Takes in one thing that happened. Effects gather until the [turn](Node::turn) ends.
    pub fn step(&mut self, now: Now, input: Input<M>) -> Result<()> {
        assert!(now.monotonic >= self.now.monotonic, "time went back");
        self.now = now;
        match input {
            Input::Tick => self.on_tick(),
            Input::Request(connection, request) => self.on_request(connection, request)?,
            Input::PeerUp(identity) => self.on_peer_up(identity),
            Input::PeerDown(raft_id) => self.on_peer_down(raft_id),
            Input::Unsent(raft_id) => self.on_unsent(raft_id),
            Input::PeerGone(from) => self.seats.left(&from),
            Input::ClientGone(connection) => self.on_client_gone(connection),
            Input::PeerFrame(from, frame) => self.on_peer_frame(&from, frame),
            Input::Written(sequence) => self.on_written(sequence)?,
            Input::Prepared(ordinal) => self.journal.prepared(ordinal),
            Input::Committed(committed) => {
                let retired = self.store.committed(committed);
                self.effects.retired.push(retired);
                self.give_up_passed();
            }
            Input::CommitPutOff(commit) => {
                let why = "the state machine's database needs room to grow, and the disk is full: make space on it";
                self.on_disk_space(Err(why.to_owned()));
                self.store.put_off(now.monotonic, commit);
            }
            Input::Scanned(token, result) => self.on_scanned(token, result),
            Input::Transfer(news) => self.on_transfer(news),
            Input::Datagram(from, bytes) => self.on_datagram(from, &bytes),
            Input::Seeds(seeds) => self.on_seeds(&seeds),
            Input::Removed(why) => self.on_removed(why),
            Input::DiskSpace(space) => self.on_disk_space(space),
            Input::Stop => self.on_stop(),
        }
        // What one batch of the log can hold bounds what may gather before it is drained.
        if let Stage::Member(replica) = &self.stage
            && replica.undrained_len() >= APPEND_LEN_MAX
        {
            self.drain()?;
        }
        Ok(())
    }

    /// Ends a turn: proposes, drains consensus, applies, and gives what is to be done.
    pub fn turn(&mut self, now: Now) -> Result<Effects<M>> {
        self.now = now;
        // First: writes that a leader before had go to the one that is known now.
        self.tell_changes();
        self.dispatch_writes();
        self.drive_orders();
        match self.holds_proposals() {
            true => self.forget_expired_proposals(),
            false => self.propose_writes()?,
        }
        self.install_snapshot();
        self.drain()?;
        self.start_scans()?;
        self.open_readings()?;
        self.effects.write = self.journal.next_write();
        self.effects.prepare = self.journal.next_to_prepare();
        if !self.has_whole_snapshot() {
            let force = self.reads.has_waiting_scans()
                || self.snapshots.reading.wait_for_commit()
                || self.owes_membership();
            self.effects.commit = self.store.begin_commit(now.monotonic, force);
        }
        self.replies_len = 0;
        Ok(std::mem::take(&mut self.effects))
    }

    /// Lets go of what is kept of the log only until the store has durably passed it.
    fn give_up_passed(&mut self) {
        let durable = self.store.durable();
        let membership = self.store.durable_membership();
        if let Stage::Member(replica) = &mut self.stage
            && let Some(conf_state) = membership.and_then(|known| known.conf_state.as_ref())
        {
            replica.passed(entry_id(durable), conf_state);
            let unneeded = match planted(Bug::ReleaseTooEarly) {
                true => self.store.applied().index,
                false => durable.index.min(replica.unneeded_index()),
            };
            self.journal.release(unneeded);
        }
    }

    /// Lets consensus run until it has nothing more to do, and applies what it committed.
    fn drain(&mut self) -> Result<()> {
        loop {
            let Stage::Member(replica) = &mut self.stage else { return Ok(()) };
            let mut out = Outputs::default();
            replica.drain(self.now.monotonic, &mut out);
            for message in out.messages {
                self.counters.messages_sent += 1;
                self.effects.frames.push((message.to, peers::raft_frame(message)));
            }
            for (number, record) in out.persist {
                let then = match record.snapshot {
                    None => Then::Persisted(number),
                    Some(_) => Then::Installed(number),
                };
                self.journal.push(record, then);
            }
            for raft_id in out.offers {
                self.offer_snapshot(raft_id)?;
            }
            self.doubts_quorum &= out.committed.is_empty() && out.confirmed.is_empty();
            self.to_apply.extend(out.committed);
            self.reads.confirmed(out.confirmed);
            let applied = self.apply_committed()?;
            self.tell_answered_peers();
            self.serve_reads()?;
            if !applied && !self.campaign_alone() {
                return Ok(());
            }
        }
    }

    /// A sole voter waits for nobody.
    fn campaign_alone(&mut self) -> bool {
        let Stage::Member(replica) = &mut self.stage else { return false };
        let alone = replica.is_sole_voter() && replica.role() == Role::Follower;
        if alone && self.to_apply.is_empty() && self.journal.is_idle() && !self.stopping {
            replica.campaign();
            return replica.role() != Role::Follower;
        }
        false
    }

    fn on_stop(&mut self) {
        self.stopping = true;
        self.hand_over();
        self.leave_mesh();
    }

    /// Hands leadership over, if this node has it and there is somebody to take it.
    fn hand_over(&mut self) {
        // One that leaves too would only pass it on.
        let stays = |raft_id: &u64| self.is_live_in_mesh(*raft_id) != Some(false);
        let heirs: Vec<u64> = self.links.keys().copied().filter(stays).collect();
        let Stage::Member(replica) = &mut self.stage else { return };
        if replica.leads()
            && !replica.is_handing_over()
            && replica.hand_over(|raft_id| heirs.contains(&raft_id))
        {
            ::log::info!("handing leadership over");
        }
    }

    /// Whether a node that was told to stop has finished: every request is answered, and it does not lead (or there is
    /// nobody to lead instead), and the mesh has heard of it. What was acknowledged is durable, here as always.
    pub fn may_stop(&self) -> bool {
        let leads = matches!(&self.stage, Stage::Member(replica) if replica.leads() && replica.is_handing_over());
        self.stopping && !leads && self.requests.len() == 0 && self.has_said_goodbye()
    }

    /// Why the node has come to its end by itself, if it has: it was removed, or refused for good. Once
    /// [`Node::may_stop`], the process ends with this for its error.
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// The identity, as the node greets others with.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Consensus, for those who look on; `None` while the node belongs to no cluster.
    pub fn replica(&self) -> Option<&Replica> {
        match &self.stage {
            Stage::Member(replica) => Some(replica),
            _ => None,
        }
    }

    /// The state machine, for those who look on.
    pub fn store(&self) -> &Store<M> {
        &self.store
    }

    /// The number of the state machine's directory.
    pub fn state(&self) -> u64 {
        self.state
    }

    /// What the node knows of the mesh, for those who look on.
    pub fn mesh(&self) -> &gossip::Gossip {
        &self.gossip
    }

    /// The index up to which the node has applied: what a client's first `since` is.
    pub fn applied_index(&self) -> u64 {
        self.store.applied().index
    }
}

/// Where in the log the store stands.
fn entry_id(Applied { index, term }: Applied) -> EntryId {
    EntryId { index, term }
}
