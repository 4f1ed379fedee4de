//! The log's directory as the log needs it: a few blocking operations on files by name.
//!
//! Batches are not written through it: the shell writes them its own way, where [`super::Append`]
//! says.

use std::io;
use std::path::PathBuf;

/// The directory of the log. All calls may block.
pub trait Disk {
    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The length of a file.
    fn len_bytes(&self, name: &str) -> io::Result<u64>;

    /// Reads from `offset` until `buffer` is full or the file ends; returns how much was read.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Creates a file of `len_bytes` zeros, or makes an existing file that. The zeros are written,
    /// not only allocated, and synced: a later write into the file changes no metadata.
    fn create_zeroed(&self, name: &str, len_bytes: u64) -> io::Result<()>;

    /// Renames a file. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns when all that was written to the file is durable.
    fn sync(&self, name: &str) -> io::Result<()>;

    /// Returns when all names are durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// What a person calls the file; for an empty name, the directory. For messages only.
    fn path(&self, name: &str) -> PathBuf;
}
