//! The ordered map in memory, for tests and simulation. What was committed survives a "crash" of
//! the state machine as long as a clone of the map is kept, or of one beside it.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::map::{Batch, KeyRange, Map, Snapshot, Table};
use crate::error::Result;

type Tables = [BTreeMap<Bytes, Bytes>; Table::ALL.len()];

type SharedTables = Arc<Mutex<Arc<Tables>>>;

/// The number of the state that a first map holds.
const FIRST_STATE: u64 = 1;

/// See the [module](self). Clones share one map.
#[derive(Debug, Clone)]
pub struct MemMap {
    state: u64,
    tables: SharedTables,
    /// What would be directories on a disk: all maps beside each other, this one among them.
    states: Arc<Mutex<BTreeMap<u64, SharedTables>>>,
    /// The state that finds no room for commits; 0: none.
    cramped: Arc<AtomicU64>,
    /// Of the disk that they would be on.
    free_bytes: Arc<AtomicU64>,
}

/// A [`Snapshot`] of a [`MemMap`]. Two are equal if their maps hold the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemSnapshot(Arc<Tables>);

impl Default for MemMap {
    /// An empty map, of the first state.
    fn default() -> MemMap {
        let tables = SharedTables::default();
        let states = BTreeMap::from([(FIRST_STATE, tables.clone())]);
        MemMap {
            state: FIRST_STATE,
            tables,
            states: Arc::new(Mutex::new(states)),
            cramped: Arc::default(),
            free_bytes: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }
}

impl MemMap {
    /// The numbers of the states that there are.
    pub fn states(&self) -> Vec<u64> {
        lock(&self.states).keys().copied().collect()
    }

    /// The map of that state, if there is one.
    pub fn at(&self, state: u64) -> Option<MemMap> {
        let tables = lock(&self.states).get(&state)?.clone();
        Some(self.beside(state, tables))
    }

    /// From now on the disk has that many bytes free, for this map and all beside it.
    pub fn set_free_bytes(&self, free_bytes: u64) {
        self.free_bytes.store(free_bytes, Ordering::Relaxed);
    }

    /// From now on this map finds no room for commits, or does again; those beside it, which ask for less, do.
    pub fn set_cramped(&self, is_cramped: bool) {
        self.cramped.store(if is_cramped { self.state } else { 0 }, Ordering::Relaxed);
    }

    fn beside(&self, state: u64, tables: SharedTables) -> MemMap {
        MemMap { state, tables, ..self.clone() }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under the lock cannot leave half a batch that anyone would go on with: the process, or
    // the test, is over.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Map for MemMap {
    type Snapshot = MemSnapshot;

    fn snapshot(&self) -> Result<MemSnapshot> {
        Ok(MemSnapshot(lock(&self.tables).clone()))
    }

    fn reserve(&self, _changes: usize, _len_bytes: usize) -> Result<bool> {
        Ok(self.cramped.load(Ordering::Relaxed) != self.state)
    }

    fn free_bytes(&self) -> Result<u64> {
        Ok(self.free_bytes.load(Ordering::Relaxed))
    }

    fn sibling(&self, state: u64) -> Result<MemMap> {
        let tables = SharedTables::default();
        let before = lock(&self.states).insert(state, tables.clone());
        let is_free = before.is_none_or(|before| Arc::strong_count(&before) == 1);
        assert!(is_free, "state {state} is in use, and a directory is opened once");
        Ok(self.beside(state, tables))
    }

    fn remove(self) -> Result<()> {
        let removed = lock(&self.states).remove(&self.state);
        let is_own = removed.is_some_and(|removed| Arc::ptr_eq(&removed, &self.tables));
        assert!(is_own, "the directory of state {} is another's by now", self.state);
        Ok(())
    }

    fn commit(&self, batch: &Batch) -> Result<()> {
        let mut tables = lock(&self.tables);
        // Copies the tables if a snapshot still shows them.
        let tables = Arc::make_mut(&mut tables);
        for change in &batch.changes {
            let table = &mut tables[change.table as usize];
            match &change.value {
                Some(value) => table.insert(change.key.clone(), value.clone()),
                None => table.remove(&change.key),
            };
        }
        Ok(())
    }
}

impl Snapshot for MemSnapshot {
    fn get<T>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.0[table as usize].get(key).map(|value| read(value)))
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        for (key, value) in self.0[table as usize].range::<[u8], _>(range.bounds()) {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}
