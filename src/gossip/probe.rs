//! Pings: one member in each period, directly and then through others; seeds; and on behalf of others.
//!
//! A probe goes round-robin over a shuffled list, so that the time until a dead member is probed is bounded (SWIM,
//! section 4.3). A direct ping waits as long as that peer's round trips suggest; then `indirect_probes` others are
//! asked, who answer with the target's ack, or with a nack, which tells at least that we hear them (Lifeguard). Who
//! has answered nobody at the end of the probe is suspected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;

use super::Gossip;
use super::members::State;
use super::output::Output;
use crate::limits::{GOSSIP_MEMBERS_MAX, GOSSIP_PINGS_MAX};
use crate::wire::gossip::{Ack, Nack, Ping as PingBody, PingRequest, packet::Body};

/// An ack that comes later still is not even a measurement.
const PING_KEEP: Duration = Duration::from_secs(10);
/// Three timeouts make a probe: the direct ping, and the two legs through another node.
const PROBE_TIMEOUTS: u32 = 3;
/// A relay sends its nack in time, at this share of what is left.
const NACK_SHARE: f64 = 0.8;

/// A ping that is out.
#[derive(Debug)]
pub(super) struct Ping {
    /// The raft id that must answer; None: whoever is there.
    pub target: Option<u64>,
    pub sent_at: Duration,
    pub purpose: Purpose,
}

#[derive(Debug)]
pub(super) enum Purpose {
    /// The member whose turn it is.
    Probe,
    /// A seed, or a member that is dead for us.
    Contact,
    /// For another node, under its number.
    Relay { origin: u64, address: SocketAddr, number: u64, nack_at: Option<Duration> },
}

/// The one probe in progress.
#[derive(Debug)]
struct Probe {
    number: u64,
    target: u64,
    /// The end of the direct ping; None once others are asked.
    ask_others_at: Option<Duration>,
    until: Duration,
    nacks_missing: u32,
    /// Whether anybody was asked.
    asked: bool,
}

/// Whose turn it is, and what is out.
#[derive(Debug)]
pub(super) struct Prober {
    round: Vec<u64>,
    urgent: BTreeSet<u64>,
    probe: Option<Probe>,
    next_at: Duration,
    pings: BTreeMap<u64, Ping>,
}

impl Prober {
    pub fn new(now: Duration) -> Prober {
        Prober {
            round: Vec::new(),
            urgent: BTreeSet::new(),
            probe: None,
            next_at: now,
            pings: BTreeMap::new(),
        }
    }

    /// A new member has its turn at a random place of this round; if the round is full, in the next.
    pub fn add(&mut self, raft_id: u64, rng: &mut Rng) {
        if self.round.len() < GOSSIP_MEMBERS_MAX && !self.round.contains(&raft_id) {
            self.round.insert(rng.usize(..=self.round.len()), raft_id);
        }
    }

    /// This one before all others, and as soon as the probe in progress is over: those who can confirm a suspicion, or end
    /// it, shall not wait for their turn.
    pub fn urge(&mut self, now: Duration, raft_id: u64) {
        if self.urgent.len() < GOSSIP_MEMBERS_MAX {
            self.urgent.insert(raft_id);
            self.next_at = self.next_at.min(now);
        }
    }

    /// What is out says nothing: answers may have come while nobody looked, and the time they took is not theirs.
    pub fn abandon(&mut self) {
        self.probe = None;
        self.pings.retain(|_, ping| matches!(ping.purpose, Purpose::Relay { .. }));
    }

    pub fn nack_deadline(&self) -> Option<Duration> {
        let nack_at = |ping: &Ping| match ping.purpose {
            Purpose::Relay { nack_at, .. } => nack_at,
            _ => None,
        };
        self.pings.values().filter_map(nack_at).min()
    }

    /// Takes a ping out when its ack comes.
    pub fn take(&mut self, number: u64) -> Option<Ping> {
        self.pings.remove(&number)
    }

