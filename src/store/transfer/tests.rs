//! What goes in comes out, and nothing else does.

mod backups;

use bytes::Bytes;
use fastrand::Rng;

use super::super::lmdb::LmdbMap;
use super::super::map::{Batch, Map, Table};
use super::super::mem_map::MemMap;
use super::super::tests::{command, commit, delete, done, get, id, ops, put, rows, small_window};
use super::super::{Store, WindowBounds};
use super::chunk::{Row, checksum};
use super::{Durable, Failure, Job, News, Outgoing, Refused, Source, Target, Transfers};
use crate::limits::{DISK_RESERVE, SNAPSHOT_STARTS_MAX, SNAPSHOT_WINDOW, VALUE_LEN_MAX};
use crate::wire::log::{ConfState, Membership};
use crate::wire::snapshot::Chunk;

const CHUNK_LEN: usize = 300;

fn cluster_id() -> Bytes {
    Bytes::from_static(&[7; 16])
}

/// A store after random writes, all of it committed.
fn random_store<M: Map>(map: M, seed: u64, writes: u32) -> Store<M> {
    let mut rng = Rng::with_seed(seed);
    let mut store = Store::open_with(map, small_window()).unwrap();
    let conf_state = Some(ConfState { voters: vec![1, 2, 3], ..ConfState::default() });
    store.apply_membership(1, 1, Membership { conf_state, ..Membership::default() });
    for _ in 0..writes {
        let key = [rng.u8(..), rng.u8(..4)];
        let value = vec![rng.u8(..); rng.usize(..200)];
        done(
            &mut store,
            ops(vec![if rng.u8(..5) == 0 { delete(&key) } else { put(&key, &value) }]),
        );
        if rng.u8(..10) == 0 {
            commit(&mut store);
        }
    }
    commit(&mut store);
    store
}

fn source<M: Map>(store: &Store<M>) -> Source<M::Snapshot> {
    let durable = store.durable_snapshot(&cluster_id()).unwrap();
    Source::new(durable.snapshot, durable.header, CHUNK_LEN)
}

fn chunks<M: Map>(store: &Store<M>) -> Vec<Chunk> {
    let mut source = source(store);
    let mut chunks = Vec::new();
    while chunks.last().is_none_or(|chunk: &Chunk| !chunk.is_last) {
        chunks.push(source.read(chunks.len() as u64).unwrap().unwrap());
    }
    assert_eq!(source.read(chunks.len() as u64).unwrap(), None);
    chunks
}

/// The store that comes of chunks, in a map of its own. Nothing comes of those that end too early.
fn build_in<M: Map>(map: M, chunks: &[Chunk]) -> Result<Option<Store<M>>, Refused> {
    let refused = |failure| match failure {
        Failure::Refused(refused) => refused,
        Failure::Map(error) => panic!("{error}"),
    };
    let mut target = Target::new(map, small_window());
    for chunk in chunks {
        target.add(chunk).map_err(refused)?;
    }
    target.is_complete().then(|| target.finish().map_err(refused)).transpose()
}

fn build(chunks: &[Chunk]) -> Result<Option<Store<MemMap>>, Refused> {
    build_in(MemMap::default(), chunks)
}

#[track_caller]
fn refusal_of(chunks: &[Chunk]) -> Refused {
    build(chunks).err().expect("they are refused")
}

/// As a sender without scruples would make them: each checksum is right.
fn forge(chunks: &mut [Chunk]) {
    let mut crc = 0;
    for chunk in chunks {
        crc = checksum(crc, chunk.header.as_ref(), &chunk.rows);
        chunk.crc = crc;
    }
}

fn assert_same<A: Map, B: Map>(store: &Store<A>, built: &Store<B>) {
    assert_eq!(rows(&store.map), rows(&built.map));
    assert_eq!(store.applied(), built.applied());
    assert_eq!(built.durable(), built.applied());
    assert_eq!(store.membership(), built.membership());
}

