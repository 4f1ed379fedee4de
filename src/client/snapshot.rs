//! Reading all of the store as of one revision, for a backup: on a connection of its own, for it takes long, and only the
//! node that began it can go on.

use std::time::Duration;

use bytes::Bytes;

use super::connection::{self, Incoming, Link};
use super::{Client, Error, Options, Result};
use crate::wire::client::{
    ClientFrame, Code, Error as Refusal, ReadSnapshot, Request, SnapshotChunk, client_frame,
    request::Command, response::Result as Answer, server_frame::Frame,
};
use crate::wire::snapshot::Chunk;

/// An answer is waited for longer than the node may take: its own word of what went wrong is the better one.
const GRACE: Duration = Duration::from_secs(1);

/// A snapshot that a node keeps open for this client until it is dropped, or read to its end.
#[derive(Debug)]
pub struct Snapshot {
    link: Link,
    incoming: Incoming,
    timeout: Duration,
    /// As the node calls it; 0 before it has said so.
    id: u64,
    /// The chunk that comes next.
    number: u64,
    /// A chunk that came, and was not given out yet.
    first: Option<Chunk>,
    is_over: bool,
}

/// Why there is no chunk.
enum Failure {
    /// The node is of no use for this. Another may be.
    Node(String),
    Refused(Refusal),
}

impl Failure {
    /// Whether another node may do what this one does not.
    fn is_local(&self) -> bool {
        !matches!(self, Failure::Refused(refused) if refused.code() == Code::Invalid)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Refused(refused) if refused.code() == Code::Invalid => refused.into(),
            Failure::Refused(refused) => Error::unavailable(refused.message),
            Failure::Node(cause) => Error::unavailable(cause),
        }
    }
}

impl Client {
    /// Opens a snapshot of the whole store at the first node that gives one. Its revision is at least that of every write
    /// acknowledged before. Each chunk may take as long as a request.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let core = &self.handle.core;
        let mut last = None;
        for address in core.endpoints() {
            match Snapshot::open(address, &core.options) {
                Ok(snapshot) => return Ok(snapshot),
                Err(failure) if !failure.is_local() => return Err(failure.into()),
                Err(failure) => last = Some(failure),
            }
        }
        let none = || Error::unavailable("there is no node to ask");
        Err(last.map_or_else(none, Error::from))
    }
}

impl Snapshot {
    fn open(address: &str, options: &Options) -> std::result::Result<Snapshot, Failure> {
        // A node that is well greets at once, whatever the snapshot will take.
        let opened = connection::open(address, Bytes::new(), 0, options.attempt_timeout);
        let (link, mut incoming, _) = opened.map_err(|error| match error.refused {
            Some(refused) => Failure::Refused(refused),
            None => Failure::Node(error.message),
        })?;
        let timeout = options.timeout;
        let timed = incoming.set_patience(timeout, GRACE);
        timed.map_err(|e| Failure::Node(format!("cannot wait for {address}: {e}")))?;
        let mut snapshot =
            Snapshot { link, incoming, timeout, id: 0, number: 0, first: None, is_over: false };
        snapshot.first = Some(snapshot.ask()?);
        Ok(snapshot)
    }

    /// The next chunk, the first of which has the header; `None` after the last.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        if self.is_over {
            return Ok(None);
        }
        let chunk = match self.first.take() {
            Some(first) => first,
            None => self.ask()?,
        };
        self.number += 1;
        self.is_over = chunk.is_last;
        Ok(Some(chunk))
    }

    fn ask(&mut self) -> std::result::Result<Chunk, Failure> {
        let (snapshot, number) = (self.id, self.number);
        let request = Request {
            id: number + 1,
            timeout_ms: u32::try_from(self.timeout.as_millis()).unwrap_or(u32::MAX),
            command: Some(Command::ReadSnapshot(ReadSnapshot { snapshot, number })),
        };
        self.link.send([&ClientFrame { frame: Some(client_frame::Frame::Request(request)) }]);
        let lost =
            |what: &str| format!("the snapshot from {} broke off: {what}", self.link.address);
        match self.incoming.next() {
            Ok(Frame::Response(response)) if response.id == number + 1 => match response.result {
                Some(Answer::SnapshotChunk(SnapshotChunk { snapshot, chunk: Some(chunk) })) => {
                    self.id = snapshot;
                    Ok(chunk)
                }
                Some(Answer::Error(refused)) => Err(Failure::Refused(refused)),
                _ => Err(Failure::Node(lost("the answer is not one to what was asked"))),
            },
            Ok(Frame::Error(refused)) => Err(Failure::Refused(refused)),
            Ok(_) => Err(Failure::Node(lost("the answer is not one to what was asked"))),
            Err(what) => Err(Failure::Node(lost(&what))),
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.link.close();
    }
}
