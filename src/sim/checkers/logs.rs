//! The logs of all machines, and what of them is committed.
//!
//! An entry is known by its index and term. If two that are the same in both are the same in content and follow entries
//! of the same term, then by induction the logs before them are the same too: log matching.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Finding;
use super::witness::request_id;
use crate::wire::log::Entry;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Logs {
    /// By index and term: what was seen of it first.
    entries: BTreeMap<(u64, u64), Seen>,
    /// The committed entry at `i + 1`, as the first said who knew it.
    committed: Vec<Committed>,
    /// By request id, the first committed entry with that write.
    writes: BTreeMap<Bytes, u64>,
}

#[derive(Debug)]
struct Committed {
    /// Of the entry.
    term: u64,
    /// In which it was committed: that of the leader who did it, and so was the first to know.
    in_term: u64,
}

#[derive(Debug)]
struct Seen {
    /// A checksum of the content.
    content: u32,
    term_before: Option<u64>,
    /// Of a write.
    request_id: Option<Bytes>,
}

impl Logs {
    /// An entry is durable on some machine, after one of `term_before`, as far as that is known.
    pub fn durable(&mut self, entry: &Entry, term_before: Option<u64>) -> Finding {
        let content = crc32c::crc32c_append(entry.kind as u32, &entry.data);
        let seen = || Seen { content, term_before, request_id: request_id(entry) };
        let was = self.entries.entry((entry.index, entry.term)).or_insert_with(seen);
        was.term_before = was.term_before.or(term_before);
        match was.content == content && (term_before.is_none() || was.term_before == term_before) {
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

    /// A node in term `in_term` calls the entry at `index` committed.
    pub fn committed(&mut self, index: u64, term: u64, in_term: u64) -> Finding {
        match self.committed.get(index as usize - 1).map(|known| known.term) {
            None => {
                let last = self.last_committed();
                let seen = self.entries.get(&(index, term));
                if let Some(id) = seen.and_then(|seen| seen.request_id.clone()) {
                    self.writes.entry(id).or_insert(index);
                }
                self.committed.push(Committed { term, in_term });
                match index == last + 1 {
                    true => Ok(()),
                    false => Err(format!("entry {index} is committed, and {last} the last before")),
                }
            }
            Some(known) if known == term => Ok(()),
            Some(known) => {
                Err(format!("entry {index} is committed with term {known} and with term {term}"))
            }
        }
    }

    /// Whether an entry is committed, as far as anybody said.
    pub fn is_committed(&self, entry: &Entry) -> bool {
        let known = self.committed.get(entry.index as usize - 1);
        known.is_some_and(|known| known.term == entry.term)
    }

    /// The first committed entry with the write of that request.
    pub fn written_at(&self, request_id: &Bytes) -> Option<u64> {
        self.writes.get(request_id).copied()
    }

    /// A leader of `term` was elected: it has all that was committed in terms before. One that learns of its election late may
    /// lack what was committed in later ones. `term_at` tells the terms of its log; `None` where that has no entry (any more:
    /// from `first_index` on it must).
    pub fn elected(
        &self,
        term: u64,
        first_index: u64,
        term_at: impl Fn(u64) -> Option<u64>,
    ) -> Finding {
        // The logs match, so that the last one shows all before it.
        let earlier = |entry: &Committed| entry.in_term < term;
        let Some(last) = self.committed.iter().rposition(earlier) else { return Ok(()) };
        let index = last as u64 + 1;
        let is = term_at(index);
        let Committed { term: committed, in_term } = self.committed[last];
        if is == Some(committed) || index < first_index {
            return Ok(());
        }
        Err(format!(
            "the leader of term {term} has {} at {index}, where one of term {committed} was committed in term {in_term}",
            is.map_or("no entry".to_owned(), |of| format!("an entry of term {of}")),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_has_what_was_committed_before_its_term_and_need_not_have_more() {
        let mut logs = Logs::default();
        logs.committed(1, 1, 1).unwrap();
        // Of the first term too, but committed by the leader of the third.
        logs.committed(2, 1, 3).unwrap();
        let term_at = |index| [None, Some(1), Some(2)].get(index as usize).copied().flatten();
        assert_eq!(logs.elected(2, 1, term_at), Ok(()), "it learns late that it was elected");
        assert!(logs.elected(4, 1, term_at).unwrap_err().contains("at 2"));
        assert!(logs.elected(2, 1, |_| None).unwrap_err().contains("no entry at 1"));
        assert_eq!(logs.elected(4, 3, |_| None), Ok(()), "what a snapshot holds is not looked at");
    }
}