#[test]
fn tables_come_out_byte_for_byte_and_the_store_goes_on() {
    for seed in 0..20 {
        let mut store = random_store(MemMap::default(), seed, 150);
        let chunks = chunks(&store);
        assert!(chunks.len() > 10, "{}", chunks.len());
        let mut built = build(&chunks).unwrap().unwrap();
        assert_same(&store, &built);
        // The outcomes of writes came with it: a retry is answered alike.
        let (index, last) = (store.applied().index + 1, store.applied().index);
        let retry = command(id(last), last - 1, ops(vec![get(b"k")]));
        let outcome = store.apply(index, 1, &retry).unwrap();
        assert_eq!(built.apply(index, 1, &retry).unwrap(), outcome);
    }
}

#[test]
fn between_maps_of_both_kinds_in_several_batches() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        LmdbMap::open(&path).unwrap()
    };
    let mut store = random_store(open("state-1"), 1, 100);
    for i in 0..8u8 {
        done(&mut store, ops(vec![put(&[b'k', i], &vec![i; VALUE_LEN_MAX])]));
    }
    commit(&mut store);
    let chunks = chunks(&store);
    assert_same(&store, &build(&chunks).unwrap().unwrap());
    assert_same(&store, &build_in(open("state-2"), &chunks).unwrap().unwrap());
}

#[test]
fn a_chunk_is_the_same_however_often_it_is_read_and_whatever_is_committed_meanwhile() {
    let mut store = random_store(MemMap::default(), 3, 200);
    let chunks = chunks(&store);
    for broken_at in 0..chunks.len() {
        let mut source = source(&store);
        let read_to = (broken_at + 2).min(chunks.len());
        for number in (0..read_to).chain(broken_at..chunks.len()) {
            let chunk = source.read(number as u64).unwrap();
            assert_eq!(chunk.as_ref(), Some(&chunks[number]));
        }
    }
    let mut source = source(&store);
    assert_eq!(source.read(2).unwrap(), None, "nobody knows yet where it begins");
    done(&mut store, ops(vec![put(b"later", b"value")]));
    commit(&mut store);
    for chunk in &chunks {
        assert_eq!(source.read(chunk.number).unwrap().as_ref(), Some(chunk));
    }
}

#[test]
fn a_store_in_which_nothing_was_ever_committed() {
    let store = Store::open_with(MemMap::default(), small_window()).unwrap();
    let chunks = chunks(&store);
    assert_eq!(chunks.len(), 2);
    assert_same(&store, &build(&chunks).unwrap().unwrap());
}

#[test]
fn every_flipped_bit_is_noticed() {
    let store = random_store(MemMap::default(), 4, 12);
    let chunks = chunks(&store);
    assert!(build(&chunks).unwrap().is_some());
    let mut flips = 0;
    for at in 0..chunks.len() {
        for bit in 0..chunks[at].rows.len() * 8 {
            let mut damaged = chunks.clone();
            let mut rows = damaged[at].rows.to_vec();
            rows[bit / 8] ^= 1 << (bit % 8);
            damaged[at].rows = rows.into();
            assert_eq!(refusal_of(&damaged), Refused::Checksum(at as u64));
            flips += 1;
        }
        for bit in 0..32 {
            let mut damaged = chunks.clone();
            damaged[at].crc ^= 1 << bit;
            assert_eq!(refusal_of(&damaged), Refused::Checksum(at as u64));
        }
    }
    assert!(flips > 5_000, "{flips}");
}

#[test]
fn chunks_that_are_missing_twice_or_swapped_are_noticed() {
    let store = random_store(MemMap::default(), 5, 60);
    let chunks = chunks(&store);
    for at in 0..chunks.len() {
        let mut without = chunks.clone();
        without.remove(at);
        assert!(!matches!(build(&without), Ok(Some(_))), "without chunk {at}");
        let mut twice = chunks.clone();
        twice.insert(at, chunks[at].clone());
        assert!(build(&twice).is_err(), "chunk {at} twice");
        let mut short = chunks[..at].to_vec();
        assert!(build(&short).unwrap().is_none(), "{at} chunks");
        if let Some(last) = short.last_mut() {
            last.is_last = true;
            let refused = refusal_of(&short);
            assert!(matches!(refused, Refused::State(_)), "{at} chunks: {refused}");
        }
        for other in at + 1..chunks.len() {
            let mut swapped = chunks.clone();
            swapped.swap(at, other);
            assert!(build(&swapped).is_err(), "{at} and {other} swapped");
            let number = |at: usize| at as u64;
            (swapped[at].number, swapped[other].number) = (number(at), number(other));
            assert!(build(&swapped).is_err(), "{at} and {other} swapped and renumbered");
        }
    }
}

