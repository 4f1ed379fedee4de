//! What is stored under a key, and its encoding in the table of data.
//!
//! On disk: create revision, mod revision, version (each `u64`, big-endian), then the value. A change of this
//! layout raises the format version.

#![forbid(unsafe_code)]

use bytes::Bytes;

use super::digest::row_hash;
use super::map::Table;
use crate::error::{Error, Result};
use crate::wire::client::KeyValue;

const NUMBER_LEN: usize = size_of::<u64>();
const HEADER_LEN: usize = 3 * NUMBER_LEN;

/// A record in the write buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub create_revision: u64,
    pub mod_revision: u64,
    pub version: u64,
    /// A slice of the frame that brought it.
    pub value: Bytes,
}

/// A record where it lies, in the write buffer or in the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordRef<'a> {
    pub create_revision: u64,
    pub mod_revision: u64,
    pub version: u64,
    pub value: &'a [u8],
}

impl Record {
    pub fn as_ref(&self) -> RecordRef<'_> {
        let Record { create_revision, mod_revision, version, ref value } = *self;
        RecordRef { create_revision, mod_revision, version, value }
    }
}

impl<'a> RecordRef<'a> {
    pub fn decode(bytes: &'a [u8]) -> Result<RecordRef<'a>> {
        let Some((header, value)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(Error::Store(format!(
                "a record has {} bytes, at least {HEADER_LEN} are needed: the file is damaged, move the data \
                 directory away and let the node join anew with an empty one",
                bytes.len()
            )));
        };
        let number = |at: usize| {
            let mut be = [0; NUMBER_LEN];
            be.copy_from_slice(&header[at * NUMBER_LEN..][..NUMBER_LEN]);
            u64::from_be_bytes(be)
        };
        let (create_revision, mod_revision, version) = (number(0), number(1), number(2));
        Ok(RecordRef { create_revision, mod_revision, version, value })
    }

    pub fn encode(&self) -> Bytes {
        [&self.header()[..], self.value].concat().into()
    }

    /// What its row under `key` adds to the digest.
    pub fn row_hash(&self, key: &[u8]) -> u128 {
        row_hash(Table::Data, key, [&self.header(), self.value])
    }

    fn header(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let numbers = [self.create_revision, self.mod_revision, self.version];
        for (bytes, number) in header.chunks_exact_mut(NUMBER_LEN).zip(numbers) {
            bytes.copy_from_slice(&number.to_be_bytes());
        }
        header
    }

    /// The record for a client: a copy, so that an answer keeps no frame and no page alive.
    pub fn to_key_value(self, key: &[u8]) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(self.value),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_their_encoding() {
        for value in [&b""[..], b"v", &[0xff; 1000]] {
            let record =
                RecordRef { create_revision: 1, mod_revision: u64::MAX, version: 7, value };
            let bytes = record.encode();
            assert_eq!(RecordRef::decode(&bytes).unwrap(), record);
        }
    }

    #[test]
    fn a_short_record_is_refused() {
        let error = RecordRef::decode(&[0; HEADER_LEN - 1]).unwrap_err();
        assert!(error.stops_node() && error.to_string().contains("23 bytes"), "{error}");
    }
}
