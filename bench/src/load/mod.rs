//! The generator: asks for what a workload says, on one thread, and takes down what comes of it.
//!
//! Closed loop: each slot sends its next request when the last one was answered. Open loop: requests are due at a fixed
//! rate, wait for a slot that is free, and their latency counts from when they were due.

pub mod outcome;
pub mod schedule;
mod timer;
pub mod workload;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::LocalSet;

use crate::target::{Answer, Slot, Target};
use outcome::{Outcome, Recorder};
use schedule::Schedule;
use timer::Timer;
use workload::{Extent, Keys, Operation, Pace, Workload};

/// An open loop that cannot keep up is given so long to send what was due.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// A slot whose request failed comes again after so long.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Where to, and how it is watched.
#[derive(Debug, Clone)]
pub struct Options {
    pub target: Target,
    /// Clients are spread over them in turn.
    pub addresses: Vec<String>,
    /// Of the timeline.
    pub interval: Duration,
    /// How long the server may work on a request.
    pub timeout_ms: u32,
    /// Counts failures and connects again, instead of ending with the first.
    pub keep_going: bool,
    /// Whether to show how far it is, if a terminal looks on.
    pub progress: bool,
}

impl Options {
    pub fn new(target: Target, addresses: Vec<String>) -> Options {
        let interval = Duration::from_millis(100);
        Options {
            target,
            addresses,
            interval,
            timeout_ms: 10_000,
            keep_going: false,
            progress: false,
        }
    }
}

/// Runs the workload on this thread.
pub fn run(workload: &Workload, options: &Options) -> io::Result<Outcome> {
    if options.keep_going && workload.depth > 1 {
        return Err(io::Error::other(
            "who keeps going connects anew, which slots of one connection cannot each do",
        ));
    }
    allow_open_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, drive(workload, options))
}

/// As many as this user may have: a thousand clients are more than most shells allow at first.
fn allow_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

