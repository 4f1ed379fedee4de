//! The command line `phalanx`: a thin skin over [`crate::client`].
//!
//! It promises:
//! - Standard output carries what was asked for and nothing else; messages go to standard error.
//! - Values go in and out as they are, byte by byte ([`get`](args::Get) and `-`). Where text is
//!   expected, what is not plain is quoted ([`txn::quote`]) or, in JSON, given in hexadecimal.
//! - The exit code tells what happened: see [`exit`].
//!
//! [`run`] is the whole program but for the process: the words, the streams and the environment
//! come in as arguments.

#![forbid(unsafe_code)]

pub mod args;
mod commands;
mod health;
mod members;
pub mod output;
mod partial;
mod snapshot;
mod status;
pub mod txn;
mod usage;
pub mod words;

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

use argh::FromArgs;

use self::args::{ADDR_DEFAULT, Args, Command, LeaderCommand, MemberCommand, SnapshotCommand};
use self::output::Output;
use crate::client::{self, Client, Code, Options};

/// What the exit codes mean.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// Not found, a compare failed, a backup is damaged, or a node is not healthy.
    pub const NOT_DONE: u8 = 1;
    /// Wrong usage, or a key, value or order that is refused.
    pub const USAGE: u8 = 2;
    /// Unavailable, or it is unknown whether a change was made.
    pub const UNAVAILABLE: u8 = 3;

    /// Told to end by a signal, as shells count: 130 or 143.
    pub fn told_by(signal: i32) -> i32 {
        128 + signal
    }
}

/// What the program has from its process.
pub struct Process<'a> {
    /// The environment's PHALANX_ADDR.
    pub addr: Option<String>,
    /// The environment's DEBUG_ADDR.
    pub debug_addr: Option<String>,
    /// Standard input.
    pub stdin: &'a mut dyn Read,
    /// Standard output.
    pub stdout: &'a mut dyn Write,
    /// Whether standard output is a terminal.
    pub terminal: bool,
    /// Standard error.
    pub stderr: &'a mut dyn Write,
}

/// Why a command did not do what was asked.
#[derive(Debug)]
enum Failure {
    /// Nothing was deleted, or a compare failed; what there is to say was printed.
    NotDone,
    /// There is no such key.
    NotFound(String),
    Usage(String),
    /// A backup is not what it should be.
    Damaged(String),
    /// A node cannot serve, or does not answer.
    Unhealthy(String),
    /// A file cannot be read or written.
    File(String),
    Client(client::Error),
    Input(io::Error),
    Output(io::Error),
}

type Result<T> = std::result::Result<T, Failure>;

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Failure::Client(error)
    }
}

