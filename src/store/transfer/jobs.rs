//! The transfers of one node: what a thread does of them, one job after the other. The node says what is to be done, and is
//! told what became of it.
//!
//! Invariant: what a job concerns is a transfer that the node opened and did not close. A job for any other is void.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use super::super::map::Map;
use super::super::{Store, WindowBounds};
use super::audit::Audit;
use super::target::check_room;
use super::{Failure, Refused, Source, Target};
use crate::error::Result;
use crate::limits::SNAPSHOT_CHUNK_LEN;
use crate::wire::snapshot::{Chunk, Header};

/// A snapshot that is to be read.
pub struct Outgoing<M: Map> {
    /// What the map held.
    pub snapshot: M::Snapshot,
    /// What it is.
    pub header: Header,
}

/// Where a snapshot is to be built.
pub struct Incoming<M: Map> {
    pub(super) beside: M,
    pub(super) state: u64,
    pub(super) bounds: WindowBounds,
}

/// What the thread of transfers is to do.
pub enum Job<M: Map> {
    /// Keep a snapshot open, to be read under that id.
    Open(u64, Outgoing<M>),
    /// Read the chunks `from <= number < until`: [`News::Chunk`] for each that there is.
    Read {
        /// Of the snapshot.
        id: u64,
        /// The first.
        from: u64,
        /// Behind the last.
        until: u64,
    },
    /// The snapshot is not wanted any more.
    Close(u64),
    /// The snapshot is not read any more, but looked at itself, or further: [`News::Audited`].
    Audit(u64, WindowBounds),
    /// Make an empty map, to take in the snapshot with that header under that id. One that was begun before is abandoned.
    Begin(u64, Incoming<M>, Header),
    /// Take in the next chunk: [`News::Added`], and with the last one [`News::Built`].
    Add(u64, Chunk),
    /// What was built under that id is to be removed.
    Abandon(u64),
    /// This state is not needed any more: to be removed from the disk.
    Discard(Box<Store<M>>),
}

/// What the thread of transfers tells the node.
pub enum News<M: Map> {
    /// A chunk was read.
    Chunk(u64, Chunk),
    /// A chunk was taken in.
    Added {
        /// Of the snapshot.
        id: u64,
        /// Of the chunk.
        number: u64,
    },
    /// The snapshot is whole, and durable.
    Built(u64, Box<Store<M>>),
    /// The snapshot is not taken over; what was built of it is removed.
    Refused(u64, Refused),
    /// A part of the snapshot was looked at.
    Audited {
        /// Of the snapshot.
        id: u64,
        /// What was found, once that is known: then it is closed.
        found: Option<std::result::Result<(), Refused>>,
    },
}

impl<M: Map> fmt::Debug for News<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            News::Chunk(id, chunk) => write!(f, "Chunk({id}, {})", chunk.number),
            News::Added { id, number } => write!(f, "Added({id}, {number})"),
            News::Built(id, _) => write!(f, "Built({id})"),
            News::Refused(id, why) => write!(f, "Refused({id}, {why})"),
            News::Audited { id, found } => write!(f, "Audited({id}, {found:?})"),
        }
    }
}

/// The transfers of one node. Its jobs block.
pub struct Transfers<M: Map> {
    chunk_len: usize,
    sources: BTreeMap<u64, Source<M::Snapshot>>,
    audits: BTreeMap<u64, Audit<M::Snapshot>>,
    target: Option<(u64, Target<M>)>,
}

impl<M: Map> Default for Transfers<M> {
    fn default() -> Transfers<M> {
        Transfers::with_chunks_of(SNAPSHOT_CHUNK_LEN)
    }
}

impl<M: Map> Transfers<M> {
    /// With chunks of another length, for tests and simulation.
    pub fn with_chunks_of(chunk_len: usize) -> Transfers<M> {
        Transfers { chunk_len, sources: BTreeMap::new(), audits: BTreeMap::new(), target: None }
    }

    /// Does a job, and tells what came of it. An error stops the node.
    pub fn run(&mut self, job: Job<M>, mut tell: impl FnMut(News<M>)) -> Result<()> {
        match job {
            Job::Open(id, Outgoing { snapshot, header }) => {
                self.sources.insert(id, Source::new(snapshot, header, self.chunk_len));
                Ok(())
            }
            Job::Read { id, from, until } => {
                let Some(source) = self.sources.get_mut(&id) else { return Ok(()) };
                for number in from..until {
                    let Some(chunk) = source.read(number)? else { break };
                    tell(News::Chunk(id, chunk));
                }
                Ok(())
            }
            Job::Close(id) => {
                self.sources.remove(&id);
                self.audits.remove(&id);
                Ok(())
            }
            Job::Audit(id, bounds) => {
                if let Some(source) = self.sources.remove(&id) {
                    self.audits.insert(id, Audit::new(source, bounds));
                }
                let Some(audit) = self.audits.get_mut(&id) else { return Ok(()) };
                let found = audit.go_on()?;
                if found.is_some() {
                    self.audits.remove(&id);
                }
                tell(News::Audited { id, found });
                Ok(())
            }
            Job::Begin(id, incoming, header) => {
                self.abandon(|_| true)?;
                let begun = self.begin(id, incoming, &header);
                self.settle(id, begun, tell)
            }
            Job::Add(id, chunk) => {
                let number = chunk.number;
                let added = match &mut self.target {
                    Some((building, target)) if *building == id => target.add(&chunk),
                    _ => return Ok(()),
                };
                if added.is_ok() {
                    tell(News::Added { id, number });
                }
                let built = added.and_then(|()| self.finish());
                self.settle(id, built, tell)
            }
            Job::Abandon(id) => self.abandon(|building| building == id),
            Job::Discard(store) => store.remove(),
        }
    }

    fn begin(
        &mut self,
        id: u64,
        incoming: Incoming<M>,
        header: &Header,
    ) -> std::result::Result<Option<Box<Store<M>>>, Failure> {
        let Incoming { beside, state, bounds } = incoming;
        check_room(&beside, header.logical_bytes)?;
        let map = beside.sibling(state)?;
        self.target = Some((id, Target::new(map, bounds)));
        Ok(None)
    }

    /// The store, if the last chunk is in.
    fn finish(&mut self) -> std::result::Result<Option<Box<Store<M>>>, Failure> {
        let complete = self.target.as_mut().filter(|(_, target)| target.is_complete());
        let Some((_, target)) = complete else { return Ok(None) };
        let store = target.finish()?;
        self.target = None;
        Ok(Some(Box::new(store)))
    }

    fn settle(
        &mut self,
        id: u64,
        came_of_it: std::result::Result<Option<Box<Store<M>>>, Failure>,
        mut tell: impl FnMut(News<M>),
    ) -> Result<()> {
        match came_of_it {
            Ok(None) => Ok(()),
            Ok(Some(store)) => {
                tell(News::Built(id, store));
                Ok(())
            }
            Err(Failure::Refused(why)) => {
                self.abandon(|building| building == id)?;
                tell(News::Refused(id, why));
                Ok(())
            }
            Err(Failure::Map(error)) => Err(error),
        }
    }

    fn abandon(&mut self, which: impl Fn(u64) -> bool) -> Result<()> {
        match self.target.take_if(|(id, _)| which(*id)) {
            Some((_, target)) => target.into_map().remove(),
            None => Ok(()),
        }
    }
}
