//! Many clients of a server that knows every answer: Phalanx's protocol, and nothing behind it. One thread on the core that
//! the leader has, one system call to wait, and for each request one to read it and one to answer.
//!
//! What one thread that answers each request by itself can do here, if it does nothing else; what is left of the processor's time
//! is what a store, a log and followers have to share.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::BytesMut;
use phalanx::wire::PROTOCOL_VERSION;
use phalanx::wire::client::{
    ClientFrame, GetResult, KeyValue, Response, ServerFrame, TxnResult, Welcome, client_frame,
    request, response, server_frame,
};
use phalanx::wire::frame::{self, Decoder};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::{Core, pin};
use crate::load::outcome::Outcome;
use crate::load::workload::{Distribution, Extent, Mix, Operation, Pace, Workload};
use crate::load::{self, Options};
use crate::target::Target;

const READ_LEN: usize = 16 << 10;
const EVENTS_MAX: usize = 256;

/// So many clients, as the comparison has.
const CLIENTS: usize = 64;
const VALUE_LEN_BYTES: usize = 256;
static VALUE: &[u8] = &[1; VALUE_LEN_BYTES];

/// What such clients get of such a server, in so long.
pub fn ask(operation: Operation, core: Core, duration: Duration) -> io::Result<Outcome> {
    let (address, server) = start(CLIENTS, core)?;
    let workload = Workload {
        mix: Mix::parse(operation.name()).expect("the name of an operation is a mix"),
        clients: CLIENTS,
        depth: 1,
        pace: Pace::Closed,
        extent: Extent::Time { warm_up: duration / 5, counted: duration * 4 / 5 },
        keys: 10_000,
        distribution: Distribution::Uniform,
        value_len_bytes: VALUE_LEN_BYTES,
    };
    let outcome = load::run(&workload, &Options::new(Target::Phalanx, vec![address.to_string()]));
    if outcome.is_err() && !server.is_finished() {
        // It waits for clients that do not come any more, and ends with this process.
        return outcome;
    }
    // Why it failed comes first: its clients see only the end of their connections.
    server.join().expect("no panic in the server")?;
    outcome
}

/// Starts the server, which serves that many clients to their ends.
fn start(clients: usize, core: Core) -> io::Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serve = move || {
        pin(core)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, listener.as_fd(), EventData::new_u64(LISTENER), EventFlags::IN)?;
        Server { epoll, listener, awaited: clients, connections: HashMap::new() }.run()
    };
    Ok((address, thread::spawn(serve)))
}

/// The number of the listener among those of the connections.
const LISTENER: u64 = u64::MAX;

struct Server {
    epoll: rustix::fd::OwnedFd,
    listener: TcpListener,
    /// Clients that are still to come.
    awaited: usize,
    connections: HashMap<u64, Connection>,
}

struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    out: BytesMut,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while self.awaited > 0 || !self.connections.is_empty() {
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.admit()?,
                    number => self.serve(number)?,
                }
            }
        }
        Ok(())
    }

    fn admit(&mut self) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.awaited = self.awaited.saturating_sub(1);
        let number = self.awaited as u64;
        epoll::add(&self.epoll, stream.as_fd(), EventData::new_u64(number), EventFlags::IN)?;
        let connection = Connection { stream, decoder: Decoder::default(), out: BytesMut::new() };
        self.connections.insert(number, connection);
        Ok(())
    }

    fn serve(&mut self, number: u64) -> io::Result<()> {
        let connection = self.connections.get_mut(&number).expect("it is watched");
        if !connection.serve()? {
            self.connections.remove(&number);
        }
        Ok(())
    }
}

impl Connection {
    /// Answers what is there. False at the end of the connection.
    fn serve(&mut self) -> io::Result<bool> {
        let mut bytes = [0; READ_LEN];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            // A generator that is done just goes.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
            read => self.decoder.feed(&bytes[..read?]),
        }
        while let Some(ClientFrame { frame }) =
            self.decoder.next_frame().map_err(io::Error::other)?
        {
            frame::encode(&ServerFrame { frame: Some(answer(frame)?) }, &mut self.out);
        }
        // So little always finds room: each client waits for its answer.
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(true)
    }
}

fn answer(frame: Option<client_frame::Frame>) -> io::Result<server_frame::Frame> {
    let request = match frame {
        Some(client_frame::Frame::Request(request)) => request,
        Some(client_frame::Frame::Hello(_)) => {
            let welcome = Welcome { version: PROTOCOL_VERSION, ..Welcome::default() };
            return Ok(server_frame::Frame::Welcome(welcome));
        }
        None => return Err(io::Error::other("the generator sent a frame of no kind")),
    };
    let result = match request.command {
        Some(request::Command::Get(get)) => response::Result::Get(GetResult {
            kv: Some(KeyValue { key: get.key, value: VALUE.into(), ..KeyValue::default() }),
        }),
        _ => response::Result::Txn(TxnResult { succeeded: true, ..TxnResult::default() }),
    };
    Ok(server_frame::Frame::Response(Response {
        id: request.id,
        result: Some(result),
        ..Response::default()
    }))
}
