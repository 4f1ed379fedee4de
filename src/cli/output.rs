//! How results are printed: as text, or as JSON with one object per line.

use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

use super::txn::quote;
use crate::client::KeyValue;

/// Standard output, buffered, with the form that was asked for.
pub struct Output<'a> {
    writer: BufWriter<&'a mut dyn Write>,
    /// Print JSON.
    pub json: bool,
    terminal: bool,
}

impl<'a> Output<'a> {
    /// Prints to `writer`.
    pub fn new(writer: &'a mut dyn Write, json: bool, terminal: bool) -> Output<'a> {
        Output { writer: BufWriter::new(writer), json, terminal }
    }

    /// Prints a line: the object if JSON was asked for, else the text.
    pub fn line(
        &mut self,
        object: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> io::Result<()> {
        if self.json {
            writeln!(self.writer, "{}", object())
        } else {
            writeln!(self.writer, "{}", text())
        }
    }

    /// Prints bytes as they are; on a terminal with a newline, so that the prompt begins a line.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)?;
        if self.terminal { self.writer.write_all(b"\n") } else { Ok(()) }
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Lines of aligned columns under a head, without trailing blanks. What is empty is a dash.
pub fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let dashed = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
    let rows = rows.map(|row| row.map(dashed));
    let lines: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| {
        lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
        padded.collect::<String>().trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Bytes in JSON: a string if they are UTF-8, else `{"hex": ...}`.
pub fn bytes_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() }),
    }
}

/// An entry in JSON.
pub fn kv_json(kv: &KeyValue, keys_only: bool) -> Value {
    let mut object = json!({
        "key": bytes_json(&kv.key),
        "create_revision": kv.create_revision,
        "mod_revision": kv.mod_revision,
        "version": kv.version,
    });
    if !keys_only {
        object["value"] = bytes_json(&kv.value);
    }
    object
}

/// An entry in a line of text: key, tab, value.
pub fn kv_text(kv: &KeyValue) -> String {
    format!("{}\t{}", quote(&kv.key), quote(&kv.value))
}