impl From<io::Error> for Failure {
    /// Of writing: reading maps its errors itself.
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

/// Runs the program with these words, the first of which is the first argument. Returns its exit code.
pub fn run(words: &[String], process: &mut Process<'_>) -> u8 {
    let args = match parse(words) {
        Ok(args) => args,
        Err(exit) if exit.status.is_ok() => {
            // Nothing is left to be said if it cannot be written.
            let _ = process.stdout.write_all(exit.output.as_bytes());
            return exit::DONE;
        }
        Err(exit) => {
            return report(Failure::Usage(exit.output.trim_end().to_owned()), process.stderr);
        }
    };
    match execute(args, process) {
        Ok(()) => exit::DONE,
        Err(failure) => report(failure, process.stderr),
    }
}

fn parse(words: &[String]) -> std::result::Result<Args, argh::EarlyExit> {
    let words::Words { ordered, usage } = words::normalise(words)?;
    let words: Vec<&str> = ordered.iter().map(String::as_str).collect();
    if words == ["--version"] {
        let output = format!("phalanx {}\n", env!("CARGO_PKG_VERSION"));
        return Err(argh::EarlyExit { output, status: Ok(()) });
    }
    Args::from_args(&["phalanx"], &words).map_err(|mut exit| {
        if exit.status.is_ok() && !exit.output.contains("--addr") {
            exit.output += "\nphalanx --help tells of --addr, --timeout and --json, which all commands take.\n";
        }
        if let (Err(()), Some(usage)) = (exit.status, usage) {
            // What argh has to say, in one line.
            let what: Vec<&str> = exit.output.split_whitespace().collect();
            exit.output = format!("{}: phalanx {usage}", what.join(" "));
        }
        exit
    })
}

fn execute(args: Args, process: &mut Process<'_>) -> Result<()> {
    let mut out = Output::new(process.stdout, args.json, process.terminal);
    let timeout = args.timeout;
    let is_addr_given = args.addr.is_some();
    let addr = args.addr.or_else(|| process.addr.clone().filter(|addr| !addr.is_empty()));
    let addr = addr.unwrap_or_else(|| ADDR_DEFAULT.to_owned());
    let connect = || {
        let endpoints = addr.split(',').map(str::trim).filter(|endpoint| !endpoint.is_empty());
        Client::connect(endpoints, Options::within(timeout))
    };
    let result = match args.command {
        Command::Put(put) => commands::put(&connect()?, put, process.stdin, &mut out),
        Command::Get(get) => commands::get(&connect()?, get, &mut out),
        Command::Del(del) => commands::del(&connect()?, del, &mut out),
        Command::Cas(cas) => commands::cas(&connect()?, cas, process.stdin, &mut out),
        Command::List(list) => commands::list(&connect()?, list, &mut out),
        Command::Txn(txn) => commands::txn(&connect()?, txn, process.stdin, &mut out),
        Command::Status(_) => status::status(&connect()?, timeout, &mut out),
        Command::Health(_) if is_addr_given => Err(Failure::Usage(
            "health asks where a node answers HTTP, which --addr is not: phalanx health HOST:PORT"
                .to_owned(),
        )),
        Command::Health(health) => {
            health::health(health, process.debug_addr.clone(), timeout, &mut out)
        }
        Command::Members(_) => members::members(&connect()?, timeout, &mut out),
        Command::Member(member) => match member.command {
            MemberCommand::Remove(remove) => members::remove(&connect()?, remove, &mut out),
        },
        Command::Leader(leader) => match leader.command {
            LeaderCommand::Transfer(transfer) => members::transfer(&connect()?, transfer, &mut out),
        },
        Command::Snapshot(snapshot) => match snapshot.command {
            SnapshotCommand::Save(save) => {
                let is_watched = process.terminal && !args.json;
                let stderr: &mut dyn Write = &mut process.stderr;
                let progress = is_watched.then_some(stderr);
                snapshot::save(&connect()?, &save, &mut out, progress)
            }
            SnapshotCommand::Check(check) => snapshot::check(&check, &mut out),
        },
    };
    // What was printed before a failure is true, and goes out.
    out.flush()?;
    result
}

/// Says what went wrong, and returns the exit code for it.
fn report(failure: Failure, stderr: &mut dyn Write) -> u8 {
    let (message, code) = match failure {
        Failure::NotDone => return exit::NOT_DONE,
        Failure::NotFound(key) => (format!("there is no key {key}"), exit::NOT_DONE),
        // The reader of the output has seen enough, as in `phalanx list | head`.
        Failure::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => return exit::DONE,
        Failure::Output(e) => (format!("cannot write the output: {e}"), exit::UNAVAILABLE),
        Failure::Input(e) => (format!("cannot read standard input: {e}"), exit::USAGE),
        Failure::Usage(what) => (format!("{what}\nphalanx --help tells more"), exit::USAGE),
        Failure::Damaged(what) | Failure::Unhealthy(what) => (what, exit::NOT_DONE),
        Failure::File(what) => (what, exit::UNAVAILABLE),
        Failure::Client(error) => (error.to_string(), exit_code(&error)),
    };
    // Nothing is left to be said if it cannot be written.
    let _ = writeln!(stderr, "phalanx: {message}");
    code
}

fn exit_code(error: &client::Error) -> u8 {
    match error {
        client::Error::Refused { code: Code::Invalid | Code::TooLarge, .. }
        | client::Error::Setup(_) => exit::USAGE,
        _ => exit::UNAVAILABLE,
    }
}
