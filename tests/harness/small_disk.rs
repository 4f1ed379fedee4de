//! A file system of a test's own that is soon full.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

const DISK_LEN_MIB: u64 = 256;

/// A mounted file system, which goes with it.
pub struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// ext4 where this process may mount an image, else tmpfs; `None`, said out loud, where it may mount neither.
    pub fn mount() -> Option<SmallDisk> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("it can be written");
        let (image, root) = (dir.path().join("image"), dir.path().join("root"));
        fs::create_dir(&root).unwrap();
        File::create(&image).unwrap().set_len(DISK_LEN_MIB << 20).unwrap();
        let disk = SmallDisk { dir };
        // Without blocks kept for root, as whom the test may run.
        let ext4 = run("mkfs.ext4", ["-q", "-m", "0"].map(Path::new), &[&image])
            && run("mount", ["-o", "loop"].map(Path::new), &[&image, &root]);
        let size = format!("size={DISK_LEN_MIB}m");
        if ext4 || run("mount", ["-t", "tmpfs", "-o", &size, "none"].map(Path::new), &[&root]) {
            return Some(disk);
        }
        eprintln!(
            "SKIPPED: what a full disk does. This process may mount no file system: run it as root."
        );
        None
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn filler(&self) -> PathBuf {
        self.root().join("filler")
    }

    fn free_bytes(&self) -> u64 {
        let stat = statvfs(self.root()).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Another file takes what is left, but for so many bytes.
    pub fn fill(&self, but_bytes: u64) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).unwrap();
        // Most of it at once. What the file system then still finds, as where files cannot be reserved, is written.
        let most = self.free_bytes().saturating_sub(but_bytes + (1 << 20));
        if fallocate(&filler, FallocateFlags::empty(), 0, most.max(1)).is_ok() {
            filler.seek(SeekFrom::End(0)).unwrap();
        }
        let block = vec![0x55; 256 << 10];
        while self.free_bytes() > but_bytes {
            let len = (self.free_bytes() - but_bytes).clamp(4096, block.len() as u64) as usize;
            if filler.write_all(&block[..len]).and_then(|()| filler.sync_data()).is_err() {
                return;
            }
        }
    }

    pub fn make_space(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let root = self.root();
        // What a killed server had asked of io_uring keeps files open for a moment.
        if !run("umount", [&*root], &[]) {
            run("umount", [Path::new("--lazy"), &*root], &[]);
        }
    }
}

fn run<const N: usize>(program: &str, args: [&Path; N], more: &[&Path]) -> bool {
    let output = Command::new(program).args(args).args(more).output();
    output.is_ok_and(|output| output.status.success())
}
