//! `--restore FILE`: a backup becomes the data of a node that is a cluster by itself. Blocks, before the reactor starts.
//!
//! Invariants:
//! - The backup is read to its end and checked, and the disk has room for all of it, before anything is touched.
//! - Only an empty data directory is restored into. While it is not finished it is marked, and no server starts from it.
//! - The cluster is a new one: its id and the node's are drawn, so that nobody takes it for the one that the backup is of.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::data_dir::DataDir;
use crate::error::{Error, Result};
use crate::limits::{DISK_RESERVE, SEGMENT_LEN, SNAPSHOT_BATCH_LEN, SNAPSHOT_BATCH_ROWS};
use crate::log::{FIRST_STATE, recover, segment};
use crate::node::hex;
use crate::store::lmdb::LmdbMap;
use crate::store::map::room_of_commit;
use crate::store::transfer::file::{Chunks, Flaw, check};
use crate::store::transfer::{Failure, Restore};
use crate::wire::log::{
    ConfState, EntryId, HardState, MemberInfo, Membership, Record, Snapshot, Standing,
};
use crate::wire::snapshot::Header;

/// Restores a backup into an empty data directory. `member` is the node, but for its raft id.
pub(super) fn restore(file: &Path, data_dir: &Path, member: MemberInfo) -> Result<DataDir> {
    let backup = Backup { path: file.to_owned() };
    let (header, _) = check(backup.open()?).map_err(|flaw| backup.flawed(&flaw))?;
    DataDir::refuse_unless_empty(data_dir)?;
    backup.refuse_without_room(&header, data_dir)?;
    ::log::info!(
        "restoring {}: revision {}, {} keys, {} bytes, of cluster {}",
        file.display(),
        header.revision,
        header.keys,
        header.logical_bytes,
        hex(&header.cluster_id)
    );
    let mut data_dir = DataDir::open_empty(data_dir)?;
    let cluster_id = new_cluster_id()?;
    let member = MemberInfo { raft_id: data_dir.raft_id, ..member };
    let header = fill(&backup, &data_dir, membership(&cluster_id, member))?;
    begin_log(&data_dir, &cluster_id, &header)?;
    data_dir.is_restored()?;
    ::log::info!(
        "restored as cluster {}, with this node (raft id {}) for its only member: the others join it with empty data \
         directories",
        hex(&cluster_id),
        data_dir.raft_id
    );
    Ok(data_dir)
}

/// A backup's file.
struct Backup {
    path: PathBuf,
}

impl Backup {
    fn open(&self) -> Result<BufReader<File>> {
        let file = File::open(&self.path);
        Ok(BufReader::new(file.map_err(|e| self.unreadable(e))?))
    }

    /// Nothing is made where not all has room: half a restore has to be removed by hand.
    fn refuse_without_room(&self, header: &Header, data_dir: &Path) -> Result<()> {
        let len = std::fs::metadata(&self.path).map_err(|e| self.unreadable(e))?.len();
        let needed = room_needed(header.keys, len);
        let free = free_bytes(data_dir)?;
        if free >= needed {
            return Ok(());
        }
        Err(Error::Environment(format!(
            "restoring {} needs {} MiB, and the disk of {} has {} MiB free: make space on it, or set another DATA_DIR. Nothing \
             was changed",
            self.path.display(),
            needed.div_ceil(1 << 20),
            data_dir.display(),
            free >> 20
        )))
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        Error::io(format!("read the backup {}", self.path.display()), error)
    }

    fn flawed(&self, flaw: &Flaw) -> Error {
        Error::Environment(format!(
            "{} {flaw}. Nothing was changed: give --restore another backup",
            self.path.display()
        ))
    }
}

/// What a backup of so many keys and bytes takes when it is restored, and the node then needs to take writes. LMDB has whole
/// pages, so that a value may take up to twice its length, and each batch is written where it could copy pages for every row;
/// the log begins with one segment in use and the next one prepared.
fn room_needed(keys: u64, backup_len: u64) -> u64 {
    let log_len = 2 * SEGMENT_LEN as u64;
    let at_most = |number: u64, most: usize| number.min(most as u64) as usize;
    // The last batch has the meta data too, and a row may be as long as a value can be.
    let last_batch = room_of_commit(
        at_most(keys, SNAPSHOT_BATCH_ROWS),
        at_most(backup_len, 2 * SNAPSHOT_BATCH_LEN),
    );
    backup_len.saturating_mul(2).saturating_add(last_batch + log_len + DISK_RESERVE)
}

/// What is free where the directory is, or will be made.
fn free_bytes(data_dir: &Path) -> Result<u64> {
    let found = data_dir.ancestors().find(|path| path.exists());
    // Of a relative path the last one is empty, and means the current directory.
    let found = found.unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(found);
    let stat = stat.map_err(|e| {
        Error::io(format!("look at the free space of {}", found.display()), e.into())
    })?;
    Ok(stat.f_bavail * stat.f_frsize)
}

fn new_cluster_id() -> Result<[u8; 16]> {
    let (high, low) = (super::random_u64()?, super::random_u64()?);
    Ok((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

/// The node by itself, which is all that the cluster needs to be formed.
fn membership(cluster_id: &[u8], member: MemberInfo) -> Membership {
    Membership {
        cluster_id: cluster_id.to_vec().into(),
        expect: 1,
        formed: true,
        conf_state: Some(ConfState { voters: vec![member.raft_id], ..ConfState::default() }),
        members: vec![member],
        removed: Vec::new(),
    }
}

/// Makes the state machine's map. It is closed again at the end.
fn fill(backup: &Backup, data_dir: &DataDir, membership: Membership) -> Result<Header> {
    let path = data_dir.new_state_path()?;
    let mut restore = Restore::new(LmdbMap::open(&path)?);
    let failed = |failure| match failure {
        // It was sound when it was checked.
        Failure::Refused(refused) => Error::Environment(format!(
            "{} is not restored: {refused}. Empty the data directory, and begin anew",
            backup.path.display()
        )),
        Failure::Map(error) => error,
    };
    let flawed = |flaw: Flaw| match flaw {
        Flaw::Io(error) => backup.unreadable(error),
        damaged => Error::Environment(format!("{} {damaged}", backup.path.display())),
    };
    let mut chunks = Chunks::open(backup.open()?).map_err(flawed)?;
    while let Some((_, chunk)) = chunks.next_chunk().map_err(flawed)? {
        restore.add(&chunk).map_err(failed)?;
    }
    restore.finish(membership).map_err(failed)
}

/// The first record of the log: the node belongs to its cluster, and the log goes on after the backup's last entry.
fn begin_log(data_dir: &DataDir, cluster_id: &[u8], header: &Header) -> Result<()> {
    let files = data_dir.log_files()?;
    let generation = u32::try_from(data_dir.starts).expect("it is the first start");
    let mut log = recover(&files, SEGMENT_LEN, generation)?.log;
    let Header { index, term, .. } = *header;
    let record = Record {
        standing: Some(Standing { cluster_id: cluster_id.to_vec().into(), ..Standing::default() }),
        hard_state: Some(HardState { term, vote: 0, commit: index }),
        snapshot: Some(Snapshot { last: Some(EntryId { index, term }), state: FIRST_STATE }),
        ..Record::default()
    };
    let batch = log.append(&record).expect("an empty log has room in its first segment");
    let mut bytes = vec![0; batch.len_bytes()];
    batch.seal_into(&mut bytes);
    files.write(&segment::file_name(batch.place.ordinal), batch.place.offset, &bytes)
}
