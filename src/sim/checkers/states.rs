//! The same index, the same state: what the maps hold as of an index is the same bytes on every machine, whenever each
//! committed, and however often it started anew.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::Finding;
use crate::store::map::{KeyRange, Map, Snapshot, Table};
use crate::store::mem_map::MemMap;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct States {
    /// By index: whose state was seen first, and its checksum.
    by_index: BTreeMap<u64, (String, u32)>,
}

impl States {
    /// The map of `name` shows the state as of `index`.
    pub fn committed(&mut self, name: &str, index: u64, map: &MemMap) -> Finding {
        let is = checksum(map);
        let (first, was) = self.by_index.entry(index).or_insert_with(|| (name.to_owned(), is));
        match *was == is {
            true => Ok(()),
            false => Err(format!("the states of {first} and {name} differ as of entry {index}")),
        }
    }
}

fn checksum(map: &MemMap) -> u32 {
    let snapshot = map.snapshot().expect("a map in memory is read");
    let mut sum = 0;
    for table in Table::ALL {
        let read = snapshot.scan(table, KeyRange::ALL, |key, value| {
            // With their lengths, so that none runs into the next.
            sum = crc32c::crc32c_append(sum, &(key.len() as u64).to_le_bytes());
            sum = crc32c::crc32c_append(sum, key);
            sum = crc32c::crc32c_append(sum, &(value.len() as u64).to_le_bytes());
            sum = crc32c::crc32c_append(sum, value);
            Ok(ControlFlow::Continue(()))
        });
        read.expect("a map in memory is read");
    }
    sum
}
