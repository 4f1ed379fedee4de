//! A blocking client of a Phalanx cluster: no runtime, only threads.
//!
//! It promises:
//! - **Exactly once.** However often a write is sent again (lost connection, lost leader, hung
//!   node), it is applied at most once, and the caller gets the result of that one application, or
//!   [`Error::Unknown`].
//! - **One deadline.** Every request ends within [`Options::timeout`]. Until then it is retried,
//!   with jittered back-off, at any node of the list and at the leader that a node names.
//! - **Never twice in the dark.** The removal of a member has no id. It is sent again only where the
//!   attempt before surely did nothing; otherwise it ends with [`Error::Unknown`].
//! - **Bounded.** At most `REQUESTS_PER_CLIENT_MAX` requests are in flight; the next one blocks.
//!
//! A [`Client`] is cheap to clone and is used from many threads at once; they share one connection.
//! Each request comes in two forms: `put` waits for the answer, [`send_put`](Client::send_put)
//! returns a [`Pending`] to wait for later, so that many are in flight. Requests in flight may be
//! executed in any order: wait for the one before sending the other where the order matters.
//!
//! ```no_run
//! use phalanx::client::{Client, Options};
//!
//! # fn main() -> phalanx::client::Result<()> {
//! let client = Client::connect(["10.0.0.1:9000", "10.0.0.2:9000"], Options::default())?;
//! client.put("hello", "world")?;
//! let reply = client.get("hello")?;
//! println!("{:?} as of revision {}", reply.result.map(|kv| kv.value), reply.revision);
//!
//! let pending: Vec<_> = (0..100).map(|i| client.send_put(format!("key/{i}"), "value")).collect();
//! for put in pending {
//!     put.wait()?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::snapshot`] reads the whole store, for a backup, and stands apart: it is not retried.
//!
//! Inside: `core` is the table of requests and the rules, `call` one request's attempts,
//! `connection` one connection, `driver` the background thread.

#![forbid(unsafe_code)]

mod call;
mod connection;
mod core;
mod driver;
mod error;
mod pending;
mod range;
mod snapshot;
mod txn;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::core::Core;
pub use self::error::{Error, Result};
pub use self::pending::Pending;
use self::pending::PendingState;
pub use self::range::{Entries, prefix};
pub use self::snapshot::Snapshot;
pub use self::txn::{Txn, compare, op};
pub use crate::wire::client::{
    Code, Compare, DeleteResult, KeyValue, Member, MeshNode, NodeRole, NodeStatus, Op, OpResult,
    PutResult, Range, RangeResult, Status, TxnResult, mesh_node::State as MeshState,
};

use crate::limits::{CLIENT_ATTEMPT_MAX, CLIENT_ATTEMPT_MIN};
use crate::wire::client::{
    Get, RemoveMember, StatusQuery, TransferLeader, Write, op_result, request::Command,
    response::Result as Answer,
};
use crate::wire::validate;

/// How long requests may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// From the call to its result, all attempts included.
    pub timeout: Duration,
    /// How long one node may keep silent before the next one is tried.
    pub attempt_timeout: Duration,
}

impl Options {
    /// Options for requests that may take so long. An attempt gets a third of it, at least one second
    /// and at most five.
    pub fn within(timeout: Duration) -> Options {
        let attempt = (timeout / 3).clamp(CLIENT_ATTEMPT_MIN, CLIENT_ATTEMPT_MAX);
        Options { timeout, attempt_timeout: attempt.min(timeout) }
    }
}

impl Default for Options {
    /// Five seconds.
    fn default() -> Options {
        Options::within(Duration::from_secs(5))
    }
}

/// A result, with what every answer carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<T> {
    /// What was asked for.
    pub result: T,
    /// The revision of the store: after a write, or the one that a read saw.
    pub revision: u64,
    /// Stale reads: the most that the result may be behind, in milliseconds. `None`: the node
    /// cannot tell.
    pub stale_ms: Option<u64>,
}

impl<T> Reply<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Reply<U> {
        Reply { result: f(self.result), revision: self.revision, stale_ms: self.stale_ms }
    }
}

/// What a compare-and-swap expects of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// That it does not exist.
    Absent,
    /// That it has this value.
    Value(Bytes),
    /// That this revision was the last to write it.
    ModRevision(u64),
}

/// What became of a compare-and-swap.
#[derive(Debug, Clone, PartialEq)]
pub enum Swap {
    /// The key was as expected, and has the new value.
    Done,
    /// It was not, and was left as it is: here it is, `None` if it does not exist.
    Differs(Option<KeyValue>),
}

