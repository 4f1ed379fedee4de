//! What the house promises of its own source and documents, and no compiler checks: which room knows what, that pure rooms
//! stay pure, that files stay small, and that README.md, ARCHITECTURE.md and deny.toml say what the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use phalanx::config::SETTINGS;
use phalanx::limits;
use serde_json::Value;

/// Which rooms a room may use. Whoever is not in the first column is no room yet: give it a row.
#[rustfmt::skip]
const MAY_USE: &[(&str, &[&str])] = &[
    ("limits",  &[]),
    ("wire",    &["limits", "error"]),
    ("error",   &["wire"]),
    ("metrics", &[]),
    ("config",  &["limits", "error"]),
    ("planted", &[]),
    ("replica", &["wire", "limits", "error", "planted"]),
    ("log",     &["wire", "limits", "error", "planted"]),
    ("store",   &["wire", "limits", "error", "planted"]),
    ("gossip",  &["wire", "limits", "metrics", "planted"]),
    ("node",    &["replica", "log", "store", "gossip", "wire", "limits", "error", "metrics", "planted"]),
    ("http",    &["limits", "metrics"]),
    ("client",  &["wire", "limits", "error"]),
    ("cli",     &["client", "store", "wire", "limits"]),
    ("shell",   &["node", "replica", "log", "store", "gossip", "http", "config", "wire", "limits", "error", "metrics"]),
    ("sim",     &["node", "replica", "log", "store", "gossip", "wire", "limits", "error", "metrics", "planted"]),
    ("bin",     &["shell", "cli", "config", "error", "sim", "planted"]),
];

/// Rooms with neither clock, randomness, socket, file nor thread, and the one file in them that is their way to the disk.
const PURE: &[&str] = &[
    "limits", "wire", "error", "metrics", "config", "replica", "log", "store", "node", "http",
    "gossip", "sim", "planted",
];
const IMPURE_FILES: &[&str] = &["src/store/lmdb.rs"];

/// What a pure room does not name. An address is a value: to parse one takes no socket.
#[rustfmt::skip]
const IMPURE: &[&str] = &[
    "std::net", "std::fs", "std::thread", "std::process", "std::env", "std::os", "Instant", "SystemTime",
    "rustix", "socket2", "getrandom", "signal_hook", "heed", "Rng::new", "println", "eprintln", "unsafe",
];
const PURE_AFTER_ALL: &[&str] = &["std::net::Ipv6Addr", "std::net::IpAddr", "std::net::SocketAddr"];

const FILE_LINES_MAX: usize = 600;

/// What is in no file: leftovers, and talk about how it was made.
const LEFTOVERS: &[&str] = &["todo!", "unimplemented!", "dbg!", "FIXME", "XXX:", "#[ignore"];
const HOW_IT_WAS_MADE: &[&str] =
    &["language model", "ai assistant", "chatbot", "this session", "issue #"];

// ---- The source. ----

struct Source {
    /// From the root of the package.
    path: String,
    text: String,
    /// Compiled for tests only.
    is_test: bool,
}

impl Source {
    /// The room that the file is in: the first name below `src/`.
    fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let name = below.split('/').next()?.trim_end_matches(".rs");
        (name != "lib").then_some(name)
    }

    /// Lines of the program, numbered from 1: without comments, and without tests at the end of the file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let test_module = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        let lines = if self.is_test { "" } else { &self.text[..test_module] }.lines().enumerate();
        lines.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Files of the package with this ending, in the folders that are ours.
