//! Connections to the peers: one to each, opened here, on which this node sends. What a peer has to say comes on the
//! connection that it opens itself.
//!
//! Each address at which the node wants a peer has a task; it ends when the address is wanted no longer. Who is at an
//! address is known when it answers. A peer that is found at two addresses keeps the link that came up first, and the
//! second task waits for the end of it. One that is found where another is wanted that is known, and is wanted elsewhere, is let
//! go.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
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
/// Longer than any round trip: an attempt at an address that lasts longer was most likely lost on the way, because the peer's
/// machine was not there yet. TCP asks again only after a second, and then after two; a resolver after five.
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

/// How often a peer has come to this node by itself since a link to it is wanted.
#[derive(Default)]
struct Arrivals {
    count: u64,
    /// Of the tasks that wait for the next time: one for each address of the peer, at most.
    awaited_by: Vec<Waker>,
}

/// The links that are up, by the raft id that answered.
#[derive(Default)]
pub(super) struct Links {
    up: RefCell<HashMap<u64, Link>>,
    /// The addresses that a task keeps a link to.
    begun: RefCell<Vec<String>>,
    /// There may be more addresses since the last look.
    is_told_to_look: Cell<bool>,
    /// Of the task that looks.
    looking: Cell<Option<Waker>>,
    /// Of those that links are wanted to, by their names.
    arrivals: RefCell<HashMap<String, Arrivals>>,
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
    pub fn note_arrival(&self, name: &str) {
        // Whom no link is wanted to, nobody waits for.
        if let Some(arrivals) = self.arrivals.borrow_mut().get_mut(name) {
            arrivals.count += 1;
            arrivals.awaited_by.drain(..).for_each(Waker::wake);
        }
    }

    /// How often the peer has come.
    fn count_arrivals(&self, name: &str) -> u64 {
        self.arrivals.borrow_mut().entry(name.to_owned()).or_default().count
    }