    /// Whether this is the probe in progress, which is now answered.
    pub fn answered(&mut self, now: Duration, number: u64) -> bool {
        let answered = self.probe.take_if(|probe| probe.number == number).is_some();
        if answered {
            // A probe may take longer than its period. That is not to look as if we had not been run.
            self.next_at = self.next_at.max(now);
        }
        answered
    }

    pub fn nacked(&mut self, number: u64) -> bool {
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.number == number) else {
            return false;
        };
        probe.nacks_missing = probe.nacks_missing.saturating_sub(1);
        true
    }

    /// Whether an ack of `number` by `from` is one that a relay hands on.
    pub fn is_relayed(&self, number: u64, from: u64) -> bool {
        self.pings
            .get(&number)
            .is_some_and(|ping| matches!(ping.purpose, Purpose::Probe) && ping.target != Some(from))
    }
}

impl Gossip {
    pub(super) fn probe_deadline(&self) -> Duration {
        match &self.prober.probe {
            Some(probe) => probe.ask_others_at.unwrap_or(probe.until),
            None => self.prober.next_at,
        }
    }

    /// Ends the probe in progress or takes it further, and begins the next when it is time.
    pub(super) fn drive_probe(&mut self, now: Duration, out: &mut Output) {
        if let Some(probe) = &self.prober.probe {
            if probe.until <= now {
                self.fail_probe(now, out);
            } else if probe.ask_others_at.is_some_and(|at| at <= now) {
                self.ask_others(now, out);
            }
        }
        if self.prober.probe.is_none() && self.prober.next_at <= now {
            self.prober.next_at = now + self.awareness.scale(self.settings.probe_period);
            self.forget(now);
            if let Some(target) = self.next_target().filter(|_| !self.leaving) {
                self.begin_probe(now, target, out);
            }
        }
    }

    /// What is over: old pings, and members long dead.
    fn forget(&mut self, now: Duration) {
        self.prober.pings.retain(|_, ping| now.saturating_sub(ping.sent_at) < PING_KEEP);
        let keep = self.settings.dead_keep;
        self.members
            .retain(|member| member.state.is_live() || now.saturating_sub(member.since) < keep);
    }

    fn next_target(&mut self) -> Option<u64> {
        while let Some(raft_id) = self.prober.urgent.pop_first() {
            if self.members.is_live(raft_id) {
                return Some(raft_id);
            }
        }
        for _ in 0..2 {
            while let Some(raft_id) = self.prober.round.pop() {
                if self.members.is_live(raft_id) {
                    return Some(raft_id);
                }
            }
            let live = self.members.live().map(|member| member.node.raft_id);
            self.prober.round = live.collect();
            self.rng.shuffle(&mut self.prober.round);
        }
        None
    }

    fn begin_probe(&mut self, now: Duration, target: u64, out: &mut Output) {
        let Some(member) = self.members.get(target) else { return };
        let address = member.gossip_address;
        let timeout = self.timeout(target);
        let period = self.awareness.scale(self.settings.probe_period);
        let number = self.ping(now, address, Some(target), Purpose::Probe, out);
        self.counters.probes += 1;
        self.prober.probe = Some(Probe {
            number,
            target,
            ask_others_at: Some(now + timeout),
            until: now + period.max(timeout * PROBE_TIMEOUTS),
            nacks_missing: 0,
            asked: false,
        });
    }

    /// How long to wait for an answer of this member.
    fn timeout(&self, raft_id: u64) -> Duration {
        let (floor, initial) =
            (self.settings.probe_timeout_min, self.settings.probe_timeout_initial);
        let rtt = self.members.get(raft_id).map(|member| &member.rtt);
        self.awareness.scale(rtt.map_or(initial, |rtt| rtt.timeout(floor, initial)))
    }

