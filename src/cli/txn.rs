//! The text of a transaction, and the quoting of keys and values that it shares with every other output.
//!
//! What [`quote`] writes is one word to [`parse`], and is read back as the same bytes.

use std::fmt::Write;

use crate::client::{Compare, Op, Txn, compare, op};

/// Reads a transaction: one instruction per line. The error names the line and shows what may stand
/// there.
pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Txn, String> {
    let mut txn = Txn::new();
    let mut count = 0;
    for (i, line) in lines.into_iter().enumerate() {
        let at = |what: String| format!("instruction {}: {what}", i + 1);
        let words = words(line).map_err(at)?;
        let Some((first, rest)) = words.split_first() else { continue };
        count += 1;
        txn = match &first[..] {
            b"if" => txn.when(condition(rest).map_err(at)?),
            b"then" => txn.then(operation(rest).map_err(at)?),
            b"else" => txn.otherwise(operation(rest).map_err(at)?),
            other => {
                return Err(at(format!(
                    "begins with {}: it must be if, then or else",
                    quote(other)
                )));
            }
        };
    }
    if count == 0 {
        return Err(
            "the transaction is empty: give instructions, see phalanx txn --help".to_owned()
        );
    }
    Ok(txn)
}

fn condition(words: &[Vec<u8>]) -> Result<Compare, String> {
    let [field, key, operator, operand] = words else {
        return Err("a condition is: if value|version|create|mod KEY =|!=|<|> OPERAND".to_owned());
    };
    let operator = match &operator[..] {
        b"=" => compare::EQUAL,
        b"!=" => compare::NOT_EQUAL,
        b"<" => compare::LESS,
        b">" => compare::GREATER,
        other => return Err(format!("{} is no comparison: use = != < or >", quote(other))),
    };
    let number = || {
        let text = std::str::from_utf8(operand).ok();
        text.and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| format!("{} is no number: give 0 or more", quote(operand)))
    };
    Ok(match &field[..] {
        b"value" => compare::value(key, operator, operand),
        b"version" => compare::version(key, operator, number()?),
        b"create" => compare::create_revision(key, operator, number()?),
        b"mod" => compare::mod_revision(key, operator, number()?),
        other => {
            return Err(format!(
                "{} cannot be compared: use value, version, create or mod",
                quote(other)
            ));
        }
    })
}

fn operation(words: &[Vec<u8>]) -> Result<Op, String> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    match words[..] {
        [b"put", key, value] => Ok(op::put(key, value)),
        [b"get", key] => Ok(op::get(key)),
        [b"del", key] => Ok(op::delete(key)),
        [b"del-range", from, to] => Ok(op::delete_range(from, to)),
        _ => Err("an operation is: put KEY VALUE, get KEY, del KEY or del-range FROM TO; quote what has spaces"
            .to_owned()),
    }
}

/// Cuts a line into words. A `#` at the beginning of a word begins a comment.
fn words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => break,
            '"' => {
                let (word, after) = quoted(&rest[1..])?;
                if after.chars().next().is_some_and(|next| !next.is_whitespace()) {
                    return Err("a closing quote must be followed by a space".to_owned());
                }
                words.push(word);
                rest = after.trim_start();
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(rest.as_bytes()[..end].to_vec());
                rest = rest[end..].trim_start();
            }
        }
    }
    Ok(words)
}

/// Reads up to the closing quote: the bytes, and what follows it.
fn quoted(text: &str) -> Result<(Vec<u8>, &str), String> {
    let mut word = Vec::new();
    let mut chars = text.chars();
    loop {
        let c = chars.next().ok_or("a quote is not closed")?;
        match c {
            '"' => return Ok((word, chars.as_str())),
            '\\' => word.push(escape(&mut chars)?),
            _ => word.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
}

fn escape(chars: &mut std::str::Chars<'_>) -> Result<u8, String> {
    match chars.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('"') => Ok(b'"'),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let mut nibble = || chars.next().and_then(|c| c.to_digit(16));
            match (nibble(), nibble()) {
                (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
                _ => Err("\\x must be followed by two hexadecimal digits".to_owned()),
            }
        }
        Some(other) => Err(format!("\\{other} means nothing: use \\\" \\\\ \\n \\r \\t or \\xNN")),
        None => Err("a quote is not closed".to_owned()),
    }
}

/// Bytes as one word: as they are if that is plain text, else in quotes.
pub fn quote(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => return text.to_owned(),
        _ => {}
    }
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() => hex(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => out.push(c),
            }
        }
        hex(&mut out, chunk.invalid());
    }
    out.push('"');
    out
}

fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "\\x{byte:02x}").expect("a string takes all that is written");
    }
}

fn is_plain(text: &str) -> bool {
    let special = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    !text.is_empty() && !text.starts_with(['"', '#']) && !text.contains(special)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_in_text() {
        let text = "if value KEY = \"a b\"\n\n  # who holds it\nif version k > 0\nif mod k != 7\n\
                    if create k < 9\nthen put k \"\\x00\\n\\\"\"  # done\nthen del-range a \"\"\nelse get k\nelse del \"\\\\\"";
        let expected = Txn::new()
            .when(compare::value("KEY", compare::EQUAL, "a b"))
            .when(compare::version("k", compare::GREATER, 0))
            .when(compare::mod_revision("k", compare::NOT_EQUAL, 7))
            .when(compare::create_revision("k", compare::LESS, 9))
            .then(op::put("k", b"\0\n\""))
            .then(op::delete_range("a", ""))
            .otherwise(op::get("k"))
            .otherwise(op::delete("\\"));
        assert_eq!(parse(text.lines()), Ok(expected));
    }

    #[test]
    fn errors_name_the_instruction_and_the_way_out() {
        for (text, expected) in [
            ("then get a\nwhen x", "instruction 2: begins with when"),
            ("if value k =", "instruction 1: a condition is"),
            ("if value k == v", "== is no comparison"),
            ("if version k = many", "many is no number"),
            ("if version k = -1", "-1 is no number"),
            ("if colour k = v", "colour cannot be compared"),
            ("then put k", "an operation is"),
            ("then put k v w", "an operation is"),
            ("\n\nthen put k \"v", "instruction 3: a quote is not closed"),
            ("then put k \"v\"w", "must be followed by a space"),
            ("then put k \"\\q\"", "\\q means nothing"),
            ("then put k \"\\xg0\"", "two hexadecimal digits"),
            ("# nothing\n", "the transaction is empty"),
        ] {
            let error = parse(text.lines()).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_is_quoted_is_read_back_as_the_same_bytes() {
        assert_eq!(quote(b"plain/\xc3\xa9"), "plain/é");
        assert_eq!(quote(b"a b\n\xff"), "\"a b\\n\\xff\"");
        let seed = 11;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..2000 {
            let alphabet = b"ab \t\n\r\"\\#\x00\x1f\x7f\x85\xc2\xc3\xa9\xff";
            let len = random.usize(0..8);
            let bytes: Vec<u8> =
                (0..len).map(|_| alphabet[random.usize(0..alphabet.len())]).collect();
            let quoted = quote(&bytes);
            assert!(!quoted.contains(['\n', '\t']), "one word on one line: {quoted:?}");
            assert_eq!(words(&quoted), Ok(vec![bytes]), "seed {seed}: {quoted}");
        }
    }
}
