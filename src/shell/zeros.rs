//! Files of zeros, for the log's segments.
//!
//! Promise: the file has its length, all of it is written and not only allocated, and that is durable.
//!
//! A segment's zeros are as much as some thousand batches of the log, which share the disk with them. Handed over at once,
//! as the page cache does when it is synced, they hold up a batch for milliseconds, on all nodes at the same time where
//! these fill their segments in step. So they go around the page cache in pieces, evenly over the time that there is: a log that
//! fills its segments fast waits for the next one otherwise.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags};

/// So much is handed to the disk at once: as much as two large batches.
const PIECE_LEN: usize = 128 * 1024;

/// Direct writes take whole blocks, from memory that is aligned to them.
#[repr(align(4096))]
struct Zeros([u8; PIECE_LEN]);

static ZEROS: Zeros = Zeros([0; PIECE_LEN]);

/// Creates such a file, or makes an existing one that. Blocks for about `within`, or for as long as the writing takes, if that
/// is longer.
pub(super) fn create(path: &Path, len_bytes: u64, within: Duration) -> io::Result<()> {
    let (file, is_direct) = match open(path, OFlags::DIRECT) {
        Ok(file) => (file, true),
        // Some file systems refuse it. If it is something else, this open meets it too.
        Err(_) => (open(path, OFlags::empty())?, false),
    };
    // In one piece where the file system can, and so that a disk without room is met before anything is written.
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len_bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let pieces = len_bytes.div_ceil(PIECE_LEN as u64).max(1) as u32;
    let each = within / pieces;
    let started = Instant::now();
    let mut due = Duration::ZERO;
    let mut offset = 0;
    while offset < len_bytes {
        let len = (len_bytes - offset).min(PIECE_LEN as u64);
        let begun = Instant::now();
        file.write_all_at(&ZEROS.0[..len as usize], offset)?;
        offset += len;
        due += each;
        // What gathers in the page cache would be handed over at once in the end; but a log that is in a hurry comes first.
        if !is_direct && started.elapsed() < due {
            file.sync_data()?;
        }
        // A piece that was held up is not made up for: the disk has enough to do.
        std::thread::sleep(each.saturating_sub(begun.elapsed()));
    }
    file.sync_all()
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(0o600);
    options.custom_flags(flags.bits() as i32).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_zeros_and_nothing_of_what_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("zeros");
        for within in [Duration::ZERO, Duration::from_millis(10)] {
            std::fs::write(&path, vec![1; 3 * PIECE_LEN]).unwrap();
            let len = 2 * PIECE_LEN + 4096;
            let begun = Instant::now();
            create(&path, len as u64, within).unwrap();
            let least = within.mul_f32(0.99);
            assert!(begun.elapsed() >= least, "each piece has its share of the time");
            assert!(std::fs::read(&path).unwrap() == vec![0; len], "{within:?}");
        }
    }

    /// The blocks are there before they are written: the file that the log gets grows no more.
    #[test]
    fn what_does_not_fit_the_disk_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let probe = File::create(directory.path().join("probe")).unwrap();
        if rustix::fs::fallocate(&probe, FallocateFlags::empty(), 0, 4096).is_err() {
            return println!("SKIPPED: this file system reserves no space");
        }
        // More than any file system has.
        let len = i64::MAX as u64 / 4096 * 4096;
        let error = create(&directory.path().join("zeros"), len, Duration::ZERO).unwrap_err();
        let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::FileTooLarge];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}
