//! The logs of all machines, and what of them is committed.
//!
//! An entry is known by its index and term. If two that are the same in both are the same in content and follow entries
//! of the same term, then by induction the logs before them are the same too: log matching.

use std::collections::BTreeMap;

use super::Finding;
use crate::wire::log::Entry;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Logs {
    /// By index and term: the checksum of the content, and the term of the entry before.
    entries: BTreeMap<(u64, u64), (u32, u64)>,
    /// The term of the committed entry at `i + 1`, as the first said who knew it.
    committed: Vec<u64>,
}

impl Logs {
    /// An entry is durable on some machine, after one of `term_before`.
    pub fn durable(&mut self, entry: &Entry, term_before: u64) -> Finding {
        let content = crc32c::crc32c_append(entry.kind as u32, &entry.data);
        let is = (content, term_before);
        let was = *self.entries.entry((entry.index, entry.term)).or_insert(is);
        match was == is {
            true => Ok(()),
            false => Err(format!(
                "two logs differ at entry {} of term {}, or before it",
                entry.index, entry.term
            )),
        }
    }

    /// How far a node may be asked for the terms of what it calls committed: all before was compared.
    pub fn last_committed(&self) -> u64 {
        self.committed.len() as u64
    }

    /// A node calls the entry at `index` committed.
    pub fn committed(&mut self, index: u64, term: u64) -> Finding {
        match self.committed.get(index as usize - 1) {
            None => {
                let last = self.last_committed();
                self.committed.push(term);
                match index == last + 1 {
                    true => Ok(()),
                    false => Err(format!("entry {index} is committed, and {last} the last before")),
                }
            }
            Some(known) if *known == term => Ok(()),
            Some(known) => {
                Err(format!("entry {index} is committed with term {known} and with term {term}"))
            }
        }
    }

    /// A leader of `term` was elected, with a log of which `term_at` tells the terms; `None` where the log has no entry (any
    /// more: from `first_index` on it must).
    pub fn elected(
        &self,
        term: u64,
        first_index: u64,
        term_at: impl Fn(u64) -> Option<u64>,
    ) -> Finding {
        // The logs match, so that the last one shows all before it.
        let Some(last) = self.committed.iter().rposition(|of| *of < term) else { return Ok(()) };
        let index = last as u64 + 1;
        let is = term_at(index);
        if is == Some(self.committed[last]) || index < first_index {
            return Ok(());
        }
        Err(format!(
            "the leader of term {term} has {} at {index}, where one of term {} is committed",
            is.map_or("no entry".to_owned(), |of| format!("an entry of term {of}")),
            self.committed[last]
        ))
    }
}
