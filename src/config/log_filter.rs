//! LOG: what of the log is written.
//!
//! It is a filter as env_logger reads it. That one takes a word which is no level for the name of a module, and passes over
//! what it cannot read: a slip of the pen would leave a node without a word. So here every entry has its level.

use ::log::LevelFilter;

const LEVELS: &str = "off, error, warn, info, debug or trace";

/// Reads LOG: entries `level` or `target=level` with commas between, and after a slash a text that a message must have.
/// Empty entries are passed over.
pub(super) fn checked(text: &str) -> Result<String, String> {
    let (levels, message) = text.split_once('/').unwrap_or((text, ""));
    if message.contains('/') {
        return Err("it has more than one `/`: only one text can be looked for".into());
    }
    let mut entries = levels.split(',').map(str::trim).filter(|entry| !entry.is_empty()).peekable();
    if entries.peek().is_none() {
        return Err(format!("there is no level in it: write {LEVELS}"));
    }
    entries.try_for_each(entry)?;
    Ok(text.to_owned())
}

fn entry(entry: &str) -> Result<(), String> {
    let (target, level) = match entry.split_once('=') {
        Some((target, level)) => (Some(target), level.trim()),
        None => (None, entry),
    };
    if level.parse::<LevelFilter>().is_err() {
        return Err(match target {
            Some(_) => format!("in `{entry}`: `{level}` is no level: write {LEVELS}"),
            None => {
                format!("`{entry}` is no level: write {LEVELS}, or `{entry}=LEVEL` for a module")
            }
        });
    }
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte);
    match target.is_none_or(|target| !target.is_empty() && target.bytes().all(in_path)) {
        true => Ok(()),
        false => Err(format!(
            "in `{entry}`: before `=` goes the path of a module, as in `phalanx=debug`"
        )),
    }
}
