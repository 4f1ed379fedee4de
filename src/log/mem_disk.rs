//! A [`Disk`] in memory, which can do what real disks do now and then: fill up, tear a write, flip a
//! bit. For tests and simulation.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use super::disk::Disk;
use super::format::SECTOR_LEN;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct MemDisk {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
    unsynced: RefCell<BTreeSet<String>>,
    capacity: Cell<usize>,
}

impl Default for MemDisk {
    fn default() -> MemDisk {
        MemDisk {
            files: RefCell::default(),
            unsynced: RefCell::default(),
            capacity: Cell::new(usize::MAX),
        }
    }
}

impl MemDisk {
    /// How many bytes there is room for, all files together.
    pub fn set_capacity(&self, len_bytes: usize) {
        self.capacity.set(len_bytes);
    }

    /// The names of files with bytes that were not synced; an empty one for the directory.
    pub fn unsynced(&self) -> BTreeSet<String> {
        self.unsynced.borrow().clone()
    }

    /// Writes into a file, within its length.
    pub fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_torn(name, offset, bytes, |_| true)
    }

    /// Writes only those sectors of `bytes` that `keep` is true for.
    pub fn write_torn(
        &self,
        name: &str,
        offset: u64,
        bytes: &[u8],
        mut keep: impl FnMut(usize) -> bool,
    ) -> io::Result<()> {
        let mut files = self.files.borrow_mut();
        let place = offset as usize..offset as usize + bytes.len();
        let target = files
            .get_mut(name)
            .ok_or_else(|| not_found(name))?
            .get_mut(place)
            .ok_or_else(|| io::Error::other("a write beyond the end of the file"))?;
        let sectors = target.chunks_mut(SECTOR_LEN).zip(bytes.chunks(SECTOR_LEN));
        for (number, (old, new)) in sectors.enumerate() {
            if keep(number) {
                old.copy_from_slice(new);
            }
        }
        self.unsynced.borrow_mut().insert(name.to_owned());
        Ok(())
    }

    /// Flips one bit of a file.
    ///
    /// # Panics
    /// If there is no such bit.
    pub fn flip_bit(&self, name: &str, bit: usize) {
        let mut files = self.files.borrow_mut();
        let file = files.get_mut(name).unwrap_or_else(|| panic!("there is no file {name}"));
        file[bit / 8] ^= 1 << (bit % 8);
    }

    fn free(&self) -> usize {
        let used = self.files.borrow().values().map(Vec::len).sum();
        self.capacity.get().saturating_sub(used)
    }
}

impl Disk for MemDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.borrow().keys().cloned().collect())
    }

    fn len_bytes(&self, name: &str) -> io::Result<u64> {
        let files = self.files.borrow();
        Ok(files.get(name).ok_or_else(|| not_found(name))?.len() as u64)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let files = self.files.borrow();
        let file = files.get(name).ok_or_else(|| not_found(name))?;
        let rest = file.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn create_zeroed(&self, name: &str, len_bytes: u64) -> io::Result<()> {
        self.files.borrow_mut().remove(name);
        self.unsynced.borrow_mut().insert(String::new());
        // A disk that fills up leaves the part that fitted.
        let fits = self.free().min(len_bytes as usize);
        self.files.borrow_mut().insert(name.to_owned(), vec![0; fits]);
        if fits < len_bytes as usize {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.borrow_mut();
        let file = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.to_owned(), file);
        let mut unsynced = self.unsynced.borrow_mut();
        if unsynced.remove(from) {
            unsynced.insert(to.to_owned());
        }
        unsynced.insert(String::new());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.borrow_mut().remove(name).ok_or_else(|| not_found(name))?;
        let mut unsynced = self.unsynced.borrow_mut();
        unsynced.remove(name);
        unsynced.insert(String::new());
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.len_bytes(name)?;
        self.unsynced.borrow_mut().remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.unsynced.borrow_mut().remove("");
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/memory/log").join(name)
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no file {name}"))
}
