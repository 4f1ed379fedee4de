//! Backups as files, and what is made of one.

use std::ops::ControlFlow;

use super::super::file::{Chunks, Flaw, check, write_chunk, write_start};
use super::super::{Failure, Restore};
use super::*;
use crate::store::map::{KeyRange, Snapshot};
use crate::store::{Figures, Outcome, tally};
use crate::wire::client::Code;

fn file(chunks: &[Chunk]) -> Vec<u8> {
    let mut file = Vec::new();
    write_start(&mut file).unwrap();
    chunks.iter().for_each(|chunk| write_chunk(&mut file, chunk).unwrap());
    file
}

/// Where a file is no backup, and why.
#[track_caller]
fn flaw(file: &[u8]) -> (u64, String) {
    match check(file) {
        Err(Flaw::Damaged { offset, what }) => (offset, what),
        other => panic!("{other:?}"),
    }
}

fn membership() -> Membership {
    let conf_state = Some(ConfState { voters: vec![99], ..ConfState::default() });
    Membership { formed: true, conf_state, ..Membership::default() }
}

fn restore(chunks: &[Chunk]) -> Result<MemMap, Refused> {
    let map = MemMap::default();
    let mut restore = Restore::new(map.clone());
    let refused = |failure| match failure {
        Failure::Refused(refused) => refused,
        Failure::Map(error) => panic!("{error}"),
    };
    chunks.iter().try_for_each(|chunk| restore.add(chunk)).map_err(refused)?;
    restore.finish(membership()).map_err(refused)?;
    Ok(map)
}

fn data(map: &MemMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut data = Vec::new();
    let visit = |key: &[u8], value: &[u8]| {
        data.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    };
    map.snapshot().unwrap().scan(Table::Data, KeyRange::ALL, visit).unwrap();
    data
}

#[test]
fn a_file_holds_the_chunks_and_says_what_is_in_it() {
    let store = random_store(MemMap::default(), 1, 150);
    let chunks = chunks(&store);
    let file = file(&chunks);
    assert_eq!(&file[..8], b"phlxsnap");
    let mut read = Chunks::open(&file[..]).unwrap();
    for chunk in &chunks {
        assert_eq!(&read.next_chunk().unwrap().unwrap().1, chunk);
    }
    assert!(read.next_chunk().unwrap().is_none());
    let (header, figures) = check(&file[..]).unwrap();
    assert_eq!(Some(&header), chunks[0].header.as_ref());
    assert_eq!((figures.digest, figures.keys), (store.digest(), store.keys()));
}

#[test]
fn a_file_that_was_cut_short_is_refused_wherever_that_was() {
    let store = random_store(MemMap::default(), 2, 20);
    let file = file(&chunks(&store));
    for len in 0..file.len() {
        let (offset, what) = flaw(&file[..len]);
        assert!(offset <= len as u64, "{offset} of {len}");
        let told = ["does not begin", "cut short"].iter().any(|told| what.contains(told));
        assert!(told, "{len}: {what}");
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let store = random_store(MemMap::default(), 3, 20);
    let whole = file(&chunks(&store));
    check(&whole[..]).unwrap();
    let mut rng = Rng::with_seed(3);
    for at in 0..whole.len() {
        let mut file = whole.clone();
        file[at] ^= 1 << rng.u8(..8);
        let (offset, _) = flaw(&file);
        assert!(offset <= at as u64, "told at {offset}, and it is at {at}");
    }
}

#[test]
fn what_is_missing_doubled_out_of_order_or_too_much_is_refused() {
    let store = random_store(MemMap::default(), 4, 150);
    let all = chunks(&store);
    let refused = |chunks: &[Chunk], told: &str| {
        let (_, what) = flaw(&file(chunks));
        assert!(what.contains(told), "{what}");
    };
    let without = |i: usize| [&all[..i], &all[i + 1..]].concat();
    refused(&without(0), "chunk 1 came where chunk 0 is due");
    refused(&without(3), "chunk 4 came where chunk 3 is due");
    refused(&without(all.len() - 1), "before its last chunk");
    refused(&[&all[..4], &all[3..]].concat(), "chunk 3 came where chunk 4 is due");
    let mut longer = file(&all);
    longer.push(0);
    let (offset, what) = flaw(&longer);
    assert_eq!(offset, longer.len() as u64 - 1);
    assert!(what.contains("follows the last chunk"), "{what}");
    let mut unknown = all.clone();
    unknown[0].header.as_mut().unwrap().apply += 1;
    forge(&mut unknown);
    refused(&unknown, "apply version");
    // Of whatever length it says it is, no more is read than a chunk can have.
    let (offset, what) = flaw(&[&b"phlxsnap"[..], &u32::MAX.to_be_bytes(), &[0; 100]].concat());
    assert_eq!((offset, what.as_str()), (8, "no chunk has 4294967295 bytes"));
}

#[test]
fn a_restored_store_has_the_data_and_a_history_of_its_own() {
    for seed in 0..10 {
        let old = random_store(MemMap::default(), seed, 150);
        let map = restore(&chunks(&old)).unwrap();
        assert_eq!(data(&map), data(&old.map));
        let found = tally(&map.snapshot().unwrap()).unwrap();
        let before = tally(&old.map.snapshot().unwrap()).unwrap();
        assert_ne!(found.digest, before.digest, "its members are others");
        assert_eq!(Figures { digest: before.digest, ..found }, before);

        let mut store = Store::open(map).unwrap();
        assert_eq!(store.membership(), Some(&membership()));
        let applied = store.applied();
        assert_eq!(store.digest(), found.digest);
        // Whatever was first sent before is of unknown outcome, be it remembered in the backup or not.
        let retries =
            [(applied.index, 0), (applied.index, applied.index - 1), (7_777, applied.index - 1)];
        for (i, (request, since)) in (1..).zip(retries) {
            let retry = command(id(request), since, ops(vec![put(b"retried", b"")]));
            match store.apply(applied.index + i, applied.term, &retry).unwrap() {
                Outcome::Refused(refused) => assert_eq!(refused.code(), Code::OutcomeUnknown),
                done => panic!("{done:?}"),
            }
        }
        assert_eq!(store.get(b"retried").unwrap(), None);
        // New ones go on from the revision of the backup.
        let revision = store.revision();
        assert_eq!(done(&mut store, ops(vec![put(b"new", b"")])).0, revision + 1);
        commit(&mut store);
        assert_eq!(tally(&store.map.snapshot().unwrap()).unwrap().digest, store.digest());
    }
}

#[test]
fn a_restore_that_is_not_finished_is_no_store() {
    let old = random_store(MemMap::default(), 1, 150);
    let mut all = chunks(&old);
    let map = MemMap::default();
    let mut restore_it = Restore::new(map.clone());
    for chunk in &all {
        restore_it.add(chunk).unwrap();
    }
    drop(restore_it);
    assert!(rows(&map).iter().all(|(table, ..)| *table == Table::Data));
    // Nor is one of a backup that does not fit together.
    all[0].header.as_mut().unwrap().keys += 1;
    forge(&mut all);
    assert!(matches!(restore(&all), Err(Refused::State(_))));
}
