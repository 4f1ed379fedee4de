//! The flags, as argh reads them. What they mean is told by [`SETTINGS`], not here.

use argh::FromArgs;

use super::{SETTINGS, args};
use crate::error::{Error, Result};

/// What the command line asks for.
pub(super) enum Request {
    Help,
    Version,
    Run(Box<Flags>),
}

/// One field per flag, unread.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help", "help"))]
pub(super) struct Flags {
    /// print the version
    #[argh(switch)]
    version: bool,
    /// a backup to begin with
    #[argh(option)]
    pub restore: Option<String>,
    /// NODE_ID
    #[argh(option)]
    pub node_id: Option<String>,
    /// PEERS
    #[argh(option)]
    pub peers: Option<String>,
    /// SEEDS
    #[argh(option)]
    pub seeds: Option<String>,
    /// BIND_ADDR
    #[argh(option)]
    pub bind_addr: Option<String>,
    /// BIND_PORT
    #[argh(option)]
    pub bind_port: Option<String>,
    /// ADVERTISE_ADDR
    #[argh(option)]
    pub advertise_addr: Option<String>,
    /// REGION
    #[argh(option)]
    pub region: Option<String>,
    /// TARGET_VOTERS
    #[argh(option)]
    pub target_voters: Option<String>,
    /// DEAD_AFTER
    #[argh(option)]
    pub dead_after: Option<String>,
    /// MAX_BYTES
    #[argh(option)]
    pub max_bytes: Option<String>,
    /// EXPECT
    #[argh(option)]
    pub expect: Option<String>,
    /// BOOTSTRAP
    #[argh(option)]
    pub bootstrap: Option<String>,
    /// DATA_DIR
    #[argh(option)]
    pub data_dir: Option<String>,
    /// LISTEN_ADDR
    #[argh(option)]
    pub listen_addr: Option<String>,
    /// GRPC_ADDR
    #[argh(option)]
    pub grpc_addr: Option<String>,
    /// DEBUG_ADDR
    #[argh(option)]
    pub debug_addr: Option<String>,
    /// TICK_MS
    #[argh(option)]
    pub tick_ms: Option<String>,
    /// ELECTION
    #[argh(option)]
    pub election: Option<String>,
    /// HEARTBEAT
    #[argh(option)]
    pub heartbeat: Option<String>,
    /// CPU
    #[argh(option)]
    pub cpu: Option<String>,
    /// LOG
    #[argh(option)]
    pub log: Option<String>,
}

pub(super) fn parse(args: &[String]) -> Result<Request> {
    let settings = SETTINGS.iter().map(|setting| setting.flag.trim_start_matches('-'));
    let known: Vec<&str> = settings.chain(["grpc-addr", "help", "version", "restore"]).collect();
    let args = args::normalise(args, &known);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match Flags::from_args(&["phalanx-server"], &args) {
        Ok(flags) if flags.version => Ok(Request::Version),
        Ok(flags) => Ok(Request::Run(Box::new(flags))),
        Err(exit) if exit.status.is_ok() => Ok(Request::Help),
        Err(exit) => Err(Error::Config(format!("{} (see --help)", exit.output.trim_end()))),
    }
}
