//! What it was measured on, for whoever compares figures.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

/// From the kernel's linux/magic.h.
const TMPFS: u64 = 0x0102_1994;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line `key : value` of a text.
fn field<'a>(text: &'a str, key: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(name, _)| name.trim() == key).map_or("unknown", |(_, value)| value.trim())
}

/// The device and the file system that a directory is on: the longest mount point that it begins with.
fn mount(directory: &Path) -> String {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let mounts = read("/proc/mounts");
    let rows = mounts.lines().filter_map(|line| {
        let mut columns = line.split(' ');
        Some((columns.next()?, columns.next()?, columns.next()?))
    });
    let below = rows.filter(|(_, point, _)| directory.starts_with(point));
    let longest = below.max_by_key(|(_, point, _)| point.len());
    longest.map_or("unknown".to_owned(), |(device, _, kind)| format!("{device}, {kind}"))
}

/// Fails for a directory that no write to is durable.
pub fn require_disk(directory: &Path) -> io::Result<()> {
    if rustix::fs::statfs(directory)?.f_type as u64 == TMPFS {
        return Err(io::Error::other(format!(
            "{} is in memory (tmpfs), where nothing is durable; name a directory on a disk with --dir",
            directory.display()
        )));
    }
    Ok(())
}

pub fn describe(directory: &Path) -> Value {
    let memory = read("/proc/meminfo");
    let memory_kib: u64 = field(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    json!({
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_gib": (memory_kib as f64 / 1_048_576.0 * 10.0).round() / 10.0,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "disk": mount(directory),
        "date": jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
    })
}

/// The same in one line.
pub fn line(machine: &Value) -> String {
    let text = |key: &str| machine[key].as_str().unwrap_or_default().to_owned();
    format!(
        "{}, {} cores, {} GiB, Linux {}, data on {}, {}",
        text("processor"),
        machine["cores"],
        machine["memory_gib"],
        text("kernel"),
        text("disk"),
        text("date")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let text = "processor\t: 0\nmodel name\t: Foo: Bar\n";
        assert_eq!(field(text, "model name"), "Foo: Bar");
        assert_eq!(field(text, "cache"), "unknown");
    }
}
