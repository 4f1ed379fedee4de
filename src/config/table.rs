//! The table of all settings: what `--help` prints, and what the README is held to.

use std::fmt::Write;

/// One setting, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// The flag, with its dashes.
    pub flag: &'static str,
    /// The value where neither is given.
    pub default: &'static str,
    /// What it is for, and what is allowed.
    pub meaning: &'static str,
}

/// Every setting of the server, in the order of the README.
#[rustfmt::skip]
pub const SETTINGS: &[Setting] = &[
    row("NODE_ID",        "--node-id",        "hostname",    "unique name of this node"),
    row("PEERS",          "--peers",          "none",        "the other nodes: name or name@host:port,... (itself is ignored)"),
    row("SEEDS",          "--seeds",          "PEERS",       "where to look for the mesh: host[:port],...; of a name, all addresses"),
    row("BIND_ADDR",      "--bind-addr",      "[::]",        "for gossip: an IP address or a name, without port"),
    row("BIND_PORT",      "--bind-port",      "7946",        "for gossip, UDP; 0 takes any free port"),
    row("ADVERTISE_ADDR", "--advertise-addr", "LISTEN_ADDR", "where clients and peers reach this node: host[:port]"),
    row("REGION",         "--region",         "FLY_REGION",  "told to the mesh and shown in status"),
    row("TARGET_VOTERS",  "--target-voters",  "5",           "how many nodes vote, if there are so many: 1, 3 or 5"),
    row("DEAD_AFTER",     "--dead-after",     "5m",          "a voter that is dead for so long is replaced: 1s to 168h (ms, s, m or h)"),
    row("MAX_BYTES",      "--max-bytes",      "4GiB",        "of keys and values, all together: bytes, or KiB, MiB or GiB; 0: no limit"),
    row("EXPECT",         "--expect",         "1 + PEERS",   "size of the first cluster, in nodes; needed if only SEEDS are given"),
    row("BOOTSTRAP",      "--bootstrap",      "auto",        "auto, or never: this node never forms the cluster"),
    row("DATA_DIR",       "--data-dir",       "/data",       "of the log and the store; locked while in use"),
    row("LISTEN_ADDR",    "--listen-addr",    "[::]:9000",   "for clients and peers (older name: GRPC_ADDR)"),
    row("DEBUG_ADDR",     "--debug-addr",     "[::]:8080",   "for HTTP; none turns it off"),
    row("TICK_MS",        "--tick-ms",        "200",         "length of a tick, in milliseconds"),
    row("ELECTION",       "--election",       "20",          "ticks without a leader until an election"),
    row("HEARTBEAT",      "--heartbeat",      "5",           "ticks between heartbeats; at most ELECTION / 4 is advised"),
    row("CPU",            "--cpu",            "auto",        "core of the reactor: auto, a number, or none"),
    row("LOG",            "--log",            "info",        "off, error, warn, info, debug or trace, or target=level,... (RUST_LOG is read too)"),
];

const fn row(
    name: &'static str,
    flag: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Setting {
    Setting { name, flag, default, meaning }
}

/// What `--help` prints.
pub(super) fn help() -> String {
    let mut help = String::from(
        "Usage: phalanx-server [--help] [--version] [--restore FILE] [--SETTING VALUE]...\n\n\
         Runs one node of Phalanx, a strongly consistent, replicated key-value store.\n\
         Each setting is a flag or an environment variable. The flag wins.\n\
         To listen on port 0 is to listen on any free port.\n\
         --restore FILE begins a new cluster, of this node alone, with the data of a backup, and runs the\n\
         node: once, with an empty DATA_DIR. The other nodes join it with empty ones.\n\n",
    );
    let header = row("VARIABLE", "FLAG", "DEFAULT", "MEANING");
    for Setting { name, flag, default, meaning } in std::iter::once(&header).chain(SETTINGS) {
        writeln!(help, "  {flag:<16}  {name:<14}  {default:<11}  {meaning}")
            .expect("writing to a String never fails");
    }
    help
}
