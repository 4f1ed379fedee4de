//! `phalanx-bench`: measures Phalanx and etcd with one ruler, and what the machine allows.

mod cluster;
mod compare;
mod floor;
mod growth;
mod load;
mod machine;
mod options;
mod plot;
mod target;

use std::io;

fn main() -> std::process::ExitCode {
    match options::run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("phalanx-bench: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Prints JSON to a file, or to standard output for `-`.
fn print_json(path: &str, json: &serde_json::Value) -> io::Result<()> {
    match path {
        "-" => println!("{json}"),
        _ => std::fs::write(path, format!("{json:#}\n"))?,
    }
    Ok(())
}