fn files(ending: &str) -> Vec<String> {
    let mut folders = vec![root().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of this package can be read") {
            let path: PathBuf = entry.expect("an entry can be read").path();
            let name = path.strip_prefix(root()).expect("it is below the root").to_string_lossy();
            let top = name.split('/').next().unwrap_or_default();
            // fuzz/ is a workspace of its own, with a target directory of its own; vendor/ is not ours.
            let is_ours =
                !["target", ".git", "data", "vendor"].contains(&top) && name != "fuzz/target";
            if path.is_dir() && is_ours {
                folders.push(path);
            } else if path.is_file() && name.ends_with(ending) {
                found.push(name.into_owned());
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let read = |path: String| Source { text: read(&path), path, is_test: false };
    let mut sources: Vec<Source> = files(".rs").into_iter().map(read).collect();
    let tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        source.is_test = !source.path.starts_with("src/")
            || tests.iter().any(|module| source.path.starts_with(module.as_str()));
    }
    assert!(sources.iter().filter(|source| !source.is_test).count() > 60, "where is the source?");
    sources
}

/// What the file declares as `#[cfg(test)] mod name;`, as beginnings of paths.
fn test_modules(source: &Source) -> Vec<String> {
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let declared = source.text.split("#[cfg(test)]\n").skip(1).filter_map(|after| {
        let line = after.lines().next()?.strip_suffix(';')?;
        line.rsplit_once("mod ").map(|(_, name)| name.to_owned())
    });
    declared.flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/")]).collect()
}

/// A line with each name of a group behind it, as if it had been imported alone.
fn ungrouped(line: &str) -> String {
    let (_, group) = line.split_once("std::{").unwrap_or_default();
    let names = group.split([',', '}']).map(|name| format!(" std::{}", name.trim()));
    names.fold(line.to_owned(), |line, name| line + &name)
}

/// Whether a line names something: as a word, or a path's beginning.
fn names(line: &str, what: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(what).any(|(at, _)| {
        !line[..at].ends_with(is_word) && !line[at + what.len()..].starts_with(is_word)
    })
}

#[track_caller]
fn assert_none(offences: Vec<String>, rule: &str) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn pure_rooms_stay_pure() {
    let mut offences = Vec::new();
    for source in sources() {
        let pure = source.room().is_some_and(|room| PURE.contains(&room));
        if !pure || IMPURE_FILES.contains(&source.path.as_str()) {
            continue;
        }
        for (at, line) in source.code() {
            let line = PURE_AFTER_ALL.iter().fold(ungrouped(line), |line, it| line.replace(it, ""));
            let named = IMPURE.iter().filter(|what| names(&line, what));
            offences.extend(named.map(|what| source.at(at, what)));
        }
    }
    assert_none(offences, "a pure room has no clock, randomness, socket, file or thread");
}

#[test]
fn only_the_shell_knows_the_reactor() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| source.room() != Some("shell")) {
        let named = source.code().filter(|(_, line)| names(line, "glommio"));
        offences.extend(named.map(|(at, _)| source.at(at, "glommio")));
    }
    assert_none(offences, "only src/shell names glommio");
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let may_use: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut offences = Vec::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let allowed = may_use.get(room).unwrap_or_else(|| panic!("{room} has no row in MAY_USE"));
        for (at, line) in source.code() {
            let used = line.split("crate::").skip(1).chain(line.split("phalanx::").skip(1));
            for path in used {
                let used = path.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
                if used != room && !allowed.contains(&used) {
                    offences.push(source.at(at, &format!("{room} may not use `{used}`")));
                }
            }
        }
    }
    assert_none(offences, "dependencies point one way");
}

#[test]
fn files_are_small_and_say_what_they_are() {
    let mut offences = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            offences.push(source.at(lines, &format!("over {FILE_LINES_MAX} lines")));
        }
        if !source.text.starts_with("//! ") && !source.text.trim().is_empty() {
            offences.push(source.at(1, "no module doc (`//!`)"));
        }
    }
    assert_none(offences, "a file has one concept, and says which");
}

#[test]
fn nothing_is_left_over() {
    let mut offences = Vec::new();
    for source in sources() {
        for (at, line) in source.code().filter(|(_, line)| line.contains(".unwrap()")) {
            offences.push(source.at(at, &format!("say why it cannot fail: {}", line.trim())));
        }
        let lines = source.text.lines().enumerate().filter(|_| source.path != "tests/tidy.rs");
        for (at, line) in lines {
            let found = LEFTOVERS.iter().filter(|what| line.contains(*what));
            offences.extend(found.map(|what| source.at(at + 1, what)));
        }
    }
    for path in [".rs", ".md", ".proto", ".toml"].iter().flat_map(|ending| files(ending)) {
        let text = read(&path).to_lowercase();
        let found =
            HOW_IT_WAS_MADE.iter().filter(|what| path != "tests/tidy.rs" && text.contains(*what));
        offences.extend(found.map(|what| format!("{path}: {what}")));
    }
    assert_none(offences, "what is here is finished");
}

// ---- The documents. ----

/// The one message in the guide that is none of ours.
const GLOMMIO_SAYS: &str = "registering buffers in the main ring";

