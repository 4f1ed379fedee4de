//! Connections that others open: clients' and peers', told apart by their first frame.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;

use super::door::Door;
use super::pump::{Event, Outbox, Pump, linger};
use super::reactor::{Input, Reactor};
use super::socket;
use crate::error::refusal;
use crate::limits::{
    CLIENT_REPLIES_LEN_MAX, CLIENT_STALL_MAX, CLIENT_UNSENT_MAX, CLIENTS_MAX,
    DESCRIPTORS_NOT_FOR_CLIENTS, HELLO_TIMEOUT, PEER_INBOUND_MAX, REQUESTS_PER_CLIENT_MAX,
};
use crate::node::{ConnectionId, without_room};
use crate::wire::client::{
    ClientFrame, Code, Error as Refusal, Hello, Identity, Role, ServerFrame, client_frame,
    server_frame,
};
use crate::wire::frame::{Decoder, FrameError};
use crate::wire::peer::PeerFrame;

/// A connection that was accepted.
pub(super) struct Client {
    outbox: Rc<Outbox>,
    since: Instant,
    greeted: Cell<bool>,
    /// The raft id that a peer greeted with.
    peer: Cell<Option<u64>>,
    /// Requests that are not answered yet.
    in_flight: Cell<usize>,
}

impl Client {
    /// Sends the answer to a request, or that there is no room for it.
    pub fn reply(&self, mut frame: ServerFrame) {
        self.in_flight.set(self.in_flight.get() - 1);
        if self.outbox.unsent_len() > CLIENT_REPLIES_LEN_MAX
            && let Some(server_frame::Frame::Response(response)) = &mut frame.frame
        {
            *response = without_room(response);
        }
        self.outbox.send(&frame);
    }

    pub fn unsent_len(&self) -> usize {
        self.outbox.unsent_len()
    }

    /// Ends it if it is that peer's.
    pub fn close_if_from(&self, raft_id: u64) {
        if self.peer.get() == Some(raft_id) {
            self.outbox.close();
        }
    }

    fn refuse(&self, refused: Refusal) {
        self.outbox.send(&ServerFrame { frame: Some(server_frame::Frame::Error(refused)) });
        self.outbox.close();
    }

    /// Whether more may be taken from it: it takes its answers, and has not too many under way.
    fn may_ask(&self) -> bool {
        self.in_flight.get() < REQUESTS_PER_CLIENT_MAX
            && self.outbox.unsent_len() < CLIENT_UNSENT_MAX
    }

    /// Ends it if it says nothing or takes nothing.
    fn check_overdue(&self, now: Instant) {
        let mute = !self.greeted.get() && now >= self.since + HELLO_TIMEOUT;
        if mute && !self.outbox.is_closing() {
            let seconds = HELLO_TIMEOUT.as_secs();
            let message = format!("no hello came within {seconds} s: a client speaks first");
            self.refuse(refusal(Code::Timeout, message));
        }
        if self.outbox.stalled_since().is_some_and(|since| now >= since + CLIENT_STALL_MAX) {
            self.outbox.kill();
        }
    }
}

/// Accepts connections for ever.
pub(super) async fn accept(reactor: Rc<Reactor>, listener: TcpListener) {
    let mut door = Door::new(listener, DESCRIPTORS_NOT_FOR_CLIENTS, 2);
    loop {
        let stream = door.next().await;
        admit(&reactor, stream);
    }
}

fn admit(reactor: &Rc<Reactor>, stream: TcpStream) {
    let connection = reactor.next_connection();
    let client = Rc::new(Client {
        outbox: Rc::default(),
        since: Instant::now(),
        greeted: Cell::new(false),
        peer: Cell::new(None),
        in_flight: Cell::new(0),
    });
    socket::keep_alive(&stream);
    // Peers have places of their own: who is who is known by the hello.
    if reactor.clients.borrow().len() >= CLIENTS_MAX + PEER_INBOUND_MAX {
        client.refuse(too_many());
    }
    reactor.clients.borrow_mut().insert(connection, client.clone());
    let reactor = reactor.clone();
    glommio::spawn_local(async move {
        let gone = match serve(&reactor, connection, &client, stream).await {
            Some(peer) => Input::PeerGone(peer),
            None => Input::ClientGone(connection),
        };
        reactor.post(gone);
        reactor.clients.borrow_mut().remove(&connection);
    })
    .detach();
}

