//! The chunks of a snapshot, as a receiver takes them in: as they were sent, damaged on the way, or forged.
//!
//! What must hold:
//! - Whatever comes, it is taken in or refused, and nothing else happens.
//! - What was only damaged (chunks lost, doubled, swapped, with other bytes) makes no store but the one that was sent.
//! - What has every checksum right, whoever made it, makes a store that is what its header says, and that gives the same
//!   chunks again.
//!
//! An input: a byte for the length of chunks and for whether the checksums are made right at the end, a byte for the number
//! of writes in the store that is sent, and the strokes that its chunks are dealt.

use bytes::Bytes;

use phalanx::store::map::Map;
use phalanx::store::mem_map::MemMap;
use phalanx::store::transfer::{Failure, Source, Target};
use phalanx::store::{Store, WindowBounds, tally};
use phalanx::wire::client::{Delete, Op, Put, Txn, Write, op};
use phalanx::wire::log::{Command, Membership};
use phalanx::wire::snapshot::{Chunk, Header};
use prost::Message;

use super::input::Input;

const FORGED: u8 = 0x80;
const WINDOW: WindowBounds = WindowBounds { entries_max: 8, len_bytes_max: 400 };

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let writes = input.below(24);
    let chunk_len = 40 + 4 * usize::from(kind & !FORGED);
    let sent = store(writes);
    let mut chunks = chunks(&sent, chunk_len);
    while !input.is_empty() {
        strike(&mut chunks, &mut input);
    }
    let is_forged = kind & FORGED != 0;
    if is_forged {
        forge(&mut chunks);
    }
    let Some(built) = build(&chunks) else { return };
    let same = snapshot(&built) == snapshot(&sent);
    assert!(same || is_forged, "what was damaged is taken for whole");
    if !same {
        check_forged(&built, &chunks);
    }
}

/// A store after some writes, the same for the same number.
fn store(writes: usize) -> Store<MemMap> {
    let mut store = Store::open_with(MemMap::default(), WINDOW).expect("a map in memory opens");
    if writes > 2 {
        store.apply_membership(1, 1, Membership { expect: 3, ..Membership::default() });
    }
    for write in 0..writes as u8 {
        let key = Bytes::copy_from_slice(&[b'k', write * 7 % 11]);
        let op = match write % 5 {
            4 => op::Op::Delete(Delete { key }),
            _ => op::Op::Put(Put { key, value: vec![write; usize::from(write) * 3].into() }),
        };
        let index = store.applied().index + 1;
        let request_id = Bytes::copy_from_slice(&[write; 16]);
        let txn = Some(Txn { success: vec![Op { op: Some(op) }], ..Txn::default() });
        let write = Some(Write { request_id, since: index - 1, txn });
        let command = Command { time_ms: index, write, ..Command::default() };
        store.apply(index, 1, &command).expect("a map in memory does not fail");
    }
    if let Some(commit) = store.begin_commit(Default::default(), true) {
        drop(store.committed(commit.run().expect("a map in memory commits")));
    }
    store
}

fn snapshot(store: &Store<MemMap>) -> <MemMap as Map>::Snapshot {
    let durable = store.durable_snapshot(&Bytes::from_static(b"the cluster's id"));
    durable.expect("a map in memory is read").snapshot
}

fn chunks(store: &Store<MemMap>, chunk_len: usize) -> Vec<Chunk> {
    let durable = store.durable_snapshot(&Bytes::from_static(b"the cluster's id"));
    let durable = durable.expect("a map in memory is read");
    let mut source = Source::new(durable.snapshot, durable.header, chunk_len);
    let read = |number| source.read(number).expect("a map in memory is read");
    (0..).map_while(read).collect()
}

/// Changes something about the chunks.
fn strike(chunks: &mut Vec<Chunk>, input: &mut Input<'_>) {
    let stroke = input.below(12);
    if chunks.is_empty() {
        return;
    }
    let (at, other) = (input.below(chunks.len().min(256)), input.below(chunks.len().min(256)));
    match stroke {
        0 => drop(chunks.remove(at)),
        1 => chunks.insert(at, chunks[other].clone()),
        2 => chunks.swap(at, other),
        3 => chunks.truncate(at + 1),
        4 => chunks[at].is_last = !chunks[at].is_last,
        5 => chunks[at].number = input.u64() >> (8 * input.below(8)),
        6 => chunks[at].crc = input.u64() as u32,
        7 => chunks[at].header = chunks[other].header.clone(),
        8 => strike_header(chunks[at].header.get_or_insert_default(), input),
        9 => {
            let rows = chunks[other].rows.clone();
            chunks[at].rows = rows;
        }
        _ => strike_rows(&mut chunks[at], input),
    }
}

fn strike_header(header: &mut Header, input: &mut Input<'_>) {
    let field = input.below(10);
    match field {
        0 => header.format ^= input.u64() as u32,
        1 => header.apply ^= input.u64() as u32,
        2 => header.index = input.u64(),
        3 => header.term = input.u64(),
        4 => header.revision = input.u64(),
        5 => header.time_ms = input.u64(),
        6 => header.keys = input.u64() >> (8 * input.below(8)),
        7 => header.logical_bytes = input.u64(),
        8 => header.digest = Bytes::copy_from_slice(input.sized(5)),
        // A header of any bytes.
        _ => *header = Header::decode(input.sized(7)).unwrap_or_default(),
    }
}

/// Puts other bytes in the place of some.
fn strike_rows(chunk: &mut Chunk, input: &mut Input<'_>) {
    let mut rows = chunk.rows.to_vec();
    let at = usize::from(input.u16()) % (rows.len() + 1);
    let end = (at + input.below(40)).min(rows.len());
    rows.splice(at..end, input.sized(6).iter().copied());
    chunk.rows = rows.into();
}

/// Makes every checksum right, and every number.
fn forge(chunks: &mut [Chunk]) {
    let mut crc = 0;
    for (chunk, number) in chunks.iter_mut().zip(0..) {
        chunk.number = number;
        let header = chunk.header.as_ref().map(Message::encode_to_vec).unwrap_or_default();
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &header), &chunk.rows);
        chunk.crc = crc;
    }
}

/// The store that comes of the chunks, if they make one.
fn build(chunks: &[Chunk]) -> Option<Store<MemMap>> {
    let refused = |failure: Failure| match failure {
        Failure::Refused(refused) => assert!(!refused.to_string().is_empty()),
        Failure::Map(error) => panic!("a map in memory has failed: {error}"),
    };
    let mut target = Target::new(MemMap::default(), WINDOW);
    for chunk in chunks {
        target.add(chunk).map_err(refused).ok()?;
    }
    match target.is_complete() {
        true => target.finish().map_err(refused).ok(),
        false => None,
    }
}

/// A store that was forged is one all the same.
fn check_forged(built: &Store<MemMap>, chunks: &[Chunk]) {
    let figures = tally(&snapshot(built)).expect("its rows are what it says of itself");
    let header = chunks[0].header.as_ref().expect("a store came of it");
    assert_eq!((header.index, header.keys), (figures.applied.index, figures.keys));
    assert_eq!(header.digest[..], figures.digest);
    let again = self::chunks(built, 1 << 20);
    let rows =
        |chunks: &[Chunk]| chunks.iter().flat_map(|it| it.rows.to_vec()).collect::<Vec<u8>>();
    assert_eq!(rows(&again), rows(chunks), "the rows that were sent are not those that are there");
}
