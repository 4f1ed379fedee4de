//! The server: reads the settings and runs a node.

use std::io::{self, Write};
use std::process::ExitCode;

use phalanx::config::{self, Action, Settings};
use phalanx::error::Error;
use phalanx::shell;

/// Wrong settings.
const EXIT_USAGE: u8 = 2;
/// The node does not start, or cannot go on.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    let action = match arguments().and_then(|args| {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        config::parse(&args, &|name| std::env::var_os(name), &hostname)
    }) {
        Ok(action) => action,
        Err(error) => {
            eprintln!("{error}\nphalanx-server --help lists the settings");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match action {
        Action::Print(text) => {
            // Whoever has closed the other end has read enough.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Action::Run(settings) => run(*settings),
    }
}

fn run(settings: Settings) -> ExitCode {
    env_logger::Builder::new().parse_filters(&settings.log).format_timestamp_millis().init();
    match shell::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn arguments() -> Result<Vec<String>, Error> {
    let args = std::env::args_os().skip(1).map(|arg| arg.into_string());
    args.collect::<Result<_, _>>()
        .map_err(|arg| Error::Config(format!("the argument {arg:?} is not UTF-8")))
}
