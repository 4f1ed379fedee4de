//! What is checked of a request at the door: nothing that is invalid or over a limit is proposed, so that applying a
//! command never meets it.

use prost::Message;

use super::client::{Code, Error as Refusal, Get, Op, Range, Txn, Write, op};
use crate::error::refusal;
use crate::limits::{KEY_LEN_MAX, RANGE_ENTRIES_MAX, TXN_OPS_MAX, VALUE_LEN_MAX, WRITE_LEN_MAX};

/// The length of a write's request id, in bytes.
pub const REQUEST_ID_LEN: usize = 16;

/// Checks a write. An error is [`Code::Invalid`] or [`Code::TooLarge`] and names what is wrong.
pub fn write(write: &Write) -> Result<(), Refusal> {
    if write.request_id.len() != REQUEST_ID_LEN {
        return Err(invalid(format!(
            "the request id has {} bytes: it must be {REQUEST_ID_LEN} random ones",
            write.request_id.len()
        )));
    }
    let Some(txn) = &write.txn else {
        return Err(invalid("the write has no transaction"));
    };
    let len = write.encoded_len();
    if len > WRITE_LEN_MAX {
        return Err(too_large(format!(
            "the write has {len} bytes, over the limit of {WRITE_LEN_MAX}: split it"
        )));
    }
    self::txn(txn)
}

fn txn(txn: &Txn) -> Result<(), Refusal> {
    let count = txn.compares.len() + txn.success.len() + txn.failure.len();
    if count > TXN_OPS_MAX {
        return Err(too_large(format!(
            "the transaction has {count} compares and operations, over the limit of {TXN_OPS_MAX}: split it"
        )));
    }
    for compare in &txn.compares {
        key(&compare.key)?;
        if compare.target.is_none() {
            return Err(invalid("a compare has no target: set value, version or a revision"));
        }
        if super::client::compare::Operator::try_from(compare.operator).is_err() {
            return Err(invalid(format!(
                "a compare has the unknown operator {}",
                compare.operator
            )));
        }
    }
    txn.success.iter().chain(&txn.failure).try_for_each(op)
}

fn op(op: &Op) -> Result<(), Refusal> {
    match &op.op {
        None => Err(invalid("an operation is empty or of an unknown kind")),
        Some(op::Op::Put(put)) => {
            key(&put.key)?;
            if put.value.len() > VALUE_LEN_MAX {
                return Err(too_large(format!(
                    "the value has {} bytes, over the limit of {VALUE_LEN_MAX}",
                    put.value.len()
                )));
            }
            Ok(())
        }
        Some(op::Op::Delete(delete)) => key(&delete.key),
        Some(op::Op::Get(get)) => key(&get.key),
        Some(op::Op::DeleteRange(range)) => bounds(&range.from, &range.to),
    }
}

/// Checks a read of one key.
pub fn get(get: &Get) -> Result<(), Refusal> {
    key(&get.key)
}

/// Checks a range read.
pub fn range(range: &Range) -> Result<(), Refusal> {
    if range.limit as usize > RANGE_ENTRIES_MAX {
        return Err(too_large(format!(
            "the limit of {} entries is over {RANGE_ENTRIES_MAX}: read page by page, from the reply's `next`",
            range.limit
        )));
    }
    bounds(&range.from, &range.to)
}

fn key(key: &[u8]) -> Result<(), Refusal> {
    match key.len() {
        0 => Err(invalid("the key is empty")),
        1..=KEY_LEN_MAX => Ok(()),
        len => Err(too_large(format!("the key has {len} bytes, over the limit of {KEY_LEN_MAX}"))),
    }
}

fn bounds(from: &[u8], to: &[u8]) -> Result<(), Refusal> {
    for bound in [from, to] {
        if bound.len() > KEY_LEN_MAX {
            return Err(too_large(format!(
                "a bound of the range has {} bytes, over the limit of {KEY_LEN_MAX}",
                bound.len()
            )));
        }
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Refusal {
    refusal(Code::Invalid, message)
}

fn too_large(message: impl Into<String>) -> Refusal {
    refusal(Code::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::client::{Compare, Delete, DeleteRange, Put, compare};
    use bytes::Bytes;

    fn put(key_len: usize, value_len: usize) -> Op {
        let put = Put { key: vec![b'k'; key_len].into(), value: vec![b'v'; value_len].into() };
        Op { op: Some(op::Op::Put(put)) }
    }

    fn check(success: Vec<Op>) -> Option<Code> {
        let txn = Txn { success, ..Txn::default() };
        let checked = Write { request_id: vec![1; 16].into(), since: 0, txn: Some(txn) };
        write(&checked).err().map(|e| e.code())
    }

    #[test]
    fn keys_and_values_at_and_over_their_limits() {
        assert_eq!(check(vec![put(1, 0)]), None);
        assert_eq!(check(vec![put(KEY_LEN_MAX, VALUE_LEN_MAX)]), None);
        assert_eq!(check(vec![put(0, 0)]), Some(Code::Invalid));
        assert_eq!(check(vec![put(KEY_LEN_MAX + 1, 0)]), Some(Code::TooLarge));
        assert_eq!(check(vec![put(1, VALUE_LEN_MAX + 1)]), Some(Code::TooLarge));
        let delete = Op { op: Some(op::Op::Delete(Delete { key: Bytes::new() })) };
        assert_eq!(check(vec![delete]), Some(Code::Invalid));
        let range = DeleteRange { from: Bytes::new(), to: vec![0; KEY_LEN_MAX + 1].into() };
        assert_eq!(check(vec![Op { op: Some(op::Op::DeleteRange(range)) }]), Some(Code::TooLarge));
    }

    #[test]
    fn transactions_at_and_over_their_limits() {
        assert_eq!(check(vec![put(1, 1); TXN_OPS_MAX]), None);
        assert_eq!(check(vec![put(1, 1); TXN_OPS_MAX + 1]), Some(Code::TooLarge));
        assert_eq!(check(vec![put(1, VALUE_LEN_MAX); 2]), Some(Code::TooLarge));
        assert_eq!(check(vec![Op { op: None }]), Some(Code::Invalid));
    }

    #[test]
    fn malformed_writes_are_invalid() {
        let txn = Some(Txn::default());
        let short = Write { request_id: vec![1; 15].into(), since: 0, txn: txn.clone() };
        assert_eq!(write(&short).unwrap_err().code(), Code::Invalid);
        let empty = Write { request_id: vec![1; 16].into(), since: 0, txn: None };
        assert_eq!(write(&empty).unwrap_err().code(), Code::Invalid);
        for (operator, target) in [(0, None), (9, Some(compare::Target::Version(1)))] {
            let compares = vec![Compare { key: Bytes::from_static(b"k"), operator, target }];
            let txn = Some(Txn { compares, ..Txn::default() });
            let malformed = Write { request_id: vec![1; 16].into(), since: 0, txn };
            assert_eq!(write(&malformed).unwrap_err().code(), Code::Invalid);
        }
    }

    #[test]
    fn a_range_over_the_page_limit_is_too_large() {
        let over = Range { limit: RANGE_ENTRIES_MAX as u32 + 1, ..Range::default() };
        assert_eq!(range(&over).unwrap_err().code(), Code::TooLarge);
        assert!(range(&Range::default()).is_ok());
    }
}
