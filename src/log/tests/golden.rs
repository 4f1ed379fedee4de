//! The format itself, so that no change of it goes unnoticed.

use std::fmt::Write as _;

use super::*;
use crate::wire::log::Promise;

/// 16 bytes a line, without the lines that are as the one before.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut before: &[u8] = &[];
    for (number, line) in bytes.chunks(16).enumerate() {
        if line != before {
            write!(out, "{:04x} ", number * 16).unwrap();
            line.iter().for_each(|byte| write!(out, " {byte:02x}").unwrap());
            out.push('\n');
        }
        before = line;
    }
    out
}

#[test]
fn one_batch_byte_by_byte() {
    let disk = MemDisk::default();
    let promise = Promise { raft_id: 5, name: "node-5".into(), starts: 3, attempt: 0 };
    let record = Record {
        entries: vec![
            Entry { term: 2, index: 1, kind: 1, data: Bytes::new() },
            entry(2, 2, vec![0xee; 600]),
        ],
        hard_state: Some(hard_state(2, 5, 1)),
        standing: Some(Standing { promise: Some(promise), ..Standing::default() }),
        ..Record::default()
    };
    let mut log = open(&disk, SMALL, 0xabc).log;
    let batch = Write::of(&disk, &mut log, &record);
    let expected = include_str!("golden_batch.txt");
    assert_eq!(dump(&batch.bytes), expected, "raise FORMAT_VERSION if this is on purpose");
}
