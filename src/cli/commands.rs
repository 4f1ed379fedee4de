//! The commands that read and write keys.

use std::io::Read;

use bytes::Bytes;
use serde_json::{Value, json};

use super::args::{Cas, Del, Get, List, Put, Txn};
use super::output::{Output, bytes_json, kv_json, kv_text};
use super::txn::{parse, quote};
use super::{Failure, Result};
use crate::client::{Client, DeleteResult, Expect, OpResult, Range, Swap, prefix};
use crate::limits::{RANGE_ENTRIES_MAX, VALUE_LEN_MAX, WRITE_LEN_MAX};
use crate::wire::client::op_result::Result as Done;

pub fn put(client: &Client, put: Put, stdin: &mut dyn Read, out: &mut Output<'_>) -> Result<()> {
    let reply = client.put(put.key, value(put.value, stdin)?)?;
    let (revision, replaced) = (reply.revision, reply.result.replaced);
    out.line(
        || json!({ "revision": revision, "replaced": replaced }),
        || format!("ok, revision {revision}"),
    )?;
    Ok(())
}

pub fn get(client: &Client, get: Get, out: &mut Output<'_>) -> Result<()> {
    let reply = if get.stale { client.get_stale(&get.key)? } else { client.get(&get.key)? };
    let kv = reply.result;
    if out.json {
        let object = kv.as_ref().map(|kv| kv_json(kv, false));
        let (revision, stale_ms) = (reply.revision, reply.stale_ms);
        let mut line = json!({ "revision": revision, "kv": object });
        if get.stale {
            line["stale_ms"] = json!(stale_ms);
        }
        out.line(|| line, String::new)?;
    } else if let Some(kv) = &kv {
        out.raw(&kv.value)?;
    }
    kv.map(drop).ok_or_else(|| Failure::NotFound(quote(get.key.as_bytes())))
}

pub fn del(client: &Client, del: Del, out: &mut Output<'_>) -> Result<()> {
    let (deleted, revision) = if del.prefix {
        let range = prefix(&del.key);
        let reply = client.delete_range(range.from, range.to)?;
        (reply.result, reply.revision)
    } else {
        let reply = client.delete(&del.key)?;
        (reply.result.deleted, reply.revision)
    };
    out.line(
        || json!({ "revision": revision, "deleted": deleted }),
        || format!("deleted {deleted}, revision {revision}"),
    )?;
    if deleted == 0 { Err(Failure::NotDone) } else { Ok(()) }
}

pub fn cas(client: &Client, cas: Cas, stdin: &mut dyn Read, out: &mut Output<'_>) -> Result<()> {
    let (expect, new) = expectation(&cas)?;
    let reply = client.cas(&cas.key, expect, value(new, stdin)?)?;
    let revision = reply.revision;
    let (swapped, current) = match reply.result {
        Swap::Done => (true, None),
        Swap::Differs(current) => (false, current),
    };
    out.line(
        || {
            let mut object = json!({ "revision": revision, "succeeded": swapped });
            if !swapped {
                object["kv"] = json!(current.as_ref().map(|kv| kv_json(kv, false)));
            }
            object
        },
        || match &current {
            _ if swapped => format!("ok, revision {revision}"),
            None => format!("{} does not exist", quote(cas.key.as_bytes())),
            Some(kv) => format!(
                "{} is {}, written by revision {}",
                quote(&kv.key),
                quote(&kv.value),
                kv.mod_revision
            ),
        },
    )?;
    if swapped { Ok(()) } else { Err(Failure::NotDone) }
}

/// What the options and the number of values mean together.
fn expectation(cas: &Cas) -> Result<(Expect, String)> {
    let (expect, new) = match (&cas.values[..], cas.absent, cas.revision) {
        ([expected, new], false, None) => (Expect::Value(expected.clone().into()), new),
        ([new], true, None) => (Expect::Absent, new),
        ([new], false, Some(revision)) => (Expect::ModRevision(revision), new),
        _ => {
            return Err(Failure::Usage(
                "use one of: cas KEY EXPECTED NEW, cas KEY NEW --absent, cas KEY NEW --revision N"
                    .to_owned(),
            ));
        }
    };
    Ok((expect, new.clone()))
}

pub fn list(client: &Client, list: List, out: &mut Output<'_>) -> Result<()> {
    let mut range = prefix(list.prefix.as_deref().unwrap_or_default());
    if let Some(from) = list.from {
        range.from = range.from.max(from.into());
    }
    if let Some(to) = list.to.filter(|to| !to.is_empty()).map(Bytes::from) {
        range.to = if range.to.is_empty() { to } else { range.to.min(to) };
    }
    range.stale = list.stale;
    range.keys_only = list.keys_only;
    if list.count {
        range.count_only = true;
        let reply = client.range(range)?;
        let (revision, count) = (reply.revision, reply.result.count);
        out.line(|| json!({ "revision": revision, "count": count }), || count.to_string())?;
        return Ok(());
    }
    let limit = list.limit.unwrap_or(usize::MAX);
    if limit == 0 {
        return Err(Failure::Usage("--limit must be at least 1".to_owned()));
    }
    range.limit = limit.min(RANGE_ENTRIES_MAX) as u32;
    print_entries(client, range, limit, out)
}

