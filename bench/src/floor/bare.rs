//! A put without a store: the client's request goes to a leader, which passes it on to its followers, writes it, and
//! answers when it and one follower have it on disk. Nothing but blocking sockets and blocking writes, on the cores that
//! the nodes have, and on one disk, as the nodes of a machine are.
//!
//! What is measured here is what the parts of a put cost together, where they wait for the same disk and the same cores.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, poll};

use super::{ANSWER_LEN, BLOCK_LEN, Core, FILE_LEN, O_DSYNC, REQUEST_LEN, ask, pin};

const O_DIRECT: i32 = if cfg!(target_arch = "aarch64") { 0o200000 } else { 0o40000 };

/// Puts by one client that is not pinned, on a node on each of `cores`, the leader's first.
pub fn put(directory: &Path, cores: &[Core], duration: Duration) -> io::Result<Histogram<u64>> {
    let scratch = tempfile::Builder::new().prefix("phalanx-floor-").tempdir_in(directory)?;
    let disk = |node: usize| Disk::create(&scratch.path().join(node.to_string()));
    let mut nodes = Vec::new();
    let mut followers = Vec::new();
    for (node, core) in cores.iter().enumerate().skip(1) {
        let (address, thread) = start(*core, disk(node)?, Followers::connect(&[])?)?;
        followers.push(address);
        nodes.push(thread);
    }
    let (leader, thread) = start(cores[0], disk(0)?, Followers::connect(&followers)?)?;
    nodes.push(thread);
    let latency_ns = ask(leader, None, duration);
    // The client has gone, so the leader ends, and with its connections the followers. Why a node failed comes first: all
    // that the client sees is the end of its connection.
    for node in nodes {
        node.join().expect("no panic in a node")?;
    }
    latency_ns
}

/// Starts a node, which serves one connection to its end. Where it is reached.
fn start(
    core: Core,
    mut disk: Disk,
    mut followers: Followers,
) -> io::Result<(SocketAddr, JoinHandle<io::Result<()>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serve = move || {
        pin(core)?;
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut request = [0; REQUEST_LEN];
        while stream.read_exact(&mut request).is_ok() {
            followers.send(&request)?;
            disk.write(&request)?;
            followers.await_first()?;
            stream.write_all(&[1; ANSWER_LEN])?;
        }
        Ok(())
    };
    Ok((address, thread::spawn(serve)))
}

/// A file that is written over, block by block.
struct Disk {
    file: File,
    block: AlignedBlock,
    offset: u64,
}

/// O_DIRECT takes whole blocks from memory that is aligned to them.
#[repr(align(4096))]
struct AlignedBlock([u8; BLOCK_LEN]);

impl Disk {
    fn create(path: &Path) -> io::Result<Disk> {
        std::fs::write(path, vec![0; FILE_LEN])?;
        File::open(path)?.sync_all()?;
        let mut options = File::options();
        let file = options.write(true).custom_flags(O_DSYNC | O_DIRECT).open(path)?;
        Ok(Disk { file, block: AlignedBlock([0; BLOCK_LEN]), offset: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.block.0[..bytes.len()].copy_from_slice(bytes);
        self.file.write_all_at(&self.block.0, self.offset)?;
        self.offset = (self.offset + BLOCK_LEN as u64) % FILE_LEN as u64;
        Ok(())
    }
}

/// The connections to the followers, and how much each has answered.
struct Followers {
    streams: Vec<TcpStream>,
    answered_len: Vec<usize>,
    asked: usize,
}

impl Followers {
    fn connect(addresses: &[SocketAddr]) -> io::Result<Followers> {
        let connect = |address: &SocketAddr| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let streams = addresses.iter().map(connect).collect::<io::Result<Vec<_>>>()?;
        Ok(Followers { answered_len: vec![0; streams.len()], streams, asked: 0 })
    }

    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.asked += 1;
        // So little always finds room: one request is under way, and who is slow is behind by a few.
        self.streams.iter_mut().try_for_each(|stream| stream.write_all(request))
    }

    /// Waits until one of them has answered the last request. One node alone need not wait.
    fn await_first(&mut self) -> io::Result<()> {
        while !self.streams.is_empty() {
            for (stream, len) in self.streams.iter_mut().zip(&mut self.answered_len) {
                *len += read_some(stream)?;
            }
            if self.answered_len.iter().any(|len| *len >= self.asked * ANSWER_LEN) {
                break;
            }
            let watch = |stream| PollFd::new(stream, PollFlags::IN);
            let mut watched: Vec<_> = self.streams.iter().map(watch).collect();
            poll(&mut watched, None)?;
        }
        Ok(())
    }
}

/// As many bytes as are there.
fn read_some(stream: &mut TcpStream) -> io::Result<usize> {
    match stream.read(&mut [0; 16 * ANSWER_LEN]) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
        read => read,
    }
}