/// A connection to a cluster: see the [module](self).
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Closes the client when the last clone and the last pending request are gone.
#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.close();
    }
}

impl Client {
    /// A client of the cluster whose nodes are at these `host:port`. It connects when it is first
    /// used; one endpoint is enough, more let it go on when that node is down.
    pub fn connect<E: Into<String>>(
        endpoints: impl IntoIterator<Item = E>,
        options: Options,
    ) -> Result<Client> {
        let endpoints: Vec<String> = endpoints.into_iter().map(Into::into).collect();
        if endpoints.is_empty() {
            return Err(Error::Setup("no endpoint was given: name at least one host:port".into()));
        }
        endpoints.iter().try_for_each(|endpoint| check_endpoint(endpoint))?;
        let core = Arc::new(Core::new(endpoints, options));
        let driven = core.clone();
        thread::Builder::new()
            .name("phalanx-client".to_owned())
            .spawn(move || driver::run(&driven))
            .map_err(|e| Error::Setup(format!("the system gives no thread: {e}")))?;
        Ok(Client { handle: Arc::new(Handle { core }) })
    }

    /// Writes a key. The result tells whether it was there before.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Reply<PutResult>> {
        self.send_put(key, value).wait()
    }

    /// [`put`](Client::put), not waited for.
    pub fn send_put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Pending<PutResult> {
        self.write(Txn::new().then(op::put(key, value)), |answer| match only(answer)? {
            op_result::Result::Put(put) => Some(put),
            _ => None,
        })
    }

    /// Reads a key, linearizably: sees every write that was acknowledged before.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Reply<Option<KeyValue>>> {
        self.send_get(key).wait()
    }

    /// [`get`](Client::get), not waited for.
    pub fn send_get(&self, key: impl AsRef<[u8]>) -> Pending<Option<KeyValue>> {
        self.read_key(key, false)
    }

    /// Reads a key from what the node has applied, at once: see [`Reply::stale_ms`].
    pub fn get_stale(&self, key: impl AsRef<[u8]>) -> Result<Reply<Option<KeyValue>>> {
        self.read_key(key, true).wait()
    }

    /// Deletes a key. The result tells how many were deleted: 1, or 0 if it was not there.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Reply<DeleteResult>> {
        self.send_delete(key).wait()
    }

    /// [`delete`](Client::delete), not waited for.
    pub fn send_delete(&self, key: impl AsRef<[u8]>) -> Pending<DeleteResult> {
        self.write(Txn::new().then(op::delete(key)), deleted)
    }

    /// Deletes the keys of `[from, to)`, all if both are empty, and tells how many. It goes in
    /// bounded steps, each atomic and with its own deadline: after an error, a first part of the
    /// range may be deleted.
    pub fn delete_range(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<Reply<u64>> {
        let (mut from, to) = (Bytes::copy_from_slice(from.as_ref()), to.as_ref());
        let mut total = 0;
        loop {
            let reply = self.write(Txn::new().then(op::delete_range(&from, to)), deleted).wait()?;
            total += reply.result.deleted;
            if reply.result.next.is_empty() {
                return Ok(reply.map(|_| total));
            }
            from = reply.result.next;
        }
    }

    /// Writes a key if it is as expected.
    pub fn cas(
        &self,
        key: impl AsRef<[u8]>,
        expect: Expect,
        value: impl AsRef<[u8]>,
    ) -> Result<Reply<Swap>> {
        self.send_cas(key, expect, value).wait()
    }

    /// [`cas`](Client::cas), not waited for.
    pub fn send_cas(
        &self,
        key: impl AsRef<[u8]>,
        expect: Expect,
        value: impl AsRef<[u8]>,
    ) -> Pending<Swap> {
        let key = key.as_ref();
        let expected = match expect {
            Expect::Absent => compare::absent(key),
            Expect::Value(value) => compare::value(key, compare::EQUAL, value),
            Expect::ModRevision(revision) => compare::mod_revision(key, compare::EQUAL, revision),
        };
        let txn = Txn::new().when(expected).then(op::put(key, value)).otherwise(op::get(key));
        self.write(txn, |answer| match only(answer)? {
            op_result::Result::Put(_) => Some(Swap::Done),
            op_result::Result::Get(get) => Some(Swap::Differs(get.kv)),
            op_result::Result::Delete(_) => None,
        })
    }

    /// Executes a transaction.
    pub fn txn(&self, txn: Txn) -> Result<Reply<TxnResult>> {
        self.send_txn(txn).wait()
    }

    /// [`txn`](Client::txn), not waited for.
    pub fn send_txn(&self, txn: Txn) -> Pending<TxnResult> {
        self.write(txn, |answer| match answer {
            Answer::Txn(result) => Some(result),
            _ => None,
        })
    }

    /// Reads one page of a range; `next` of the result tells where to go on. See [`prefix`].
    pub fn range(&self, range: Range) -> Result<Reply<RangeResult>> {
        self.send_range(range).wait()
    }

    /// [`range`](Client::range), not waited for.
    pub fn send_range(&self, range: Range) -> Pending<RangeResult> {
        let checked = validate::range(&range).map(|()| Command::Range(range));
        self.send(checked.map_err(Error::from), |answer| match answer {
            Answer::Range(result) => Some(result),
            _ => None,
        })
    }

    /// Reads a whole range, page by page; its `limit` is the length of a page.
    pub fn entries(&self, range: Range) -> Entries {
        Entries::new(self.clone(), range)
    }

    /// What the node that this client talks to knows of itself and the cluster.
    pub fn status(&self) -> Result<Reply<Status>> {
        let answer = self.send(Ok(Command::Status(StatusQuery {})), |answer| match answer {
            Answer::Status(status) => Some(*status),
            _ => None,
        });
        answer.wait()
    }

    /// Takes a member out of the cluster, and returns when that is done. Refused as
    /// [`Code::Invalid`] if there is no such member, or the live voters would be left without a
    /// majority.
    pub fn remove_member(&self, name: impl Into<String>) -> Result<Reply<()>> {
        self.order(Command::RemoveMember(RemoveMember { name: name.into(), raft_id: 0 }))
    }

    /// Has the leader hand over to a voter, and returns when that one leads: at once, if it does.
    /// Refused as [`Code::Invalid`] if there is no such voter, or if it does not take over within an
    /// election timeout: no write is accepted meanwhile.
    pub fn transfer_leader(&self, name: impl Into<String>) -> Result<Reply<()>> {
        self.order(Command::TransferLeader(TransferLeader { name: name.into(), raft_id: 0 }))
    }

    fn order(&self, command: Command) -> Result<Reply<()>> {
        let answer = self.send(Ok(command), |answer| match answer {
            Answer::Done(_) => Some(()),
            _ => None,
        });
        answer.wait()
    }

    fn read_key(&self, key: impl AsRef<[u8]>, stale: bool) -> Pending<Option<KeyValue>> {
        let get = Get { key: Bytes::copy_from_slice(key.as_ref()), stale };
        let checked = validate::get(&get).map(|()| Command::Get(get));
        self.send(checked.map_err(Error::from), |answer| match answer {
            Answer::Get(get) => Some(get.kv),
            _ => None,
        })
    }

    fn write<T>(&self, txn: Txn, decode: fn(Answer) -> Option<T>) -> Pending<T> {
        let command = call::new_request_id().and_then(|request_id| {
            let write = Write { request_id, since: 0, txn: Some(txn.into_wire()) };
            validate::write(&write)?;
            Ok(Command::Write(write))
        });
        self.send(command, decode)
    }

    fn send<T>(&self, command: Result<Command>, decode: fn(Answer) -> Option<T>) -> Pending<T> {
        let core = &self.handle.core;
        let state = match command {
            Err(error) => PendingState::Failed(error),
            Ok(command) => {
                let deadline = Instant::now() + core.options.timeout;
                let (id, receiver): (u64, Receiver<_>) = core.submit(command, deadline);
                PendingState::Sent { id, deadline, receiver, handle: self.handle.clone() }
            }
        };
        Pending { state, decode }
    }
}

/// The result of the one operation of a transaction.
fn only(answer: Answer) -> Option<op_result::Result> {
    match answer {
        Answer::Txn(mut txn) if txn.results.len() == 1 => txn.results.pop()?.result,
        _ => None,
    }
}

fn deleted(answer: Answer) -> Option<DeleteResult> {
    match only(answer)? {
        op_result::Result::Delete(deleted) => Some(deleted),
        _ => None,
    }
}

fn check_endpoint(endpoint: &str) -> Result<()> {
    let port = endpoint.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(1..)) => Ok(()),
        _ => Err(Error::Setup(format!(
            "{endpoint:?} is no address: give host:port, as in 127.0.0.1:9000 or [::1]:9000"
        ))),
    }
}
