//! The data directory: its lock, the identity of the node that lives in it, and the files of the log.
//!
//! ```text
//! LOCK        held while a server uses the directory
//! identity    raft id and start counter, in two slots that are overwritten in turn
//! log/        the segments of the write-ahead log
//! state-<n>/  LMDB; the log says which is the live one, 1 until a snapshot is installed
//! RESTORING   only while a backup is being restored
//! ```
//!
//! Invariants:
//! - The raft id is drawn once, when the directory is first used, and is durable before it is used.
//! - The start counter is durable before the node says a word: no two starts share one.
//! - The log has a segment before the first start is counted: a directory that was used and has none lost it.
//! - A restart takes no space on the disk, so that a node on a full one can come back.
//! - Where a restore was cut short no server starts: what is there is a part of the data.
//! - A state directory is removed only when the log has been read and names another, and that one was opened.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FlockOperation};

use super::zeros;
use crate::error::{Error, Result};
use crate::limits::SEGMENT_LEN;
use crate::log::{Contents, Disk, FIRST_STATE, Prepare, prepare, segment};

/// A write of a process that was killed may take this long to end.
const LOCK_WITHIN: Duration = Duration::from_secs(30);
/// The raft id is below this: JSON numbers are exact up to it.
const RAFT_ID_END: u64 = 1 << 53;

const STATE: &str = "state-";
/// LMDB's file.
const DATABASE: &str = "data.mdb";

/// Marks a directory that is no whole one yet.
const RESTORING: &str = "RESTORING";

const IDENTITY_MAGIC: &[u8; 8] = b"PHLXNODE";
const IDENTITY_VERSION: u32 = 1;
const SLOT_LEN: usize = 512;

const FIRST_SEGMENT: Prepare =
    Prepare { ordinal: 1, len_bytes: SEGMENT_LEN as u64, recycle: None, remove: Vec::new() };

/// A data directory in use by this process.
pub(super) struct DataDir {
    path: PathBuf,
    /// Held as long as it is open.
    _lock: File,
    /// The node that lives here.
    pub raft_id: u64,
    /// How often it was started, this time included.
    pub starts: u64,
}

impl DataDir {
    /// Opens the directory, or makes it one, and counts the start.
    pub fn open(path: &Path) -> Result<DataDir> {
        let lock = lock(path)?;
        if path.join(RESTORING).exists() {
            return Err(cut_short(path));
        }
        DataDir::enter(path, lock)
    }

    /// Whether a backup may be restored into it. Changes nothing: it need not be there.
    pub fn refuse_unless_empty(path: &Path) -> Result<()> {
        if path.join(RESTORING).exists() {
            return Err(cut_short(path));
        }
        let log_files = LogFiles::at(path);
        let unusable = |e| unusable(path, e);
        let is_used = path.join("identity").exists()
            || path.join("log").exists() && log_files.has_segments().map_err(unusable)?
            || path.exists() && !states(path).map_err(unusable)?.is_empty();
        if is_used {
            return Err(Error::Environment(format!(
                "the data directory {} is not empty, and a backup is restored into an empty one only. If it was restored \
                 already, start the server without --restore; else move the directory away, or set another DATA_DIR",
                path.display()
            )));
        }
        Ok(())
    }

    /// Makes the directory one, to restore a backup into it: it must be empty. Until it [is
    /// restored](DataDir::is_restored), nobody else opens it.
    pub fn open_empty(path: &Path) -> Result<DataDir> {
        let lock = lock(path)?;
        DataDir::refuse_unless_empty(path)?;
        let marker = File::create(path.join(RESTORING)).and_then(|file| file.sync_all());
        marker.map_err(|e| unusable(path, e))?;
        sync_dir(path)?;
        DataDir::enter(path, lock)
    }

    /// All is there, durably. The start that follows is one of its own.
    pub fn is_restored(&mut self) -> Result<()> {
        self.starts += 1;
        IdentityFile::open(&self.path.join("identity"))?.write(self.raft_id, self.starts)?;
        fs::remove_file(self.path.join(RESTORING)).map_err(|e| unusable(&self.path, e))?;
        sync_dir(&self.path)
    }

