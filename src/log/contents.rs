//! What the log holds, as the sum of its records.

use super::WAY_OUT;
use crate::error::{Error, Result};
use crate::wire::log::{Entry, HardState, Record, Standing};

/// The entries and the last hard state and standing. The indexes of the entries have no gap; the
/// first need not be 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// In index order.
    pub entries: Vec<Entry>,
    /// As last written. The default, if never.
    pub hard_state: HardState,
    /// As last written. The default (free), if never.
    pub standing: Standing,
}

impl Contents {
    /// The index of the last entry; 0 if there is none.
    pub fn last_index(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.index)
    }

    /// Adds the next record. An error says what makes it impossible after those before it.
    pub(super) fn fold(&mut self, record: Record) -> std::result::Result<(), String> {
        for entry in record.entries {
            self.add(entry)?;
        }
        if let Some(hard_state) = record.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(standing) = record.standing {
            self.standing = standing;
        }
        Ok(())
    }

    fn add(&mut self, entry: Entry) -> std::result::Result<(), String> {
        if let Some(first) = self.entries.first() {
            let last = self.last_index();
            // Nothing comes behind the largest index: there, only the entry itself can be replaced.
            if !(first.index..=last.saturating_add(1)).contains(&entry.index) {
                return Err(format!(
                    "it holds entry {}, but the log so far has the entries {} to {last}",
                    entry.index, first.index
                ));
            }
            // What was there, and all that was built on it, lost to another leader's entry. The
            // position is at most the length of the vector.
            self.entries.truncate((entry.index - first.index) as usize);
        }
        self.entries.push(entry);
        Ok(())
    }
}

/// Refuses a hard state that calls an entry committed which the node does not have. `last_index` is
/// the last index that the node has, in the log or applied.
pub fn check_commit(hard_state: &HardState, last_index: u64) -> Result<()> {
    if hard_state.commit <= last_index {
        return Ok(());
    }
    Err(Error::Environment(format!(
        "the log says that entry {} is committed, but the last entry of this node is {last_index}: \
         a part of its data is missing. {}",
        hard_state.commit, WAY_OUT
    )))
}

/// Refuses a log that ends before what the state machine has applied: a node that lost what it had written, its vote
/// included, must not go on as if it never had.
pub fn check_applied(applied: u64, last_index: u64) -> Result<()> {
    if applied <= last_index {
        return Ok(());
    }
    Err(Error::Environment(format!(
        "the database has applied entry {applied}, but the last entry of the log is {last_index}: a part of the log is \
         missing. {WAY_OUT}"
    )))
}
