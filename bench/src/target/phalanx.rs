//! Phalanx's client protocol, for one thread: what the client library does, without its threads, so that many
//! connections fit one.
//!
//! A connection has a task that writes what slots have encoded and hands answers out. Slots that are woken together
//! have their requests written together: one outstanding request costs one write and one read, a pipeline fewer.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use phalanx::wire::PROTOCOL_VERSION;
use phalanx::wire::client::{
    ClientFrame, Code, Get, Hello, Op, Put, Request, Response, Role, ServerFrame, Status,
    StatusQuery, Txn, Write, client_frame, op, request, response, server_frame,
};
use phalanx::wire::frame::{self, Decoder};
use tokio::net::TcpStream;

use super::Answer;
use crate::load::workload::{KEY_LEN, Operation};

const READ_LEN: usize = 16 << 10;

/// One connection, and the task that serves it.
pub struct Connection {
    shared: Rc<RefCell<Shared>>,
    pump: tokio::task::JoinHandle<()>,
}

struct Shared {
    out: BytesMut,
    /// Of the task, which has to know of more to write.
    pump: Option<Waker>,
    places: Vec<Place>,
    /// The largest `applied` that was told.
    since: u64,
    timeout_ms: u32,
    rng: fastrand::Rng,
    failed: Option<String>,
}

#[derive(Default)]
struct Place {
    /// Of the request that is outstanding.
    id: u64,
    answer: Option<Response>,
    waker: Option<Waker>,
}