#[test]
fn a_header_that_does_not_fit_is_refused() {
    let store = random_store(MemMap::default(), 6, 20);
    let chunks = chunks(&store);
    type Change = fn(&mut crate::wire::snapshot::Header);
    let changes: [(&str, Change); 9] = [
        ("snapshot format 9", |header| header.format = 9),
        ("apply version 9", |header| header.apply = 9),
        ("index", |header| header.index += 1),
        ("term", |header| header.term += 1),
        ("revision", |header| header.revision += 1),
        ("time", |header| header.time_ms += 1),
        ("number of keys", |header| header.keys += 1),
        ("number of bytes", |header| header.logical_bytes -= 1),
        ("digest", |header| header.digest = vec![0; 16].into()),
    ];
    for (what, change) in changes {
        let mut chunks = chunks.clone();
        change(chunks[0].header.as_mut().unwrap());
        assert_eq!(refusal_of(&chunks), Refused::Checksum(0));
        forge(&mut chunks);
        let refused = refusal_of(&chunks).to_string();
        assert!(refused.contains(what), "{what}: {refused}");
    }
    let mut second = chunks.clone();
    second[1].header = second[0].header.clone();
    forge(&mut second);
    assert!(matches!(build(&second), Err(Refused::Header(_))));
    let mut none = chunks.clone();
    none[0].header = None;
    forge(&mut none);
    assert!(matches!(build(&none), Err(Refused::Header(_))));
}

/// The chunks of a small store, with one row more in front of those of chunk 1.
fn with_row(table: u8, key: &[u8], value: &[u8]) -> Vec<Chunk> {
    let store = random_store(MemMap::default(), 7, 20);
    let mut chunks = chunks(&store);
    let mut rows = Vec::new();
    Row { table: Table::Data, key, value }.put(&mut rows);
    rows[0] = table;
    rows.extend_from_slice(&chunks[1].rows);
    chunks[1].rows = rows.into();
    forge(&mut chunks);
    chunks
}

#[test]
fn rows_that_no_store_has_are_refused() {
    let record = [0; 24];
    let cases: [(&str, Vec<Chunk>); 6] = [
        ("a table that is not known", with_row(3, b"k", &record)),
        ("no key", with_row(0, b"", &record)),
        ("over the limit", with_row(0, &[0; 1025], &record)),
        ("no record", with_row(0, &[0], &record[1..])),
        ("a value over the limit", with_row(0, &[0], &vec![0; 24 + VALUE_LEN_MAX + 1])),
        ("out of order", with_row(0, &[0xff; 9], &record)),
    ];
    for (what, chunks) in cases {
        let refused = refusal_of(&chunks).to_string();
        assert!(refused.contains(what), "{what}: {refused}");
    }
    // In order, and not in the header's accounts.
    let refused = refusal_of(&with_row(0, &[0], &record)).to_string();
    assert!(refused.contains("its rows are not what it says of itself"), "{refused}");
    let mut torn = with_row(0, &[0], &record);
    torn[1].rows = torn[1].rows.slice(..torn[1].rows.len() - 1);
    forge(&mut torn);
    assert_eq!(refusal_of(&torn), Refused::Row("is cut short"));
}

