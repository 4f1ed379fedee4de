//! Segments as files: their names, and how one is prepared.
//!
//! A segment has its final name only when all of it is on disk, zeros written and synced. So whoever
//! meets the name meets a whole segment, and a disk that is full is met here, before anything was
//! accepted that would need the space.

use std::io;

use super::disk::Disk;
use crate::error::{Error, Result};

const TEMPORARY: &str = ".tmp";

/// The wish for a segment ahead of the one that is being written. See [`prepare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepare {
    /// The new segment.
    pub ordinal: u64,
    /// Its length.
    pub len_bytes: u64,
    /// The file to make it of, if there is one that is not needed any more: the first of all.
    pub recycle: Option<String>,
    /// The files after that one that are not needed either, in their order.
    pub remove: Vec<String>,
}

/// The name of a segment's file.
pub fn file_name(ordinal: u64) -> String {
    format!("{ordinal:016x}.seg")
}

/// The ordinal of the segment with this file name; `None` if it is no segment's.
pub fn ordinal(name: &str) -> Option<u64> {
    let ordinal = u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()?;
    (file_name(ordinal) == name).then_some(ordinal)
}

/// Whether the file is what an interrupted [`prepare`] left behind.
pub fn is_leftover(name: &str) -> bool {
    name.strip_suffix(TEMPORARY).and_then(ordinal).is_some()
}

/// Carries out the log's wish for a segment. Blocks for as long as it takes to write one.
///
/// One name is durable before the next is touched, from the lowest on: a crash leaves no gap between the segments.
///
/// After an error the wish still stands, and [`is_no_space`] tells whether it may be tried again: what was done of it before
/// the disk was full is then taken as done. A sync that failed is never tried again, whatever its error says: the second one
/// could succeed without the names.
pub fn prepare(disk: &impl Disk, wish: &Prepare) -> Result<()> {
    let name = file_name(wish.ordinal);
    let path = disk.path(&name);
    let done = match &wish.recycle {
        Some(old) => rename_once(disk, old, &name),
        None => create(disk, &name, wish.len_bytes),
    };
    done.and_then(|()| sync_dir(disk)).map_err(|error| {
        let mut action = format!("prepare {}, the next segment of the log", path.display());
        if is_full(&error) {
            action += &format!(
                " (it takes {} MiB, and writes wait until it is there: make space on this disk)",
                wish.len_bytes >> 20
            );
        }
        Error::io(action, error)
    })?;
    wish.remove.iter().try_for_each(|unneeded| {
        remove_once(disk, unneeded)
            .and_then(|()| sync_dir(disk))
            .map_err(|error| Error::io(format!("remove {}", disk.path(unneeded).display()), error))
    })
}

/// An attempt before this one may have come as far.
fn rename_once(disk: &impl Disk, old: &str, new: &str) -> io::Result<()> {
    match disk.rename(old, new) {
        Err(error) if is_missing(&error) => disk.len_bytes(new).map(|_| ()).map_err(|_| error),
        renamed => renamed,
    }
}

/// See [`rename_once`].
fn remove_once(disk: &impl Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if is_missing(&error) => Ok(()),
        removed => removed,
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Whatever the error was, it is not [one of space](is_no_space) any more.
fn sync_dir(disk: &impl Disk) -> io::Result<()> {
    disk.sync_dir().map_err(io::Error::other)
}

fn create(disk: &impl Disk, name: &str, len_bytes: u64) -> io::Result<()> {
    let temporary = format!("{name}{TEMPORARY}");
    disk.create_zeroed(&temporary, len_bytes).inspect_err(|_| {
        // On a full disk the part that was written is in the way. If it cannot be removed either,
        // the next attempt or recovery does it; the first error is the one to report.
        let _ = disk.remove(&temporary);
    })?;
    disk.rename(&temporary, name)
}

/// Whether the error says that the disk (or the user's share of it) is full: it goes away when there
/// is space.
pub fn is_no_space(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if is_full(source))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
