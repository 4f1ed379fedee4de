//! What is done with a packet that came in.

use std::net::SocketAddr;
use std::time::Duration;

use super::coordinate::Coordinate;
use super::members::Life;
use super::output::{Event, Output};
use super::packet::{self, VERSION};
use super::probe::{Ping, Purpose};
use super::{Gossip, Topic, same_cluster};
use crate::limits::GOSSIP_STRANGER_TOLD_EVERY;
use crate::wire::gossip::{Ack, Node, Packet, Update, packet::Body, update::News};

impl Gossip {
    /// A datagram has come. Whatever is in it, nothing fails: what cannot be used is counted.
    pub fn receive(&mut self, now: Duration, from: SocketAddr, bytes: &[u8], out: &mut Output) {
        self.notice_stall(now);
        self.counters.packets_in += 1;
        self.counters.bytes_in += bytes.len() as u64;
        let Ok(packet) = packet::decode(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        let from = canonical(from);
        if !same_cluster(&self.me.cluster_id, &packet.cluster_id) {
            self.counters.other_cluster += 1;
            if self.may_tell(now, Topic::OtherCluster) {
                out.events.push(Event::OtherCluster(from));
            }
            self.tell_stranger(now, from, bytes.len(), &packet, out);
            return;
        }
        if packet.from == self.me.raft_id || self.is_refused_process(&packet) {
            self.on_double(now, from, packet, out);
            return;
        }
        self.on_packet(now, from, packet, out);
    }

    /// Who pings from another cluster hears that it is one, for it may wait for an answer for ever. The address may be forged, so
    /// it is no more than a packet of fewer bytes, and of that one in a while; it asks nothing, so that it is not answered.
    fn tell_stranger(
        &mut self,
        now: Duration,
        from: SocketAddr,
        len: usize,
        packet: &Packet,
        out: &mut Output,
    ) {
        let is_due = self.stranger_told_at.is_none_or(|at| now >= at + GOSSIP_STRANGER_TOLD_EVERY);
        let cluster_id = self.me.cluster_id.clone();
        let answer =
            Packet { version: VERSION, from: self.me.raft_id, cluster_id, ..Packet::default() };
        let answer = packet::encode(&answer);
        if matches!(packet.body, Some(Body::Ping(_))) && is_due && answer.len() < len {
            self.stranger_told_at = Some(now);
            self.counters.packets_out += 1;
            self.counters.bytes_out += answer.len() as u64;
            out.packets.push((from, answer));
        }
    }

    fn on_packet(&mut self, now: Duration, from: SocketAddr, packet: Packet, out: &mut Output) {
        let was_live = self.members.is_live(packet.from);
        let mut correction = Vec::new();
        if let Some(sender) = packet.sender {
            let life = Life::of(&sender);
            self.on_alive(now, sender, Some(from), out);
            if let Some(member) = self.members.get_mut(packet.from) {
                let coordinate = packet.coordinate.as_ref().and_then(Coordinate::from_wire);
                member.coordinate = coordinate.or(member.coordinate.take());
                // Somebody spoke in its name. It hears what it has to go above.
                if member.life() != life {
                    correction.push(Update { news: Some(News::Alive(member.node.clone())) });
                }
            }
        }
        for update in packet.updates {
            self.on_update(now, update, out);
        }
        match packet.body {
            Some(Body::Ping(ping)) if ping.to == 0 || ping.to == self.me.raft_id => {
                let ack = Body::Ack(Ack { number: ping.number });
                correction.extend(self.what_is_believed_of(packet.from));
                self.send_with(from, correction, Some(ack), out);
            }
            Some(Body::Ping(_)) => self.counters.misaddressed += 1,
            Some(Body::Ack(ack)) => self.on_ack(now, packet.from, ack.number, was_live, out),
            Some(Body::Nack(nack)) => {
                let expected = self.prober.nacked(nack.number);
                self.counters.unexpected_answers += u64::from(!expected);
            }
            Some(Body::Request(request)) => {
                self.on_ping_request(now, packet.from, from, &request, out);
            }
            None => {}
        }
    }

    /// Whether this is a process that another one has superseded, or that shares a start with another: a data directory
    /// was copied.
    fn is_refused_process(&self, packet: &Packet) -> bool {
        let known = self.members.get(packet.from).map(|member| &member.node);
        match (known, &packet.sender) {
            (Some(known), Some(sender)) => {
                sender.starts < known.starts
                    || sender.starts == known.starts && sender.nonce != known.nonce
            }
            _ => false,
        }
    }

    /// A packet of a process that has no right to its identity, or of ourselves.
    fn on_double(&mut self, now: Duration, from: SocketAddr, packet: Packet, out: &mut Output) {
        let Some(sender) = packet.sender else { return };
        let is_own = sender.raft_id == self.me.raft_id;
        if is_own && (sender.starts, sender.nonce) == (self.me.starts, self.me.nonce) {
            // A seed that is our own address.
            return;
        }
        let holder: Option<Node> = if is_own {
            let gossip_address = match sender.gossip_address.as_str() {
                "" => from.to_string(),
                advertised => advertised.to_owned(),
            };
            self.tell_of_double(now, Node { gossip_address, ..sender }, out);
            Some(self.me.clone())
        } else {
            self.counters.identity_conflicts += 1;
            self.members.get(sender.raft_id).map(|member| member.node.clone())
        };
        // It hears who holds its identity. A packet that only tells is not answered in turn.
        if let (Some(holder), Some(Body::Ping(_))) = (holder, &packet.body) {
            let news = Update { news: Some(News::Alive(holder)) };
            self.send_with(from, vec![news], None, out);
        }
    }

    fn on_ack(&mut self, now: Duration, from: u64, number: u64, was_live: bool, out: &mut Output) {
        // A relay hands on the ack of our target. The direct one may still come, and be measured.
        if self.prober.is_relayed(number, from) {
            self.end_probe(now, number);
            return;
        }
        let Some(ping) = self.prober.take(number) else {
            self.counters.unexpected_answers += 1;
            return;
        };
        if ping.target.is_some_and(|target| target != from) {
            self.counters.unexpected_answers += 1;
            return;
        }
        match ping.purpose {
            Purpose::Relay { origin, address, number, .. } => {
                self.pass_on_ack(origin, address, number, out);
                return;
            }
            Purpose::Probe => self.end_probe(now, number),
            Purpose::Contact if !was_live && self.members.is_live(from) => {
                if !out.syncs.contains(&from) {
                    out.syncs.push(from);
                }
            }
            Purpose::Contact => {}
        }
        self.measure(now, from, &ping);
    }

    fn end_probe(&mut self, now: Duration, number: u64) {
        if self.prober.answered(now, number) {
            self.awareness.better();
        }
    }

    /// Learns from the round trip of a ping of our own.
    fn measure(&mut self, now: Duration, from: u64, ping: &Ping) {
        let Some(member) = self.members.get_mut(from) else { return };
        let rtt = now.saturating_sub(ping.sent_at);
        member.rtt.sample(rtt);
        let filtered = member.latency.median(rtt);
        if let Some(coordinate) = &member.coordinate {
            self.vivaldi.observe(coordinate, filtered, &mut self.rng);
        }
    }
}

/// An IPv4 address mapped into IPv6 is that IPv4 address.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(v6.ip().to_canonical(), v6.port())
        }
        other => other,
    }
}