impl Connection {
    /// Connects and greets.
    pub async fn open(address: &str, depth: usize, timeout_ms: u32) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let mut shared = Shared {
            out: BytesMut::new(),
            pump: None,
            places: (0..depth).map(|_| Place::default()).collect(),
            since: 0,
            timeout_ms,
            // Ids of requests are drawn without a system call for each.
            rng: fastrand::Rng::with_seed(u64::from_ne_bytes(seed)),
            failed: None,
        };
        let mut decoder = Decoder::default();
        shared.since = greet(&stream, &mut decoder).await?;
        let shared = Rc::new(RefCell::new(shared));
        let pump = tokio::task::spawn_local(serve(stream, decoder, shared.clone()));
        Ok(Connection { shared, pump })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Says hello, and returns what the server had applied.
async fn greet(stream: &TcpStream, decoder: &mut Decoder) -> io::Result<u64> {
    let hello = Hello { version: PROTOCOL_VERSION, role: Role::Client.into(), ..Hello::default() };
    let mut out = BytesMut::new();
    frame::encode(&ClientFrame { frame: Some(client_frame::Frame::Hello(hello)) }, &mut out);
    loop {
        stream.writable().await?;
        if flush(stream, &mut out)? {
            break;
        }
    }
    loop {
        match next_frame(decoder)? {
            Some(server_frame::Frame::Welcome(welcome)) => return Ok(welcome.applied),
            Some(other) => return Err(io::Error::other(format!("no welcome but {other:?}"))),
            None => stream.readable().await?,
        }
        fill(stream, decoder)?;
    }
}

/// Writes what there is. Whether all of it was taken.
fn flush(stream: &TcpStream, out: &mut BytesMut) -> io::Result<bool> {
    while !out.is_empty() {
        match stream.try_write(out) {
            Ok(len) => out.advance(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Reads what is there. Whether there was anything.
fn fill(stream: &TcpStream, decoder: &mut Decoder) -> io::Result<bool> {
    let mut bytes = [0; READ_LEN];
    match stream.try_read(&mut bytes) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(len) => {
            decoder.feed(&bytes[..len]);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn next_frame(decoder: &mut Decoder) -> io::Result<Option<server_frame::Frame>> {
    let frame: Option<ServerFrame> = decoder.next_frame().map_err(io::Error::other)?;
    Ok(frame.and_then(|frame| frame.frame))
}

/// The connection's task, until it fails.
async fn serve(stream: TcpStream, mut decoder: Decoder, shared: Rc<RefCell<Shared>>) {
    let error = std::future::poll_fn(|cx| {
        match turn(&stream, &mut decoder, &mut shared.borrow_mut(), cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    });
    let error = error.await;
    let mut shared = shared.borrow_mut();
    shared.failed = Some(error.to_string());
    shared.places.iter_mut().filter_map(|place| place.waker.take()).for_each(Waker::wake);
}

fn turn(
    stream: &TcpStream,
    decoder: &mut Decoder,
    shared: &mut Shared,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    if !shared.pump.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        shared.pump = Some(cx.waker().clone());
    }
    while !flush(stream, &mut shared.out)? {
        match stream.poll_write_ready(cx) {
            Poll::Ready(ready) => ready?,
            Poll::Pending => break,
        }
    }
    while let Poll::Ready(ready) = stream.poll_read_ready(cx) {
        ready?;
        if fill(stream, decoder)? {
            while let Some(frame) = next_frame(decoder)? {
                shared.take(frame)?;
            }
        }
    }
    Ok(())
}

impl Shared {
    fn take(&mut self, frame: server_frame::Frame) -> io::Result<()> {
        let response = match frame {
            server_frame::Frame::Response(response) => response,
            other => return Err(io::Error::other(format!("no response but {other:?}"))),
        };
        self.since = self.since.max(response.applied);
        let count = self.places.len() as u64;
        let place = &mut self.places[(response.id % count) as usize];
        if place.id != response.id {
            return Err(io::Error::other(format!(
                "an answer to request {}, which nobody asked",
                response.id
            )));
        }
        place.answer = Some(response);
        place.waker.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn ask(&mut self, at: usize, command: request::Command) {
        let count = self.places.len() as u64;
        let place = &mut self.places[at];
        // Each place counts on in steps of their number, and knows its own ids by the rest.
        place.id = (place.id / count + 1) * count + at as u64;
        place.answer = None;
        let request = Request { id: place.id, timeout_ms: self.timeout_ms, command: Some(command) };
        frame::encode(
            &ClientFrame { frame: Some(client_frame::Frame::Request(request)) },
            &mut self.out,
        );
        self.pump.iter().for_each(Waker::wake_by_ref);
    }

    fn poll(&mut self, at: usize, cx: &mut Context<'_>) -> Poll<io::Result<Response>> {
        if let Some(response) = self.places[at].answer.take() {
            return Poll::Ready(Ok(response));
        }
        if let Some(why) = &self.failed {
            return Poll::Ready(Err(io::Error::other(why.clone())));
        }
        self.places[at].waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// One of a connection's places.
pub struct Slot {
    connection: Rc<Connection>,
    at: usize,
}

impl Slot {
    pub fn new(connection: Rc<Connection>, at: usize) -> Slot {
        Slot { connection, at }
    }

    pub async fn call(
        &mut self,
        operation: Operation,
        key: &[u8; KEY_LEN],
        value: &Bytes,
    ) -> io::Result<Answer> {
        let command = match operation {
            Operation::Put => self.put(key, value),
            Operation::Get | Operation::StaleGet => {
                let stale = operation == Operation::StaleGet;
                request::Command::Get(Get { key: Bytes::copy_from_slice(key), stale })
            }
        };
        match self.ask(command).await? {
            Some(response::Result::Error(error)) if error.code() == Code::Overloaded => {
                Ok(Answer::Refused)
            }
            Some(response::Result::Error(error)) => {
                Err(io::Error::other(format!("{}: {}", error.code().as_str_name(), error.message)))
            }
            _ => Ok(Answer::Done),
        }
    }

    /// What the node tells of itself and its cluster.
    pub async fn status(&mut self) -> io::Result<Status> {
        match self.ask(request::Command::Status(StatusQuery {})).await? {
            Some(response::Result::Status(status)) => Ok(*status),
            other => Err(io::Error::other(format!("no status but {other:?}"))),
        }
    }

    fn put(&self, key: &[u8], value: &Bytes) -> request::Command {
        let mut shared = self.connection.shared.borrow_mut();
        let request_id = shared.rng.u128(..).to_ne_bytes();
        let put = Put { key: Bytes::copy_from_slice(key), value: value.clone() };
        let txn = Txn { success: vec![Op { op: Some(op::Op::Put(put)) }], ..Txn::default() };
        let request_id = Bytes::copy_from_slice(&request_id);
        request::Command::Write(Write { request_id, since: shared.since, txn: Some(txn) })
    }

    async fn ask(&mut self, command: request::Command) -> io::Result<Option<response::Result>> {
        let shared = &self.connection.shared;
        shared.borrow_mut().ask(self.at, command);
        let response = std::future::poll_fn(|cx| shared.borrow_mut().poll(self.at, cx)).await?;
        Ok(response.result)
    }
}
