//! Reading many keys: the bounds of a prefix, and an iterator that turns the pages.

use bytes::Bytes;

use super::{Client, Error, Result};
use crate::wire::client::{KeyValue, Range};

/// The range of the keys that begin with `prefix`; all keys if it is empty.
///
/// ```
/// let range = phalanx::client::prefix("user/");
/// assert_eq!((&range.from[..], &range.to[..]), (&b"user/"[..], &b"user0"[..]));
/// ```
pub fn prefix(prefix: impl AsRef<[u8]>) -> Range {
    let from = prefix.as_ref();
    Range { from: Bytes::copy_from_slice(from), to: prefix_end(from), ..Range::default() }
}

/// The first key after all keys that begin with `prefix`; empty if there is none, which means no
/// upper bound.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end.into()
}

/// The entries of a range, read page by page as they are asked for. Each page is of one revision; a
/// write between two pages shows in the later one. After an error it yields nothing more.
#[derive(Debug)]
pub struct Entries {
    client: Client,
    /// What is left to read; `None` once the last page was read.
    rest: Option<Range>,
    page: std::vec::IntoIter<KeyValue>,
    revision: u64,
}

impl Entries {
    pub(super) fn new(client: Client, range: Range) -> Entries {
        Entries { client, rest: Some(range), page: Vec::new().into_iter(), revision: 0 }
    }

    /// The revision of the page that was read last; 0 before the first.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn turn(&mut self, range: Range) -> Result<()> {
        let reply = self.client.range(range.clone())?;
        self.revision = reply.revision;
        self.page = reply.result.kvs.into_iter();
        if !reply.result.next.is_empty() {
            // Else a faulty node could keep the loop in `next` busy for ever.
            if reply.result.next <= range.from {
                return Err(Error::unavailable("a node's range reply does not move on"));
            }
            self.rest = Some(Range { from: reply.result.next, ..range });
        }
        Ok(())
    }
}

impl Iterator for Entries {
    type Item = Result<KeyValue>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(kv) = self.page.next() {
                return Some(Ok(kv));
            }
            let rest = self.rest.take()?;
            if let Err(error) = self.turn(rest) {
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix() {
        for (given, end) in [
            (&b"a"[..], &b"b"[..]),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\xff\xff", b""),
            (b"", b""),
            (b"ab", b"ac"),
        ] {
            assert_eq!(prefix_end(given), end, "{given:?}");
        }
    }
}
