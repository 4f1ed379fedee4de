//! What it costs to make 4 KiB durable, in three ways: a direct write to a file opened with O_DSYNC, as the log does; a
//! buffered write followed by fdatasync, both on io_uring too; and the same two as blocking calls, for which the log would
//! need a thread.
//!
//! All overwrite a file that was filled with zeros before, as the log does. They take turns, so that a busy moment of the
//! disk hits all.
//!
//!     cargo run --release --example durable_write [DIRECTORY]

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use glommio::LocalExecutor;
use glommio::io::{BufferedFile, DmaFile, OpenOptions};

const BLOCK_LEN: usize = 4096;
const FILE_LEN: usize = 16 * 1024 * 1024;
const ROUNDS: usize = 30;
const WRITES_PER_ROUND: usize = 100;
/// From the kernel's asm-generic/fcntl.h.
const O_DSYNC: i32 = 0o10000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let path = |name| Path::new(&directory).join(format!("durable_write.{}.{name}", process::id()));
    let paths = ["direct", "buffered", "blocking"].map(path);
    let measured = measure(&paths);
    for path in &paths {
        std::fs::remove_file(path)?;
    }
    println!("{} writes of {BLOCK_LEN} bytes each, in {directory}", ROUNDS * WRITES_PER_ROUND);
    let [direct, buffered, blocking] = measured?;
    report("direct, O_DSYNC, io_uring", direct);
    report("buffered, fdatasync, io_uring", buffered);
    report("buffered, fdatasync, blocking", blocking);
    Ok(())
}

fn measure([direct, buffered, blocking]: &[PathBuf; 3]) -> io::Result<[Vec<Duration>; 3]> {
    for path in [direct, buffered, blocking] {
        let mut file = File::create(path)?;
        file.write_all(&vec![0; FILE_LEN])?;
        file.sync_all()?;
    }
    let blocking = File::options().write(true).open(blocking)?;
    LocalExecutor::default().run(async {
        let mut options = OpenOptions::new();
        let buffered = options.read(true).write(true).buffered_open(buffered).await?;
        let direct = options.custom_flags(O_DSYNC).dma_open(direct).await?;
        let mut times = [const { Vec::new() }; 3];
        for round in 0..ROUNDS {
            let offsets = (0..WRITES_PER_ROUND).map(|write| offset(round, write));
            for offset in offsets.clone() {
                times[0].push(write_direct(&direct, offset).await?);
            }
            for offset in offsets.clone() {
                times[1].push(write_buffered(&buffered, offset).await?);
            }
            for offset in offsets {
                times[2].push(write_blocking(&blocking, offset)?);
            }
        }
        direct.close().await?;
        buffered.close().await?;
        Ok(times)
    })
}

/// One block after the other; from the start again where the file ends.
fn offset(round: usize, write: usize) -> u64 {
    let block = (round * WRITES_PER_ROUND + write) % (FILE_LEN / BLOCK_LEN);
    (block * BLOCK_LEN) as u64
}

async fn write_direct(file: &DmaFile, offset: u64) -> io::Result<Duration> {
    let begun = Instant::now();
    let mut buffer = file.alloc_dma_buffer(BLOCK_LEN);
    buffer.as_bytes_mut().fill(1);
    let written = file.write_at(buffer, offset).await?;
    assert_eq!(written, BLOCK_LEN, "a short write");
    Ok(begun.elapsed())
}

async fn write_buffered(file: &BufferedFile, offset: u64) -> io::Result<Duration> {
    let begun = Instant::now();
    let written = file.write_at(vec![1; BLOCK_LEN], offset).await?;
    assert_eq!(written, BLOCK_LEN, "a short write");
    file.fdatasync().await?;
    Ok(begun.elapsed())
}

fn write_blocking(file: &File, offset: u64) -> io::Result<Duration> {
    let begun = Instant::now();
    file.write_all_at(&[1; BLOCK_LEN], offset)?;
    file.sync_data()?;
    Ok(begun.elapsed())
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let quantile = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_micros();
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(quantile);
    println!("{name:<30}  p50 {p50:>5} us   p99 {p99:>5} us   max {max:>5} us");
}
