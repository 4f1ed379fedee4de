//! The replicated state machine: what the log says, applied in order, in memory at once and on disk
//! a little later.
//!
//! ```text
//!   committed entry --> apply --> Outcome (to the waiting client)
//!                         |
//!                         v
//!            write buffer: active layer, sealed layers  <-- get, scan look here first
//!                         |
//!       begin_commit      v      committed
//!            Commit::run on a store thread --> Map (LMDB), one transaction
//! ```
//!
//! What it promises:
//! - **Deterministic.** The same entries give the same outcomes and, once committed, the same bytes
//!   in the map, on every replica, however often each commits and whenever it restarts.
//! - **Comparable.** [`Store::digest`] tells whether two replicas hold the same, at no cost but that of their changes.
//! - **Exactly once.** A request id is applied at most once (see `remembered`).
//! - **One index.** The map shows the state as of one index of the log, [`Store::durable`]. After a
//!   crash the log is applied from the index after it, and no segment of the log goes before it was passed.
//! - **Never blocks.** [`Store`] lives on the reactor. Committing and range reads are values
//!   ([`Commit`], [`Scan`]) that run on a store thread. A lookup of one key may fault a page of the map.
//!
//! Pure but for [`lmdb`]: time comes in as an argument, the disk is behind [`map::Map`].

mod apply;
mod commit;
mod digest;
mod layers;
pub mod lmdb;
pub mod map;
pub mod mem_map;
mod meta;
mod record;
mod remembered;
mod scan;
#[cfg(test)]
mod tests;
pub mod transfer;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

pub use apply::Outcome;
pub use commit::{Commit, Committed, Retired};
pub use digest::{DIGEST_LEN, Digest, Figures, Tally, tally};
pub use meta::{Applied, FORMAT_VERSION};
pub use remembered::WindowBounds;
pub use scan::{Scan, ScanResult};

use self::layers::Layers;
use self::map::{Map, Snapshot, Table};
use self::meta::Meta;
use self::record::RecordRef;
use self::remembered::Window;
use crate::error::Result;
use crate::limits::{BUFFER_COMMIT_AGE, BUFFER_COMMIT_LEN, LAYERS_MAX};
use crate::wire::client::{KeyValue, Range};
use crate::wire::log::{Command, Membership};

/// After how long a commit is tried again for which there was no room.
const COMMIT_AGAIN: Duration = Duration::from_secs(1);

/// See the [module](self).
pub struct Store<M: Map> {
    map: M,
    /// Kept for lookups from one commit to the next. It pins no page that LMDB could otherwise
    /// reuse, since it shows the last commit, which LMDB keeps in any case.
    snapshot: OnceCell<M::Snapshot>,
    layers: Layers,
    window: Window,
    /// As of the last entry applied.
    meta: Meta,
    /// As of the last commit of the map.
    durable: Applied,
    durable_membership: Option<Arc<Membership>>,
    /// Where the commit that is running will lead.
    in_flight: Option<Applied>,
    /// It, if the disk had no room for it, and when it is to be tried again.
    put_off: Option<(Duration, Commit<M>)>,
    /// When something was first seen that no commit covers.
    uncovered_since: Option<Duration>,
    /// By how much the least write would have made it larger that was refused for its quota, while there is no room for that.
    /// Not replicated: a store that is opened knows of no refusal.
    refused_growth: Option<u64>,
}

impl<M: Map> Store<M> {
    /// The state that the map holds. An unknown format version is refused. Blocks.
    pub fn open(map: M) -> Result<Store<M>> {
        Store::open_with(map, WindowBounds::default())
    }

    /// [`Store::open`] with other bounds, for tests and simulation: they are replicated state.
    pub fn open_with(map: M, bounds: WindowBounds) -> Result<Store<M>> {
        let snapshot = map.snapshot()?;
        let meta = Meta::load(&snapshot)?;
        let window = Window::load(&snapshot, bounds)?;
        Ok(Store {
            map,
            snapshot: OnceCell::from(snapshot),
            layers: Layers::default(),
            window,
            durable: meta.applied,
            durable_membership: meta.membership.clone(),
            meta,
            in_flight: None,
            put_off: None,
            uncovered_since: None,
            refused_growth: None,
        })
    }

    /// Applies the command of an entry. An error concerns this node alone and stops it; what is to
    /// be answered, refusals included, is in the outcome. After an error the store is not to be used,
    /// nor committed: the entry counts as applied and is not.
    ///
    /// # Panics
    /// If the entry is not the one after the last.
    pub fn apply(&mut self, index: u64, term: u64, command: &Command) -> Result<Outcome> {
        self.advance(index, term);
        self.apply_command(index, command)
    }

    /// Applies an entry that has no command.
    ///
    /// # Panics
    /// If the entry is not the one after the last.
    pub fn apply_blank(&mut self, index: u64, term: u64) {
        self.advance(index, term);
    }

    /// Applies a change of the membership, which is given as it is after the change.
    ///
    /// # Panics
    /// If the entry is not the one after the last.
    pub fn apply_membership(&mut self, index: u64, term: u64, membership: Membership) {
        self.advance(index, term);
        self.meta.membership = Some(Arc::new(membership));
    }

    fn advance(&mut self, index: u64, term: u64) {
        let applied = self.meta.applied;
        assert!(index == applied.index + 1, "entry {index} applied after {}", applied.index);
        assert!(term >= applied.term, "term {term} applied after {}", applied.term);
        self.meta.applied = Applied { index, term };
    }