#[test]
fn remembered_requests_that_no_window_holds_are_refused() {
    let row = |index: u64, id: u8| {
        let value = [&[id; 16][..], &[1]].concat();
        let mut rows = Vec::new();
        let key = &index.to_be_bytes()[..];
        Row { table: Table::Remembered, key, value: &value }.put(&mut rows);
        rows
    };
    let store = random_store(MemMap::default(), 8, 3);
    let forged = |rows: Vec<u8>| {
        let mut chunks = chunks(&store);
        let last = chunks.len() - 1;
        // Behind all others of the table: what comes after is meta data, which begins with `applied`.
        let is_meta =
            |at: &usize| chunks[last].rows[*at..].starts_with(b"\x02\0\x07\0\0\0\x10applied");
        let at = (0..chunks[last].rows.len()).find(is_meta).expect("the last chunk has it all");
        let (before, after) = chunks[last].rows.split_at(at);
        chunks[last].rows = [before, &rows, after].concat().into();
        forge(&mut chunks);
        chunks
    };
    // Where the rows themselves are the damage, the digest among them: as a file on disk may be, too.
    for damage in [[(100u64, 9u8), (101, 9)], [(1, 8), (100, 9)]] {
        let (mut damaged, mut restored) = (Batch::default(), Batch::default());
        for (index, id) in damage {
            let value = [&[id; 16][..], &[1]].concat();
            damaged.put(Table::Remembered, index.to_be_bytes().to_vec(), value);
            restored.delete(Table::Remembered, index.to_be_bytes().to_vec());
        }
        damaged.put(Table::Meta, "remembered_floor", 1u64.to_be_bytes().to_vec());
        store.map.commit(&damaged).unwrap();
        let error = Store::open_with(store.map.clone(), small_window()).err().expect("refused");
        assert!(error.to_string().contains("out of order, or remembered twice"), "{error}");
        store.map.commit(&restored).unwrap();
    }
    let many: Vec<u8> =
        (0..small_window().entries_max as u64).flat_map(|i| row(100 + i, i as u8)).collect();
    let refused = refusal_of(&forged(many)).to_string();
    assert!(refused.contains("more than a store remembers"), "{refused}");
}

// ---- The jobs of a node. ----

/// Runs a job, and gives what it tells.
fn run<M: Map>(transfers: &mut Transfers<M>, job: Job<M>) -> Vec<News<M>> {
    let mut news = Vec::new();
    transfers.run(job, |told| news.push(told)).unwrap();
    news
}

/// Has one node's transfers take in what another's give, up to and without chunk `until`.
fn pass_on<M: Map>(
    from: &mut Transfers<M>,
    to: &mut Transfers<M>,
    id: u64,
    until: u64,
) -> Vec<News<M>> {
    let mut told = Vec::new();
    for news in run(from, Job::Read { id, from: 0, until }) {
        let News::Chunk(_, chunk) = news else { panic!("{news:?}") };
        told.extend(run(to, Job::Add(id, chunk)));
    }
    told
}

#[test]
fn a_transfer_from_node_to_node() {
    let (store, old) =
        (random_store(MemMap::default(), 9, 100), random_store(MemMap::default(), 10, 9));
    let [mut from, mut to] = [(); 2].map(|()| Transfers::with_chunks_of(CHUNK_LEN));
    let durable = store.durable_snapshot(&cluster_id()).unwrap();
    let (snapshot, header) = (durable.snapshot, durable.header);
    run(&mut from, Job::Open(5, Outgoing { snapshot, header: header.clone() }));
    assert!(run(&mut from, Job::Read { id: 6, from: 0, until: 9 }).is_empty(), "no such snapshot");
    run(&mut to, Job::Begin(5, old.incoming(2), header));
    assert_eq!(old.map.states(), [1, 2]);
    let mut told = pass_on(&mut from, &mut to, 5, u64::MAX);
    let Some(News::Built(5, built)) = told.pop() else { panic!("{told:?}") };
    let added = |(number, news): (usize, &News<MemMap>)| matches!(news, News::Added { id: 5, number: found } if *found == number as u64);
    assert!(told.iter().enumerate().all(added) && told.len() > 10, "{told:?}");
    assert_same(&store, &built);
    assert_same(&store, &Store::open_with(old.map.at(2).unwrap(), small_window()).unwrap());
    // The new one takes the old one's place.
    let map = old.map.clone();
    run(&mut to, Job::Discard(Box::new(old)));
    assert_eq!(map.states(), [2]);
    run(&mut from, Job::Close(5));
    assert!(run(&mut from, Job::Read { id: 5, from: 0, until: 9 }).is_empty(), "it is closed");
}

