//! The ordered map on disk: LMDB.
//!
//! Invariants:
//! - Every commit is synced, data before meta page: no flag weakens LMDB's default.
//! - What [`LmdbMap::open`] shows is durable. After a kill the page cache may show a commit whose
//!   sync never finished; opening syncs it before anybody relies on it.
//! - The map's size is reserved once, as address space, and never changed.
//! - Read transactions are not tied to threads, so that a snapshot that was opened on the reactor can
//!   be read elsewhere.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, RoTxn, WithoutTls};

use super::map::{Batch, KeyRange, Map, Snapshot, Table, room_of_commit};
use rustix::fs::{FallocateFlags, fallocate, fstatvfs, statvfs};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::limits::{MAP_LEN, MAP_READERS_MAX};

/// LMDB's pages are as long as the kernel's.
const PAGE_LEN: u64 = 4096;

type Tables = [Database<'static, Bytes, Bytes>; Table::ALL.len()];

/// See the [module](self). Clones share one environment, which closes with the last of them and of
/// their snapshots.
#[derive(Clone)]
pub struct LmdbMap {
    env: Env<WithoutTls>,
    tables: Tables,
    dir: Arc<Path>,
}

/// A read transaction.
pub struct LmdbSnapshot {
    // Keeps the environment open as well.
    txn: RoTxn<'static, WithoutTls>,
    tables: Tables,
    dir: Arc<Path>,
}

impl LmdbMap {
    /// Opens the map in `dir`, which exists and belongs to this process alone (the caller holds the lock
    /// of the data directory). Creates the files where there are none. Blocks.
    pub fn open(dir: &Path) -> Result<LmdbMap> {
        let failed = |e| failure("open", dir, e);
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_LEN).max_readers(MAP_READERS_MAX).max_dbs(Table::ALL.len() as u32);
        // SAFETY: the memory that LMDB maps changes only under its own transactions as long as nobody else
        // writes to the file or truncates it. The data directory is locked by this process, heed refuses
        // to open a path twice within it, and no flag that weakens LMDB's own locking is set.
        #[allow(unsafe_code)]
        let env = unsafe { options.open(dir) }.map_err(failed)?;
        reserve_readers(dir)?;
        let tables = open_tables(&env).map_err(failed)?;
        env.force_sync().map_err(failed)?;
        // LMDB syncs its file, not the directory entry that leads to it.
        sync_dir(dir)?;
        Ok(LmdbMap { env, tables, dir: dir.into() })
    }
}

/// The name of the directory that holds the state of that number, below the data directory.
pub fn state_dir_name(state: u64) -> String {
    format!("state-{state}")
}

fn sync_dir(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|e| Error::io(format!("sync the directory {}", dir.display()), e))
}

/// Removes the directory of a state, durably, if there is one.
fn remove_state_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(format!("remove {}", dir.display()), e)),
        Ok(()) => sync_dir(parent(dir)),
    }
}

/// The data directory that a state's directory is in.
fn parent(dir: &Path) -> &Path {
    dir.parent().expect("the directory of a state is below the data directory")
}

/// Gives LMDB's table of readers its blocks. It is a sparse file, written to through memory: on a full disk the first use
/// of a page would end the process.
fn reserve_readers(dir: &Path) -> Result<()> {
    let path = dir.join("lock.mdb");
    let reserve = || {
        let file = File::options().write(true).open(&path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, file.metadata()?.len()) {
            // Where files cannot be reserved, nothing more can be done.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(e) => Err(e.into()),
        }
    };
    reserve().map_err(|e: std::io::Error| Error::io(format!("reserve {}", path.display()), e))
}

fn open_tables(env: &Env<WithoutTls>) -> heed::Result<Tables> {
    let txn = env.write_txn()?;
    let opened = env.create_databases_and_commit(txn, |opener, txn| {
        let [data, remembered, meta] = Table::ALL;
        let tables = [
            opener.create_database::<Bytes, Bytes>(txn, Some(data.name()))?,
            opener.create_database::<Bytes, Bytes>(txn, Some(remembered.name()))?,
            opener.create_database::<Bytes, Bytes>(txn, Some(meta.name()))?,
        ];
        heed::Result::Ok(CommitOrAbort::<_, std::convert::Infallible>::Commit(tables))
    })?;
    match opened {
        CommitOrAbort::Commit(tables) => Ok(tables),
        CommitOrAbort::Abort(never) => match never {},
    }
}

