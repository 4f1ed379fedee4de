//! What the log holds, as the sum of its records.
//!
//! Invariants:
//! - The indexes of the entries have no gap, and the first is the one after `base`.
//! - No entry replaces one that is committed: what is at or below the last commit index, or below a snapshot, stays.
//! - The term of `base` is known, but for one case: the entries at the front replaced some that a segment held which is
//!   gone. Then it is 0 ([`Contents::start`] finds a base whose term is known).

use super::WAY_OUT;
use crate::error::{Error, Result};
use crate::wire::log::{Carried, Entry, EntryId, HardState, Record, Snapshot, Standing};

/// The state machine's directory of a log in which no snapshot was installed.
pub const FIRST_STATE: u64 = 1;

/// The retained entries, what they follow, and the last hard state and standing.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    /// The last entry before the retained ones; zero in a log from the start.
    pub base: EntryId,
    /// In index order.
    pub entries: Vec<Entry>,
    /// As last written. The default, if never.
    pub hard_state: HardState,
    /// As last written. The default (free), if never.
    pub standing: Standing,
    /// The number of the state machine's directory.
    pub state: u64,
}

impl Default for Contents {
    fn default() -> Contents {
        Contents {
            base: EntryId::default(),
            entries: Vec::new(),
            hard_state: HardState::default(),
            standing: Standing::default(),
            state: FIRST_STATE,
        }
    }
}

/// What consensus starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The last entry before those in memory.
    pub base: EntryId,
    /// The entries after it: those that are not applied, and such as others may still need.
    pub entries: Vec<Entry>,
}

impl Contents {
    /// The index of the last entry, whether the log still has it or not; 0 if there is none.
    pub fn last_index(&self) -> u64 {
        self.last().index
    }

    /// The last entry, whether the log still has it or not.
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, id)
    }

    /// What consensus starts from, when the state machine has applied all up to `applied`.
    ///
    /// # Errors
    /// If the log ends before, begins too late for the state machine to go on, or has another entry there.
    pub fn start(self, applied: EntryId) -> Result<Start> {
        check_applied(applied.index, self.last_index())?;
        let Contents { mut base, mut entries, .. } = self;
        if applied.index < base.index {
            return Err(Error::Environment(format!(
                "the database has applied entry {}, but the log begins after entry {}: what is between them is \
                 missing. {WAY_OUT}",
                applied.index, base.index
            )));
        }
        if base.index > 0 && base.term == 0 {
            // What this replaced went with its segment, so it is applied.
            base = match applied.index == base.index {
                true => applied,
                // There are entries, up to `applied` at least.
                false => id(&entries.remove(0)),
            };
        }
        let found = match applied.index - base.index {
            0 => base,
            // No further than the last index, as was checked.
            distance => id(&entries[distance as usize - 1]),
        };
        if found != applied {
            return Err(Error::Environment(format!(
                "the database has applied entry {} of term {}, but in the log that is an entry of term {}: they do not \
                 belong together. {WAY_OUT}",
                applied.index, applied.term, found.term
            )));
        }
        Ok(Start { base, entries })
    }

    /// Takes in what the first batch of a segment says of those before it. In the first segment that there is, nothing else
    /// tells.
    pub(super) fn carry(
        &mut self,
        carried: Option<Carried>,
        is_first: bool,
    ) -> std::result::Result<(), String> {
        let Carried { last, state } = carried.unwrap_or(Carried { last: None, state: FIRST_STATE });
        let last = last.unwrap_or_default();
        if state == 0 || (last.index == 0) != (last.term == 0) {
            return Err(format!("it follows {} in state {state}", told(last)));
        }
        if is_first {
            (self.base, self.state) = (last, state);
        } else if (self.last(), self.state) != (last, state) {
            return Err(format!(
                "it follows {} in state {state}, but the log so far ends with {} in state {}",
                told(last),
                told(self.last()),
                self.state
            ));
        }
        Ok(())
    }

    /// Adds the next record. An error says what makes it impossible after those before it.
    pub(super) fn fold(&mut self, record: Record) -> std::result::Result<(), String> {
        if let Some(snapshot) = record.snapshot {
            self.install(snapshot, record.hard_state)?;
        }
        let committed = match record.snapshot {
            Some(_) => self.base.index,
            None => self.hard_state.commit,
        };
        for entry in record.entries {
            self.add(entry, committed)?;
        }
        if let Some(hard_state) = record.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(standing) = record.standing {
            self.standing = standing;
        }
        Ok(())
    }

    fn install(
        &mut self,
        snapshot: Snapshot,
        hard_state: Option<HardState>,
    ) -> std::result::Result<(), String> {
        let last = snapshot.last.unwrap_or_default();
        if last.index == 0 || last.term == 0 || snapshot.state < self.state {
            return Err(format!("it installs state {} as of {}", snapshot.state, told(last)));
        }
        if last.index < self.hard_state.commit {
            return Err(format!(
                "it installs a snapshot as of {}, but entry {} was committed before",
                told(last),
                self.hard_state.commit
            ));
        }
        if hard_state.is_none_or(|hard_state| hard_state.commit < last.index) {
            return Err(format!("it installs a snapshot as of {}, not committed", told(last)));
        }
        self.entries.clear();
        (self.base, self.state) = (last, snapshot.state);
        Ok(())
    }

    fn add(&mut self, entry: Entry, committed: u64) -> std::result::Result<(), String> {
        let last = self.last_index();
        // Nothing comes behind the largest index: there, only the entry itself can be replaced.
        if entry.index <= committed || entry.index > last.saturating_add(1) {
            return Err(format!(
                "it holds entry {}, but the log so far has entries up to {last}, and up to {committed} they are committed",
                entry.index
            ));
        }
        // What was there, and all that was built on it, lost to another leader's entry. The position is at most the length
        // of the vector.
        match entry.index > self.base.index {
            true => self.entries.truncate((entry.index - self.base.index - 1) as usize),
            false => {
                // What was there went with its segment.
                self.entries.clear();
                self.base = EntryId { index: entry.index - 1, term: 0 };
            }
        }
        self.entries.push(entry);
        Ok(())
    }
}

fn id(entry: &Entry) -> EntryId {
    EntryId { index: entry.index, term: entry.term }
}

fn told(EntryId { index, term }: EntryId) -> String {
    match index {
        0 => "no entry".to_owned(),
        _ => format!("entry {index} of term {term}"),
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