    fn enter(path: &Path, lock: File) -> Result<DataDir> {
        let unusable = |e| unusable(path, e);
        let log_files = LogFiles::at(path);
        let has_log = log_files.has_segments().map_err(unusable)?;
        let has_database = |state: &u64| state_dir(path, *state).join(DATABASE).exists();
        let is_new = !has_log && !states(path).map_err(unusable)?.iter().any(has_database);
        let identity = IdentityFile::open(&path.join("identity"))?;
        let (raft_id, starts_before) = identity.read_or_draw(is_new)?;
        if !has_log {
            if starts_before > 0 {
                return Err(identity.without_log());
            }
            prepare(&log_files, &FIRST_SEGMENT)?;
        }
        let starts = starts_before + 1;
        identity.write(raft_id, starts)?;
        sync_dir(path)?;
        Ok(DataDir { path: path.to_owned(), _lock: lock, raft_id, starts })
    }

    /// The files of the log, after writes of a process that was killed have ended.
    pub fn log_files(&self) -> Result<LogFiles> {
        let files = LogFiles::at(&self.path);
        files.wait_for_writes()?;
        Ok(files)
    }

    /// The directory of the log.
    pub fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The directory of the state machine that the log goes on from.
    pub fn state_path(&self, contents: &Contents) -> Result<PathBuf> {
        let path = state_dir(&self.path, contents.state);
        // A log from the start makes a database anew, whatever became of the one before it was first committed.
        if contents.base.index > 0 && !path.join(DATABASE).exists() {
            return Err(Error::Environment(format!(
                "{} is missing, and the log begins only after entry {}. Nothing was changed. Bring back the data directory \
                 as a whole, or move it away and start with an empty one: the node joins the cluster again",
                path.join(DATABASE).display(),
                contents.base.index
            )));
        }
        fs::create_dir_all(&path)
            .map_err(|e| Error::io(format!("make the directory {}", path.display()), e))?;
        sync_dir(&self.path)?;
        Ok(path)
    }

    /// The first state machine's directory, made anew.
    pub fn new_state_path(&self) -> Result<PathBuf> {
        let path = state_dir(&self.path, FIRST_STATE);
        fs::create_dir(&path)
            .map_err(|e| Error::io(format!("make the directory {}", path.display()), e))?;
        sync_dir(&self.path)?;
        Ok(path)
    }

    /// Removes what other state directories there are: of a snapshot that was never whole, or of the time before one. To be
    /// called when the node has accepted the log and the state that it names.
    pub fn remove_other_states(&self, live: u64) -> Result<()> {
        let found = states(&self.path)
            .map_err(|e| Error::io(format!("list {}", self.path.display()), e))?;
        for state in found.into_iter().filter(|state| *state != live) {
            let path = state_dir(&self.path, state);
            fs::remove_dir_all(&path)
                .map_err(|e| Error::io(format!("remove {}", path.display()), e))?;
            ::log::info!("removed {}: the live one is state-{live}", path.display());
        }
        sync_dir(&self.path)
    }
}

/// Takes the directory for this process, and makes it where there is none.
fn lock(path: &Path) -> Result<File> {
    fs::create_dir_all(path.join("log")).map_err(|e| unusable(path, e))?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("LOCK"))
        .map_err(|e| unusable(path, e))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::Environment(format!(
            "the data directory {} is in use by another server: stop that one, or set another DATA_DIR",
            path.display()
        ))
    })?;
    Ok(lock)
}

fn unusable(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    Error::io(format!("use the data directory {path} (DATA_DIR; it must be writable)"), error)
}

fn cut_short(path: &Path) -> Error {
    Error::Environment(format!(
        "a restore into the data directory {} was cut short: what is there is a part of the data. Remove all of it, and \
         restore the backup again",
        path.display()
    ))
}

fn state_dir(data_dir: &Path, state: u64) -> PathBuf {
    data_dir.join(format!("{STATE}{state}"))
}

