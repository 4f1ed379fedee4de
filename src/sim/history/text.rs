//! Operations in words, as the explanation of a violation shows them: one line each, long values cut.

use std::fmt::{self, Display, Formatter};

use super::{Answer, Asked, End, Operation, OperationId};
use crate::wire::client::{Compare, KeyValue, Op, OpResult, compare, op, op_result};

const SHOWN_BYTES_MAX: usize = 40;

impl Display for OperationId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "client {} ", self.client)?;
        match &self.end {
            End::Open => write!(f, "[{}..) {} -> no answer", self.called_at, self.asked),
            End::Failed => write!(f, "[{}] {} -> refused", self.called_at, self.asked),
            End::Answered { at, revision, answer } => {
                write!(f, "[{}..{at}] {} -> {answer}", self.called_at, self.asked)?;
                revision.map_or(Ok(()), |revision| write!(f, " at revision {revision}"))
            }
        }
    }
}

impl Display for Asked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Get(key) => write!(f, "get {}", bytes(key)),
            Asked::Range(range) => {
                let what = if range.count_only { "count" } else { "list" };
                write!(f, "{what} [{}, {})", bytes(&range.from), bytes(&range.to))
            }
            Asked::Write(txn) if txn.compares.is_empty() => {
                write!(f, "{}", joined(&txn.success, op_text))
            }
            Asked::Write(txn) => {
                let compares = joined(&txn.compares, compare_text);
                write!(f, "if {compares} then {}", joined(&txn.success, op_text))?;
                match txn.failure.is_empty() {
                    true => Ok(()),
                    false => write!(f, " else {}", joined(&txn.failure, op_text)),
                }
            }
        }
    }
}

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Get(get) => write!(f, "{}", found_text(get.kv.as_ref())),
            Answer::Range(range) => {
                let listed = joined(&range.kvs, |kv| {
                    format!("{} = {}", bytes(&kv.key), found_text(Some(kv)))
                });
                write!(f, "{} keys: {listed}", range.count)
            }
            Answer::Write(txn) => {
                let results = joined(&txn.results, result_text);
                match txn.succeeded {
                    true => write!(f, "{results}"),
                    false => write!(f, "compares did not hold: {results}"),
                }
            }
        }
    }
}

fn joined<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    match items {
        [] => "nothing".to_owned(),
        items => items.iter().map(text).collect::<Vec<_>>().join(", "),
    }
}

/// Bytes as text, if they are any, cut where they are long.
pub(in crate::sim) fn bytes(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let rest = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}{rest}\"", shown.escape_ascii())
}

fn found_text(kv: Option<&KeyValue>) -> String {
    let Some(kv) = kv else { return "no such key".to_owned() };
    let KeyValue { value, create_revision, mod_revision, version, .. } = kv;
    format!(
        "{} (created {create_revision}, written {mod_revision}, version {version})",
        bytes(value)
    )
}

fn op_text(op: &Op) -> String {
    match &op.op {
        Some(op::Op::Put(put)) => format!("put {} {}", bytes(&put.key), bytes(&put.value)),
        Some(op::Op::Delete(delete)) => format!("delete {}", bytes(&delete.key)),
        Some(op::Op::DeleteRange(range)) => {
            format!("delete [{}, {})", bytes(&range.from), bytes(&range.to))
        }
        Some(op::Op::Get(get)) => format!("get {}", bytes(&get.key)),
        None => "nothing".to_owned(),
    }
}

fn compare_text(compare: &Compare) -> String {
    let key = bytes(&compare.key);
    let sign = match compare.operator() {
        compare::Operator::Equal => "=",
        compare::Operator::NotEqual => "!=",
        compare::Operator::Less => "<",
        compare::Operator::Greater => ">",
    };
    match &compare.target {
        Some(compare::Target::Value(value)) => format!("value {key} {sign} {}", bytes(value)),
        Some(compare::Target::Version(number)) => format!("version {key} {sign} {number}"),
        Some(compare::Target::CreateRevision(number)) => format!("create {key} {sign} {number}"),
        Some(compare::Target::ModRevision(number)) => format!("mod {key} {sign} {number}"),
        None => format!("nothing of {key}"),
    }
}

fn result_text(result: &OpResult) -> String {
    match &result.result {
        Some(op_result::Result::Put(put)) if put.replaced => "replaced".to_owned(),
        Some(op_result::Result::Put(_)) => "created".to_owned(),
        Some(op_result::Result::Delete(delete)) => format!("{} deleted", delete.deleted),
        Some(op_result::Result::Get(get)) => found_text(get.kv.as_ref()),
        None => "nothing".to_owned(),
    }
}
