//! Connections to the peers: one to each, opened here, on which this node sends. What a peer has to say comes on the
//! connection that it opens itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future;
use glommio::net::TcpStream;
use glommio::timer::Timer;

use super::pump::{Event, Outbox, Pump};
use super::reactor::Reactor;
use crate::limits::{HELLO_TIMEOUT, PEER_UNSENT_MAX};
use crate::node::Input;
use crate::wire::PROTOCOL_VERSION;
use crate::wire::client::{
    ClientFrame, Hello, Identity, Role, ServerFrame, client_frame, server_frame,
};
use crate::wire::frame::Decoder;
use crate::wire::peer::PeerFrame;

/// A connection that does not come about in that time is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two attempts, at first and at most.
const BACK_OFF: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(2);
/// How often to look for members that no link was begun for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The links that are up, by the raft id that answered.
#[derive(Default)]
pub(super) struct Links {
    up: RefCell<HashMap<u64, Rc<Outbox>>>,
    /// The addresses that a task keeps a link to.
    begun: RefCell<Vec<String>>,
    /// Those that wait before they try again, by the peer's name.
    pausing: RefCell<HashMap<String, Waker>>,
}

impl Links {
    /// Sends a frame. False if there is no link. One that takes too little is ended, with all that waits for it.
    pub fn send(&self, raft_id: u64, frame: &PeerFrame) -> bool {
        let up = self.up.borrow();
        let Some(outbox) = up.get(&raft_id) else { return false };
        match outbox.unsent_len() > PEER_UNSENT_MAX {
            true => outbox.kill(),
            false => outbox.send(frame),
        }
        true
    }

    /// A peer has come to this node, and so can be reached: its link need not wait any longer.
    pub fn came(&self, name: &str) {
        if let Some(waker) = self.pausing.borrow_mut().remove(name) {
            waker.wake();
        }
    }

    /// Waits before the next attempt: for `pause`, or less if the peer comes by itself.
    async fn pause(&self, name: &str, pause: Duration) {
        // In any case a little: two nodes that lose each other's links must not chase each other.
        Timer::new(BACK_OFF.start).await;
        let mut begun = false;
        let came = poll_fn(|cx| {
            let mut pausing = self.pausing.borrow_mut();
            if begun && !pausing.contains_key(name) {
                return Poll::Ready(());
            }
            begun = true;
            pausing.insert(name.to_owned(), cx.waker().clone());
            Poll::Pending
        });
        let over = async {
            Timer::new(pause.saturating_sub(BACK_OFF.start)).await;
        };
        future::or(came, over).await;
        self.pausing.borrow_mut().remove(name);
    }

    /// Ends all links; each is opened anew, with a new greeting.
    pub fn reconnect_all(&self) {
        self.up.borrow().values().for_each(|outbox| outbox.close());
    }
}

/// Keeps a link to each peer of PEERS and each member of the cluster, for ever.
pub(super) async fn keep(reactor: Rc<Reactor>) {
    loop {
        for (name, address) in wanted(&reactor) {
            if !reactor.links.begun.borrow().contains(&address) {
                reactor.links.begun.borrow_mut().push(address.clone());
                let reactor = reactor.clone();
                glommio::spawn_local(async move { keep_one(&reactor, &name, &address).await })
                    .detach();
            }
        }
        Timer::new(LOOK_EVERY).await;
    }
}

/// The peers that the settings name, and the members that they do not name.
fn wanted(reactor: &Reactor) -> Vec<(String, String)> {
    let configured =
        reactor.settings.peers.iter().map(|peer| (peer.name.clone(), peer.address.to_string()));
    let mut wanted: Vec<_> = configured.collect();
    for member in reactor.node().members() {
        let named =
            wanted.iter().any(|(name, address)| *name == member.name || *address == member.address);
        let own = member.raft_id == reactor.node().identity().raft_id;
        if !named && !own && !member.address.is_empty() {
            wanted.push((member.name.clone(), member.address.clone()));
        }
    }
    wanted
}