async fn drive(workload: &Workload, options: &Options) -> io::Result<Outcome> {
    let mut slots = Vec::new();
    for client in 0..workload.clients {
        let address = &options.addresses[client % options.addresses.len()];
        slots
            .extend(Slot::open(options.target, address, workload.depth, options.timeout_ms).await?);
    }
    let run = Rc::new(Run::new(workload, options));
    if let Pace::Open { .. } = workload.pace {
        tokio::task::spawn_local(wake_when_due(run.clone(), Timer::new()?));
    }
    if options.progress && io::stderr().is_terminal() {
        tokio::task::spawn_local(show_progress(run.clone()));
    }
    let each_client = slots.into_iter().enumerate();
    let workers: Vec<_> = each_client
        .map(|(at, slot)| tokio::task::spawn_local(work(run.clone(), at, slot)))
        .collect();
    for worker in workers {
        worker.await.map_err(io::Error::other)??;
    }
    let elapsed = run.elapsed();
    run.over.set(true);
    let recorder = run.recorder.replace(Recorder::new(Duration::ZERO, options.interval));
    // If nothing counted was answered, nothing was taken for it.
    let cpu = run.cpu_before.get().map_or(Duration::ZERO, |before| processor_time() - before);
    Ok(recorder.finish(elapsed, cpu))
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What the slots of one run share.
struct Run {
    workload: Workload,
    options: Options,
    value: Bytes,
    began: Instant,
    /// Since it began: requests from then on count, and from `end` on none is sent.
    count_from: Duration,
    end: Duration,
    /// Open loop only.
    schedule: Option<RefCell<Schedule>>,
    /// Slots that wait for a request to become due.
    idle: RefCell<VecDeque<Waker>>,
    /// Of the task that wakes them, if it waits for one.
    someone_idle: Cell<Option<Waker>>,
    /// How many were sent.
    sent: Cell<u64>,
    recorder: RefCell<Recorder>,
    keys: RefCell<Keys>,
    over: Cell<bool>,
    /// This program's processor time as the first request was answered that counts.
    cpu_before: Cell<Option<Duration>>,
}

impl Run {
    fn new(workload: &Workload, options: &Options) -> Run {
        let (count_from, end) = match workload.extent {
            Extent::Time { warm_up, counted } => (warm_up, warm_up + counted),
            Extent::Count(_) => (Duration::ZERO, Duration::MAX),
        };
        let schedule = match workload.pace {
            Pace::Closed => None,
            Pace::Open { rate_per_s } => Some(RefCell::new(Schedule::new(rate_per_s, end))),
        };
        Run {
            value: Bytes::from(vec![b'v'; workload.value_len_bytes]),
            began: Instant::now(),
            count_from,
            end,
            schedule,
            idle: RefCell::default(),
            someone_idle: Cell::default(),
            cpu_before: Cell::default(),
            sent: Cell::new(0),
            recorder: RefCell::new(Recorder::new(count_from, options.interval)),
            keys: RefCell::new(Keys::new(workload.keys, workload.distribution)),
            over: Cell::new(false),
            workload: workload.clone(),
            options: options.clone(),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// How long the counted part lasted.
    fn elapsed(&self) -> Duration {
        self.now().saturating_sub(self.count_from)
    }

    /// Waits until a request may be sent. When it was meant to be, or `None` if no more is.
    async fn next(&self) -> Option<Duration> {
        if let Extent::Count(count) = self.workload.extent
            && self.sent.get() >= count
        {
            return None;
        }
        let intended = match &self.schedule {
            None => Some(self.now()).filter(|now| *now < self.end),
            Some(schedule) => {
                std::future::poll_fn(|cx| self.poll_due(&mut schedule.borrow_mut(), cx.waker()))
                    .await
            }
        };
        self.sent.update(|sent| sent + u64::from(intended.is_some()));
        intended
    }

    fn poll_due(&self, schedule: &mut Schedule, waker: &Waker) -> Poll<Option<Duration>> {
        let now = self.now();
        if let Extent::Count(count) = self.workload.extent
            && self.sent.get() >= count
        {
            return Poll::Ready(None);
        }
        if now >= self.end.saturating_add(DRAIN_MAX) {
            self.recorder.borrow_mut().unsent = schedule.waiting(now);
            return Poll::Ready(None);
        }
        if let Some(intended) = schedule.take(now) {
            return Poll::Ready(Some(intended));
        }
        if schedule.next().is_none() {
            return Poll::Ready(None);
        }
        self.idle.borrow_mut().push_back(waker.clone());
        self.someone_idle.take().into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    fn poll_anyone_idle(&self, waker: &Waker) -> Poll<()> {
        if !self.idle.borrow().is_empty() {
            return Poll::Ready(());
        }
        self.someone_idle.set(Some(waker.clone()));
        Poll::Pending
    }

    /// Draws what the request is, and of which key.
    fn draw(&self, rng: &mut fastrand::Rng) -> (Operation, u64) {
        let key = match self.workload.extent {
            Extent::Count(_) => self.sent.get() - 1,
            Extent::Time { .. } => self.keys.borrow_mut().draw(rng),
        };
        (self.workload.mix.draw(rng), key)
    }
}

/// One slot's requests, one after the other.
async fn work(run: Rc<Run>, at: usize, mut slot: Slot) -> io::Result<()> {
    let mut rng = fastrand::Rng::with_seed(at as u64);
    while let Some(begun) = run.next().await {
        let (operation, key) = run.draw(&mut rng);
        let answer = slot.call(operation, &workload::key(key), &run.value).await;
        let now = run.now();
        if run.cpu_before.get().is_none() && begun >= run.count_from {
            run.cpu_before.set(Some(processor_time()));
        }
        match answer {
            Ok(Answer::Done) => run.recorder.borrow_mut().answered(operation, begun, now),
            Ok(Answer::Refused) => run.recorder.borrow_mut().refused += 1,
            Err(error) if !run.options.keep_going => return Err(error),
            Err(error) => {
                run.recorder.borrow_mut().failed(error.to_string());
                slot = open_again(&run, at, slot).await;
            }
        }
    }
    Ok(())
}

/// A new connection, or the old one if there is none to be had: the next request then fails as well.
async fn open_again(run: &Run, at: usize, slot: Slot) -> Slot {
    tokio::time::sleep(RETRY_PAUSE).await;
    let Options { addresses, target, timeout_ms, .. } = &run.options;
    let address = &addresses[at % addresses.len()];
    let opened = Slot::open(*target, address, 1, *timeout_ms).await;
    opened.ok().and_then(|mut slots| slots.pop()).unwrap_or(slot)
}

/// Open loop: wakes as many idle slots as there are requests due, whenever one is.
async fn wake_when_due(run: Rc<Run>, timer: Timer) -> io::Result<()> {
    let schedule = run.schedule.as_ref().expect("an open loop has a schedule");
    while !run.over.get() {
        let now = run.now();
        let (next, waiting) = (schedule.borrow().next(), schedule.borrow().waiting(now));
        let Some(next) = next else {
            run.idle.borrow_mut().drain(..).for_each(Waker::wake);
            return Ok(());
        };
        if next > now {
            timer.sleep(next - now).await?;
        } else if run.idle.borrow().is_empty() {
            // Whoever is done takes what is due without being woken. The first who finds nothing due is idle.
            std::future::poll_fn(|cx| run.poll_anyone_idle(cx.waker())).await;
        } else {
            let woken = run.idle.borrow().len().min(waiting as usize);
            run.idle.borrow_mut().drain(..woken).for_each(Waker::wake);
            // They take what is due before this goes on.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

async fn show_progress(run: Rc<Run>) {
    let mut before = 0;
    while !run.over.get() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let count = run.recorder.borrow().count();
        let mut stderr = io::stderr();
        // Whoever does not see the progress misses nothing.
        let _ = write!(
            stderr,
            "\r{:>6.0} s  {count:>10} answered  {:>8}/s\x1b[K",
            run.now().as_secs_f64(),
            count - before
        );
        let _ = stderr.flush();
        before = count;
    }
    let _ = write!(io::stderr(), "\r\x1b[K");
}
