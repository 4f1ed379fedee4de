//! A [`Disk`] in memory, which can do what real disks do now and then: fill up, tear a write, flip a
//! bit, lose in a power cut what was not synced, stop halfway. For tests and simulation.
//!
//! What is read is what was written last, as the page cache shows it. What a power cut leaves is what
//! was synced, or written by [`MemDisk::write_durable`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use super::disk::Disk;
use super::format::{SECTOR_LEN, SectorBytes};
use super::segment;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct MemDisk {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
    unsynced: RefCell<BTreeSet<String>>,
    /// By file and number: what sectors held before they were written, and not synced since.
    overwritten: RefCell<BTreeMap<String, BTreeMap<usize, SectorBytes>>>,
    /// All files, before names were changed that are not synced since.
    renamed: RefCell<Option<BTreeMap<String, Vec<u8>>>>,
    capacity: Cell<usize>,
    /// After so many more operations that change something, none is carried out any more.
    operations_left: Cell<u32>,
}

impl Default for MemDisk {
    fn default() -> MemDisk {
        MemDisk {
            files: RefCell::default(),
            unsynced: RefCell::default(),
            overwritten: RefCell::default(),
            renamed: RefCell::default(),
            capacity: Cell::new(usize::MAX),
            operations_left: Cell::new(u32::MAX),
        }
    }
}

impl MemDisk {
    /// How many bytes there is room for, all files together.
    pub fn set_capacity(&self, len_bytes: usize) {
        self.capacity.set(len_bytes);
    }

    /// All files together.
    pub fn len_bytes_total(&self) -> usize {
        self.files.borrow().values().map(Vec::len).sum()
    }

    /// From now on, only so many operations that change or sync something are carried out; those after them fail, as if
    /// the machine had stopped. `u32::MAX` for all.
    pub fn stop_after(&self, operations: u32) {
        self.operations_left.set(operations);
    }

    /// The machine loses its power: what was not synced is lost, but for the sectors that `keep` is true for.
    pub fn power_cut(&self, mut keep: impl FnMut() -> bool) {
        let mut files = self.files.borrow_mut();
        if let Some(names) = self.renamed.take() {
            // What was written since to files that have kept their names is not lost with the others' names.
            files.retain(|name, _| names.contains_key(name));
            for (name, bytes) in names {
                files.entry(name).or_insert(bytes);
            }
        }
        for (name, sectors) in self.overwritten.take() {
            let Some(bytes) = files.get_mut(&name) else { continue };
            for (number, before) in sectors {
                if !keep() {
                    bytes[number * SECTOR_LEN..][..SECTOR_LEN].copy_from_slice(&before);
                }
            }
        }
        self.unsynced.borrow_mut().clear();
    }

    /// Whether there is no room for anything more.
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// Flips one bit of one segment, if there is one: almost always where something was written. Gives the file and the bit.
    pub fn flip_some_bit(&self, rng: &mut fastrand::Rng) -> Option<(String, usize)> {
        let (name, bit) = {
            let files = self.files.borrow();
            let mut segments = files.iter().filter(|(name, _)| segment::ordinal(name).is_some());
            let count = segments.clone().count();
            let (name, bytes) = segments.nth(rng.usize(..count.max(1)))?;
            let found = (0..64).map(|_| rng.usize(..bytes.len())).find(|at| bytes[*at] != 0);
            let at = found.unwrap_or_else(|| rng.usize(..bytes.len()));
            (name.clone(), at * 8 + rng.usize(..8))
        };
        self.flip_bit(&name, bit);
        Some((name, bit))
    }

    /// The names of files with bytes that were not synced; an empty one for the directory.
    pub fn unsynced(&self) -> BTreeSet<String> {
        self.unsynced.borrow().clone()
    }

    /// Writes into a file, within its length.
    pub fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_torn(name, offset, bytes, |_| true)
    }

    /// Writes into a file, within its length, and returns when the bytes are durable.
    pub fn write_durable(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let was_synced = !self.unsynced.borrow().contains(name);
        self.write_at(name, offset, bytes)?;
        let first = offset as usize / SECTOR_LEN;
        if let Some(sectors) = self.overwritten.borrow_mut().get_mut(name) {
            sectors.retain(|number, _| !(first..first + bytes.len() / SECTOR_LEN).contains(number));
        }
        if was_synced {
            self.unsynced.borrow_mut().remove(name);
        }
        Ok(())
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
        let mut overwritten = self.overwritten.borrow_mut();
        let before = overwritten.entry(name.to_owned()).or_default();
        let first = offset as usize / SECTOR_LEN;
        let sectors = target.chunks_mut(SECTOR_LEN).zip(bytes.chunks(SECTOR_LEN));
        for (number, (old, new)) in sectors.enumerate() {
            if keep(number) {
                if let Ok(old) = SectorBytes::try_from(&old[..]) {
                    before.entry(first + number).or_insert(old);
                }
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
        self.capacity.get().saturating_sub(self.len_bytes_total())
    }

    /// Before each operation that changes or syncs something.
    fn count_operation(&self) -> io::Result<()> {
        match self.operations_left.get() {
            0 => return Err(io::Error::other("the machine has stopped")),
            u32::MAX => {}
            left => self.operations_left.set(left - 1),
        }
        Ok(())
    }

    /// Before names are changed.
    fn remember_names(&self) {
        let mut renamed = self.renamed.borrow_mut();
        if renamed.is_none() {
            *renamed = Some(self.files.borrow().clone());
        }
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
        self.count_operation()?;
        self.remember_names();
        self.overwritten.borrow_mut().remove(name);
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
        self.count_operation()?;
        self.remember_names();
        let mut overwritten = self.overwritten.borrow_mut();
        if let Some(sectors) = overwritten.remove(from) {
            overwritten.insert(to.to_owned(), sectors);
        }
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
        self.count_operation()?;
        self.remember_names();
        self.files.borrow_mut().remove(name).ok_or_else(|| not_found(name))?;
        let mut unsynced = self.unsynced.borrow_mut();
        unsynced.remove(name);
        unsynced.insert(String::new());
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.count_operation()?;
        self.len_bytes(name)?;
        self.overwritten.borrow_mut().remove(name);
        self.unsynced.borrow_mut().remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.count_operation()?;
        self.renamed.take();
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