fn print_entries(client: &Client, range: Range, limit: usize, out: &mut Output<'_>) -> Result<()> {
    let keys_only = range.keys_only;
    for kv in client.entries(range).take(limit) {
        let kv = kv?;
        let text = || if keys_only { quote(&kv.key) } else { kv_text(&kv) };
        out.line(|| kv_json(&kv, keys_only), text)?;
    }
    Ok(())
}

pub fn txn(client: &Client, txn: Txn, stdin: &mut dyn Read, out: &mut Output<'_>) -> Result<()> {
    let txn = if txn.instructions.is_empty() {
        // Written as \xNN, a byte takes four.
        let text = read_at_most(stdin, 4 * WRITE_LEN_MAX, "the transaction")?;
        let text = String::from_utf8(text).map_err(|_| {
            Failure::Usage("the transaction is not UTF-8: write other bytes as \\xNN".to_owned())
        })?;
        parse(text.lines())
    } else {
        parse(txn.instructions.iter().map(String::as_str))
    };
    let txn = txn.map_err(Failure::Usage)?;
    let wire = txn.clone().into_wire();
    let reply = client.txn(txn)?;
    let (succeeded, revision) = (reply.result.succeeded, reply.revision);
    let executed = if succeeded { &wire.success } else { &wire.failure };
    let results = || executed.iter().zip(&reply.result.results);
    out.line(
        || {
            let results: Vec<_> = results().map(|(_, result)| result_json(result)).collect();
            json!({ "revision": revision, "succeeded": succeeded, "results": results })
        },
        || {
            let what = if succeeded { "ok" } else { "the compares failed" };
            let results = results().map(|(op, result)| format!("\n{}", result_text(op, result)));
            format!("{what}, revision {revision}{}", results.collect::<String>())
        },
    )?;
    if succeeded { Ok(()) } else { Err(Failure::NotDone) }
}

fn result_json(result: &OpResult) -> Value {
    match &result.result {
        Some(Done::Put(put)) => json!({ "replaced": put.replaced }),
        Some(Done::Get(get)) => json!({ "kv": get.kv.as_ref().map(|kv| kv_json(kv, false)) }),
        Some(Done::Delete(DeleteResult { deleted, next })) if next.is_empty() => {
            json!({ "deleted": deleted })
        }
        Some(Done::Delete(DeleteResult { deleted, next })) => {
            json!({ "deleted": deleted, "next": bytes_json(next) })
        }
        None => Value::Null,
    }
}

fn result_text(op: &crate::client::Op, result: &OpResult) -> String {
    use crate::wire::client::op::Op;
    let key = match &op.op {
        Some(Op::Put(put)) => quote(&put.key),
        Some(Op::Get(get)) => quote(&get.key),
        Some(Op::Delete(delete)) => quote(&delete.key),
        Some(Op::DeleteRange(range)) => quote(&range.from),
        None => String::new(),
    };
    match &result.result {
        Some(Done::Put(put)) if put.replaced => format!("put {key}: replaced"),
        Some(Done::Put(_)) => format!("put {key}: created"),
        Some(Done::Get(get)) => match &get.kv {
            Some(kv) => format!("get {key}: {}", quote(&kv.value)),
            None => format!("get {key}: not found"),
        },
        Some(Done::Delete(DeleteResult { deleted, next })) if next.is_empty() => {
            format!("delete {key}: {deleted}")
        }
        Some(Done::Delete(DeleteResult { deleted, next })) => {
            format!("delete {key}: {deleted}, and more is left from {}", quote(next))
        }
        None => format!("{key}: an unknown result"),
    }
}

/// A value as it was given, or from standard input for `-`.
fn value(given: String, stdin: &mut dyn Read) -> Result<Vec<u8>> {
    if given == "-" { read_at_most(stdin, VALUE_LEN_MAX, "the value") } else { Ok(given.into()) }
}

fn read_at_most(stdin: &mut dyn Read, len_max: usize, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stdin.take(len_max as u64 + 1).read_to_end(&mut bytes).map_err(Failure::Input)?;
    if bytes.len() > len_max {
        return Err(Failure::Usage(format!(
            "{what} on standard input is over the limit of {len_max} bytes"
        )));
    }
    Ok(bytes)
}
