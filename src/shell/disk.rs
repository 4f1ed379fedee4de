//! The log's writes, on io_uring.
//!
//! **What "durable" means, here and nowhere else:** a write of the whole batch to a file that was opened with O_DSYNC has
//! returned. The file is opened with O_DIRECT beside, unless the file system refuses that; then the same write goes
//! through the page cache, and returns as late. A write that fails or is short stops the node: it is not retried.
//!
//! Invariant: only the segment that is written to is open. The one before it is closed before the first write to the next,
//! and only after that write does the log give it up: so a file that was recycled is opened under its new name, and no write
//! finds it under the old one.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use glommio::io::{BufferedFile, DmaFile, OpenOptions};

use super::reactor::{Input, Reactor};
use super::socket;
use crate::error::{Error, Result};
use crate::log::segment::file_name;
use crate::metrics::Histogram;
use crate::node::LogWrite;

/// A write that takes as long is told: a leader acknowledges no write of a client before its own disk has it.
const SLOW: Duration = Duration::from_millis(500);
/// How often, unless it takes twice as long as the one that was told last.
const TELL_SLOW_EVERY: Duration = Duration::from_secs(60);

/// From the kernel's asm-generic/fcntl.h, which Linux has on every machine that glommio runs on.
const O_DSYNC: i32 = 0o10000;

enum SegmentFile {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

/// See the [module](self).
pub(super) struct LogDisk {
    directory: PathBuf,
    /// The segment that is written to.
    active: RefCell<Option<(u64, Rc<SegmentFile>)>>,
    submitted: RefCell<Option<LogWrite>>,
    waker: Cell<Option<Waker>>,
    /// How long the writes took.
    pub latency: RefCell<Histogram>,
    /// The last that was told of: when, and how long it took.
    told_slow: Cell<Option<(Instant, Duration)>>,
}

impl LogDisk {
    pub fn new(directory: PathBuf) -> LogDisk {
        LogDisk {
            directory,
            active: RefCell::default(),
            submitted: RefCell::default(),
            waker: Cell::default(),
            latency: RefCell::default(),
            told_slow: Cell::default(),
        }
    }

    /// Hands over the next write; the one before has returned.
    pub fn submit(&self, write: LogWrite) {
        let before = self.submitted.borrow_mut().replace(write);
        assert!(before.is_none(), "one write is in flight at a time");
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Carries out the writes, for ever.
    pub async fn run(&self, reactor: &Reactor) {
        loop {
            let write = self.next().await;
            let sequence = write.sequence;
            let begun = Instant::now();
            match self.write(write).await {
                Ok(()) => {
                    self.note_duration(begun.elapsed());
                    reactor.post(Input::Written(sequence));
                }
                Err(error) => return reactor.fail(error),
            }
        }
    }

    fn note_duration(&self, took: Duration) {
        self.latency.borrow_mut().record_us(took.as_micros() as u64);
        let now = Instant::now();
        if is_worth_telling(took, now, self.told_slow.get()) {
            self.told_slow.set(Some((now, took)));
            log::warn!(
                "a write to the log took {} ms, and what came meanwhile waited for it: the disk is slow or busy with something \
                 else, or this process was kept from running",
                took.as_millis()
            );
        }
    }

    async fn next(&self) -> LogWrite {
        poll_fn(|cx| match self.submitted.borrow_mut().take() {
            Some(write) => Poll::Ready(write),
            None => {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    async fn write(&self, write: LogWrite) -> Result<()> {
        let action = || format!("write the log, {}", self.path(write.place.ordinal).display());
        let file = self.file(write.place.ordinal).await?;
        let len = write.bytes.len();
        let written = match &*file {
            SegmentFile::Direct(file) => {
                let mut buffer = file.alloc_dma_buffer(len);
                buffer.as_bytes_mut()[..len].copy_from_slice(&write.bytes);
                file.write_at(buffer, write.place.offset).await
            }
            SegmentFile::Buffered(file) => file.write_at(write.bytes, write.place.offset).await,
        };
        let written = written.map_err(|e| Error::io(action(), e.into()))?;
        match written == len {
            true => Ok(()),
            false => Err(Error::io(
                action(),
                std::io::Error::other(format!("{written} of {len} bytes written")),
            )),
        }
    }

    async fn file(&self, ordinal: u64) -> Result<Rc<SegmentFile>> {
        if let Some((active, file)) = &*self.active.borrow()
            && *active == ordinal
        {
            return Ok(file.clone());
        }
        if let Some((before, file)) = self.active.take() {
            // The log writes forward: that segment gets no more writes.
            self.close(before, file).await?;
        }
        let file = Rc::new(self.open(ordinal).await?);
        self.active.replace(Some((ordinal, file.clone())));
        Ok(file)
    }

    async fn close(&self, ordinal: u64, file: Rc<SegmentFile>) -> Result<()> {
        let Ok(file) = Rc::try_unwrap(file) else {
            panic!("segment {ordinal} is written to, though one write is in flight at a time");
        };
        let closed = match file {
            SegmentFile::Direct(file) => file.close().await,
            SegmentFile::Buffered(file) => file.close().await,
        };
        closed.map_err(|e| Error::io(format!("close {}", self.path(ordinal).display()), e.into()))
    }

    async fn open(&self, ordinal: u64) -> Result<SegmentFile> {
        let path = self.path(ordinal);
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(O_DSYNC);
        let action = || format!("open {}", path.display());
        let locked = |result: std::io::Result<()>| {
            result.map_err(|e| Error::io(format!("lock {}", path.display()), e))
        };
        if let Ok(file) = options.dma_open(&path).await {
            locked(socket::lock(&file))?;
            return Ok(SegmentFile::Direct(file));
        }
        // Most likely O_DIRECT is refused here. If it is something else, this open meets it too and names it.
        let file = options.buffered_open(&path).await.map_err(|e| Error::io(action(), e.into()))?;
        locked(socket::lock(&file))?;
        Ok(SegmentFile::Buffered(file))
    }

    fn path(&self, ordinal: u64) -> PathBuf {
        self.directory.join(file_name(ordinal))
    }
}

fn is_worth_telling(took: Duration, now: Instant, told: Option<(Instant, Duration)>) -> bool {
    let is_news = |(at, before)| took >= 2 * before || now - at >= TELL_SLOW_EVERY;
    took >= SLOW && told.is_none_or(is_news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_writes_are_told_now_and_then() {
        let told_at = Instant::now();
        let told = Some((told_at, SLOW));
        assert!(is_worth_telling(SLOW, told_at, None));
        assert!(!is_worth_telling(SLOW - Duration::from_nanos(1), told_at, None));
        assert!(!is_worth_telling(SLOW * 3 / 2, told_at, told));
        assert!(is_worth_telling(2 * SLOW, told_at, told));
        assert!(is_worth_telling(SLOW, told_at + TELL_SLOW_EVERY, told));
    }
}