    /// How far the log is applied.
    pub fn applied(&self) -> Applied {
        self.meta.applied
    }

    /// How far the log is applied in what the map holds durably.
    pub fn durable(&self) -> Applied {
        self.durable
    }

    /// The membership as of [`Store::durable`]; `None` before the first.
    pub fn durable_membership(&self) -> Option<&Membership> {
        self.durable_membership.as_deref()
    }

    /// How many commands have changed something.
    pub fn revision(&self) -> u64 {
        self.meta.revision
    }

    /// Live keys.
    pub fn keys(&self) -> u64 {
        self.meta.keys
    }

    /// Lengths of live keys and their values, added up.
    pub fn logical_bytes(&self) -> u64 {
        self.meta.logical_bytes
    }

    /// The largest time stamp that was applied, in milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.meta.time_ms
    }

    /// The membership as of [`Store::applied`]; `None` before the first.
    pub fn membership(&self) -> Option<&Membership> {
        self.meta.membership.as_deref()
    }

    /// How many logical bytes there may be; 0: no limit.
    pub fn max_bytes(&self) -> u64 {
        self.meta.max_bytes
    }

    /// Whether a write was refused for its quota, and would be still.
    pub fn is_full(&self) -> bool {
        let Meta { logical_bytes, max_bytes, .. } = self.meta;
        let lacks_room =
            |growth| max_bytes != 0 && logical_bytes.saturating_add(growth) > max_bytes;
        self.refused_growth.is_some_and(lacks_room)
    }

    /// What the state as of [`Store::applied`] amounts to.
    pub fn digest(&self) -> Digest {
        digest::digest(&self.meta, self.window.floor())
    }

    /// Bytes of memory that changes take which the map does not hold yet, roughly.
    pub fn buffer_len(&self) -> usize {
        self.layers.len_bytes()
    }

    /// Looks up one key, as of [`Store::applied`].
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyValue>> {
        self.read(key, |record| record.to_key_value(key))
    }

    fn read<T>(&self, key: &[u8], read: impl FnOnce(RecordRef<'_>) -> T) -> Result<Option<T>> {
        if let Some(change) = self.layers.get(key) {
            return Ok(change.as_ref().map(|record| read(record.as_ref())));
        }
        let decode = |bytes: &[u8]| RecordRef::decode(bytes).map(read);
        self.snapshot()?.get(Table::Data, key, decode)?.transpose()
    }

    fn snapshot(&self) -> Result<&M::Snapshot> {
        match self.snapshot.get() {
            Some(snapshot) => Ok(snapshot),
            None => {
                let snapshot = self.map.snapshot()?;
                Ok(self.snapshot.get_or_init(|| snapshot))
            }
        }
    }

    /// Begins a range read as of [`Store::applied`], to be run on a store thread. `None`: the
    /// buffer has its most layers, try again after the next commit (which is due at once).
    pub fn scan(&mut self, range: &Range) -> Result<Option<Scan<M>>> {
        if !self.layers.active.changes.is_empty() {
            if self.layers.sealed_count() >= LAYERS_MAX {
                return Ok(None);
            }
            self.layers.seal();
        }
        Ok(Some(Scan {
            range: range.clone(),
            layers: self.layers.sealed(),
            snapshot: self.map.snapshot()?,
            revision: self.meta.revision,
        }))
    }

    /// Whether a commit is running. One that was put off is not: nothing of it is done.
    pub fn is_committing(&self) -> bool {
        self.in_flight.is_some() && self.put_off.is_none()
    }

    /// There was no room for the commit that was begun: it comes again, as it is, after a while.
    pub fn put_off(&mut self, now: Duration, commit: Commit<M>) {
        assert!(self.in_flight == Some(commit.applied()), "a commit comes back that was not begun");
        self.put_off = Some((now + COMMIT_AGAIN, commit));
    }

    /// Begins a commit of everything that was applied, if none is running and one is due: by length, by age,
    /// by the number of layers, or because it is forced. To be asked at least with every tick.
    pub fn begin_commit(&mut self, now: Duration, force: bool) -> Option<Commit<M>> {
        if let Some((due, _)) = &self.put_off {
            return if now < *due { None } else { self.put_off.take().map(|(_, commit)| commit) };
        }
        let covered = self.in_flight.unwrap_or(self.durable);
        if self.meta.applied == covered {
            return None;
        }
        let since = *self.uncovered_since.get_or_insert(now);
        let due = force
            || self.buffer_len() >= BUFFER_COMMIT_LEN
            || self.layers.sealed_count() >= LAYERS_MAX
            || now.saturating_sub(since) >= BUFFER_COMMIT_AGE;
        if !due || self.in_flight.is_some() {
            return None;
        }
        self.layers.seal();
        self.in_flight = Some(self.meta.applied);
        self.uncovered_since = None;
        Some(Commit {
            map: self.map.clone(),
            layers: self.layers.sealed(),
            meta: self.meta.clone(),
            remembered_floor: self.window.floor(),
        })
    }

    /// Takes note of a commit that is durable, and gives back the memory that it made free.
    ///
    /// # Panics
    /// If it is not the one that was begun last.
    pub fn committed(&mut self, committed: Committed) -> Retired {
        let begun = self.in_flight.take();
        assert!(begun == Some(committed.applied), "a commit ended that is not the one running");
        self.durable = committed.applied;
        self.durable_membership = committed.membership;
        // The next lookup opens one that shows what the dropped layers showed.
        self.snapshot.take();
        Retired { _layers: self.layers.retire(committed.layers) }
    }
}
