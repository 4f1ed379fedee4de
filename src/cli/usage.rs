//! How each command is typed, in a line: what is shown to whoever typed something else.

/// The commands. Words in small letters are typed as they are; the options of a command are those in its line.
const USAGES: &[&str] = &[
    "put KEY VALUE",
    "get KEY [--stale]",
    "del KEY [--prefix]",
    "cas KEY (EXPECTED NEW | NEW --absent | NEW --revision N)",
    "list [PREFIX] [--from KEY] [--to KEY] [--limit N] [--keys-only] [--count] [--stale]",
    "txn [INSTRUCTION...]",
    "status",
    "health [HOST:PORT]",
    "members",
    "member remove NAME",
    "leader transfer NAME",
    "snapshot save FILE [--force]",
    "snapshot check FILE",
];

/// The words that a command begins with.
fn name(usage: &str) -> impl Iterator<Item = &str> {
    usage.split(' ').take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
}

/// The options that a line shows.
fn options(usage: &str) -> impl Iterator<Item = &str> {
    usage.split(|c: char| " []()".contains(c)).filter_map(|word| word.strip_prefix("--"))
}

/// Whether it is the first word of commands of two.
pub fn is_group(word: &str) -> bool {
    USAGES.iter().any(|usage| name(usage).next() == Some(word) && name(usage).count() > 1)
}

/// How the command of these words is typed.
pub fn of(command: &[String]) -> Result<&'static str, String> {
    if let Some(usage) = USAGES.iter().find(|usage| name(usage).eq(command)) {
        return Ok(usage);
    }
    Err(match command {
        [] => format!("a command is missing: {}", first_words()),
        [group] if is_group(group) => {
            format!("phalanx {group} needs to know what to do:{}", lines(group))
        }
        [group, second] => format!("there is no command {group} {second}:{}", lines(group)),
        [other, ..] => format!("there is no command {other}: {}", first_words()),
    })
}

/// Whether the command takes an option; if not, what it takes.
pub fn takes(usage: &str, option: &str) -> Result<(), String> {
    match options(usage).any(|known| known == option) {
        true => Ok(()),
        false => {
            let command: Vec<&str> = name(usage).collect();
            Err(format!("{} takes no --{option}: phalanx {usage}", command.join(" ")))
        }
    }
}

fn first_words() -> String {
    let mut words: Vec<&str> = USAGES.iter().filter_map(|usage| name(usage).next()).collect();
    words.dedup();
    words.join(", ")
}

fn lines(group: &str) -> String {
    let of_group = USAGES.iter().filter(|usage| name(usage).next() == Some(group));
    of_group.map(|usage| format!("\n    phalanx {usage}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_command_is_typed_is_how_it_is_read() {
        for usage in USAGES {
            let words: Vec<String> = name(usage).chain(["--help"]).map(str::to_owned).collect();
            let help = super::super::parse(&words).expect_err("help is no command").output;
            let first = help.lines().next().expect("it says something");
            let mut read: Vec<&str> = options(first).filter(|name| !name.is_empty()).collect();
            let mut shown: Vec<&str> = options(usage).collect();
            read.sort();
            shown.sort();
            assert_eq!(shown, read, "{first}");
        }
    }
}
