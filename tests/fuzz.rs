//! The fuzz targets as ordinary tests: each replays its stored corpus, then inputs mutated from it.
//!
//! The seed is printed, and `PHALANX_TEST_SEED` repeats a run: the number of inputs is fixed, not the time. An input that
//! fails is kept in a file, and `PHALANX_FUZZ_INPUT` runs that one alone.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::{env, fs, panic};

use fastrand::Rng;

/// An input does not grow beyond that.
const INPUT_LEN_MAX: usize = 4096;
const MUTATIONS_MAX: usize = 6;

#[test]
fn frame_decoder() {
    replay_and_mutate("frame_decoder", 30_000, bodies::frame_decoder::run);
}

#[test]
fn log_recovery() {
    replay_and_mutate("log_recovery", 3_000, bodies::log_recovery::run);
}

#[test]
fn gossip_packet() {
    replay_and_mutate("gossip_packet", 3_000, bodies::gossip_packet::run);
}

#[test]
fn http_request() {
    replay_and_mutate("http_request", 30_000, bodies::http_request::run);
}

#[test]
fn snapshot_stream() {
    replay_and_mutate("snapshot_stream", 3_000, bodies::snapshot_stream::run);
}

fn replay_and_mutate(target: &str, inputs: usize, body: fn(&[u8])) {
    if let Ok(path) = env::var("PHALANX_FUZZ_INPUT") {
        return body(&fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")));
    }
    let corpus = corpus(target);
    for (path, input) in &corpus {
        run(target, &path.display().to_string(), input, body);
    }
    let given = env::var("PHALANX_TEST_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("{target}: PHALANX_TEST_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    for number in 0..inputs {
        let mut input = corpus[rng.usize(..corpus.len())].1.clone();
        for _ in 0..rng.usize(1..=MUTATIONS_MAX) {
            let other = &corpus[rng.usize(..corpus.len())].1;
            mutate(&mut input, other, &mut rng);
        }
        run(target, &format!("input {number} of seed {seed}"), &input, body);
    }
}

/// The stored inputs, in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let mut corpus: Vec<_> =
        paths.map(|path| (path.clone(), fs::read(path).expect("it can be read"))).collect();
    corpus.sort();
    assert!(corpus.len() > 10, "{} is no corpus", folder.display());
    corpus
}

/// Runs one input; one that fails is kept.
fn run(target: &str, name: &str, input: &[u8], body: fn(&[u8])) {
    if let Err(failure) = catch_unwind(|| body(input)) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"));
        fs::write(&path, input).expect("the target directory can be written to");
        eprintln!("{name} has failed; again: PHALANX_FUZZ_INPUT={} with this test", path.display());
        panic::resume_unwind(failure);
    }
}

/// Changes something somewhere.
fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.usize(..=input.len());
    let end = (at + rng.usize(..16)).min(input.len());
    match rng.u8(..7) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, rng.u8(..)][rng.usize(..6)],
        2 => drop(input.drain(at..end)),
        3 => input.truncate(at),
        4 => {
            let noise: Vec<u8> = (0..rng.usize(1..16)).map(|_| rng.u8(..)).collect();
            input.splice(at..at, noise);
        }
        5 => {
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        // The front of this one, the back of another.
        _ => {
            input.truncate(at);
            input.extend_from_slice(&other[rng.usize(..=other.len())..]);
        }
    }
    input.truncate(INPUT_LEN_MAX);
}
