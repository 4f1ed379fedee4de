//! Snapshots between nodes: a follower whose next entry the leader does not keep any more gets the state as a whole.
//!
//! ```text
//!   leader                                        follower
//!   Outputs::offers --> SnapshotOffer  -------->  begins an empty state beside its own
//!      reads chunks <-- SnapshotRequest <-------  asks for as many as the window holds
//!                   --> SnapshotPart   -------->  takes them in, and asks for more, until all is there
//!                                                 Replica::install: one record of the log, the commit point
//!      progress says <------ acknowledges ------  it is durable: goes on with the new state, removes the old one
//!      that it is in
//! ```
//!
//! Clients read snapshots as well, chunk by chunk, for backups (`reading`).
//!
//! Reading and taking in chunks blocks, so it is done by a thread ([`Transfers`](crate::store::transfer::Transfers)); here is
//! what it is told to do, and what follows from what it tells.
//!
//! # Invariants
//!
//! - A node keeps at most [`SNAPSHOTS_MAX`](crate::limits::SNAPSHOTS_MAX) open for others, and takes in one at a time.
//! - The state that a node serves from is not touched by a transfer. It is replaced as a whole, in one step, when the record
//!   that names the new one is durable. Whatever happens before leaves it as it was.
//! - From when a snapshot is whole until it has taken its place, the old state is not committed; from the record on, nothing
//!   is applied to it.
//! - While one is on its way, the leader keeps what comes after it. If that is more than may be kept, another one is begun.
//! - A lost frame costs time, never the transfer: the receiver asks again from the first chunk that it lacks.
//! - A slow path is not filled up with chunks, behind which heartbeats would wait: see [`window`].

mod reading;
mod receiving;
mod sending;
mod window;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Node, Stage};
use crate::limits::SNAPSHOT_REFUSED_PAUSE;
use crate::store::map::Map;
use crate::store::transfer::News;
use crate::wire::log::ConfState;

use reading::Readings;
use receiving::Receiving;
use sending::Sending;

/// The snapshots that are under way.
pub(super) struct Snapshots<M: Map> {
    /// To others, by their ids.
    sending: BTreeMap<u64, Sending>,
    /// Members that refused one, and when: until [`SNAPSHOT_REFUSED_PAUSE`] after it they are offered no other.
    refused: BTreeMap<u64, Duration>,
    /// One that its receiver found not to hold what it says, while this node looks at it itself.
    audited: Option<u64>,
    receiving: Option<Receiving<M>>,
    /// The number of the last state that was begun here. None is given twice by one process: what is left of a state is
    /// removed by its number, a while after it was given up.
    last_state: u64,
    /// To clients.
    pub(super) reading: Readings,
}

impl<M: Map> Default for Snapshots<M> {
    fn default() -> Snapshots<M> {
        Snapshots {
            sending: BTreeMap::new(),
            refused: BTreeMap::new(),
            audited: None,
            receiving: None,
            last_state: 0,
            reading: Readings::default(),
        }
    }
}

impl<M: Map> Snapshots<M> {
    /// How many are kept open for others.
    fn open_count(&self) -> usize {
        self.sending.len() + self.reading.open_count() + usize::from(self.audited.is_some())
    }
}

impl<M: Map> Node<M> {
    /// The thread of transfers tells something.
    pub(super) fn on_transfer(&mut self, news: News<M>) {
        match news {
            News::Chunk(id, chunk) => {
                if let Some(chunk) = self.answer_chunk(id, chunk) {
                    self.send_part(id, chunk);
                }
            }
            News::Added { id, number } => self.on_chunk_added(id, number),
            News::Built(id, store) => self.on_snapshot_built(id, store),
            News::Refused(id, why) => self.on_snapshot_refused(id, &why),
            News::Audited { id, found } => self.on_snapshot_audited(id, found),
        }
    }

    /// Once per TICK_MS: repeats what may be lost, gives up what has no future.
    pub(super) fn tend_snapshots(&mut self) {
        let now = self.now.monotonic;
        self.snapshots.refused.retain(|_, at| now < *at + SNAPSHOT_REFUSED_PAUSE);
        self.tend_sending();
        self.tend_receiving();
        self.tend_readings();
    }

    /// Whether a member can use no snapshot before the membership is durable: it must be among the members in it.
    pub(super) fn owes_membership(&self) -> bool {
        let Stage::Member(replica) = &self.stage else { return false };
        let conf_state = |known: Option<&crate::wire::log::Membership>| {
            known.and_then(|known| known.conf_state.clone())
        };
        replica.leads()
            && replica.first_index() > 1
            && conf_state(self.store.membership()) != conf_state(self.store.durable_membership())
    }
}

/// Whether a node is among these members.
fn is_among(conf_state: &ConfState, raft_id: u64) -> bool {
    let ConfState { voters, learners, voters_outgoing, learners_next, .. } = conf_state;
    [voters, learners, voters_outgoing, learners_next].into_iter().any(|ids| ids.contains(&raft_id))
}

/// Bytes, for people.
fn mib(len_bytes: u64) -> String {
    format!("{:.1} MiB", len_bytes as f64 / (1 << 20) as f64)
}