/// What a store's node finds in a snapshot that was refused after some of it was read, and in how many steps.
fn audit(store: &Store<MemMap>) -> (Result<(), Refused>, usize) {
    let mut transfers = Transfers::with_chunks_of(CHUNK_LEN);
    let Durable { snapshot, header, .. } = store.durable_snapshot(&cluster_id()).unwrap();
    run(&mut transfers, Job::Open(5, Outgoing { snapshot, header }));
    run(&mut transfers, Job::Read { id: 5, from: 0, until: u64::MAX });
    for steps in 1.. {
        let mut told = run(&mut transfers, store.audit(5));
        match told.pop() {
            Some(News::Audited { id: 5, found: None }) => {}
            Some(News::Audited { id: 5, found: Some(found) }) => {
                assert!(run(&mut transfers, store.audit(5)).is_empty(), "it is closed");
                return (found, steps);
            }
            other => panic!("{other:?}"),
        }
    }
    unreachable!("it has an end")
}

#[test]
fn a_snapshot_that_was_refused_is_judged_by_its_sender_as_by_its_receiver() {
    let store = random_store(MemMap::default(), 13, 400);
    let count = chunks(&store).len();
    assert!(count > SNAPSHOT_STARTS_MAX, "{count}");
    assert_eq!(audit(&store), (Ok(()), count));
    let rows = rows(&store.map);
    let (table, key, mut value) = rows.into_iter().find(|row| row.0 == Table::Data).unwrap();
    *value.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    batch.put(table, key, value);
    store.map.commit(&batch).unwrap();
    let (found, steps) = audit(&store);
    let refused = found.unwrap_err();
    assert!(refused.is_unsound() && steps == count, "{refused}");
    assert_eq!(refusal_of(&chunks(&store)), refused);
}

#[test]
fn chunks_that_nobody_can_ask_for_any_more_are_forgotten() {
    let store = random_store(MemMap::default(), 13, 400);
    let mut source = source(&store);
    let read = chunks(&store).len() as u64;
    let all: Vec<_> = (0..read).map(|number| source.read(number).unwrap()).collect();
    let known = (0..read).filter(|number| source.read(*number).unwrap().is_some()).count();
    // And chunk 0.
    assert_eq!(known, SNAPSHOT_STARTS_MAX + 1);
    for number in read - SNAPSHOT_WINDOW - 1..read {
        assert_eq!(source.read(number).unwrap(), all[number as usize]);
    }
}

#[test]
fn what_is_abandoned_or_refused_is_removed() {
    let (store, old) =
        (random_store(MemMap::default(), 11, 100), random_store(MemMap::default(), 12, 9));
    let [mut from, mut to] = [(); 2].map(|()| Transfers::with_chunks_of(CHUNK_LEN));
    let durable = store.durable_snapshot(&cluster_id()).unwrap();
    let (snapshot, header) = (durable.snapshot, durable.header);
    run(&mut from, Job::Open(5, Outgoing { snapshot, header: header.clone() }));
    run(&mut to, Job::Begin(5, old.incoming(2), header.clone()));
    assert_eq!(pass_on(&mut from, &mut to, 5, 4).len(), 4);
    run(&mut to, Job::Abandon(4));
    assert_eq!(old.map.states(), [1, 2], "another one was meant");
    run(&mut to, Job::Abandon(5));
    assert_eq!(old.map.states(), [1]);
    assert!(pass_on(&mut from, &mut to, 5, 4).is_empty());
    // Begun anew, in an empty map, and met with a chunk of something else.
    run(&mut to, Job::Begin(7, old.incoming(2), header));
    let chunk = Chunk { number: 1, ..Chunk::default() };
    let told = run(&mut to, Job::Add(7, chunk));
    assert!(
        matches!(told[..], [News::Refused(7, Refused::Number { due: 0, found: 1 })]),
        "{told:?}"
    );
    assert_eq!(old.map.states(), [1]);
    assert_eq!(rows(&old.map), rows(&random_store(MemMap::default(), 12, 9).map));
}