async fn keep_one(reactor: &Reactor, name: &str, address: &str) {
    let mut pause = BACK_OFF.start;
    let mut told = String::new();
    loop {
        match connect(address).await {
            Ok(stream) => {
                let result = link(reactor, stream, &mut pause).await;
                if let Err(why) = result {
                    tell(&mut told, name, address, why);
                }
            }
            Err(why) => tell(&mut told, name, address, why),
        }
        reactor.links.pause(name, pause).await;
        pause = (pause * 2).min(BACK_OFF.end);
    }
}

/// The same trouble is told once.
fn tell(told: &mut String, name: &str, address: &str, why: String) {
    if *told != why {
        log::warn!("no connection to {name} at {address}: {why}");
        *told = why;
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    let name = address.to_owned();
    // Blocks, and so not on the reactor.
    let resolved: Result<Vec<SocketAddr>, _> = glommio::executor()
        .spawn_blocking(move || name.to_socket_addrs().map(|addresses| addresses.collect()))
        .await;
    let mut last = "the name has no address".to_owned();
    for address in resolved.map_err(|e| format!("the name cannot be resolved: {e}"))? {
        match TcpStream::connect_timeout(address, CONNECT_TIMEOUT).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e.to_string(),
        }
    }
    Err(last)
}

/// Greets, and then sends what there is to send until the connection ends.
async fn link(reactor: &Reactor, stream: TcpStream, pause: &mut Duration) -> Result<(), String> {
    let outbox = Rc::new(Outbox::default());
    let mut pump = Pump::new(stream, outbox.clone());
    let mut decoder = Decoder::default();
    let from = reactor.node().identity().clone();
    let hello = Hello {
        version: PROTOCOL_VERSION,
        role: Role::Peer.into(),
        cluster_id: from.cluster_id.clone(),
        from: Some(from.clone()),
    };
    outbox.send(&ClientFrame { frame: Some(client_frame::Frame::Hello(hello)) });
    let welcomed = glommio::timer::timeout(HELLO_TIMEOUT, async {
        Ok(welcome(&mut pump, &mut decoder).await)
    });
    let peer = welcomed.await.map_err(|_| "no answer to the greeting".to_owned())??;
    if from.cluster_id != reactor.node().identity().cluster_id {
        // Joined a cluster while this greeting was under way.
        return Ok(());
    }
    *pause = BACK_OFF.start;
    let raft_id = peer.raft_id;
    if let Some(before) = reactor.links.up.borrow_mut().insert(raft_id, outbox.clone()) {
        before.close();
    }
    reactor.post(Input::PeerUp(peer));
    let mut refused = None;
    while pump.next(true, |bytes| decoder.feed(bytes)).await != Event::Closed {
        if let Ok(Some(ServerFrame { frame: Some(server_frame::Frame::Error(error)) })) =
            decoder.next_frame()
        {
            refused = Some(error.message);
        }
    }
    let is_current =
        reactor.links.up.borrow().get(&raft_id).is_some_and(|up| Rc::ptr_eq(up, &outbox));
    if is_current {
        reactor.links.up.borrow_mut().remove(&raft_id);
        reactor.post(Input::PeerDown(raft_id));
    }
    refused.map_or(Ok(()), Err)
}

async fn welcome(pump: &mut Pump, decoder: &mut Decoder) -> Result<Identity, String> {
    loop {
        match decoder.next_frame::<ServerFrame>().map_err(|e| e.to_string())? {
            Some(ServerFrame { frame: Some(server_frame::Frame::Welcome(welcome)) }) => {
                return welcome.node.ok_or_else(|| "the answer lacks an identity".to_owned());
            }
            Some(ServerFrame { frame: Some(server_frame::Frame::Error(error)) }) => {
                return Err(error.message);
            }
            Some(_) => return Err("another answer than a welcome".to_owned()),
            None => {}
        }
        if pump.next(true, |bytes| decoder.feed(bytes)).await == Event::Closed {
            return Err("the connection was closed during the greeting".to_owned());
        }
    }
}
