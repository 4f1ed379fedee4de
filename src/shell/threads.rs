//! What blocks, on threads of its own: commits of the state machine, range reads, snapshots that are sent or taken in,
//! preparing segments, looking at the disk's free space.
//!
//! The thread of transfers has a lower priority than the others (it is `nice`): a snapshot has time, a commit has not.
//!
//! Invariant: a commit is begun only when the disk space that it may take is reserved, so that a full disk is met while
//! nothing has been changed. Then it is put off, and writes are refused.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::data_dir::LogFiles;
use super::mailbox::Mailbox;
use super::reactor::{Input, News};
use crate::error::{Error, Result};
use crate::limits::DISK_RESERVE;
use crate::log::{Prepare, is_no_space, prepare};
use crate::metrics::{Histogram, LatencySummary};
use crate::node::Token;
use crate::store::lmdb::LmdbMap;
use crate::store::transfer::{Job, Transfers};
use crate::store::{Commit, Retired, Scan};

/// How often the free space is looked at, and what waits for space tries again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn news(input: Input) -> News {
    News::Input(Box::new(input))
}

/// A segment is ready in a quarter of the time in which the log filled the one before, so that it does not wait for it.
const SEGMENT_FILLED_TIMES: u32 = 4;
/// More time is not worth anything, and a log that comes out of idleness may want the next one soon.
const SEGMENT_WITHIN_MAX: Duration = Duration::from_millis(150);

/// How much the thread of transfers gives way to others.
const TRANSFERS_NICE: i32 = 10;

/// What the store's thread does.
enum StoreJob {
    Commit(Commit<LmdbMap>),
    Free(Retired),
}

/// The threads' ends of their queues. What is queued is bounded by the node: one commit, one segment,
/// [`SCANS_MAX`](crate::limits::SCANS_MAX) range reads, for each snapshot a window of chunks.
pub(super) struct Threads {
    store: Sender<StoreJob>,
    scans: Sender<(Token, Scan<LmdbMap>)>,
    transfers: Sender<Job<LmdbMap>>,
    segments: Sender<Prepare>,
    commit_latency: Arc<Mutex<Histogram>>,
}

impl Threads {
    /// Starts the threads. They end with the process.
    pub fn start(data_dir: &Path, log_files: LogFiles, mailbox: &Mailbox<News>) -> Result<Threads> {
        let (store, store_jobs) = mpsc::channel();
        let (scans, scan_jobs) = mpsc::channel();
        let (transfers, transfer_jobs) = mpsc::channel();
        let (segments, segment_jobs) = mpsc::channel();
        let commit_latency = Arc::new(Mutex::new(Histogram::default()));

        let (news, latency) = (mailbox.clone(), commit_latency.clone());
        start("store", move || run_store(&store_jobs, &news, &latency))?;
        let news = mailbox.clone();
        start("scans", move || run_scans(&scan_jobs, &news))?;
        let news = mailbox.clone();
        start("transfers", move || run_transfers(&transfer_jobs, &news))?;
        let (news, data_dir) = (mailbox.clone(), data_dir.to_owned());
        start("segments", move || run_segments(&segment_jobs, &data_dir, &log_files, &news))?;
        Ok(Threads { store, scans, transfers, segments, commit_latency })
    }

    pub fn commit(&self, commit: Commit<LmdbMap>) {
        self.give(self.store.send(StoreJob::Commit(commit)));
    }

    /// Frees the memory of changes that are committed.
    pub fn drop_retired(&self, retired: Retired) {
        self.give(self.store.send(StoreJob::Free(retired)));
    }

    pub fn scan(&self, token: Token, scan: Scan<LmdbMap>) {
        self.give(self.scans.send((token, scan)));
    }

    pub fn transfer(&self, job: Job<LmdbMap>) {
        self.give(self.transfers.send(job));
    }

    pub fn prepare(&self, wish: Prepare) {
        self.give(self.segments.send(wish));
    }

    /// How long the commits took.
    pub fn commit_latency(&self) -> LatencySummary {
        self.commit_latency.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).summary()
    }

    fn give<T>(&self, sent: std::result::Result<(), mpsc::SendError<T>>) {
        // A thread ends early only by a panic, and a node that lacks one cannot go on.
        assert!(sent.is_ok(), "a thread of this process is gone");
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(|_| ()).map_err(|e| Error::io("start a thread", e))
}

