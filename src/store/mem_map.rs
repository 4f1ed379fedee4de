//! The ordered map in memory, for tests and simulation. What was committed survives a "crash" of
//! the state machine as long as a clone of the map is kept.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::map::{Batch, KeyRange, Map, Snapshot, Table};
use crate::error::Result;

type Tables = [BTreeMap<Bytes, Bytes>; Table::ALL.len()];

/// See the [module](self). Clones share one map.
#[derive(Debug, Clone, Default)]
pub struct MemMap {
    tables: Arc<Mutex<Arc<Tables>>>,
}

/// A [`Snapshot`] of a [`MemMap`]. Two are equal if their maps hold the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemSnapshot(Arc<Tables>);

impl MemMap {
    fn lock(&self) -> MutexGuard<'_, Arc<Tables>> {
        // A panic under the lock cannot leave half a batch that anyone would go on with: the
        // process, or the test, is over.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map for MemMap {
    type Snapshot = MemSnapshot;

    fn snapshot(&self) -> Result<MemSnapshot> {
        Ok(MemSnapshot(self.lock().clone()))
    }

    fn reserve(&self, _changes: usize, _len_bytes: usize) -> Result<bool> {
        Ok(true)
    }

    fn commit(&self, batch: &Batch) -> Result<()> {
        let mut tables = self.lock();
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
