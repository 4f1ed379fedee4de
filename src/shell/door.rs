//! Where the connections of others come in, as far as there are descriptors for them.
//!
//! It promises that they leave some: for the log, the store and the node's own connections, without which the node could not
//! go on.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;
use rustix::process::{Resource, getrlimit};

/// How often it is told that connections cannot be accepted.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Before another is tried: connections that end free descriptors.
const TRIED_EVERY: Duration = Duration::from_millis(100);

/// See the [module](self).
pub(super) struct Door {
    listener: TcpListener,
    reserved: u64,
    /// When it was last told that none can be taken.
    told: Option<Instant>,
}

impl Door {
    /// Leaves so many descriptors free, or that part of all of them (a half, a quarter) if it is less.
    pub fn new(listener: TcpListener, reserved: u64, part: u64) -> Door {
        Door { listener, reserved: reserved.min(descriptors() / part), told: None }
    }

    /// The next connection. Waits, and says so, while there is no descriptor for it.
    pub async fn next(&mut self) -> TcpStream {
        loop {
            let why = match self.listener.accept().await {
                Ok(stream) if !self.is_of_reserve(&stream) => return stream,
                Ok(_) => format!(
                    "of {} descriptors, the last {} are for the node itself; raise the limit of open files (ulimit -n, \
                     LimitNOFILE)",
                    descriptors(),
                    self.reserved
                ),
                Err(e) => e.to_string(),
            };
            if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                log::warn!("cannot accept a connection: {why}");
                self.told = Some(Instant::now());
            }
            Timer::new(TRIED_EVERY).await;
        }
    }

    /// Whether this is one of the last descriptors: the kernel gives the lowest that is free.
    fn is_of_reserve(&self, stream: &impl AsRawFd) -> bool {
        stream.as_raw_fd() as u64 >= descriptors() - self.reserved
    }
}

/// How many descriptors the process may have.
pub(super) fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