fn run_store(jobs: &Receiver<StoreJob>, mailbox: &Mailbox<News>, latency: &Mutex<Histogram>) {
    for job in jobs {
        let commit = match job {
            StoreJob::Commit(commit) => commit,
            StoreJob::Free(retired) => {
                drop(retired);
                continue;
            }
        };
        match commit.reserve() {
            Ok(true) => {}
            Ok(false) => {
                mailbox.send(news(Input::CommitPutOff(commit)));
                continue;
            }
            Err(error) => {
                mailbox.send(News::Failed(error));
                continue;
            }
        }
        let begun = Instant::now();
        mailbox.send(match commit.run() {
            Ok(committed) => news(Input::Committed(committed)),
            Err(error) => News::Failed(error),
        });
        let us = begun.elapsed().as_micros() as u64;
        latency.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).record_us(us);
    }
}

fn run_scans(jobs: &Receiver<(Token, Scan<LmdbMap>)>, mailbox: &Mailbox<News>) {
    for (token, scan) in jobs {
        mailbox.send(match scan.run() {
            Ok(result) => news(Input::Scanned(token, result)),
            Err(error) => News::Failed(error),
        });
    }
}

fn run_transfers(jobs: &Receiver<Job<LmdbMap>>, mailbox: &Mailbox<News>) {
    // On Linux this is of the calling thread alone. Where it is refused, the thread is as urgent as the others.
    if let Err(e) = rustix::process::setpriority_process(None, TRANSFERS_NICE) {
        log::warn!("the thread of transfers keeps its priority: {e}");
    }
    let mut transfers = Transfers::default();
    for job in jobs {
        if let Err(error) = transfers.run(job, |told| mailbox.send(news(Input::Transfer(told)))) {
            mailbox.send(News::Failed(error));
            break;
        }
    }
    // The node stops. Until it has, what it still asks for is void.
    jobs.iter().for_each(drop);
}

/// Prepares segments, and between them looks at the disk. A segment for which there is no room is tried again.
fn run_segments(
    jobs: &Receiver<Prepare>,
    data_dir: &Path,
    files: &LogFiles,
    mailbox: &Mailbox<News>,
) {
    let mut wish: Option<Prepare> = None;
    let mut wished_at = Instant::now();
    let mut within = Duration::ZERO;
    loop {
        if let Some(wanted) = &wish {
            match prepare(&files.with_time(within), wanted) {
                Ok(()) => {
                    mailbox.send(news(Input::Prepared(wanted.ordinal)));
                    wish = None;
                }
                Err(error) if is_no_space(&error) => {
                    mailbox.send(news(Input::DiskSpace(Err(error.to_string()))));
                }
                Err(error) => return mailbox.send(News::Failed(error)),
            }
        }
        match jobs.recv_timeout(LOOK_EVERY) {
            Ok(wanted) => {
                // The log fills the segment before it meanwhile.
                within = (wished_at.elapsed() / SEGMENT_FILLED_TIMES).min(SEGMENT_WITHIN_MAX);
                wished_at = Instant::now();
                wish = Some(wanted);
            }
            Err(RecvTimeoutError::Timeout) if wish.is_none() => match free_space(data_dir) {
                Ok(space) => mailbox.send(news(Input::DiskSpace(space))),
                Err(error) => return mailbox.send(News::Failed(error)),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Whether the disk has the reserve that writes need; if not, why.
fn free_space(data_dir: &Path) -> Result<std::result::Result<(), String>> {
    let stat = rustix::fs::statvfs(data_dir).map_err(|e| {
        Error::io(format!("look at the free space of {}", data_dir.display()), e.into())
    })?;
    let free = stat.f_bavail * stat.f_frsize;
    Ok(match free >= DISK_RESERVE {
        true => Ok(()),
        false => Err(format!(
            "the disk of {} has {} MiB free, and {} MiB are the least: make space on it",
            PathBuf::from(data_dir).display(),
            free >> 20,
            DISK_RESERVE >> 20
        )),
    })
}