/// The numbers of the state directories that there are.
fn states(data_dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(STATE)?.parse::<u64>().ok());
        // Another way to write a number is another's name.
        found.extend(number.filter(|number| *name == *format!("{STATE}{number}")));
    }
    Ok(found)
}

fn sync_dir(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|e| Error::io(format!("sync the directory {}", path.display()), e))
}

/// The file of the identity.
struct IdentityFile {
    file: File,
    path: PathBuf,
}

impl IdentityFile {
    fn open(path: &Path) -> Result<IdentityFile> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file =
            options.open(path).map_err(|e| Error::io(format!("use {}", path.display()), e))?;
        Ok(IdentityFile { file, path: path.to_owned() })
    }

    /// The raft id, and how often it was started. Draws one if there is none and the directory is new: zero starts.
    fn read_or_draw(&self, is_new: bool) -> Result<(u64, u64)> {
        if let Some(found) = self.read()? {
            return Ok(found);
        }
        if !is_new {
            return Err(self.unknown("the identity is missing, or none of its slots is whole"));
        }
        let raft_id = 1 + super::random_u64()? % (RAFT_ID_END - 1);
        self.write_at(&[0; 2 * SLOT_LEN], 0)?;
        self.write(raft_id, 0)?;
        Ok((raft_id, 0))
    }

    /// The newest whole slot. A start that was cut short leaves the other one.
    fn read(&self) -> Result<Option<(u64, u64)>> {
        let mut slots = [0; 2 * SLOT_LEN];
        if self.file.read_exact_at(&mut slots, 0).is_err() {
            return Ok(None);
        }
        let mut newest = None;
        for slot in slots.chunks_exact(SLOT_LEN) {
            let unreadable = |what| Error::Environment(format!("{}: {what}", self.path.display()));
            newest = newest.max(decode_slot(slot).map_err(unreadable)?);
        }
        Ok(newest.map(|(starts, raft_id)| (raft_id, starts)))
    }

    /// Makes the start counter durable.
    fn write(&self, raft_id: u64, starts: u64) -> Result<()> {
        self.write_at(&encode_slot(raft_id, starts), starts % 2 * SLOT_LEN as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let written = self.file.write_all_at(bytes, offset).and_then(|()| self.file.sync_all());
        written.map_err(|e| Error::io(format!("write {}", self.path.display()), e))
    }

    /// A node that was started has a log. One that has lost it may have voted, and promised, and must not do so again.
    fn without_log(&self) -> Error {
        self.unknown("the node was started before, but the segments of its log are missing")
    }

    fn unknown(&self, what: &str) -> Error {
        let way_out = "The node cannot know who it is or what it promised, and must not guess. Nothing was changed. Bring \
                       back the data directory as a whole, or move it away and start with an empty one: the node joins \
                       the cluster again under a new identity";
        Error::corrupt(&self.path, 0, format!("{what}. {way_out}"))
    }
}

fn encode_slot(raft_id: u64, starts: u64) -> [u8; SLOT_LEN] {
    let mut slot = Vec::with_capacity(SLOT_LEN);
    slot.extend_from_slice(IDENTITY_MAGIC);
    slot.extend_from_slice(&IDENTITY_VERSION.to_le_bytes());
    slot.extend_from_slice(&raft_id.to_le_bytes());
    slot.extend_from_slice(&starts.to_le_bytes());
    slot.extend_from_slice(&crc32c::crc32c(&slot).to_le_bytes());
    slot.resize(SLOT_LEN, 0);
    slot.try_into().expect("it was made that long")
}

/// `(starts, raft_id)`, or nothing if the slot is not whole; an error for another version.
fn decode_slot(slot: &[u8]) -> std::result::Result<Option<(u64, u64)>, String> {
    let (content, crc) = slot[..32].split_at(28);
    if content[..8] != IDENTITY_MAGIC[..] || crc != crc32c::crc32c(content).to_le_bytes() {
        return Ok(None);
    }
    let number =
        |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().expect("eight bytes"));
    let version = u32::from_le_bytes(content[8..12].try_into().expect("four bytes"));
    if version != IDENTITY_VERSION {
        return Err(format!(
            "it has identity format {version}, and this server knows {IDENTITY_VERSION}: use the server that wrote it, \
             or a newer one"
        ));
    }
    Ok(Some((number(20), number(12))))
}

