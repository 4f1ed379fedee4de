//! The command line: see `phalanx::cli`.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use phalanx::cli::{self, Process};

fn main() -> ExitCode {
    let words: Result<Vec<String>, _> =
        std::env::args_os().skip(1).map(|word| word.into_string()).collect();
    let words = match words {
        Ok(words) => words,
        Err(word) => {
            eprintln!(
                "phalanx: {word:?} is not UTF-8: give a value on standard input, as in `phalanx put KEY -`"
            );
            return cli::exit::USAGE.into();
        }
    };
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut process = Process {
        addr: std::env::var("PHALANX_ADDR").ok(),
        debug_addr: std::env::var("DEBUG_ADDR").ok(),
        stdin: &mut io::stdin(),
        stdout: &mut stdout.lock(),
        terminal,
        stderr: &mut io::stderr(),
    };
    cli::run(&words, &mut process).into()
}
