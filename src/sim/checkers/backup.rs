//! A backup that was restored, held against the log: all entries up to its index, applied to an empty store, make the same
//! data, revision and time.

use std::ops::ControlFlow;
use std::time::Duration;

use prost::Message;

use super::Finding;
use crate::sim::world::World;
use crate::store::map::{KeyRange, Map, Snapshot, Table};
use crate::store::mem_map::MemMap;
use crate::store::{Figures, tally};
use crate::wire::log::{Command, Entry, EntryKind};
use crate::wire::snapshot::Header;

type Store = crate::store::Store<MemMap>;

/// Holds against the log what a backup with that header was restored to. It was begun when `revision_min` had been
/// acknowledged.
pub fn check(world: &World, header: &Header, map: &MemMap, revision_min: u64) -> Finding {
    if header.revision < revision_min {
        return Err(format!(
            "a backup is of revision {}, and {revision_min} was acknowledged before",
            header.revision
        ));
    }
    let digest = world.watch.states.digest(header.index);
    if digest.is_some_and(|digest| digest[..] != header.digest[..]) {
        return Err(format!("a backup is not the state as of entry {}", header.index));
    }
    let Some(entries) = log_to(world, header.index) else { return Ok(()) };
    let replayed = replay(world, entries).map_err(|error| error.to_string())?;
    let [is, should_be] = [map, &replayed].map(contents);
    match is? == should_be? {
        true => Ok(()),
        false => Err(format!(
            "a backup of revision {} is not what was written up to entry {}",
            header.revision, header.index
        )),
    }
}

/// All entries up to `index`, all of them committed, from a disk that ever had them. `None`: every disk that is left began
/// with a snapshot.
fn log_to(world: &World, index: u64) -> Option<Vec<&Entry>> {
    let is_committed =
        |entries: &Vec<&Entry>| entries.iter().all(|entry| world.watch.logs.is_committed(entry));
    let logs = world.machines.iter().filter_map(|machine| machine.witness.entries_to(index));
    logs.map(|entries| entries.collect()).find(is_committed)
}

/// What these entries lead to, in a map.
fn replay(world: &World, entries: Vec<&Entry>) -> crate::error::Result<MemMap> {
    let map = MemMap::default();
    let mut store = Store::open_with(map.clone(), world.machines[0].window())?;
    for entry in entries {
        let is_command = entry.kind() == EntryKind::Normal && !entry.data.is_empty();
        match is_command.then(|| Command::decode(&entry.data[..])) {
            Some(Ok(command)) => drop(store.apply(entry.index, entry.term, &command)?),
            // Who belongs is no part of what is compared.
            _ => store.apply_blank(entry.index, entry.term),
        }
    }
    if let Some(commit) = store.begin_commit(Duration::ZERO, true) {
        drop(store.committed(commit.run()?));
    }
    Ok(map)
}

type Row = (Vec<u8>, Vec<u8>);

/// Revision, time and counts, and all rows of data.
fn contents(map: &MemMap) -> Result<([u64; 4], Vec<Row>), String> {
    let read = || {
        let snapshot = map.snapshot()?;
        let Figures { revision, time_ms, keys, logical_bytes, .. } = tally(&snapshot)?;
        let mut rows = Vec::new();
        snapshot.scan(Table::Data, KeyRange::ALL, |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(([revision, time_ms, keys, logical_bytes], rows))
    };
    read().map_err(|error: crate::error::Error| error.to_string())
}
