//! Snapshots that clients read, for backups: opened once the state is durable as far as a linearizable read asks for, then
//! read chunk by chunk as the client asks for them.
//!
//! Invariants:
//! - A snapshot belongs to the connection that asked for it, and is closed with it.
//! - One chunk is under way at a time; what is in memory is that chunk.
//! - Members come first: clients leave them one of the [`SNAPSHOTS_MAX`] places.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Node, mib};
use crate::error::{Result, refusal};
use crate::limits::{SNAPSHOT_AGE_MAX, SNAPSHOT_IDLE_MAX, SNAPSHOTS_MAX};
use crate::node::requests::{Origin, Work};
use crate::node::{ConnectionId, Token};
use crate::store::map::Map;
use crate::store::transfer::{Durable, Job, Outgoing};
use crate::wire::client::{Code, Error as Refusal, ReadSnapshot, SnapshotChunk, response};
use crate::wire::snapshot::Chunk;

/// The snapshots of clients.
#[derive(Debug, Default)]
pub(in crate::node) struct Readings {
    /// What waits for the state to be durable up to an index.
    waiting: Vec<(u64, Token)>,
    /// By their ids.
    open: BTreeMap<u64, Reading>,
}

/// A snapshot that is kept open for a client.
#[derive(Debug)]
struct Reading {
    connection: ConnectionId,
    begun: Duration,
    asked: Duration,
    /// The chunk after the last that was answered.
    next: u64,
    /// What is being read, and for which request.
    wanted: Option<(u64, Token)>,
    len_bytes: u64,
}

impl Readings {
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Whether a request waits for nothing but this node.
    pub fn is_served(&self, token: Token) -> bool {
        let mut wanted = self.open.values().filter_map(|reading| reading.wanted);
        self.waiting.iter().any(|(_, waits)| *waits == token)
            || wanted.any(|(_, waits)| waits == token)
    }

    /// Forgets the requests that `wanted` does not hold of.
    pub fn retain(&mut self, wanted: impl Fn(Token) -> bool) {
        self.waiting.retain(|(_, token)| wanted(*token));
    }

