//! The same index, the same state, on every machine, whenever each committed and however often it started anew.

use std::collections::BTreeMap;

use super::Finding;
use crate::store::Digest;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct States {
    /// By index: whose state was seen first, and its digest.
    by_index: BTreeMap<u64, (String, Digest)>,
}

impl States {
    /// The state of `name` is that as of `index`.
    pub fn applied(&mut self, name: &str, index: u64, digest: Digest) -> Finding {
        let (first, was) = self.by_index.entry(index).or_insert_with(|| (name.to_owned(), digest));
        match *was == digest {
            true => Ok(()),
            false => Err(format!("the states of {first} and {name} differ as of entry {index}")),
        }
    }

    /// The digest of the state as of that index, if anybody was seen there.
    pub fn digest(&self, index: u64) -> Option<&Digest> {
        self.by_index.get(&index).map(|(_, digest)| digest)
    }
}