/// The cells of the rows of a document's tables.
fn rows(document: &str) -> Vec<Vec<String>> {
    let lines = document.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_readme_has_the_settings_as_they_are() {
    let rows = rows(&read("README.md"));
    let documented: Vec<_> =
        rows.iter().filter(|row| row.len() == 4 && row[1].starts_with("`--")).collect();
    let expected: Vec<Vec<String>> = SETTINGS
        .iter()
        .map(|it| {
            [&format!("`{}`", it.name), &format!("`{}`", it.flag), it.default, it.meaning]
                .map(str::to_owned)
                .to_vec()
        })
        .collect();
    assert_eq!(documented, expected.iter().collect::<Vec<_>>(), "README.md's table of settings");
}

fn bytes(len: usize) -> String {
    match len {
        len if len.is_multiple_of(1 << 30) => format!("{} GiB", len >> 30),
        len if len.is_multiple_of(1 << 20) => format!("{} MiB", len >> 20),
        len if len.is_multiple_of(1 << 10) => format!("{} KiB", len >> 10),
        len => format!("{len} bytes"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[test]
fn the_readme_has_the_limits_as_they_are() {
    let expected = BTreeMap::from([
        ("KEY_LEN_MAX", bytes(limits::KEY_LEN_MAX)),
        ("VALUE_LEN_MAX", bytes(limits::VALUE_LEN_MAX)),
        ("TXN_OPS_MAX", limits::TXN_OPS_MAX.to_string()),
        ("WRITE_LEN_MAX", bytes(limits::WRITE_LEN_MAX)),
        ("RESULT_LEN_MAX", bytes(limits::RESULT_LEN_MAX)),
        ("DELETE_RANGE_KEYS_MAX", limits::DELETE_RANGE_KEYS_MAX.to_string()),
        ("DELETE_RANGE_LEN_MAX", bytes(limits::DELETE_RANGE_LEN_MAX as usize)),
        ("RANGE_ENTRIES_MAX", limits::RANGE_ENTRIES_MAX.to_string()),
        ("RANGE_BYTES_MAX", bytes(limits::RANGE_BYTES_MAX)),
        ("REQUEST_TIMEOUT_MAX", seconds(limits::REQUEST_TIMEOUT_MAX)),
        ("CLIENTS_MAX", limits::CLIENTS_MAX.to_string()),
        ("REQUESTS_PER_CLIENT_MAX", limits::REQUESTS_PER_CLIENT_MAX.to_string()),
        ("REQUESTS_MAX", limits::REQUESTS_MAX.to_string()),
        ("REMEMBERED_MAX", limits::REMEMBERED_MAX.to_string()),
        ("MEMBERS_MAX", limits::MEMBERS_MAX.to_string()),
        ("VOTERS_MAX", limits::VOTERS_MAX.to_string()),
        ("MAP_LEN", bytes(limits::MAP_LEN)),
        ("RETAINED_ENTRIES_MAX", limits::RETAINED_ENTRIES_MAX.to_string()),
        ("RETAINED_LEN_MAX", bytes(limits::RETAINED_LEN_MAX)),
        ("DISK_RESERVE", bytes(limits::DISK_RESERVE as usize)),
    ]);
    let rows = rows(&read("README.md"));
    let is_constant = |cell: &str| cell.starts_with('`') && cell.to_uppercase() == cell;
    let documented: BTreeMap<_, _> = rows
        .iter()
        .filter(|row| row.len() == 3 && is_constant(&row[2]))
        .map(|row| (row[2].trim_matches('`'), row[1].clone()))
        .collect();
    assert_eq!(documented, expected, "README.md's table of limits");
}

#[test]
fn the_guide_quotes_messages_as_they_are() {
    // A string that goes on in the next line, in one.
    let joined = |text: &str| {
        let ends = text.split("\\\n").enumerate();
        ends.map(|(at, part)| if at == 0 { part } else { part.trim_start() }).collect::<String>()
    };
    let source: String = sources().iter().map(|source| joined(&source.text)).collect();
    let guide = read("deploy/README.md");
    let troubles = guide.split("## Troubleshooting").nth(1).expect("the chapter is there");
    let mut offences = Vec::new();
    for row in rows(troubles) {
        for message in row[0].split('`').skip(1).step_by(2) {
            let parts = message.split('…').map(str::trim).filter(|part| !part.is_empty());
            let missing = parts.filter(|part| !source.contains(part) && *part != GLOMMIO_SAYS);
            offences.extend(missing.map(|part| format!("deploy/README.md: {part}")));
        }
    }
    assert_none(offences, "who looks for a message finds what is said");
}

#[test]
fn each_dependency_has_its_reason() {
    let metadata = metadata();
    let declared: BTreeSet<&str> = list(&package(&metadata)["dependencies"])
        .iter()
        .filter_map(|dependency| dependency["name"].as_str())
        .collect();
    let rows = rows(&read("ARCHITECTURE.md"));
    let reasons: BTreeSet<&str> = rows
        .iter()
        .filter(|row| row.len() == 2 && row[0].starts_with('`') && !row[1].is_empty())
        .map(|row| row[0].trim_matches('`'))
        .collect();
    assert_eq!(reasons, declared, "ARCHITECTURE.md's table of dependencies (Cargo.toml: right)");
}

// ---- The packages. ----

/// What cargo knows of this package and all that it depends on, on this machine's kind. The benchmark's dependencies, which
/// no test builds, it may have to fetch.
fn metadata() -> Value {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform"])
        .arg(platform)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("cargo gives a list")
}

fn package(metadata: &Value) -> &Value {
    let packages = list(&metadata["packages"]).iter();
    packages.clone().find(|package| package["name"] == "phalanx").expect("this package is known")
}

/// The strings of one of deny.toml's lists.
fn deny(key: &str) -> Vec<String> {
    let text = read("deny.toml");
    let (_, after) = text.split_once(&format!("\n{key} = [")).expect("deny.toml has the list");
    let (inside, _) = after.split_once("\n]").expect("the list ends");
    let entries = inside.lines().map(|line| line.split('#').next().unwrap_or_default());
    entries.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

/// What the server and the command line are linked from.
fn linked(metadata: &Value) -> BTreeSet<&str> {
    let nodes = list(&metadata["resolve"]["nodes"]);
    let edges: BTreeMap<&str, &Value> =
        nodes.iter().filter_map(|node| Some((node["id"].as_str()?, &node["deps"]))).collect();
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = package(metadata)["id"].as_str().into_iter().collect();
    while let Some(id) = next.pop() {
        if reached.insert(id) {
            let is_linked = |edge: &&Value| {
                list(&edge["dep_kinds"]).iter().any(|kind| kind["kind"] == Value::Null)
            };
            let linked = list(edges[id]).iter().filter(is_linked);
            next.extend(linked.filter_map(|edge| edge["pkg"].as_str()));
        }
    }
    reached
}

#[test]
fn no_general_runtime_is_linked() {
    let metadata = metadata();
    let linked = linked(&metadata);
    let banned = deny("deny");
    assert!(linked.len() > 50 && banned.iter().any(|name| name == "tokio"), "nothing is checked");
    let packages = list(&metadata["packages"]).iter();
    let offences = packages
        .filter(|package| package["id"].as_str().is_some_and(|id| linked.contains(id)))
        .filter_map(|package| package["name"].as_str().map(str::to_owned))
        .filter(|name| banned.contains(name));
    assert_none(offences.collect(), "deny.toml bans it");
}

#[test]
fn all_packages_are_from_crates_io_under_a_licence_that_is_allowed() {
    let metadata = metadata();
    let allowed = deny("allow");
    let mut offences = Vec::new();
    for package in list(&metadata["packages"]) {
        let name = &package["name"];
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_allowed(licence, &allowed) {
            offences.push(format!("{name} is under {licence}"));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|it| it != "registry+https://github.com/rust-lang/crates.io-index") {
            offences.push(format!("{name} is from {}", package["source"]));
        }
    }
    assert_none(offences, "deny.toml does not allow it");
}

/// Reads a licence as a conjunction of alternatives, however it nests: that is never more than it allows.
fn is_allowed(licence: &str, allowed: &[String]) -> bool {
    let licence = licence.replace(['(', ')'], "").replace('/', " OR ");
    licence.split(" AND ").all(|part| {
        let mut alternatives = part.split(" OR ").map(|it| it.trim().trim_end_matches('+'));
        alternatives.any(|it| allowed.iter().any(|allowed| allowed == it))
    })
}
