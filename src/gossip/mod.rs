//! The mesh: who is there, who has died, and how far away each is.
//!
//! SWIM (Das, Gupta, Motivala 2002) with the extensions of Lifeguard (Dadgar, Phillips, Currey 2017), in the manner of
//! HashiCorp's memberlist, and network coordinates as in Serf.
//!
//! It promises:
//! - **Death is noticed.** A node that answers nobody is declared dead by all, within 10 seconds at the defaults in a
//!   mesh of 3 to 5 nodes. Nodes at a distance are given the time that their measured round trips ask for.
//! - **Life is defended.** Whoever is suspected hears of it first and refutes with a higher incarnation. A node that
//!   hears badly, or was not run for a while, doubts itself before it doubts others.
//! - **News reach all** in a time that grows with log n, at a cost for each node that does not grow with n: one probe
//!   a period, and packets of at most 1,200 bytes.
//! - **A mesh that was split finds together again**: the dead are tried again while they are remembered, and seeds
//!   whenever the shell calls [`Gossip::join`].
//! - **It is no judge of membership.** Two holders of a name or of an identity are told, as events; who may vote is
//!   decided elsewhere.
//!
//! Invariants:
//! - Pure: time is an argument and only grows, randomness a seed, effects are values ([`Output`]).
//! - A belief about a node only climbs in the order of (starts, incarnation, state). Only the node itself raises its
//!   incarnation.
//! - A node is its raft id. Its name, addresses and cluster id are what it says of itself.
//! - Nothing of another cluster is merged. A node without a cluster talks with everybody.
//! - Every table is bounded; whatever comes in is counted, and can at worst be wrong, never harmful to the process.
//!
//! The flow: the shell hands datagrams to [`Gossip::receive`], and calls [`Gossip::wake`] at [`Gossip::wake_at`]. After
//! each call it sends what is in the [`Output`]. Tables are exchanged over TCP where it asks for that:
//! [`Gossip::sync_request`] there, [`Gossip::on_sync_request`] at the other end, [`Gossip::on_sync_reply`] back here.
//!
//! - [`packet`]: bytes to packets and back. `receive`: what is done with a packet.
//! - `beliefs`: news of a node against what is known of it. [`members`]: the table.
//! - `probe`: pings, by oneself and through others. `suspicion`, `awareness`, `rtt`: how long to wait.
//! - `spread`: what is told, when and to whom. `broadcast`: the queue of it. `sync`: whole tables.
//! - [`mod@coordinate`]: network coordinates, after Vivaldi.
//!
//! Addresses are canonical: an IPv4 address mapped into IPv6 appears as IPv4, and the shell maps it back where its
//! socket needs that.

#![forbid(unsafe_code)]

mod awareness;
mod beliefs;
mod broadcast;
pub mod coordinate;
pub mod members;
mod output;
pub mod packet;
mod probe;
mod receive;
mod rtt;
mod settings;
mod spread;
mod suspicion;
mod sync;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;

use crate::limits::GOSSIP_SEEDS_MAX;
use crate::metrics::GossipCounters;
use crate::wire::gossip::Node;

pub use members::{Member, State};
pub use output::{Event, Output};
pub use packet::Refused;
pub use settings::Settings;

use awareness::Awareness;
use broadcast::Broadcasts;
use coordinate::{Coordinate, Vivaldi};
use members::Members;
use probe::Prober;

/// What goes on for long is told as an event this often.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// Matters that are remembered as told.
const TOLD_MAX: usize = 256;

/// Events that are not repeated at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Name(u64),
    OwnIdentity,
    OtherCluster,
}

/// One node's part of the mesh. See the [module](self).
#[derive(Debug)]
pub struct Gossip {
    settings: Settings,
    rng: Rng,
    me: Node,
    leaving: bool,
    members: Members,
    awareness: Awareness,
    vivaldi: Vivaldi,
    prober: Prober,
    broadcasts: Broadcasts,
    /// How often this node still tells of itself unasked. It is not in the queue of news: only those who see where its
    /// packets come from can tell others where it is.
    introductions: u32,
    /// When news are told to some; None while there are none.
    spread_at: Option<Duration>,
    sync_at: Duration,
    /// When a dead member was tried last.
    retried_at: Duration,
    /// The end of the last stall.
    resumed_at: Duration,
    told: BTreeMap<Topic, Duration>,
    /// When a node of another cluster was last told that it is one.
    stranger_told_at: Option<Duration>,
    counters: GossipCounters,
}

impl Gossip {
    /// A node that knows nobody. `me` carries everything but the incarnation; its gossip address may be empty, or have a
    /// wildcard for its address or port 0.
    ///
    /// # Errors
    /// A field of `me` is beyond its limit.
    pub fn new(settings: Settings, me: Node, seed: u64, now: Duration) -> Result<Gossip, Refused> {
        packet::check_node(&me)?;
        let mut rng = Rng::with_seed(seed);
        let sync_at = now + settings.sync_period.mul_f64(0.5 + 0.5 * rng.f64());
        Ok(Gossip {
            settings,
            me: Node { incarnation: 1, ..me },
            leaving: false,
            members: Members::default(),
            awareness: Awareness::default(),
            vivaldi: Vivaldi::default(),
            prober: Prober::new(now),
            broadcasts: Broadcasts::default(),
            introductions: 0,
            spread_at: None,
            sync_at,
            retried_at: now,
            resumed_at: now,
            told: BTreeMap::new(),
            stranger_told_at: None,
            counters: GossipCounters::default(),
            rng,
        })
    }

