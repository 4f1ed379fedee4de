//! A connection on the level of the protocol: it can send what the client library would not.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use phalanx::client::op;
use phalanx::wire::PROTOCOL_VERSION;
use phalanx::wire::client::{
    ClientFrame, Code, Error as Refusal, Get, Hello, Op, Request, Response, Role, ServerFrame, Txn,
    Welcome, Write, client_frame, request::Command, response, server_frame::Frame,
};
use phalanx::wire::frame::{self, Decoder};

use crate::harness::{Node, SOON, wait_for, wait_until};
use crate::is_end;

/// See the [module](self).
pub struct Wire {
    pub stream: TcpStream,
    decoder: Decoder,
}

impl Wire {
    /// A connection on which nothing was said yet.
    pub fn open(address: &str) -> Wire {
        let stream = TcpStream::connect(address).expect("the node accepts connections");
        stream.set_read_timeout(Some(SOON)).expect("it is a valid timeout");
        stream.set_nodelay(true).expect("it is a TCP socket");
        Wire { stream, decoder: Decoder::default() }
    }

    /// A client's connection, greeted.
    pub fn greeted(address: &str) -> Wire {
        let mut wire = Wire::open(address);
        wire.greet(client_hello()).expect("the node greets a client");
        wire
    }

    /// Sends a hello; gives the node's answer.
    pub fn greet(&mut self, hello: Hello) -> Result<Welcome, Refusal> {
        self.send(client_frame::Frame::Hello(hello));
        match self.next() {
            Some(Frame::Welcome(welcome)) => Ok(welcome),
            Some(Frame::Error(refusal)) => Err(refusal),
            other => panic!("no answer to a hello: {other:?}"),
        }
    }

    pub fn send(&mut self, frame: client_frame::Frame) {
        self.send_bytes(&encode(frame));
    }

    /// Sends them, as far as the node takes them: it may end the connection before the last.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(e) if !is_end(&e) => panic!("the node does not take what it is sent: {e}"),
            _ => {}
        }
    }

    pub fn request(&mut self, id: u64, command: Command) {
        self.send(request(id, command));
    }

    /// The next frame; `None` when the node has closed the connection. Panics if neither comes.
    pub fn next(&mut self) -> Option<Frame> {
        let mut bytes = [0; 64 * 1024];
        loop {
            let frame = self.decoder.next_frame::<ServerFrame>().expect("nodes send frames");
            if let Some(ServerFrame { frame }) = frame {
                return Some(frame.expect("nodes send frames of a known kind"));
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(len) => self.decoder.feed(&bytes[..len]),
                Err(e) if is_end(&e) => return None,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => panic!("neither a frame nor an end: {e}"),
            }
        }
    }

    /// The answer to a request.
    pub fn response(&mut self) -> Response {
        match self.next() {
            Some(Frame::Response(response)) => response,
            other => panic!("no answer to a request: {other:?}"),
        }
    }

    /// The answer to a request, which is sent until it has one: a node refuses what it could not confirm in time, and on a
    /// slow disk that may be anything. A write is the same one each time.
    pub fn answer(&mut self, id: u64, command: Command) -> Response {
        wait_for("an answer in time", SOON, || {
            self.request(id, command.clone());
            Some(self.response()).filter(|response| !is_late(response))
        })
    }

    /// The refusal of the only request in flight.
    pub fn refusal(&mut self) -> Refusal {
        match self.response().result {
            Some(response::Result::Error(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The error with which the node ends the connection.
    pub fn ended_with(&mut self) -> Refusal {
        let Some(Frame::Error(refusal)) = self.next() else { panic!("closed without a word") };
        assert_eq!(self.next(), None, "the node closes the connection after an error");
        refusal
    }
}

/// Whether the node did not find out in time whether it could do what it was asked.
fn is_late(response: &Response) -> bool {
    matches!(&response.result, Some(response::Result::Error(refused))
        if [Code::NoQuorum, Code::Timeout].contains(&refused.code()))
}

pub fn client_hello() -> Hello {
    Hello { version: PROTOCOL_VERSION, role: Role::Client.into(), ..Hello::default() }
}

pub fn encode(frame: client_frame::Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame::encode(&ClientFrame { frame: Some(frame) }, &mut bytes);
    bytes
}

pub fn request(id: u64, command: Command) -> client_frame::Frame {
    client_frame::Frame::Request(Request { id, timeout_ms: 0, command: Some(command) })
}

/// A write of these operations.
pub fn write(success: Vec<Op>) -> Command {
    let request_id = Bytes::from(fastrand::u128(..).to_be_bytes().to_vec());
    let txn = Some(Txn { success, ..Txn::default() });
    // Who writes more than is remembered sets it to what was last answered.
    Command::Write(Write { request_id, since: 0, txn })
}

pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Command {
    write(vec![op::put(key, value)])
}

pub fn get(key: impl AsRef<[u8]>) -> Command {
    Command::Get(Get { key: Bytes::copy_from_slice(key.as_ref()), stale: false })
}

/// Another client of a node, which pipelines writes on one connection all the time. It fails if that connection ends or any of
/// its requests is refused, but for those that the node's disk held up: it sends them again.
pub struct Bystander<'a> {
    node: &'a Node,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    /// Gives how many requests were late.
    thread: JoinHandle<u64>,
}

impl Bystander<'_> {
    const IN_FLIGHT: u64 = 16;

    /// Starts it, and waits until it is at work.
    pub fn start(node: &Node) -> Bystander<'_> {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counted, wire) = (stop.clone(), done.clone(), Wire::greeted(&node.address));
        let thread = std::thread::spawn(move || pipeline(wire, &stopped, &counted));
        let bystander = Bystander { node, stop, done, thread };
        bystander.wait_for_progress();
        bystander
    }

    /// Waits until it has got further, and ends it. Panics if it was disturbed.
    pub fn finish(self) {
        self.wait_for_progress();
        self.stop.store(true, Ordering::Relaxed);
        let late = self.thread.join().expect("the bystander was not disturbed");
        let is_slow = self.node.log().contains("a write to the log took");
        assert!(
            late == 0 || is_slow,
            "{late} requests of a bystander were late, and not for the disk"
        );
    }

    fn wait_for_progress(&self) {
        let further = self.done.load(Ordering::Relaxed) + 2 * Self::IN_FLIGHT;
        wait_until("the bystander gets further", SOON, || {
            self.thread.is_finished() || self.done.load(Ordering::Relaxed) >= further
        });
    }
}

fn pipeline(mut wire: Wire, stopped: &AtomicBool, done: &AtomicU64) -> u64 {
    let (mut sent, mut since, mut late) = (0, 0, 0);
    let mut in_flight = BTreeMap::new();
    while !stopped.load(Ordering::Relaxed) {
        while sent < done.load(Ordering::Relaxed) + Bystander::IN_FLIGHT {
            sent += 1;
            let mut command = put(format!("bystander/{}", sent % 100), "value");
            if let Command::Write(write) = &mut command {
                write.since = since;
            }
            in_flight.insert(sent, command.clone());
            wire.request(sent, command);
        }
        let response = wire.response();
        if is_late(&response) {
            late += 1;
            wire.request(response.id, in_flight[&response.id].clone());
            continue;
        }
        since = since.max(response.applied);
        let is_done = matches!(response.result, Some(response::Result::Txn(_)));
        assert!(is_done, "a bystander was disturbed: {response:?}");
        in_flight.remove(&response.id);
        done.fetch_add(1, Ordering::Relaxed);
    }
    late
}
