//! Files that a node cannot use, or must not believe. It refuses to start, changes nothing, and names the file, the place
//! and the way out; only a torn last write, which was never acknowledged, is dropped.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use phalanx::limits::SEGMENT_LEN;
use phalanx::log::format::{
    BLOCK_LEN, FORMAT_VERSION, HEADER_LEN, Header, SECTOR_LEN, Sector, Stamp, batch_len, seal,
};
use phalanx::store::lmdb::LmdbMap;
use phalanx::store::map::{Batch, Map, Table};

use crate::harness::{Node, SOON};
use crate::{TIMEOUT, assert_serves, assert_told, refused};

const WAY_OUT: &str = "move this data directory away and start the node with an empty one";

#[test]
fn a_data_directory_that_cannot_be_written() {
    let mut node = Node::new("unwritable");
    let file = node.log_path().with_file_name("a-file");
    fs::write(&file, "in the way").unwrap();
    let dir = file.join("data");
    node.set("DATA_DIR", dir.display());
    let log = refused(&mut node, 1);
    assert_told(&log, &[&dir.display().to_string(), "DATA_DIR", "Not a directory"]);
}

#[test]
fn an_identity_of_another_version() {
    let mut node = stopped_node("identity");
    let identity = node.data_dir().join("identity");
    let mut bytes = fs::read(&identity).unwrap();
    for slot in bytes.chunks_mut(512) {
        slot[8] = 9;
        let crc = crc32c::crc32c(&slot[..28]).to_le_bytes();
        slot[28..32].copy_from_slice(&crc);
    }
    fs::write(&identity, bytes).unwrap();
    let log = refused_unchanged(&mut node, &identity);
    assert_told(&log, &["identity format 9", &identity.display().to_string()]);
}

#[test]
fn a_lost_identity() {
    let mut node = stopped_node("lost");
    let identity = node.data_dir().join("identity");
    fs::remove_file(&identity).unwrap();
    let log = refused(&mut node, 1);
    let told = "the node joins the cluster again under a new identity";
    assert_told(
        &log,
        &[&identity.display().to_string(), "move it away and start with an empty one", told],
    );
}

#[test]
fn a_log_of_another_version() {
    let mut node = stopped_node("log-version");
    let log_file = LogFile::of(&node);
    let batch = log_file.batches()[1];
    log_file.change_sector(batch.offset, |sector| sector[8] = 9);
    let log = refused_unchanged(&mut node, &log_file.path);
    let place = format!("at byte {}", batch.offset);
    let told = ["format version 9", &place, &log_file.path.display().to_string()];
    assert_told(&log, &told);
    assert_told(&log, &["Start the build that wrote it, or a newer one"]);
}

#[test]
fn a_database_of_another_version() {
    for (row, told) in [("format", "format version 9"), ("apply", "apply version 9")] {
        let mut node = stopped_node("lmdb-version");
        let dir = node.data_dir().join("state-1");
        let map = LmdbMap::open(&dir).unwrap();
        let mut batch = Batch::default();
        batch.put(Table::Meta, row, 9u32.to_be_bytes().to_vec());
        map.commit(&batch).unwrap();
        drop(map);
        let log = refused_unchanged(&mut node, &dir.join("data.mdb"));
        let dir = dir.display().to_string();
        assert_told(&log, &[told, &dir, "start the server version that wrote it"]);
    }
}

#[test]
fn a_database_that_is_none() {
    let mut node = stopped_node("lmdb-noise");
    let file = node.data_dir().join("state-1").join("data.mdb");
    fs::write(&file, vec![0x55; 64 * 1024]).unwrap();
    let log = refused_unchanged(&mut node, &file);
    let dir = file.parent().unwrap().display().to_string();
    assert_told(&log, &[&dir, "move the data directory away"]);
}

#[test]
fn a_torn_last_write_is_dropped_and_told() {
    let mut node = stopped_node("torn");
    let log_file = LogFile::of(&node);
    let last = *log_file.batches().last().unwrap();
    let torn_at = last.offset + last.len as u64;
    log_file.tear(Stamp { sequence: last.stamp.sequence + 1, ..last.stamp }, torn_at);

    node.start();
    node.wait_ready();
    let place = format!("at byte {torn_at} of {}", log_file.path.display());
    let told = "it was never acknowledged, and is dropped";
    assert_told(&node.log(), &["the last write to the log was cut short", &place, told]);
    assert_has_everything(&node);
    assert_serves(&node);
    // What is written now overwrites it, and is read again.
    node.restart();
    node.wait_ready();
    assert_has_everything(&node);
    assert_eq!(node.log().matches("was cut short").count(), 1, "{}", node.log());
}

#[test]
fn a_flipped_bit_in_the_log_is_refused() {
    // After a commit, when the database has it all too, and before, when the log alone has it.
    for make in [stopped_node, killed_node] {
        for pick in [|count| count / 2, |count| count - 1] {
            let mut node = make("flipped");
            let log_file = LogFile::of(&node);
            let batches = log_file.batches();
            let batch = batches[pick(batches.len())];
            // In the padding behind a short record too: nothing of a batch is unguarded.
            let at = batch.offset + fastrand::u64(..batch.len as u64);
            log_file.flip(at);
            let log = refused_unchanged(&mut node, &log_file.path);
            let sector = at / SECTOR_LEN as u64 * SECTOR_LEN as u64;
            let place = format!("{} is corrupt at byte {sector}", log_file.path.display());
            assert_told(&log, &[&place, "the checksum of this sector is wrong", WAY_OUT]);
            // The way back, for a bit that flipped on its way from the disk.
            log_file.flip(at);
            node.start();
            node.wait_ready();
            assert_has_everything(&node);
        }
    }
}