/// The segments of the log, for recovery and for preparing new ones. Batches are written elsewhere: see
/// [`disk`](super::disk).
#[derive(Clone)]
pub(super) struct LogFiles {
    directory: PathBuf,
    /// How much time there is to make a segment of zeros.
    zeros_within: Duration,
}

impl LogFiles {
    /// Those of a data directory.
    fn at(data_dir: &Path) -> LogFiles {
        LogFiles { directory: data_dir.join("log"), zeros_within: Duration::ZERO }
    }

    /// The same, with so much time to make a segment.
    pub fn with_time(&self, zeros_within: Duration) -> LogFiles {
        LogFiles { directory: self.directory.clone(), zeros_within }
    }

    /// Writes a batch, durably. Blocks.
    pub fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = self.directory.join(name);
        let write = || {
            let file = File::options().write(true).open(&path)?;
            file.write_all_at(bytes, offset)?;
            file.sync_all()
        };
        write().map_err(|e: io::Error| Error::io(format!("write {}", path.display()), e))
    }

    fn has_segments(&self) -> io::Result<bool> {
        Ok(self.list()?.iter().any(|name| segment::ordinal(name).is_some()))
    }

    /// A write in flight keeps its file open, and with it the lock, though the process that issued it was killed.
    fn wait_for_writes(&self) -> Result<()> {
        let deadline = Instant::now() + LOCK_WITHIN;
        for name in
            self.list().map_err(|e| Error::io(format!("list {}", self.directory.display()), e))?
        {
            let path = self.directory.join(&name);
            let file =
                File::open(&path).map_err(|e| Error::io(format!("open {}", path.display()), e))?;
            while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                if Instant::now() >= deadline {
                    return Err(Error::Environment(format!(
                        "{} is still being written by a server that was killed: is its disk stuck?",
                        path.display()
                    )));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }
}

impl Disk for LogFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn len_bytes(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.directory.join(name))?.len())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = File::open(self.directory.join(name))?;
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        // Writes go around the page cache, and where it has what they replace, io_uring hands them to a thread. Advice only:
        // nothing is lost where it is not taken.
        let _ =
            rustix::fs::fadvise(&file, offset, NonZeroU64::new(filled as u64), Advice::DontNeed);
        Ok(filled)
    }

    fn create_zeroed(&self, name: &str, len_bytes: u64) -> io::Result<()> {
        zeros::create(&self.directory.join(name), len_bytes, self.zeros_within)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.directory.join(name))?.sync_all()
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::log::EntryId;

    #[test]
    fn an_identity_is_drawn_once_and_starts_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(first.starts, 1);
        let raft_id = first.raft_id;
        assert!((1..RAFT_ID_END).contains(&raft_id));
        let second = DataDir::open(&path).err().expect("the directory is in use").to_string();
        assert!(second.contains("in use by another server"), "{second}");
        drop(first);
        let again = DataDir::open(&path).unwrap();
        assert_eq!((again.raft_id, again.starts), (raft_id, 2));
    }

    #[test]
    fn a_torn_start_leaves_the_one_before_and_a_lost_identity_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let raft_id = DataDir::open(&path).unwrap().raft_id;
        DataDir::open(&path).unwrap();
        // Start 2 is in slot 0.
        let identity = OpenOptions::new().write(true).open(path.join("identity")).unwrap();
        identity.write_all_at(&[0xff; 16], 0).unwrap();
        let again = DataDir::open(&path).unwrap();
        assert_eq!((again.raft_id, again.starts), (raft_id, 2));
        drop(again);
        identity.write_all_at(&[0xff; 1024], 0).unwrap();
        let refused = DataDir::open(&path).err().expect("no slot is whole").to_string();
        assert!(refused.contains("none of its slots is whole"), "{refused}");
        fs::remove_file(path.join("identity")).unwrap();
        assert!(
            DataDir::open(&path).is_err(),
            "an identity is not drawn for a directory with data"
        );
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_made_anew_and_a_lost_log_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        fs::create_dir_all(path.join("state-1")).unwrap();
        fs::write(path.join("identity"), [0; SLOT_LEN]).unwrap();
        let first = DataDir::open(&path).unwrap();
        assert_eq!(first.starts, 1);
        drop(first);
        fs::remove_file(path.join("log").join(segment::file_name(1))).unwrap();
        let refused = DataDir::open(&path).err().expect("the log is lost").to_string();
        assert!(refused.contains("the segments of its log are missing"), "{refused}");
    }

    #[test]
    fn the_state_that_the_log_names_is_kept_and_the_others_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let data_dir = DataDir::open(&path).unwrap();
        let fresh = Contents::default();
        assert_eq!(data_dir.state_path(&fresh).unwrap(), path.join("state-1"));
        let base = EntryId { index: 7, term: 2 };
        let installed = Contents { base, state: 3, ..Contents::default() };
        let refused = data_dir.state_path(&installed).unwrap_err().to_string();
        assert!(refused.contains("state-3/data.mdb is missing"), "{refused}");
        assert!(!path.join("state-3").exists(), "nothing was changed");

        for name in ["state-2", "state-3", "state-03", "state-x", "state-"] {
            fs::create_dir(path.join(name)).unwrap();
            fs::write(path.join(name).join("data.mdb"), "").unwrap();
        }
        assert_eq!(data_dir.state_path(&installed).unwrap(), path.join("state-3"));
        data_dir.remove_other_states(3).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let others = ["LOCK", "identity", "log"];
        assert_eq!(left, [&others[..], &["state-", "state-03", "state-3", "state-x"]].concat());
        drop(data_dir);

        // A database of whatever number shows that the directory is not new.
        fs::remove_dir_all(path.join("log")).unwrap();
        fs::remove_file(path.join("identity")).unwrap();
        assert!(DataDir::open(&path).is_err(), "an identity is not drawn for it");
    }

    #[test]
    fn an_unknown_version_is_refused() {
        let mut slot = encode_slot(7, 3);
        assert_eq!(decode_slot(&slot), Ok(Some((3, 7))));
        slot[8] = 9;
        let crc = crc32c::crc32c(&slot[..28]).to_le_bytes();
        slot[28..32].copy_from_slice(&crc);
        assert!(decode_slot(&slot).unwrap_err().contains("identity format 9"));
    }

    #[test]
    fn what_was_read_of_the_log_does_not_stay_in_the_page_cache() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let files = DataDir::open(&path).unwrap().log_files().unwrap();
        let name = segment::file_name(1);
        let file = File::open(files.path(&name)).unwrap();
        let mut bytes = vec![0; SEGMENT_LEN];
        file.read_exact_at(&mut bytes, 0).unwrap();
        // A look at a page that is not cached starts to read it, and finds it if this thread is held up just then: many pages
        // are looked at, far enough apart that none is read along with another.
        let mut looks = || {
            let offsets = (0..SEGMENT_LEN as u64).step_by(256 * 1024);
            let look = |offset| {
                let mut into = [io::IoSliceMut::new(&mut bytes[..4096])];
                rustix::io::preadv2(&file, &mut into, offset, rustix::io::ReadWriteFlags::NOWAIT)
            };
            offsets.map(look).collect::<Vec<_>>()
        };
        let before = looks();
        if before.contains(&Err(rustix::io::Errno::OPNOTSUPP)) {
            return println!("SKIPPED: this file system does not tell what is cached");
        }
        let most =
            |looks: &[_], seen| 2 * looks.iter().filter(|it| **it == seen).count() > looks.len();
        assert!(most(&before, Ok(4096)), "{before:?}");
        files.read_at(&name, 0, &mut vec![0; SEGMENT_LEN]).unwrap();
        let after = looks();
        assert!(most(&after, Err(rustix::io::Errno::AGAIN)), "{after:?}");
    }
}