    /// Pings these addresses, whoever is there. To be called with the seeds as they resolve now, until somebody
    /// answered and then now and then: so halves that have forgotten each other find together.
    pub fn join(&mut self, now: Duration, seeds: &[SocketAddr], out: &mut Output) {
        for seed in seeds.iter().take(GOSSIP_SEEDS_MAX) {
            self.ping_seed(now, receive::canonical(*seed), out);
        }
    }

    /// Something else than gossip suggests that a member may be gone, as the end of a connection does: it is probed next.
    /// That proves nothing, but those who notice at once need not wait for their turns.
    pub fn doubt(&mut self, now: Duration, raft_id: u64) {
        if self.members.is_live(raft_id) {
            self.prober.urge(now, raft_id);
        }
    }

    /// Says good-bye: the others see that this node has left, and not that it died. The shell goes on calling
    /// [`Gossip::wake`] for as long as it can wait, a second say. There is no way back in this start.
    pub fn leave(&mut self, now: Duration, out: &mut Output) {
        if !self.leaving {
            self.leaving = true;
            self.say_goodbye(now, out);
        }
    }

    /// This node's own description has changed: cluster id, role, name, an address. Its identity stays what it was.
    ///
    /// # Errors
    /// A field of `me` is beyond its limit; nothing was changed.
    pub fn update(&mut self, now: Duration, me: Node) -> Result<(), Refused> {
        packet::check_node(&me)?;
        let Node { raft_id, starts, nonce, incarnation, .. } = self.me;
        self.me = Node { raft_id, starts, nonce, incarnation, ..me };
        self.members.retain(|member| same_cluster(&self.me.cluster_id, &member.node.cluster_id));
        self.assert_own_life(now, incarnation);
        Ok(())
    }

    /// How this node describes itself.
    pub fn me(&self) -> &Node {
        &self.me
    }

    /// All other nodes, by raft id: the dead and those who left too, until they are forgotten.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// One of them.
    pub fn member(&self, raft_id: u64) -> Option<&Member> {
        self.members.get(raft_id)
    }

    /// The estimated round trip between two nodes, this one or others. None before both have a coordinate, which takes
    /// a probe of each.
    pub fn estimate_rtt(&self, a: u64, b: u64) -> Option<Duration> {
        Some(self.coordinate(a)?.distance(self.coordinate(b)?))
    }

    fn coordinate(&self, raft_id: u64) -> Option<&Coordinate> {
        if raft_id == self.me.raft_id {
            return Some(self.vivaldi.coordinate());
        }
        self.members.get(raft_id)?.coordinate.as_ref()
    }

    /// What happened since the start.
    pub fn counters(&self) -> &GossipCounters {
        &self.counters
    }

    /// 0 is healthy; up to 8 as this node hears badly, or is not run in time.
    pub fn health_score(&self) -> u32 {
        self.awareness.score()
    }

    /// When [`Gossip::wake`] is to be called next. Changes with every call.
    pub fn wake_at(&self) -> Duration {
        let deadlines = [
            Some(self.probe_deadline()),
            self.prober.nack_deadline(),
            self.suspicion_deadline(),
            self.spread_at,
            self.retry_deadline(),
            Some(self.sync_at),
        ];
        deadlines.into_iter().flatten().min().unwrap_or(self.sync_at)
    }

    /// Does what is due.
    pub fn wake(&mut self, now: Duration, out: &mut Output) {
        self.notice_stall(now);
        self.drive_probe(now, out);
        self.expire_suspicions(now, out);
        self.send_nacks(now, out);
        self.spread(now, out);
        self.retry_dead(now, out);
        self.request_sync(now, out);
    }

    /// We were not run when we should have been: what seems overdue may wait in the socket. Nobody is blamed for it.
    fn notice_stall(&mut self, now: Duration) {
        let late = now.saturating_sub(self.wake_at().max(self.resumed_at));
        if late <= self.settings.probe_period / 2 {
            return;
        }
        self.resumed_at = now;
        self.counters.stalls += 1;
        self.awareness.worse(1);
        self.prober.abandon();
        for suspicion in self.members.iter_mut().filter_map(|member| member.suspicion.as_mut()) {
            suspicion.postpone(late);
        }
    }

    /// Whether this was not told lately; then it is told now.
    fn may_tell(&mut self, now: Duration, topic: Topic) -> bool {
        self.told.retain(|_, told_at| now.saturating_sub(*told_at) < TELL_AGAIN);
        let tell = self.told.len() < TOLD_MAX && !self.told.contains_key(&topic);
        if tell {
            self.told.insert(topic, now);
        }
        tell
    }
}

/// Whether two nodes may talk: they are of one cluster, or one is of none.
fn same_cluster(a: &[u8], b: &[u8]) -> bool {
    a.is_empty() || b.is_empty() || a == b
}
