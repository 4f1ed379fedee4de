//! One connection: opening it, writing frames to it. Reading is [`super::core`]'s reader thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::limits::{CLIENT_BACKOFF_MAX, WRITE_LEN_MAX};
use crate::wire::PROTOCOL_VERSION;
use crate::wire::client::{
    ClientFrame, Code, Error as Refusal, Hello, Role, ServerFrame, Welcome, client_frame,
    server_frame::Frame,
};
use crate::wire::frame::{self, Decoder};

/// How much is read at once.
const READ_LEN: usize = 64 * 1024;

/// The writing half of a connection, and the means to end it.
#[derive(Debug)]
pub(super) struct Link {
    /// Counts the client's connections: tells the answers of one from those of another.
    pub epoch: u64,
    /// host:port of the other end.
    pub address: String,
    pub opened_at: Instant,
    stream: TcpStream,
    /// Frames under construction. The lock also keeps them whole on the wire.
    writer: Mutex<BytesMut>,
}

/// The reading half.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: TcpStream,
    decoder: Decoder,
    buffer: Box<[u8]>,
    /// How long an answer may take, as the caller said.
    patience: Duration,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct ConnectError {
    pub message: String,
    /// The node understood and will not have this client, now or later.
    pub refused: Option<Refusal>,
}

impl Link {
    /// Writes frames; blocks while the other end does not take them. A failure ends the connection,
    /// which the reader notices: what was not sent whole is retried by whoever owns the calls.
    pub fn send<'a>(&self, frames: impl IntoIterator<Item = &'a ClientFrame>) {
        // A poisoned buffer is only bytes of a connection that is about to be closed.
        let mut buffer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.clear();
        for frame in frames {
            frame::encode(frame, &mut buffer);
        }
        if (&self.stream).write_all(&buffer).is_err() {
            self.close();
        }
        if buffer.capacity() > WRITE_LEN_MAX {
            *buffer = BytesMut::new();
        }
    }

    /// Whether it is old enough to be left because its node refuses: the node may be cut off from the
    /// others. Where all refuse, during an election, hurrying from node to node helps no one.
    pub fn is_settled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened_at) > CLIENT_BACKOFF_MAX
    }

    /// Ends the connection, both ways. Wakes its reader and any blocked writer.
    pub fn close(&self) {
        // Fails if the connection is gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Incoming {
    /// How long to wait for bytes from now on: `grace` longer than is told.
    pub fn set_patience(&mut self, patience: Duration, grace: Duration) -> io::Result<()> {
        self.patience = patience;
        self.stream.set_read_timeout(Some(patience + grace))
    }

    /// The next frame; blocks until it is there. The error is the end of the connection.
    pub fn next(&mut self) -> Result<Frame, String> {
        loop {
            match self.decoder.next_frame::<ServerFrame>() {
                Ok(Some(ServerFrame { frame: Some(frame) })) => return Ok(frame),
                // A kind of frame from a later version: ignored, as unknown fields are.
                Ok(Some(ServerFrame { frame: None })) => continue,
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err("the connection was closed".to_owned()),
                Ok(len) => self.decoder.feed(&self.buffer[..len]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(told(&e, self.patience)),
            }
        }
    }
}

/// What went wrong, in words: that the time is up has a name of the system's own, which says something else.
fn told(error: &io::Error, patience: Duration) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("no answer within {:?}", Duration::from_millis(patience.as_millis() as u64))
        }
        _ => error.to_string(),
    }
}

/// Connects to `address` and introduces itself, both within `timeout`.
pub(super) fn open(
    address: &str,
    cluster_id: Bytes,
    epoch: u64,
    timeout: Duration,
) -> Result<(Link, Incoming, Welcome), ConnectError> {
    let failed = |e: io::Error| {
        let message = format!("cannot connect to {address}: {}", told(&e, timeout));
        ConnectError { message, refused: None }
    };
    let stream = dial(address, timeout).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    // A node that takes no bytes for so long is hung: writing fails, and the connection with it.
    stream.set_write_timeout(Some(timeout)).map_err(failed)?;
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    let reading = stream.try_clone().map_err(failed)?;

    let link = Link {
        epoch,
        address: address.to_owned(),
        opened_at: Instant::now(),
        stream,
        writer: Mutex::default(),
    };
    let hello = Hello {
        version: PROTOCOL_VERSION,
        role: Role::Client.into(),
        cluster_id,
        ..Hello::default()
    };
    link.send([&client_frame::Frame::Hello(hello).into()]);
    let buffer = vec![0; READ_LEN].into_boxed_slice();
    let decoder = Decoder::default();
    let mut incoming = Incoming { stream: reading, decoder, buffer, patience: timeout };
    let welcome = welcome(address, incoming.next())?;
    link.stream.set_read_timeout(None).map_err(failed)?;
    Ok((link, incoming, welcome))
}

/// Tries each address that the name resolves to.
fn dial(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name resolves to no address");
    for resolved in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&resolved, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn welcome(address: &str, first: Result<Frame, String>) -> Result<Welcome, ConnectError> {
    let wrong = |message: String| ConnectError { message, refused: None };
    match first {
        Ok(Frame::Welcome(welcome)) if welcome.version == PROTOCOL_VERSION => Ok(welcome),
        Ok(Frame::Welcome(welcome)) => Err(wrong(format!(
            "{address} speaks version {} of the protocol, this client {PROTOCOL_VERSION}: update the older one",
            welcome.version
        ))),
        Ok(Frame::Error(refusal)) => Err(ConnectError {
            message: format!("{address} refused the connection: {}", refusal.message),
            refused: matches!(refusal.code(), Code::WrongCluster | Code::Invalid)
                .then_some(refusal),
        }),
        Ok(Frame::Response(_)) => {
            Err(wrong(format!("{address} answered before it was asked: is it a Phalanx node?")))
        }
        Err(what) => Err(wrong(format!("cannot connect to {address}: {what}"))),
    }
}
