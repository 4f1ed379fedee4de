//! What people type, made into what argh understands: one dash or two, a space or `=`.

/// Rewrites the options named in `known` (without dashes) to `--name value`.
///
/// `-name`, `--name=value` and `-name=value` are understood. Everything else is left as it is: what
/// is not known, a lone `-`, and all that stands behind a `--`.
///
/// ```
/// use phalanx::config::args::normalise;
///
/// let args = ["put", "-addr=10.0.0.1:9000", "k", "-", "--", "-addr"].map(String::from);
/// let expected = ["put", "--addr", "10.0.0.1:9000", "k", "-", "--", "-addr"];
/// assert_eq!(normalise(&args, &["addr"]), expected);
/// ```
pub fn normalise(args: &[String], known: &[&str]) -> Vec<String> {
    let options_end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (options, rest) = args.split_at(options_end);
    let mut normal = Vec::with_capacity(args.len());
    for arg in options {
        match known_option(arg, known) {
            Some((name, value)) => {
                normal.push(format!("--{name}"));
                normal.extend(value.map(str::to_owned));
            }
            None => normal.push(arg.clone()),
        }
    }
    normal.extend_from_slice(rest);
    normal
}

/// The name, and the value if it is joined to it by `=`.
fn known_option<'a>(arg: &'a str, known: &[&str]) -> Option<(&'a str, Option<&'a str>)> {
    let option = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    known.contains(&name).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &str, expected: &str) {
        let args: Vec<String> = args.split(' ').map(String::from).collect();
        let expected: Vec<&str> = expected.split(' ').collect();
        assert_eq!(normalise(&args, &["addr", "json"]), expected, "from {args:?}");
    }

    #[test]
    fn known_options_get_two_dashes_and_a_separate_value() {
        check("-addr a:1", "--addr a:1");
        check("--addr a:1", "--addr a:1");
        check("-addr=a:1", "--addr a:1");
        check("--addr=a:1=b", "--addr a:1=b");
        check("get k -json -addr a:1", "get k --json --addr a:1");
        assert_eq!(normalise(&["--addr=".into()], &["addr"]), ["--addr", ""]);
    }

    #[test]
    fn all_else_is_left_alone() {
        check("-j --unknown=1 -unknown=2", "-j --unknown=1 -unknown=2");
        check("put k - -5 ---addr a=b", "put k - -5 ---addr a=b");
        check("-address -add", "-address -add");
        check("-addr a:1 -- -addr --addr=b:2 --", "--addr a:1 -- -addr --addr=b:2 --");
        assert!(normalise(&[], &["addr"]).is_empty());
    }
}