    /// Whether a commit would let a snapshot be opened.
    pub fn wait_for_commit(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl<M: Map> Node<M> {
    /// A client asks for a snapshot, or for a chunk of one.
    pub(in crate::node) fn take_in_reading(
        &mut self,
        origin: Origin,
        deadline: Duration,
        asked: ReadSnapshot,
    ) -> std::result::Result<(), Refusal> {
        self.admit()?;
        let ReadSnapshot { snapshot: id, number } = asked;
        if id == 0 {
            self.has_room_for_reading()?;
            if number != 0 {
                return Err(refusal(Code::Invalid, "a snapshot is read from its chunk 0 on"));
            }
            self.insert_read(origin, deadline, Work::Snapshot);
            return Ok(());
        }
        let requests = &self.requests;
        let is_its = |reading: &&mut Reading| matches!(origin, Origin::Client { connection, .. } if connection == reading.connection);
        let Some(reading) = self.snapshots.reading.open.get_mut(&id).filter(is_its) else {
            return Err(refusal(
                Code::Invalid,
                format!(
                    "there is no such snapshot open on this connection (any more: it is closed when nothing is asked of it \
                     for {} s): begin anew",
                    SNAPSHOT_IDLE_MAX.as_secs()
                ),
            ));
        };
        let is_next_or_last = number == reading.next || number.checked_add(1) == Some(reading.next);
        if !is_next_or_last {
            let message = format!("chunk {number} is asked for, and {} is the next", reading.next);
            return Err(refusal(Code::Invalid, message));
        }
        if reading.wanted.is_some_and(|(_, token)| requests.get(token).is_some()) {
            return Err(refusal(Code::Invalid, "a chunk of this snapshot is under way already"));
        }
        let token = self.insert(origin, deadline, Work::Snapshot);
        self.read_chunk(id, number, token);
        Ok(())
    }

    fn read_chunk(&mut self, id: u64, number: u64, token: Token) {
        if let Some(reading) = self.snapshots.reading.open.get_mut(&id) {
            reading.wanted = Some((number, token));
            reading.asked = self.now.monotonic;
            self.effects.transfers.push(Job::Read { id, from: number, until: number + 1 });
        }
    }

    fn has_room_for_reading(&self) -> std::result::Result<(), Refusal> {
        match self.snapshots.open_count() + 1 < SNAPSHOTS_MAX {
            true => Ok(()),
            false => Err(refusal(
                Code::Overloaded,
                "this node has as many snapshots open as it may: retry later, or at another node",
            )),
        }
    }

    /// The round of a read is confirmed and applied: it is opened when that is durable.
    pub(in crate::node) fn await_durable(&mut self, token: Token) {
        self.snapshots.reading.waiting.push((self.store.applied().index, token));
    }

    /// Opens what has become durable.
    pub(in crate::node) fn open_readings(&mut self) -> Result<()> {
        let durable = self.store.durable().index;
        let waiting = std::mem::take(&mut self.snapshots.reading.waiting);
        let (ready, waiting) = waiting.into_iter().partition(|(index, _)| *index <= durable);
        self.snapshots.reading.waiting = waiting;
        let ready: Vec<(u64, Token)> = ready;
        ready.into_iter().try_for_each(|(_, token)| self.open_reading(token))
    }

    fn open_reading(&mut self, token: Token) -> Result<()> {
        let Some(origin) = self.requests.get(token).map(|request| request.origin) else {
            return Ok(());
        };
        let Origin::Client { connection, .. } = origin else {
            unreachable!("only a client asks for a snapshot to read");
        };
        if let Err(refused) = self.has_room_for_reading() {
            self.answer_refused(token, refused);
            return Ok(());
        }
        let durable = self.store.durable_snapshot(&self.identity.cluster_id)?;
        let Durable { snapshot, header, .. } = durable;
        ::log::info!(
            "a client reads a snapshot as of revision {}: {} keys, {}",
            header.revision,
            header.keys,
            mib(header.logical_bytes)
        );
        let (id, now) = (self.rng.u64(1..), self.now.monotonic);
        self.effects.transfers.push(Job::Open(id, Outgoing { snapshot, header }));
        let reading =
            Reading { connection, begun: now, asked: now, next: 0, wanted: None, len_bytes: 0 };
        self.snapshots.reading.open.insert(id, reading);
        self.read_chunk(id, 0, token);
        self.note_sending();
        Ok(())
    }

    /// A chunk was read for a client, if the snapshot is one of a client's.
    pub(super) fn answer_chunk(&mut self, id: u64, chunk: Chunk) -> Option<Chunk> {
        let Some(reading) = self.snapshots.reading.open.get_mut(&id) else { return Some(chunk) };
        let (_, token) = reading.wanted.take_if(|(number, _)| *number == chunk.number)?;
        reading.next = reading.next.max(chunk.number + 1);
        reading.asked = self.now.monotonic;
        reading.len_bytes += chunk.rows.len() as u64;
        self.counters.snapshot_bytes_sent += chunk.rows.len() as u64;
        if chunk.is_last {
            let (len_bytes, begun) = (mib(reading.len_bytes), reading.begun);
            let seconds = (self.now.monotonic - begun).as_secs_f64();
            ::log::info!("a client has read a snapshot: {len_bytes} in {seconds:.1} s");
            self.close_readings(|other, _| other == id);
        }
        let chunk = SnapshotChunk { snapshot: id, chunk: Some(chunk) };
        let response = self.response(response::Result::SnapshotChunk(chunk));
        self.answer(token, response);
        None
    }

    /// A client's connection is gone, and what it had open.
    pub(in crate::node) fn on_client_gone(&mut self, connection: ConnectionId) {
        self.close_readings(|_, reading| reading.connection == connection);
    }

    /// Once per TICK_MS: closes what nobody asks for, and what has been open for too long.
    pub(super) fn tend_readings(&mut self) {
        let now = self.now.monotonic;
        self.close_readings(|_, reading| {
            let is_idle = reading.wanted.is_none() && now >= reading.asked + SNAPSHOT_IDLE_MAX;
            is_idle || now >= reading.begun + SNAPSHOT_AGE_MAX
        });
    }

    fn close_readings(&mut self, ends: impl Fn(u64, &Reading) -> bool) {
        let open = self.snapshots.reading.open.iter();
        let ended: Vec<u64> =
            open.filter(|(id, reading)| ends(**id, reading)).map(|(id, _)| *id).collect();
        if ended.is_empty() {
            return;
        }
        for id in ended {
            let closed = self.snapshots.reading.open.remove(&id);
            self.effects.transfers.push(Job::Close(id));
            if let Some((_, token)) = closed.and_then(|reading| reading.wanted) {
                let message = "the snapshot was open for too long: begin anew";
                self.answer_refused(token, refusal(Code::Timeout, message));
            }
        }
        self.note_sending();
    }
}
