//! What is told, when and to whom: every packet that leaves is made here.
//!
//! News ride on whatever is sent anyway. While there are any, some members are told at a quicker pace besides; without
//! news that costs nothing.

use std::net::SocketAddr;
use std::time::Duration;

use super::Gossip;
use super::beliefs::verdict;
use super::broadcast::{element_len, sent_max};
use super::members::State;
use super::output::Output;
use super::packet::{self, VERSION};
use crate::wire::gossip::{Packet, Update, Verdict, packet::Body, update::News, verdict::Kind};

/// Members that are told at once that this node leaves.
const GOODBYE_FANOUT: usize = 8;
/// The dead are tried one at a time, this far apart: what that costs does not grow with their number.
const RETRY_SPACING: Duration = Duration::from_secs(1);

impl Gossip {
    /// From now on, everybody is to hear this.
    pub(super) fn tell(&mut self, now: Duration, raft_id: u64, news: News) {
        self.broadcasts.push(raft_id, Update { news: Some(news) });
        self.spread_soon(now);
    }

    /// From now on, everybody is to hear that somebody else suspects this node too.
    pub(super) fn tell_confirmation(&mut self, now: Duration, verdict: &Verdict) {
        let update = as_update(*verdict);
        self.broadcasts.push_beside(verdict.raft_id, verdict.by, update);
        self.spread_soon(now);
    }

    /// From now on, everybody is to hear how this node describes itself.
    pub(super) fn introduce_soon(&mut self, now: Duration) {
        self.introductions = sent_max(self.settings.retransmit_mult, self.members.mesh_size());
        self.spread_soon(now);
    }

    fn spread_soon(&mut self, now: Duration) {
        let at = now + self.settings.spread_period;
        self.spread_at = Some(self.spread_at.unwrap_or(at).min(at));
    }

    /// Tells some members the news, if it is time.
    pub(super) fn spread(&mut self, now: Duration, out: &mut Output) {
        if self.spread_at.is_none_or(|at| at > now) {
            return;
        }
        self.tell_some(now, self.settings.spread_fanout, out);
        let more = !self.broadcasts.is_empty() || self.introductions > 0;
        self.spread_at = more.then_some(now + self.settings.spread_period);
    }

    fn tell_some(&mut self, now: Duration, count: usize, out: &mut Output) {
        let tell_the_dead = self.settings.tell_the_dead;
        let listeners = self.members.pick(count, &mut self.rng, |member| {
            member.state.is_live()
                || member.state == State::Dead && now.saturating_sub(member.since) < tell_the_dead
        });
        if listeners.is_empty() {
            // Whoever comes gets the whole table.
            self.introductions = 0;
            self.broadcasts.clear();
        }
        for (raft_id, address) in listeners {
            if !self.broadcasts.is_empty() || self.introductions > 0 {
                self.send(address, Some(raft_id), None, out);
            }
        }
    }

    pub(super) fn say_goodbye(&mut self, now: Duration, out: &mut Output) {
        let me = &self.me;
        let left = Verdict {
            raft_id: me.raft_id,
            starts: me.starts,
            incarnation: me.incarnation,
            kind: Kind::Left.into(),
            by: me.raft_id,
        };
        self.introductions = 0;
        self.tell(now, left.raft_id, News::Verdict(left));
        self.tell_some(now, GOODBYE_FANOUT, out);
    }

    /// When to try a dead member again.
    pub(super) fn retry_deadline(&self) -> Option<Duration> {
        let dead = self.members.iter().filter(|member| member.state == State::Dead);
        let next = dead.map(|member| member.retry_at).min()?;
        Some(next.max(self.retried_at + RETRY_SPACING))
    }

    /// A dead member may be back, and not know that we take it for dead.
    pub(super) fn retry_dead(&mut self, now: Duration, out: &mut Output) {
        if self.retry_deadline().is_none_or(|at| at > now) {
            return;
        }
        let dead = self.members.iter_mut().filter(|member| member.state == State::Dead);
        let Some(member) = dead.min_by_key(|member| member.retry_at) else { return };
        member.retry_pause = (member.retry_pause * 2).min(self.settings.retry_pause_max);
        // Not all at the same moment, when many died together.
        member.retry_at = now + member.retry_pause.mul_f64(0.75 + 0.5 * self.rng.f64());
        self.retried_at = now;
        let (raft_id, address) = (member.node.raft_id, member.gossip_address);
        self.ping_dead(now, raft_id, address, out);
    }

    /// Sends a packet, with as much news as fit. `to` is the receiver's raft id, if it is known.
    pub(super) fn send(
        &mut self,
        address: SocketAddr,
        to: Option<u64>,
        body: Option<Body>,
        out: &mut Output,
    ) {
        let tell_first = match to {
            Some(raft_id) => self.what_is_believed_of(raft_id),
            None => self.what_is_believed_at(address),
        };
        self.send_with(address, tell_first, body, out);
    }

    /// The same, with chosen news in front.
    pub(super) fn send_with(
        &mut self,
        address: SocketAddr,
        tell_first: Vec<Update>,
        body: Option<Body>,
        out: &mut Output,
    ) {
        let unasked = body.is_none() && self.introductions > 0;
        let introduce = unasked || matches!(body, Some(Body::Ping(_) | Body::Ack(_)));
        let mut packet = Packet {
            version: VERSION,
            from: self.me.raft_id,
            cluster_id: self.me.cluster_id.clone(),
            sender: introduce.then(|| self.me.clone()),
            coordinate: introduce.then(|| self.vivaldi.coordinate().to_wire()),
            updates: Vec::new(),
            body,
        };
        if introduce {
            self.introductions = self.introductions.saturating_sub(1);
        }
        let mut room = packet::room(&packet);
        for update in tell_first {
            let len = element_len(&update);
            if len <= room {
                room -= len;
                packet.updates.push(update);
            }
        }
        let sent_max = sent_max(self.settings.retransmit_mult, self.members.mesh_size());
        self.broadcasts.fill(room, sent_max, &mut packet.updates);
        let bytes = packet::encode(&packet);
        self.counters.packets_out += 1;
        self.counters.bytes_out += bytes.len() as u64;
        out.packets.push((address, bytes));
    }

    /// Who is not alive for us hears that first, in every packet: so it can refute (Lifeguard's buddy system).
    pub(super) fn what_is_believed_of(&self, raft_id: u64) -> Vec<Update> {
        let member = self.members.get(raft_id).filter(|member| member.state != State::Alive);
        member.map(|member| as_update(verdict(member, self.me.raft_id))).into_iter().collect()
    }

    fn what_is_believed_at(&self, address: SocketAddr) -> Vec<Update> {
        let there = self
            .members
            .iter()
            .filter(|member| member.gossip_address == address && member.state != State::Alive);
        there.map(|member| as_update(verdict(member, self.me.raft_id))).collect()
    }
}

fn as_update(verdict: Verdict) -> Update {
    Update { news: Some(News::Verdict(verdict)) }
}
