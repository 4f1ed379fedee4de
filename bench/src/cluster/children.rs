//! Processes and the directory of their data, which end together.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// All groups of this program, for whoever must end them in a hurry.
static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());

struct Running {
    group: u64,
    directory: PathBuf,
    children: Vec<Child>,
}

fn running() -> MutexGuard<'static, Vec<Running>> {
    // Whoever panicked with it left a list that is whole: each change of it is one step.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    /// Kills by process id: these are children that nobody has waited for, so their ids are theirs.
    fn end(mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            let _ = child.kill();
        }
        for mut child in self.children {
            let _ = child.wait();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("phalanx-bench: {} is left over: {error}", self.directory.display());
        }
    }
}

/// From now on, a signal or a panic ends all groups before it ends the program.
pub fn watch_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Held to the end, that no group is made any more.
            let mut groups = running();
            groups.drain(..).for_each(Running::end);
            std::process::exit(128 + signal);
        }
    });
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let groups = RUNNING.try_lock().map(|mut groups| std::mem::take(&mut *groups));
        groups.into_iter().flatten().for_each(Running::end);
    }));
    Ok(())
}

/// Processes that end with this, and a directory that is removed then.
pub struct Group {
    number: u64,
    directory: PathBuf,
}

impl Group {
    pub fn new(below: &Path, name: &str) -> io::Result<Group> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("phalanx-bench-{name}-");
        let mut groups = running();
        let directory =
            tempfile::Builder::new().prefix(&prefix).tempdir_in(below)?.keep().canonicalize()?;
        groups.push(Running { group: number, directory: directory.clone(), children: Vec::new() });
        Ok(Group { number, directory })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a process with nothing but the given settings in its environment, in a process group of its own (^C is
    /// for this program, which knows what to do).
    pub fn spawn(&mut self, command: &mut Command, name: &str) -> io::Result<()> {
        let log = File::create(self.directory.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut groups = running();
        let own = groups.iter_mut().find(|it| it.group == self.number);
        let own = own.ok_or_else(|| io::Error::other("the program is about to end"))?;
        own.children.push(command.spawn()?);
        Ok(())
    }

    /// Of its processes, in the order of their start.
    pub fn pids(&self) -> Vec<u32> {
        let groups = running();
        let own = groups.iter().find(|it| it.group == self.number);
        own.into_iter().flat_map(|own| own.children.iter().map(Child::id)).collect()
    }

    /// Fails with what they logged if one of them has ended.
    pub fn require_all_alive(&self) -> io::Result<()> {
        let mut groups = running();
        for group in groups.iter_mut().filter(|it| it.group == self.number) {
            for child in &mut group.children {
                if let Some(status) = child.try_wait()? {
                    return Err(io::Error::other(format!(
                        "a server did not stay: {status}\n{}",
                        self.logs()
                    )));
                }
            }
        }
        Ok(())
    }

    /// The last lines of each log.
    pub fn logs(&self) -> String {
        const LINES: usize = 3;
        let files = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let logs = files.filter(|file| file.path().extension().is_some_and(|it| it == "log"));
        let ends = logs.map(|file| {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
            format!("{}:\n{end}", file.file_name().to_string_lossy())
        });
        ends.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut groups = running();
        if let Some(at) = groups.iter().position(|it| it.group == self.number) {
            let own = groups.swap_remove(at);
            own.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_their_directory_end_with_the_group() {
        let mut group = Group::new(&std::env::temp_dir(), "test").unwrap();
        group.spawn(Command::new("sleep").arg("1000"), "sleep").unwrap();
        group.require_all_alive().unwrap();
        let pid = group.pids()[0];
        let directory = group.directory().to_owned();
        assert!(directory.join("sleep.log").exists());
        drop(group);
        assert!(!directory.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_process_that_ends_is_noticed() {
        let mut group = Group::new(&std::env::temp_dir(), "test").unwrap();
        group.spawn(Command::new("sh").args(["-c", "echo no luck; exit 3"]), "sh").unwrap();
        let error = loop {
            if let Err(error) = group.require_all_alive() {
                break error.to_string();
            }
            std::thread::yield_now();
        };
        assert!(error.contains("exit status: 3") && error.contains("no luck"), "{error}");
    }
}
