//! A backup as a file: 8 bytes that say what it is, then each chunk behind its length. The layout is in
//! `proto/snapshot.proto`.
//!
//! Invariant: nothing is taken for a backup that does not end with its last chunk, and exactly there.

#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Read, Write};

use bytes::Bytes;
use prost::Message;

use super::Inspection;
use crate::limits::FRAME_LEN_MAX;
use crate::store::{Figures, WindowBounds};
use crate::wire::snapshot::{Chunk, Header};

const MAGIC: &[u8; 8] = b"phlxsnap";
const LEN_LEN: usize = size_of::<u32>();

/// Why a file is not read to its end as a backup.
#[derive(Debug)]
pub enum Flaw {
    /// It cannot be read.
    Io(io::Error),
    /// It does not hold what was written, or was never one of ours.
    Damaged {
        /// Where, in bytes: the chunk begins there.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Io(error) => write!(f, "cannot be read: {error}"),
            Flaw::Damaged { offset, what } => {
                write!(f, "is no whole backup, at byte {offset}: {what}")
            }
        }
    }
}

/// Begins a file.
pub fn write_start(file: &mut impl Write) -> io::Result<()> {
    file.write_all(MAGIC)
}

/// Adds a chunk.
pub fn write_chunk(file: &mut impl Write, chunk: &Chunk) -> io::Result<()> {
    let bytes = chunk.encode_to_vec();
    let len = u32::try_from(bytes.len()).expect("a chunk fits into a frame");
    file.write_all(&len.to_be_bytes())?;
    file.write_all(&bytes)
}

/// The chunks of a file, one after the other, each with the place where it begins.
pub struct Chunks<R: Read> {
    file: R,
    offset: u64,
    is_over: bool,
}

impl<R: Read> Chunks<R> {
    /// Reads from the start of a file.
    pub fn open(file: R) -> Result<Chunks<R>, Flaw> {
        let mut chunks = Chunks { file, offset: 0, is_over: false };
        let mut magic = [0; MAGIC.len()];
        if chunks.fill(&mut magic)? < magic.len() || magic != *MAGIC {
            return Err(chunks.damaged("it does not begin as a backup of Phalanx does"));
        }
        chunks.offset = MAGIC.len() as u64;
        Ok(chunks)
    }

    /// The next chunk; `None` after the last, if nothing follows it.
    pub fn next_chunk(&mut self) -> Result<Option<(u64, Chunk)>, Flaw> {
        let mut len = [0; LEN_LEN];
        let found = self.fill(&mut len)?;
        match (found, self.is_over) {
            (0, true) => return Ok(None),
            (_, true) => return Err(self.damaged("something follows the last chunk")),
            (LEN_LEN, false) => {}
            _ => return Err(self.damaged("it ends before its last chunk: was it cut short?")),
        }
        let len = u32::from_be_bytes(len) as usize;
        if !(1..=FRAME_LEN_MAX).contains(&len) {
            return Err(self.damaged(&format!("no chunk has {len} bytes")));
        }
        let mut bytes = vec![0; len];
        if self.fill(&mut bytes)? < len {
            return Err(self.damaged("it ends within a chunk: was it cut short?"));
        }
        let bytes = Bytes::from(bytes);
        // Some bits could flip without its meaning another thing: then it is damaged all the same.
        let chunk =
            Chunk::decode(bytes.clone()).ok().filter(|chunk| chunk.encode_to_vec() == bytes);
        let Some(chunk) = chunk else {
            return Err(self.damaged("the chunk is not as it was written"));
        };
        let begins = self.offset;
        self.offset += (LEN_LEN + len) as u64;
        self.is_over = chunk.is_last;
        Ok(Some((begins, chunk)))
    }

    /// Reads until the buffer is full or the file ends. Gives how much there was.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Flaw> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Flaw::Io(e)),
            }
        }
        Ok(filled)
    }

    fn damaged(&self, what: &str) -> Flaw {
        Flaw::Damaged { offset: self.offset, what: what.to_owned() }
    }
}

/// Reads a backup to its end and checks all of it.
pub fn check(file: impl Read) -> Result<(Header, Figures), Flaw> {
    let mut chunks = Chunks::open(file)?;
    let mut inspection = Inspection::new(WindowBounds::default());
    let mut last = 0;
    while let Some((offset, chunk)) = chunks.next_chunk()? {
        last = offset;
        let added = inspection.add(&chunk);
        added.map_err(|refused| Flaw::Damaged { offset, what: refused.to_string() })?;
    }
    let finished = inspection.finish();
    finished.map_err(|refused| Flaw::Damaged { offset: last, what: refused.to_string() })
}
