//! Connections to the peers: one to each, opened here, on which this node sends. What a peer has to say comes on the
//! connection that it opens itself.
//!
//! Each address at which the node wants a peer has a task; it ends when the address is wanted no longer. Who is at an
//! address is known when it answers. A peer that is found at two addresses keeps the link that came up first, and the
//! second task waits for the end of it. One that is found where another is wanted, and is wanted elsewhere, is let go.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future;
use glommio::net::TcpStream;
use glommio::timer::Timer;

use super::pump::{Event, Outbox, Pump};
use super::reactor::{Input, Reactor};
use super::resolve::resolve;
use super::socket;
use crate::limits::{HELLO_TIMEOUT, PEER_UNSENT_MAX};
use crate::node::LinkTarget;
use crate::wire::PROTOCOL_VERSION;
use crate::wire::client::{
    ClientFrame, Code, Error as Refusal, Hello, Identity, Role, ServerFrame, client_frame,
    server_frame,
};
use crate::wire::frame::Decoder;
use crate::wire::peer::{PeerFrame, peer_frame};

/// A connection that does not come about in that time is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than any round trip: an attempt that lasts longer was lost on the way, most likely because the peer's machine was
/// not there yet. TCP asks again only after a second, and then after two.
const CONNECT_DOUBTED: Duration = Duration::from_millis(500);
/// Between two attempts, at first and at most.
const BACK_OFF: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_secs(2);
/// The least time after which a link that takes nothing is given up.
const GIVE_UP_MIN: Duration = Duration::from_secs(1);
/// How often to look for peers that no link was begun for, if nothing tells of them, and whether one that was found twice
/// still has its first link.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A link that is up.
struct Link {
    /// Which start of the peer it is to.
    starts: u64,
    outbox: Rc<Outbox>,
}

/// The links that are up, by the raft id that answered.
#[derive(Default)]
pub(super) struct Links {
    up: RefCell<HashMap<u64, Link>>,
    /// The addresses that a task keeps a link to.
    begun: RefCell<Vec<String>>,
    /// There may be more that one is wanted to; and the task that looks for them.
    is_told_to_look: Cell<bool>,
    looking: Cell<Option<Waker>>,
    /// Those that wait for a peer to come by itself, by its name.
    awaiting: RefCell<HashMap<String, Waker>>,
}

impl Links {
    /// Sends a frame. False if it was not sent: there is no link, or the peer does not take what is sent. Raft sends anew
    /// what it lost, a snapshot is asked for again, and digests come again; a link on which something else cannot be sent
    /// is ended.
    pub fn send(&self, raft_id: u64, frame: &PeerFrame) -> bool {
        let up = self.up.borrow();
        let Some(Link { outbox, .. }) = up.get(&raft_id) else { return false };
        let is_full = outbox.unsent_len() > PEER_UNSENT_MAX;
        match &frame.frame {
            Some(
                peer_frame::Frame::Raft(_)
                | peer_frame::Frame::SnapshotOffer(_)
                | peer_frame::Frame::SnapshotRequest(_)
                | peer_frame::Frame::SnapshotPart(_)
                | peer_frame::Frame::Digest(_),
            ) if is_full => return false,
            _ if is_full => outbox.kill(),
            _ => outbox.send(frame),
        }
        true
    }

    /// There may be peers that no link was begun for.
    pub fn look(&self) {
        self.is_told_to_look.set(true);
        if let Some(waker) = self.looking.take() {
            waker.wake();
        }
    }