impl Map for LmdbMap {
    type Snapshot = LmdbSnapshot;

    fn snapshot(&self) -> Result<LmdbSnapshot> {
        let txn = self.env.clone().static_read_txn();
        let txn = txn.map_err(|e| failure("read from", &self.dir, e))?;
        Ok(LmdbSnapshot { txn, tables: self.tables, dir: self.dir.clone() })
    }

    /// Allocates blocks behind the end of the file, into which LMDB then grows.
    fn reserve(&self, changes: usize, len_bytes: usize) -> Result<bool> {
        let info = self.env.info();
        let used = (info.last_page_number as u64 + 1) * PAGE_LEN;
        let growth = room_of_commit(changes, len_bytes);
        let file = self
            .env
            .try_clone_inner_file()
            .map_err(|e| failure("reserve room in", &self.dir, e))?;
        match fallocate(&file, FallocateFlags::KEEP_SIZE, used, growth) {
            Ok(()) => Ok(true),
            Err(Errno::NOSPC | Errno::DQUOT) => Ok(false),
            // Without it the free space is all that can be looked at.
            Err(Errno::OPNOTSUPP) => {
                let stat =
                    fstatvfs(&file).map_err(|e| Error::io("look at the free space", e.into()))?;
                Ok(stat.f_bavail * stat.f_frsize > growth)
            }
            Err(e) => Err(Error::io(format!("reserve room in {}", self.dir.display()), e.into())),
        }
    }

    fn free_bytes(&self) -> Result<u64> {
        let stat =
            statvfs(&*self.dir).map_err(|e| Error::io("look at the free space", e.into()))?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    fn sibling(&self, state: u64) -> Result<LmdbMap> {
        let dir = parent(&self.dir).join(state_dir_name(state));
        assert!(*dir != *self.dir, "state {state} is in use");
        remove_state_dir(&dir)?;
        fs::create_dir(&dir).map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
        sync_dir(parent(&dir))?;
        LmdbMap::open(&dir)
    }

    /// Where snapshots keep the files open, the kernel keeps what they show until they are closed.
    fn remove(self) -> Result<()> {
        let dir = self.dir.clone();
        drop(self);
        remove_state_dir(&dir)
    }

    fn commit(&self, batch: &Batch) -> Result<()> {
        let commit = || {
            let mut txn = self.env.write_txn()?;
            for change in &batch.changes {
                let table = self.tables[change.table as usize];
                match &change.value {
                    Some(value) => table.put(&mut txn, &change.key, value)?,
                    None => {
                        table.delete(&mut txn, &change.key)?;
                    }
                }
            }
            txn.commit()
        };
        commit().map_err(|e| failure("commit to", &self.dir, e))
    }
}

impl Snapshot for LmdbSnapshot {
    fn get<T>(&self, table: Table, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let found = self.tables[table as usize].get(&self.txn, key);
        Ok(found.map_err(|e| failure("read from", &self.dir, e))?.map(read))
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange<'_>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let failed = |e| failure("read from", &self.dir, e);
        let entries = self.tables[table as usize].range(&self.txn, &range.bounds());
        for entry in entries.map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn failure(action: &str, dir: &Path, error: heed::Error) -> Error {
    let dir = dir.display();
    let way_out = match &error {
        heed::Error::Io(_) => "see the disk: is it full, or failing?",
        heed::Error::EnvAlreadyOpened => "this process has it open already",
        heed::Error::Mdb(MdbError::MapFull) => {
            "the address space reserved for it is used up: delete keys on a server built with a larger one"
        }
        heed::Error::Mdb(
            MdbError::Corrupted
            | MdbError::Invalid
            | MdbError::PageNotFound
            | MdbError::VersionMismatch,
        ) => {
            "the file is damaged or none of ours: move the data directory away and let the node join \
             anew with an empty one"
        }
        _ => "see the disk and the kernel's log",
    };
    Error::Store(format!("cannot {action} {dir}: {error} ({way_out})"))
}
