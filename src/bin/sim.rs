//! The simulator's command line: runs seeds, and says which of them break a promise.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use argh::FromArgs;
use phalanx::planted::Bug;
use phalanx::sim::run::{Report, run};
use phalanx::sim::tally::Tally;

/// Runs whole clusters in a world that a seed determines, and checks that they keep their promises. The exit status is
/// 1 if one was broken, and the message names the seed and the checker.
#[derive(FromArgs)]
struct Args {
    /// the one seed to run; prints the hash of its trace, which is the same every time
    #[argh(option)]
    seed: Option<u64>,
    /// a range of seeds, the end not included: 0..1000
    #[argh(option, from_str_fn(range))]
    seeds: Option<std::ops::Range<u64>>,
    /// with --seed: prints what happens
    #[argh(switch)]
    trace: bool,
    /// how many threads run seeds (as many as there are cores)
    #[argh(option)]
    threads: Option<usize>,
    #[cfg(feature = "plant")]
    /// a bug to plant, by its name in src/planted.rs
    #[argh(option)]
    plant: Option<String>,
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let ends = text.split_once("..").ok_or("a range is written 0..1000")?;
    let end = |text: &str| text.parse().map_err(|e| format!("{text}: {e}"));
    let seeds: std::ops::Range<u64> = end(ends.0)?..end(ends.1)?;
    match seeds.is_empty() {
        false => Ok(seeds),
        true => Err(format!("there is no seed in {text}: its end is not in it")),
    }
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The exit status after wrong usage: a promise that was broken is another thing.
const USAGE: u8 = 2;

/// Prints a line. Whoever has closed the other end has read enough; what was found is in the exit status all the same.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn arguments() -> Result<Args, ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let args = Args::from_args(&["sim"], &words).map_err(|early| {
        match early.status {
            Ok(()) => say(&early.output),
            Err(()) => eprintln!("{}", early.output),
        }
        if early.status.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
    })?;
    if args.trace && args.seed.is_none() {
        eprintln!("--trace is of one --seed");
        return Err(ExitCode::from(USAGE));
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match arguments() {
        Ok(args) => args,
        Err(code) => return code,
    };
    // An assertion of the program's own is a finding too.
    std::panic::set_hook(Box::new(|panic| {
        let seed = SEED.get().map_or("no seed".to_owned(), |seed| format!("seed {seed}"));
        // Of use with RUST_BACKTRACE=1 alone.
        let backtrace = std::backtrace::Backtrace::capture();
        eprintln!("{seed}: Assertion: {panic}\n{backtrace}");
        std::process::exit(1);
    }));
    let plant = planted(&args);
    match (args.seed, args.seeds) {
        (Some(seed), None) => one(seed, args.trace, plant),
        (None, Some(seeds)) => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            many(seeds, args.threads.unwrap_or(cores).max(1), plant)
        }
        _ => {
            eprintln!("say --seed or --seeds; --help tells more");
            ExitCode::from(USAGE)
        }
    }
}

#[cfg(feature = "plant")]
fn planted(args: &Args) -> Option<Bug> {
    let name = args.plant.as_ref()?;
    let found = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == *name);
    if found.is_none() {
        eprintln!("{name} is none of {:?}", Bug::ALL);
        std::process::exit(2);
    }
    found
}

/// A build that serves anybody has no bugs to plant.
#[cfg(not(feature = "plant"))]
fn planted(_: &Args) -> Option<Bug> {
    None
}

fn run_with(seed: u64, trace: bool, plant: Option<Bug>) -> Report {
    SEED.set(Some(seed));
    #[cfg(feature = "plant")]
    phalanx::planted::plant(plant);
    #[cfg(not(feature = "plant"))]
    assert_eq!(plant, None, "no bug is compiled");
    run(seed, trace)
}

fn one(seed: u64, trace: bool, plant: Option<Bug>) -> ExitCode {
    let report = run_with(seed, trace, plant);
    if trace {
        say(format_args!("{}\n", report.scenario));
        report.transcript.iter().for_each(say);
        say("");
    }
    let simulated_s = report.simulated.as_secs_f64();
    say(format_args!("seed {seed}: {simulated_s:.3} s simulated, {}", report.tally));
    say(format_args!("trace {:016x}", report.trace));
    match report.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            eprintln!("seed {seed}: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What all threads have done so far.
#[derive(Default)]
struct Total {
    runs: u64,
    failed: u64,
    simulated: Duration,
    tally: Tally,
}

fn many(seeds: std::ops::Range<u64>, threads: usize, plant: Option<Bug>) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let is_over = AtomicBool::new(false);
    let total = Mutex::new(Total::default());
    let lock = || total.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let is_terminal = std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    return;
                }
                let report = run_with(seed, false, plant);
                let mut total = lock();
                total.runs += 1;
                total.simulated += report.simulated;
                total.tally += report.tally;
                if let Some(failure) = report.failure {
                    total.failed += 1;
                    eprintln!("seed {seed}: {failure}");
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        while is_terminal && !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(200));
            let total = lock();
            eprint!("\r{} of {} runs, {} failed ", total.runs, seeds.clone().count(), total.failed);
            let _ = std::io::stderr().flush();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    if is_terminal {
        eprintln!();
    }
    let Total { runs, failed, simulated, tally } = &*lock();
    say(format_args!(
        "{runs} runs in {:.1} s, {failed} failed; {:.0} s simulated: {tally}",
        begun.elapsed().as_secs_f64(),
        simulated.as_secs_f64()
    ));
    if *failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
