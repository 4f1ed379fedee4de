//! What carries gossip: datagrams in and out, and the seeds, looked up again and again.
//!
//! It promises that a datagram is sent at once or dropped, that a flood of datagrams leaves the others their turns, and
//! that seeds are asked for as long as the node runs: soon again while it is alone or has no cluster, now and then
//! afterwards, so that a mesh that was split finds together.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::net::UdpSocket;
use glommio::timer::Timer;

use super::reactor::{Input, Reactor};
use super::resolve::resolve;
use super::socket::DatagramSender;
use crate::limits::{GOSSIP_BURST_MAX, GOSSIP_PACKET_LEN_MAX};

/// Between two looks for seeds while the node wants others, at first and at most.
const WANTED_AGAIN: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(15);
/// Between two looks while it is not.
const MET_AGAIN: Duration = Duration::from_secs(30);
/// What goes on for long is told this often.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// The sending side, and what is counted.
pub(super) struct Mesh {
    sender: DatagramSender,
    /// Datagrams that could not be sent: no way there, or no room in the socket.
    pub datagrams_dropped: Cell<u64>,
    pub seed_lookups_failed: Cell<u64>,
}

impl Mesh {
    pub fn new(sender: DatagramSender) -> Mesh {
        Mesh { sender, datagrams_dropped: Cell::default(), seed_lookups_failed: Cell::default() }
    }

    /// Sends, or drops and counts: gossip expects losses.
    pub fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if !self.sender.send(to, datagram) {
            count(&self.datagrams_dropped);
        }
    }
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Takes in datagrams for ever. The socket has no other reader: a read that is given up may lose a datagram.
pub(super) async fn receive(reactor: Rc<Reactor>, socket: UdpSocket) {
    // One byte more than is allowed, so that what is too long is seen to be.
    let mut datagram = [0; GOSSIP_PACKET_LEN_MAX + 1];
    loop {
        for _ in 0..GOSSIP_BURST_MAX {
            match socket.recv_from(&mut datagram).await {
                Ok((len, from)) => reactor.post(Input::Datagram(from, datagram[..len].to_vec())),
                Err(e) => {
                    ::log::warn!("cannot receive gossip: {e}");
                    Timer::new(WANTED_AGAIN.start).await;
                }
            }
        }
        // The turn that takes these runs before more are read.
        glommio::executor().yield_now().await;
    }
}

/// Looks for the seeds for ever. Each name has a task of its own, so that none waits for another's lookup.
pub(super) fn seek(reactor: &Rc<Reactor>) {
    let seeds = reactor.settings.gossip.seeds.iter().map(ToString::to_string);
    let (literal, names): (Vec<String>, Vec<String>) =
        seeds.partition(|seed| seed.parse::<SocketAddr>().is_ok());
    let literal: Vec<SocketAddr> = literal.iter().filter_map(|seed| seed.parse().ok()).collect();
    if !literal.is_empty() {
        let reactor = reactor.clone();
        glommio::spawn_local(async move { ask(&reactor, &literal).await }).detach();
    }
    for name in names {
        let reactor = reactor.clone();
        glommio::spawn_local(async move { ask_name(&reactor, &name).await }).detach();
    }
}

async fn ask(reactor: &Reactor, seeds: &[SocketAddr]) {
    let mut back_off = WANTED_AGAIN.start;
    loop {
        reactor.post(Input::Seeds(seeds.to_vec()));
        pause(reactor, &mut back_off).await;
    }
}

async fn ask_name(reactor: &Reactor, name: &str) {
    let mut back_off = WANTED_AGAIN.start;
    let mut told: Option<Instant> = None;
    loop {
        match resolve(name).await {
            Ok(addresses) => reactor.post(Input::Seeds(addresses)),
            Err(e) => {
                count(&reactor.mesh.seed_lookups_failed);
                if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                    told = Some(Instant::now());
                    ::log::warn!("the seed {name} cannot be resolved, and is tried again: {e}");
                }
            }
        }
        pause(reactor, &mut back_off).await;
    }
}

/// Waits until seeds are worth another look: the longer they were wanted, the longer.
async fn pause(reactor: &Reactor, back_off: &mut Duration) {
    let begun = Instant::now();
    loop {
        Timer::new(WANTED_AGAIN.start).await;
        let is_wanting = reactor.node().wants_seeds();
        if !is_wanting {
            *back_off = WANTED_AGAIN.start;
        }
        let due = if is_wanting { *back_off } else { MET_AGAIN };
        if begun.elapsed() >= due {
            *back_off = (*back_off * 2).min(WANTED_AGAIN.end);
            return;
        }
    }
}