/// Ends connections that say nothing or take nothing, once a second.
pub(super) async fn sweep(reactor: Rc<Reactor>) {
    loop {
        Timer::new(Duration::from_secs(1)).await;
        let now = Instant::now();
        reactor.clients.borrow().values().for_each(|client| client.check_overdue(now));
    }
}

/// What the frames of a connection are.
enum Speaker {
    Unknown,
    Client,
    Peer(Arc<Identity>),
}

/// Serves a connection to its end. Gives the peer that had opened it, if it was one.
async fn serve(
    reactor: &Reactor,
    connection: ConnectionId,
    client: &Rc<Client>,
    stream: TcpStream,
) -> Option<Arc<Identity>> {
    let mut decoder = Decoder::default();
    let mut pump = Pump::new(stream, client.outbox.clone());
    let mut speaker = Speaker::Unknown;
    loop {
        if let Err(refused) = take_frames(reactor, connection, client, &mut decoder, &mut speaker) {
            reactor.protocol_errors.set(reactor.protocol_errors.get() + 1);
            client.refuse(refused);
        }
        let read = client.may_ask() && !client.outbox.is_closing();
        if pump.next(read, |bytes| decoder.feed(bytes)).await == Event::Closed {
            if client.outbox.is_closing() {
                linger(&mut pump.stream).await;
            }
            return match speaker {
                Speaker::Peer(from) => Some(from),
                Speaker::Unknown | Speaker::Client => None,
            };
        }
    }
}

/// Takes what the decoder has, as far as the connection may ask.
fn take_frames(
    reactor: &Reactor,
    connection: ConnectionId,
    client: &Client,
    decoder: &mut Decoder,
    speaker: &mut Speaker,
) -> Result<(), Refusal> {
    while client.may_ask() && !client.outbox.is_closing() {
        if let Speaker::Peer(from) = speaker {
            let Some(frame) = decoder.next_frame::<PeerFrame>().map_err(protocol_error)? else {
                return Ok(());
            };
            reactor.post(Input::PeerFrame(from.clone(), frame));
            continue;
        }
        let Some(ClientFrame { frame }) = decoder.next_frame().map_err(protocol_error)? else {
            return Ok(());
        };
        match (frame, &speaker) {
            (Some(client_frame::Frame::Hello(hello)), Speaker::Unknown) => {
                *speaker = greet(reactor, client, hello)?;
            }
            (Some(client_frame::Frame::Request(request)), Speaker::Client) => {
                client.in_flight.set(client.in_flight.get() + 1);
                reactor.post(Input::Request(connection, request));
            }
            (Some(client_frame::Frame::Request(_)), _) => {
                return Err(refusal(Code::Invalid, "a request before the hello"));
            }
            (Some(client_frame::Frame::Hello(_)), _) => {
                return Err(refusal(Code::Invalid, "a second hello"));
            }
            (None, _) => {
                return Err(refusal(
                    Code::Invalid,
                    "a frame of a kind that this version does not know",
                ));
            }
        }
    }
    Ok(())
}

fn too_many() -> Refusal {
    refusal(Code::Overloaded, format!("this node has {CLIENTS_MAX} connections: retry later"))
}

fn greet(reactor: &Reactor, client: &Client, hello: Hello) -> Result<Speaker, Refusal> {
    if hello.role() != Role::Peer && reactor.clients.borrow().len() > CLIENTS_MAX {
        return Err(too_many());
    }
    let welcome = reactor.node_mut().greet(&hello)?;
    client.greeted.set(true);
    client.outbox.send(&ServerFrame { frame: Some(server_frame::Frame::Welcome(welcome)) });
    Ok(match (hello.role(), hello.from) {
        (Role::Peer, Some(from)) => {
            client.peer.set(Some(from.raft_id));
            reactor.links.note_arrival(&from.name);
            Speaker::Peer(Arc::new(from))
        }
        _ => Speaker::Client,
    })
}

fn protocol_error(error: FrameError) -> Refusal {
    refusal(Code::Invalid, error.to_string())
}
