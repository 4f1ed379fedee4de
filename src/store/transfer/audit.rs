//! A snapshot that is gone through where it was taken, since a receiver says that its rows are not what it says of itself.
//!
//! Promises: it is judged as a receiver judges it, and so that other transfers go on meanwhile, a chunk at a time.

#![forbid(unsafe_code)]

use super::super::WindowBounds;
use super::super::map::Snapshot;
use super::{Inspection, Refused, Source};
use crate::error::Result;

/// See the [module](self).
pub(super) struct Audit<S: Snapshot> {
    source: Source<S>,
    inspection: Inspection,
}

impl<S: Snapshot> Audit<S> {
    /// Of a snapshot of a store with these bounds.
    pub fn new(source: Source<S>, bounds: WindowBounds) -> Audit<S> {
        Audit { source: source.from_the_start(), inspection: Inspection::new(bounds) }
    }

    /// Goes through the next chunk. Gives what was found, once all is known. Blocks.
    pub fn go_on(&mut self) -> Result<Option<std::result::Result<(), Refused>>> {
        let chunk = self.source.read(self.inspection.due())?;
        let chunk = chunk.expect("there is one after each that is not the last");
        let found = self.inspection.add(&chunk);
        Ok(match found {
            Ok(()) if !self.inspection.is_complete() => None,
            Ok(()) => Some(self.inspection.finish().map(|_| ())),
            Err(refused) => Some(Err(refused)),
        })
    }
}
