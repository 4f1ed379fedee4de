//! From flags and environment to settings that are already valid.
//!
//! Pure: the arguments, the environment and the host's name are handed in. Whoever holds a
//! [`Settings`] need not check it again: each value is within its bounds and they agree with each
//! other. What is refused is told all at once; each line names the setting, the value and the way
//! out.
//!
//! - [`SETTINGS`] is the table of all settings, for people; [`parse`] reads them.
//! - [`args::normalise`] is shared with the command line.

#![forbid(unsafe_code)]

mod address;
pub mod args;
mod flags;
mod gossip;
mod log_filter;
mod peers;
mod read;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use address::HostPort;
pub use gossip::{Gossip, GossipBind};
pub use peers::Peer;
pub use table::{SETTINGS, Setting};

use crate::error::Result;
use flags::Request;

/// What the server is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run a node.
    Run(Box<Settings>),
    /// Print this (`--help`, `--version`) and exit.
    Print(String),
}

/// All settings of a node, valid each and together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The node's name.
    pub node_id: String,
    /// The other nodes, without this one.
    pub peers: Vec<Peer>,
    /// Where it meets the mesh.
    pub gossip: Gossip,
    /// How many nodes vote, if there are so many: 1, 3 or 5.
    pub target_voters: usize,
    /// A voter that is dead for so long is replaced.
    pub dead_after: Duration,
    /// How many bytes of keys and values the store may hold; 0: no limit.
    pub max_bytes: u64,
    /// Size of the first cluster. No two groups of this node and its peers, without a node in
    /// common, are each a majority of it.
    pub expect: usize,
    /// Whether this node may form the first cluster.
    pub bootstrap: Bootstrap,
    /// Where the log and the store are.
    pub data_dir: PathBuf,
    /// For clients and peers.
    pub listen_addr: HostPort,
    /// For HTTP; `None` turns it off.
    pub debug_addr: Option<HostPort>,
    /// Length of a tick.
    pub tick_ms: u64,
    /// Ticks without a leader until an election; more than `heartbeat`.
    pub election: usize,
    /// Ticks between heartbeats.
    pub heartbeat: usize,
    /// Where the reactor runs.
    pub cpu: Cpu,
    /// A filter of env_logger, which would pass over what it cannot read.
    pub log: String,
    /// `--restore`: the backup to begin with.
    pub restore: Option<PathBuf>,
    /// What is allowed and unwise: to be logged.
    pub warnings: Vec<String>,
}

impl Settings {
    /// ELECTION x TICK_MS.
    pub fn election_timeout(&self) -> Duration {
        Duration::from_millis(self.tick_ms * self.election as u64)
    }

    /// HEARTBEAT x TICK_MS.
    pub fn heartbeat_interval(&self) -> Duration {
        Duration::from_millis(self.tick_ms * self.heartbeat as u64)
    }
}

/// Whether a node may form the first cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrap {
    /// If it is the one to do it.
    Auto,
    /// It only joins.
    Never,
}

/// Where the reactor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// On one of the cores that the affinity mask allows.
    Auto,
    /// On this core.
    Core(usize),
    /// Wherever the kernel puts it.
    Unpinned,
}

/// Reads the settings. `args` are the arguments without the program's name, `env` looks up an
/// environment variable (an empty one counts as unset), `hostname` is the default of NODE_ID.
///
/// Every error is an [`Error::Config`](crate::error::Error::Config).
///
/// ```
/// use phalanx::config::{Action, parse};
///
/// let args = ["-tick-ms=100".to_string()];
/// let env = |name: &str| (name == "NODE_ID").then(|| "node-1".into());
/// let Ok(Action::Run(settings)) = parse(&args, &env, "localhost") else { panic!("it is valid") };
/// assert_eq!(settings.node_id, "node-1");
/// assert_eq!(settings.election_timeout().as_millis(), 2_000);
/// ```
pub fn parse(
    args: &[String],
    env: &dyn Fn(&str) -> Option<OsString>,
    hostname: &str,
) -> Result<Action> {
    match flags::parse(args)? {
        Request::Help => Ok(Action::Print(table::help())),
        Request::Version => {
            Ok(Action::Print(format!("phalanx-server {}\n", env!("CARGO_PKG_VERSION"))))
        }
        Request::Run(flags) => Ok(Action::Run(Box::new(read::settings(*flags, env, hostname)?))),
    }
}