#[test]
fn a_lost_log_is_refused() {
    for make in [stopped_node, killed_node] {
        let mut node = make("lost-log");
        fs::remove_dir_all(node.data_dir().join("log")).unwrap();
        let log = refused(&mut node, 1);
        let dir = node.data_dir().display().to_string();
        assert_told(
            &log,
            &[&dir, "the segments of its log are missing", "start with an empty one"],
        );
    }
}

#[test]
fn a_log_that_lost_its_end_is_refused() {
    let mut node = stopped_node("lost-end");
    let log_file = LogFile::of(&node);
    let from = log_file.batches()[2].offset;
    log_file.write(&vec![0; SEGMENT_LEN - from as usize], from);
    let log = refused_unchanged(&mut node, &log_file.path);
    assert_told(&log, &["a part of the log is missing", WAY_OUT]);
}

// ---- A node with data, and its log. ----

const KEYS: usize = 20;

fn node_with_data(name: &str) -> Node {
    let node = Node::start_single(name);
    let client = node.client(TIMEOUT);
    for i in 0..KEYS {
        client.put(format!("key/{i}"), vec![b'v'; 300 * i]).unwrap();
    }
    node
}

/// All that it has is in the database too.
fn stopped_node(name: &str) -> Node {
    let mut node = node_with_data(name);
    // A snapshot opens when what was applied is durable.
    drop(node.client(SOON).snapshot().expect("it opens"));
    node.terminate();
    node
}

/// Its data is in the log alone.
fn killed_node(name: &str) -> Node {
    let mut node = node_with_data(name);
    node.kill();
    node
}

#[track_caller]
fn assert_has_everything(node: &Node) {
    let client = node.client(TIMEOUT);
    for i in 0..KEYS {
        let read = client.get(format!("key/{i}")).unwrap().result;
        assert_eq!(read.map(|kv| kv.value.len()), Some(300 * i), "key/{i}");
    }
}

/// Like [`refused`], and `file` is as it was.
#[track_caller]
fn refused_unchanged(node: &mut Node, file: &Path) -> String {
    let before = fs::read(file).unwrap();
    let log = refused(node, 1);
    assert!(fs::read(file).unwrap() == before, "{} was changed", file.display());
    log
}

/// The first segment of a node's log.
struct LogFile {
    path: PathBuf,
}

#[derive(Debug, Clone, Copy)]
struct BatchAt {
    offset: u64,
    len: usize,
    stamp: Stamp,
}

impl LogFile {
    fn of(node: &Node) -> LogFile {
        LogFile { path: node.data_dir().join("log/0000000000000001.seg") }
    }

    fn batches(&self) -> Vec<BatchAt> {
        let bytes = fs::read(&self.path).unwrap();
        assert_eq!(bytes.len(), SEGMENT_LEN);
        let mut batches: Vec<BatchAt> = Vec::new();
        for (i, sector) in bytes.as_chunks::<SECTOR_LEN>().0.iter().enumerate() {
            match Sector::read(sector) {
                Sector::Written { stamp, index: 0 } => batches.push(BatchAt {
                    offset: (i * SECTOR_LEN) as u64,
                    len: SECTOR_LEN,
                    stamp,
                }),
                Sector::Written { .. } => batches.last_mut().unwrap().len += SECTOR_LEN,
                Sector::Blank => break,
                Sector::Damaged => panic!("sector {i} is damaged"),
            }
        }
        assert!(batches.len() > 10, "there is something to damage");
        batches
    }

    fn write(&self, bytes: &[u8], at: u64) {
        OpenOptions::new().write(true).open(&self.path).unwrap().write_all_at(bytes, at).unwrap();
    }

    fn flip(&self, at: u64) {
        let byte = fs::read(&self.path).unwrap()[at as usize];
        self.write(&[byte ^ 0x10], at);
    }

    /// Changes the sector at `offset` and makes its checksum right again.
    fn change_sector(&self, offset: u64, change: impl FnOnce(&mut [u8])) {
        let at = offset as usize;
        let mut sector = fs::read(&self.path).unwrap()[at..at + SECTOR_LEN].to_vec();
        change(&mut sector);
        let (content, crc) = sector.split_at_mut(SECTOR_LEN - 4);
        crc.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
        self.write(&sector, offset);
    }

    /// Writes the first block of a batch of two, as a power cut in the middle of its write leaves it.
    fn tear(&self, stamp: Stamp, offset: u64) {
        let payload = vec![0; BLOCK_LEN];
        let mut content = Vec::new();
        let payload_len = payload.len() as u32;
        Header { version: FORMAT_VERSION, payload_len, ordinal: 1 }.write(&mut content);
        assert_eq!(content.len(), HEADER_LEN);
        content.extend(payload);
        let mut sectors = vec![0; batch_len(BLOCK_LEN)];
        assert_eq!(sectors.len(), 2 * BLOCK_LEN);
        seal(&content, stamp, &mut sectors);
        self.write(&sectors[..BLOCK_LEN], offset);
    }
}
