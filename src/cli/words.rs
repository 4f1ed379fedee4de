//! The command line as the user types it, to the words that argh understands.
//!
//! argh knows neither `-addr` nor a lone `-`, takes an option only behind the command that declares
//! it, and takes the word `help` for a call for help wherever it stands. So the words are put in
//! order first ([`normalise`]): the common options, the command (of two words, if the first is that of
//! a group), its own options, `--`, its arguments. What follows `--` is never an option.

use std::collections::VecDeque;

use super::usage;

/// How an option is written and where argh wants it.
struct Known {
    name: &'static str,
    takes_value: bool,
    /// Before the command.
    common: bool,
}

const fn known(name: &'static str, takes_value: bool, common: bool) -> Known {
    Known { name, takes_value, common }
}

const OPTIONS: &[Known] = &[
    known("addr", true, true),
    known("timeout", true, true),
    known("json", false, true),
    known("version", false, true),
    known("help", false, false),
    known("stale", false, false),
    known("prefix", false, false),
    known("absent", false, false),
    known("revision", true, false),
    known("from", true, false),
    known("to", true, false),
    known("limit", true, false),
    known("keys-only", false, false),
    known("count", false, false),
    known("force", false, false),
];

/// The words in the order that argh understands.
#[derive(Debug)]
pub struct Words {
    /// For argh.
    pub ordered: Vec<String>,
    /// How the command is typed, where there is one.
    pub usage: Option<&'static str>,
}

/// Puts the words in the order that argh understands: see the [module](self). `--version` needs no
/// command, and stands alone. What the command does not know is refused by what it does.
pub fn normalise(words: &[String]) -> Result<Words, String> {
    let (mut common, mut own, mut arguments) = (Vec::new(), Vec::new(), Vec::new());
    let mut own_names = Vec::new();
    let mut version = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            arguments.extend(words.by_ref().cloned());
        } else if !is_option(word) {
            arguments.push(word.clone());
        } else {
            let (known, value) = option(word)?;
            version |= known.name == "version";
            let list = if known.common { &mut common } else { &mut own };
            own_names.extend((!known.common).then_some(known.name));
            list.push(format!("--{}", known.name));
            if known.takes_value {
                let value = value.or_else(|| words.next().cloned()).ok_or_else(|| {
                    format!("--{0} needs a value: --{0} X or --{0}=X", known.name)
                })?;
                list.push(value);
            } else if value.is_some() {
                return Err(format!("--{} takes no value", known.name));
            }
        }
    }
    if version {
        return Ok(Words { ordered: vec!["--version".to_owned()], usage: None });
    }
    let mut arguments = VecDeque::from(arguments);
    let mut command: Vec<String> = Vec::new();
    while command.is_empty() || command.len() == 1 && usage::is_group(&command[0]) {
        match arguments.pop_front() {
            Some(word) if word == "help" => own.push("--help".to_owned()),
            Some(word) => command.push(word),
            None => break,
        }
    }
    let mut line = None;
    if own.iter().any(|word| word == "--help") {
        // argh takes nothing else beside it.
        own = vec!["--help".to_owned()];
        arguments.clear();
    } else {
        let known = usage::of(&command)?;
        own_names.iter().try_for_each(|name| usage::takes(known, name))?;
        line = Some(known);
    }
    common.append(&mut command);
    common.append(&mut own);
    if !arguments.is_empty() {
        common.push("--".to_owned());
        common.extend(arguments);
    }
    Ok(Words { ordered: common, usage: line })
}

/// A lone dash and a negative number are arguments.
fn is_option(word: &str) -> bool {
    word.strip_prefix('-')
        .is_some_and(|rest| rest.chars().next().is_some_and(|first| !first.is_ascii_digit()))
}

fn option(word: &str) -> Result<(&'static Known, Option<String>), String> {
    let bare = word.trim_start_matches('-');
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (bare, None),
    };
    let name = if name == "h" { "help" } else { name };
    let known = OPTIONS.iter().find(|known| known.name == name).ok_or_else(|| {
        let is_near = |near: &&Known| near.name.starts_with(name) || name.starts_with(near.name);
        let near = OPTIONS.iter().find(is_near).map(|near| format!(" (is --{} meant?)", near.name));
        format!(
            "there is no option {word}{}; if it is a key or a value, put -- before it: phalanx put KEY -- {word}",
            near.unwrap_or_default()
        )
    })?;
    Ok((known, value))
}