    fn ask_others(&mut self, now: Duration, out: &mut Output) {
        let Some(probe) = &mut self.prober.probe else { return };
        let (number, target, left) = (probe.number, probe.target, probe.until - now);
        let Some(member) = self.members.get(target) else {
            self.prober.probe = None;
            return;
        };
        let target_address = member.gossip_address.to_string();
        let relays = self.members.pick(self.settings.indirect_probes, &mut self.rng, |member| {
            member.state == State::Alive && member.node.raft_id != target
        });
        self.counters.indirect_probes += 1;
        probe.ask_others_at = None;
        probe.asked = !relays.is_empty();
        probe.nacks_missing = relays.len() as u32;
        for (relay, address) in relays {
            let nack_after = left.saturating_sub(self.timeout(relay)).mul_f64(NACK_SHARE);
            let request = PingRequest {
                number,
                target,
                target_address: target_address.clone(),
                nack_after_ms: nack_after.as_millis() as u32,
            };
            self.send(address, Some(relay), Some(Body::Request(request)), out);
        }
    }

    fn fail_probe(&mut self, now: Duration, out: &mut Output) {
        let Some(probe) = self.prober.probe.take() else { return };
        self.counters.probes_failed += 1;
        // Those who should have sent a nack and did not say something about us, not about the target.
        self.awareness.worse(if probe.asked { probe.nacks_missing } else { 1 });
        self.suspect_after_probe(now, probe.target, out);
    }

    /// Pings whoever is at an address.
    pub(super) fn ping_seed(&mut self, now: Duration, address: SocketAddr, out: &mut Output) {
        if self.has_room_for_ping() {
            self.ping(now, address, None, Purpose::Contact, out);
        }
    }

    /// Pings a member that is dead for us.
    pub(super) fn ping_dead(
        &mut self,
        now: Duration,
        raft_id: u64,
        address: SocketAddr,
        out: &mut Output,
    ) {
        if self.has_room_for_ping() {
            self.ping(now, address, Some(raft_id), Purpose::Contact, out);
        }
    }

    /// Another node gets no answer from a third.
    pub(super) fn on_ping_request(
        &mut self,
        now: Duration,
        origin: u64,
        from: SocketAddr,
        request: &PingRequest,
        out: &mut Output,
    ) {
        let known = self.members.get(request.target).map(|member| member.gossip_address);
        let Some(address) = known.or_else(|| request.target_address.parse().ok()) else { return };
        if self.has_room_for_ping() {
            let nack_after = Duration::from_millis(request.nack_after_ms.into()).min(PING_KEEP);
            let (number, nack_at) = (request.number, Some(now + nack_after));
            let purpose = Purpose::Relay { origin, address: from, number, nack_at };
            self.ping(now, address, Some(request.target), purpose, out);
        }
    }

    pub(super) fn send_nacks(&mut self, now: Duration, out: &mut Output) {
        let mut due = Vec::new();
        for ping in self.prober.pings.values_mut() {
            if let Purpose::Relay { origin, address, number, nack_at } = &mut ping.purpose
                && nack_at.take_if(|at| *at <= now).is_some()
            {
                due.push((*origin, *address, *number));
            }
        }
        for (origin, address, number) in due {
            self.send(address, Some(origin), Some(Body::Nack(Nack { number })), out);
        }
    }

    /// A relayed target has answered: its origin hears of it.
    pub(super) fn pass_on_ack(
        &mut self,
        origin: u64,
        address: SocketAddr,
        number: u64,
        out: &mut Output,
    ) {
        self.send(address, Some(origin), Some(Body::Ack(Ack { number })), out);
    }

    fn has_room_for_ping(&mut self) -> bool {
        let room = self.prober.pings.len() < GOSSIP_PINGS_MAX;
        self.counters.pings_refused += u64::from(!room);
        room
    }

    fn ping(
        &mut self,
        now: Duration,
        address: SocketAddr,
        target: Option<u64>,
        purpose: Purpose,
        out: &mut Output,
    ) -> u64 {
        // Random: nobody can answer what he was not asked.
        let number = self.rng.u64(..);
        self.prober.pings.insert(number, Ping { target, sent_at: now, purpose });
        let body = PingBody { number, to: target.unwrap_or(0) };
        self.send(address, target, Some(Body::Ping(body)), out);
        number
    }
}