    /// Waits until the peer has come since that was `before`. (A count that begins anew, as of a peer that was not wanted for a
    /// while, is taken for an arrival: that costs one early attempt.)
    async fn arrival(&self, name: &str, before: u64) {
        poll_fn(|cx| {
            let mut arrivals = self.arrivals.borrow_mut();
            let arrivals = arrivals.entry(name.to_owned()).or_default();
            if arrivals.count != before {
                return Poll::Ready(());
            }
            if !arrivals.awaited_by.iter().any(|waker| waker.will_wake(cx.waker())) {
                arrivals.awaited_by.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// What a lookup or an attempt to connect gives; `None` if it is [in doubt](CONNECT_DOUBTED) and the peer has come.
    async fn unless_lost<T>(
        &self,
        name: &str,
        before: u64,
        attempt: impl Future<Output = T>,
    ) -> Option<T> {
        let ended = async { Some(attempt.await) };
        let is_lost = async {
            future::zip(Timer::new(CONNECT_DOUBTED), self.arrival(name, before)).await;
            None
        };
        future::or(ended, is_lost).await
    }

    /// Waits before the next attempt: for `pause`, or less if the peer comes, or has come since `before`.
    async fn pause(&self, name: &str, before: u64, pause: Duration) {
        // In any case a little: two nodes that lose each other's links must not chase each other.
        Timer::new(BACK_OFF.start).await;
        let over = async {
            Timer::new(pause.saturating_sub(BACK_OFF.start)).await;
        };
        future::or(self.arrival(name, before), over).await;
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
        let is_wanted = |name: &String| targets.iter().any(|target| target.name == *name);
        reactor.links.arrivals.borrow_mut().retain(|name, _| is_wanted(name));
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
        let before = reactor.links.count_arrivals(&name);
        let ended = match connect(&reactor.links, &name, before, address).await {
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
        reactor.links.pause(&name, before, pause).await;
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

/// Looks up the peer's addresses. The name of one that is away may be unknown to the nearest name server, which then asks others
/// and waits for them, though it knows it by now: so a lookup that is in doubt when the peer comes is made again. What either
/// finds holds; an error of the second ends both.
async fn look_up<A, L: Future<Output = io::Result<A>>>(
    links: &Links,
    name: &str,
    before: u64,
    lookup: impl Fn() -> L,
) -> io::Result<A> {
    let mut first = pin!(lookup());
    if let Some(answer) = links.unless_lost(name, before, &mut first).await {
        return answer;
    }
    let found_first = async {
        match first.await {
            Ok(addresses) => Ok(addresses),
            // Of the time in which the peer was away.
            Err(_) => pending().await,
        }
    };
    future::or(lookup(), found_first).await
}

/// Tries one address of the peer after the other.
async fn connect(
    links: &Links,
    name: &str,
    before: u64,
    address: &str,
) -> Result<TcpStream, String> {
    let resolved = look_up(links, name, before, || resolve(address)).await;
    let mut last = "the name has no address".to_owned();
    for address in resolved.map_err(|e| format!("the name cannot be resolved: {e}"))? {
        let attempt = TcpStream::connect_timeout(address, CONNECT_TIMEOUT);
        match links.unless_lost(name, before, attempt).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(e)) => last = e.to_string(),
            None => last = "no answer, though it has come by itself".to_owned(),
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
    use futures_lite::FutureExt;

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        glommio::LocalExecutorBuilder::default().make().unwrap().run(test)
    }

    #[test]
    fn an_attempt_is_lost_if_the_peer_has_come_meanwhile() {
        run(async {
            let links = Links::default();
            let before = links.count_arrivals("b");
            let mut lost = pin!(links.unless_lost("b", before, pending::<()>()));
            links.note_arrival("a");
            assert!(future::poll_once(&mut lost).await.is_none());
            links.note_arrival("b");
            assert_eq!(lost.await, None);
            assert_eq!(links.unless_lost("b", before, async { 7 }).await, Some(7));
        });
    }

    /// Looks up "b" twice, of which the first takes until the second is made, and gives what is found.
    fn found(first: io::Result<u32>, second: impl Future<Output = io::Result<u32>>) -> u32 {
        run(async {
            let links = Links::default();
            let before = links.count_arrivals("b");
            let made = Cell::new(0);
            let (first, second) = (Cell::new(Some(first)), Cell::new(Some(second)));
            let lookup = || {
                made.set(made.get() + 1);
                match made.get() {
                    1 => async {
                        poll_fn(|_| if made.get() == 2 { Poll::Ready(()) } else { Poll::Pending })
                            .await;
                        first.take().expect("it is polled to its end once")
                    }
                    .boxed_local(),
                    _ => second.take().expect("two are made").boxed_local(),
                }
            };
            links.note_arrival("b");
            look_up(&links, "b", before, lookup).await.unwrap()
        })
    }

    #[test]
    fn a_lookup_in_doubt_is_made_again_when_the_peer_has_come() {
        let unknown = || Err(io::Error::other("unknown"));
        assert_eq!(found(Ok(1), pending()), 1);
        let later = async {
            future::yield_now().await;
            Ok(2)
        };
        assert_eq!(found(unknown(), later), 2);
    }

    /// Before the first poll, too, and for both of its addresses.
    #[test]
    fn whoever_waits_for_a_peer_hears_of_its_arrival() {
        run(async {
            let links = Links::default();
            let before = links.count_arrivals("b");
            let [mut one, mut two] = [(); 2].map(|()| Box::pin(links.arrival("b", before)));
            assert!(future::poll_once(&mut one).await.is_none());
            links.note_arrival("b");
            future::zip(&mut one, &mut two).await;
            let mut next = pin!(links.arrival("b", before + 1));
            assert!(future::poll_once(&mut next).await.is_none(), "each arrival counts once");
            assert_eq!(links.arrivals.borrow()["b"].awaited_by.len(), 1);
            assert!(future::poll_once(&mut next).await.is_none());
            assert_eq!(links.arrivals.borrow()["b"].awaited_by.len(), 1);
        });
    }
}
