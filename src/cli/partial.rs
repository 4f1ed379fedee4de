//! A file while it is not whole: it has a name of this process's own, and is removed when the process is told to end (SIGINT,
//! SIGTERM), which it then does.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exit;

/// Makes the file. Whoever makes it gives it its name, or removes it: told to end, this process does the latter.
pub fn create(path: &Path) -> io::Result<File> {
    // Before the file is there, so that what comes in between is not lost: it waits for the thread.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let file = File::create_new(path)?;
    let made = path.to_owned();
    let watch = move || {
        if let Some(signal) = signals.forever().next() {
            // If it cannot be removed, its name says what it is. If it has its name already, there is nothing to remove.
            let _ = fs::remove_file(&made);
            std::process::exit(exit::told_by(signal));
        }
    };
    let watched = thread::Builder::new().name("signals".to_owned()).spawn(watch);
    watched.inspect_err(|_| drop(fs::remove_file(path)))?;
    Ok(file)
}
