//! What the machine allows: a TCP round trip on loopback, and a durable write of 4 KiB as the log does it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use glommio::io::OpenOptions;
use glommio::{LocalExecutorBuilder, Placement};
use hdrhistogram::Histogram;

/// From the kernel's asm-generic/fcntl.h.
const O_DSYNC: i32 = 0o10000;
const BLOCK_LEN: usize = 4096;
const FILE_LEN: usize = 16 << 20;

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are constants")
}

/// Round trips of 300 bytes there and 64 back, between two threads on the given cores.
pub fn tcp_round_trip(cores: [usize; 2], rounds: u32) -> io::Result<Histogram<u64>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        pin(cores[1])?;
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut request = [0; 300];
        while stream.read_exact(&mut request).is_ok() {
            stream.write_all(&[1; 64])?;
        }
        Ok(())
    });
    let asking = std::thread::spawn(move || -> io::Result<Histogram<u64>> {
        pin(cores[0])?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut latency_us = histogram();
        let mut answer = [0; 64];
        for _ in 0..rounds {
            let begun = Instant::now();
            stream.write_all(&[0; 300])?;
            stream.read_exact(&mut answer)?;
            latency_us.saturating_record(begun.elapsed().as_micros() as u64);
        }
        Ok(latency_us)
    });
    let latency_us = asking.join().expect("no panic in the asking thread")?;
    echo.join().expect("no panic in the answering thread")?;
    Ok(latency_us)
}

fn pin(core: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn failed(error: glommio::GlommioError<()>) -> io::Error {
    error.into()
}

/// Durable writes of 4 KiB over a pre-written file, one after the other, on io_uring: O_DIRECT and O_DSYNC.
pub fn durable_write(directory: &Path, duration: Duration) -> io::Result<Histogram<u64>> {
    let path = directory.join("floor.tmp");
    std::fs::write(&path, vec![0; FILE_LEN])?;
    std::fs::File::open(&path)?.sync_all()?;
    let file_path = path.clone();
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().map_err(failed)?;
    let latency_us = executor.run(async move {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(O_DSYNC);
        let file = options.dma_open(&file_path).await.map_err(failed)?;
        let mut latency_us = histogram();
        let until = Instant::now() + duration;
        let mut offset = 0;
        while Instant::now() < until {
            let buffer = file.alloc_dma_buffer(BLOCK_LEN);
            let begun = Instant::now();
            file.write_at(buffer, offset).await.map_err(failed)?;
            latency_us.saturating_record(begun.elapsed().as_micros() as u64);
            offset = (offset + BLOCK_LEN as u64) % FILE_LEN as u64;
        }
        file.close().await.map_err(failed)?;
        io::Result::Ok(latency_us)
    })?;
    std::fs::remove_file(&path)?;
    Ok(latency_us)
}