    async fn told_to_look(&self) {
        poll_fn(|cx| {
            if self.is_told_to_look.take() {
                return Poll::Ready(());
            }
            self.looking.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// A peer has come to this node, and so can be reached: its link need not wait any longer.
    pub fn came(&self, name: &str) {
        if let Some(waker) = self.awaiting.borrow_mut().remove(name) {
            waker.wake();
        }
    }

    /// Ends when the peer has come, from the first poll on.
    async fn comes(&self, name: &str) {
        let mut begun = false;
        poll_fn(|cx| {
            let mut awaiting = self.awaiting.borrow_mut();
            if begun && !awaiting.contains_key(name) {
                return Poll::Ready(());
            }
            begun = true;
            awaiting.insert(name.to_owned(), cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Makes an attempt to reach a peer. One that is [in doubt](CONNECT_DOUBTED) is given up for the next if the peer comes
    /// by itself, or has come meanwhile.
    async fn reach<T>(&self, name: &str, attempt: impl AsyncFn() -> T) -> T {
        let reached = loop {
            let ended = async { Some(attempt().await) };
            let given_up = async {
                future::zip(Timer::new(CONNECT_DOUBTED), self.comes(name)).await;
                None
            };
            if let Some(reached) = future::or(ended, given_up).await {
                break reached;
            }
        };
        self.awaiting.borrow_mut().remove(name);
        reached
    }

    /// Waits before the next attempt: for `pause`, or less if the peer comes by itself.
    async fn pause(&self, name: &str, pause: Duration) {
        // In any case a little: two nodes that lose each other's links must not chase each other.
        Timer::new(BACK_OFF.start).await;
        let over = async {
            Timer::new(pause.saturating_sub(BACK_OFF.start)).await;
        };
        future::or(self.comes(name), over).await;
        self.awaiting.borrow_mut().remove(name);
    }

    /// Ends all links; each is opened anew, with a new greeting.
    pub fn reconnect_all(&self) {
        self.up.borrow().values().for_each(|link| link.outbox.close());
    }

    /// Ends the link to a peer, when what waits there is sent.
    pub fn unlink(&self, raft_id: u64) {
        if let Some(link) = self.up.borrow().get(&raft_id) {
            link.outbox.close();
        }
    }

    /// Whether there is a link to that start of a peer, or to a later one. A copy of the peer's disk has the same
    /// start: the two must not take the link from each other for ever.
    fn is_up(&self, raft_id: u64, starts: u64) -> bool {
        self.up.borrow().get(&raft_id).is_some_and(|link| link.starts >= starts)
    }
}

/// Keeps a link to each address that the node wants one to, for ever.
pub(super) async fn keep(reactor: Rc<Reactor>) {
    loop {
        let targets = reactor.node().link_targets();
        for LinkTarget { address, .. } in targets {
            if !reactor.links.begun.borrow().contains(&address) {
                reactor.links.begun.borrow_mut().push(address.clone());
                let reactor = reactor.clone();
                glommio::spawn_local(async move { keep_one(&reactor, &address).await }).detach();
            }
        }
        let over = async {
            Timer::new(LOOK_EVERY).await;
        };
        future::or(reactor.links.told_to_look(), over).await;
    }
}

/// Whom to expect at an address, if a link to it is wanted.
fn expected(reactor: &Reactor, address: &str) -> Option<String> {
    let mut targets = reactor.node().link_targets().into_iter();
    targets.find(|target| target.address == address).map(|target| target.name)
}

async fn keep_one(reactor: &Reactor, address: &str) {
    let mut pause = BACK_OFF.start;
    let mut told = String::new();
    while let Some(name) = expected(reactor, address) {
        let connected = reactor.links.reach(&name, || connect(address)).await;
        let ended = match connected {
            Ok(stream) => link(reactor, address, stream, &mut pause).await,
            Err(why) => Err(why),
        };
        match ended {
            Ok(End::Closed) => {}
            Ok(End::Second { raft_id, starts }) => {
                while reactor.links.is_up(raft_id, starts) && expected(reactor, address).is_some() {
                    Timer::new(LOOK_EVERY).await;
                }
            }
            Err(why) => tell(&mut told, &name, address, why),
        }
        reactor.links.pause(&name, pause).await;
        pause = (pause * 2).min(BACK_OFF.end);
    }
    reactor.links.begun.borrow_mut().retain(|begun| begun != address);
}

/// The same trouble is told once.
fn tell(told: &mut String, name: &str, address: &str, why: String) {
    if *told != why {
        log::warn!("no connection to {name} at {address}: {why}");
        *told = why;
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    let resolved = resolve(address).await;
    let mut last = "the name has no address".to_owned();
    for address in resolved.map_err(|e| format!("the name cannot be resolved: {e}"))? {
        match TcpStream::connect_timeout(address, CONNECT_TIMEOUT).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e.to_string(),
        }
    }
    Err(last)
}

/// How a link ended that was not refused.
enum End {
    Closed,
    /// At once: there is one already to this start of this peer, or to a later one.
    Second {
        raft_id: u64,
        starts: u64,
    },
}

/// Greets, and then sends what there is to send until the connection ends.
async fn link(
    reactor: &Reactor,
    address: &str,
    stream: TcpStream,
    pause: &mut Duration,
) -> Result<End, String> {
    // A path that loses all ends no connection by itself, and TCP would try it ever more rarely: a heartbeat that is not
    // taken within an election timeout shows it.
    socket::give_up_after(&stream, reactor.settings.election_timeout().max(GIVE_UP_MIN));
    // Nothing is sent for long between two followers.
    socket::keep_alive(&stream);
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
        Ok(welcome(reactor, &mut pump, &mut decoder).await)
    });
    let peer = welcomed.await.map_err(|_| "no answer to the greeting".to_owned())??;
    if from.cluster_id != reactor.node().identity().cluster_id {
        // Joined a cluster while this greeting was under way.
        return Ok(End::Closed);
    }
    reactor.node().admits(&peer)?;
    reactor.node().wants_at(address, &peer)?;
    *pause = BACK_OFF.start;
    let Identity { raft_id, starts, .. } = peer;
    if reactor.links.is_up(raft_id, starts) {
        return Ok(End::Second { raft_id, starts });
    }
    let link = Link { starts, outbox: outbox.clone() };
    let before = reactor.links.up.borrow_mut().insert(raft_id, link);
    if let Some(before) = before {
        // To an earlier start, which is over. What waits there may be lost.
        before.outbox.kill();
        reactor.post(Input::PeerDown(raft_id));
    }
    reactor.post(Input::PeerUp(peer));
    let mut refused = None;
    while refused.is_none() && pump.next(true, |bytes| decoder.feed(bytes)).await != Event::Closed {
        refused = last_word(reactor, &mut decoder);
    }
    let up = reactor.links.up.borrow().get(&raft_id).map(|link| link.outbox.clone());
    let is_current = up.is_some_and(|up| Rc::ptr_eq(&up, &outbox));
    if is_current {
        reactor.links.up.borrow_mut().remove(&raft_id);
        reactor.post(Input::PeerDown(raft_id));
    }
    refused.map_or(Ok(End::Closed), Err)
}

/// After the welcome, only an error frame comes: the other end closes after it. What is no frame is an error too.
fn last_word(reactor: &Reactor, decoder: &mut Decoder) -> Option<String> {
    loop {
        match decoder.next_frame() {
            Ok(Some(ServerFrame { frame: Some(server_frame::Frame::Error(error)) })) => {
                return Some(heed(reactor, error));
            }
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
}

/// What the other end says against this node. That it was removed from the cluster concerns the whole node.
fn heed(reactor: &Reactor, refused: Refusal) -> String {
    if refused.code() == Code::Removed {
        reactor.post(Input::Removed(refused.message.clone()));
    }
    refused.message
}

async fn welcome(
    reactor: &Reactor,
    pump: &mut Pump,
    decoder: &mut Decoder,
) -> Result<Identity, String> {
    loop {
        match decoder.next_frame::<ServerFrame>().map_err(|e| e.to_string())? {
            Some(ServerFrame { frame: Some(server_frame::Frame::Welcome(welcome)) }) => {
                return welcome.node.ok_or_else(|| "the answer lacks an identity".to_owned());
            }
            Some(ServerFrame { frame: Some(server_frame::Frame::Error(error)) }) => {
                return Err(heed(reactor, error));
            }
            Some(_) => return Err("another answer than a welcome".to_owned()),
            None => {}
        }
        if pump.next(true, |bytes| decoder.feed(bytes)).await == Event::Closed {
            return Err("the connection was closed during the greeting".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_in_doubt_is_given_up_when_the_peer_comes() {
        glommio::LocalExecutorBuilder::default().make().unwrap().run(async {
            let links = Links::default();
            let attempts = Cell::new(0);
            let attempt = async || {
                attempts.set(attempts.get() + 1);
                if attempts.get() == 1 {
                    // Lost on the way.
                    std::future::pending::<()>().await;
                }
            };
            let reached = links.reach("b", attempt);
            let comes = async {
                glommio::yield_if_needed().await;
                links.came("a");
                links.came("b");
            };
            future::zip(reached, comes).await;
            assert_eq!(attempts.get(), 2);
            assert!(links.awaiting.borrow().is_empty());
        });
    }
}