#[test]
fn a_disk_without_room_is_not_filled_up() {
    let (store, old) =
        (random_store(MemMap::default(), 13, 100), random_store(MemMap::default(), 14, 9));
    let mut to = Transfers::with_chunks_of(CHUNK_LEN);
    let header = store.durable_snapshot(&cluster_id()).unwrap().header;
    let is_refused = |told: &[News<MemMap>]| matches!(told, [News::Refused(5, Refused::NoRoom(_))]);
    old.map.set_free_bytes(DISK_RESERVE + header.logical_bytes - 1);
    assert!(is_refused(&run(&mut to, Job::Begin(5, old.incoming(2), header.clone()))));
    assert_eq!(old.map.states(), [1]);
    // It fills up while the snapshot comes.
    old.map.set_free_bytes(DISK_RESERVE + header.logical_bytes);
    assert!(run(&mut to, Job::Begin(5, old.incoming(2), header)).is_empty());
    old.map.set_free_bytes(DISK_RESERVE);
    let mut told = Vec::new();
    for chunk in chunks(&store) {
        told = run(&mut to, Job::Add(5, chunk));
    }
    assert!(is_refused(&told[1..]), "{told:?}");
    assert_eq!(old.map.states(), [1]);
}

#[test]
fn on_disk_a_state_is_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = |state: &str| dir.path().join(state);
    std::fs::create_dir(path("state-1")).unwrap();
    let old = random_store(LmdbMap::open(&path("state-1")).unwrap(), 15, 100);
    // Left there by a transfer that a crash ended.
    std::fs::create_dir(path("state-2")).unwrap();
    std::fs::write(path("state-2").join("data.mdb"), b"half").unwrap();
    let header = old.durable_snapshot(&cluster_id()).unwrap().header;
    let mut transfers = Transfers::default();
    run(&mut transfers, Job::Begin(5, old.incoming(2), header.clone()));
    let built =
        chunks(&old).into_iter().flat_map(|chunk| run(&mut transfers, Job::Add(5, chunk))).last();
    let Some(News::Built(5, built)) = built else { panic!("{built:?}") };
    assert_same(&old, &built);
    // A range read goes on while its state is removed.
    let before = rows(&old.map);
    let mut old = old;
    let scan = old.scan(&Default::default()).unwrap().unwrap();
    run(&mut transfers, Job::Discard(Box::new(old)));
    assert!(!path("state-1").exists() && path("state-2").exists());
    let found = scan.run().unwrap().result.kvs;
    let in_data = before.iter().filter(|(table, ..)| *table == Table::Data);
    assert_eq!(found.len(), in_data.count());
    // Another one, that is given up.
    run(&mut transfers, Job::Begin(6, built.incoming(3), header.clone()));
    assert!(path("state-3").exists());
    run(&mut transfers, Job::Begin(7, built.incoming(3), header));
    assert!(path("state-3").exists(), "begun anew, under the same number");
    run(&mut transfers, Job::Abandon(7));
    assert!(!path("state-3").exists());
    drop(built);
    let reopened = LmdbMap::open(&path("state-2")).unwrap();
    assert_eq!(rows(&reopened), before);
}

#[test]
fn the_window_of_a_real_store_fits() {
    let mut store = Store::open(MemMap::default()).unwrap();
    for i in 0..300u32 {
        done(&mut store, ops(vec![put(&i.to_be_bytes(), b"value")]));
    }
    commit(&mut store);
    let mut target = Target::new(MemMap::default(), WindowBounds::default());
    for chunk in chunks(&store) {
        target.add(&chunk).unwrap();
    }
    assert_same(&store, &target.finish().unwrap());
}
