//! Builds a transaction: compares, what to do if all of them hold, what to do if not.

use crate::wire::client as wire;

/// A transaction: applied wholly or not at all, each operation seeing the effects of those before
/// it.
///
/// ```
/// use phalanx::client::{Txn, compare, op};
///
/// // Move a lock from one holder to the next, or tell who has it.
/// let txn = Txn::new()
///     .when(compare::value("lock", compare::EQUAL, "alice"))
///     .when(compare::version("queue/bob", compare::GREATER, 0))
///     .then(op::put("lock", "bob"))
///     .then(op::delete("queue/bob"))
///     .otherwise(op::get("lock"));
///
/// let wire = txn.into_wire();
/// assert_eq!(wire.compares.len(), 2);
/// assert_eq!(wire.success.len(), 2);
/// assert_eq!(wire.failure, [op::get("lock")]);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Txn {
    wire: wire::Txn,
}

impl Txn {
    /// A transaction that compares nothing (all compares hold) and does nothing.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Adds a condition. All must hold for the `then` operations to run.
    pub fn when(mut self, compare: wire::Compare) -> Txn {
        self.wire.compares.push(compare);
        self
    }

    /// Adds an operation that runs if all conditions hold.
    pub fn then(mut self, op: wire::Op) -> Txn {
        self.wire.success.push(op);
        self
    }

    /// Adds an operation that runs if any condition does not hold.
    pub fn otherwise(mut self, op: wire::Op) -> Txn {
        self.wire.failure.push(op);
        self
    }

    /// The message that goes over the wire.
    pub fn into_wire(self) -> wire::Txn {
        self.wire
    }
}

/// The conditions of a transaction.
///
/// A key that does not exist has version and revisions 0, and a value less than every other.
pub mod compare {
    use bytes::Bytes;

    use crate::wire::client::{
        Compare,
        compare::{Operator, Target},
    };

    /// The two are equal.
    pub const EQUAL: Operator = Operator::Equal;
    /// The two differ.
    pub const NOT_EQUAL: Operator = Operator::NotEqual;
    /// The key's is less than the given one.
    pub const LESS: Operator = Operator::Less;
    /// The key's is greater than the given one.
    pub const GREATER: Operator = Operator::Greater;

    /// Compares the key's value, byte by byte.
    pub fn value(key: impl AsRef<[u8]>, operator: Operator, value: impl AsRef<[u8]>) -> Compare {
        compare(key, operator, Target::Value(Bytes::copy_from_slice(value.as_ref())))
    }

    /// Compares how often the key was written since its creation.
    pub fn version(key: impl AsRef<[u8]>, operator: Operator, version: u64) -> Compare {
        compare(key, operator, Target::Version(version))
    }

    /// Compares the revision that created the key.
    pub fn create_revision(key: impl AsRef<[u8]>, operator: Operator, revision: u64) -> Compare {
        compare(key, operator, Target::CreateRevision(revision))
    }

    /// Compares the revision that last wrote the key.
    pub fn mod_revision(key: impl AsRef<[u8]>, operator: Operator, revision: u64) -> Compare {
        compare(key, operator, Target::ModRevision(revision))
    }

    /// The key does not exist.
    pub fn absent(key: impl AsRef<[u8]>) -> Compare {
        version(key, EQUAL, 0)
    }

    /// The key exists.
    pub fn exists(key: impl AsRef<[u8]>) -> Compare {
        version(key, GREATER, 0)
    }

    fn compare(key: impl AsRef<[u8]>, operator: Operator, target: Target) -> Compare {
        Compare {
            key: Bytes::copy_from_slice(key.as_ref()),
            operator: operator.into(),
            target: Some(target),
        }
    }
}

/// The operations of a transaction.
pub mod op {
    use bytes::Bytes;

    use crate::wire::client::{Delete, DeleteRange, GetOp, Op, Put, op};

    /// Writes a key.
    pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Op {
        wrap(op::Op::Put(Put { key: copy(key), value: copy(value) }))
    }

    /// Reads a key, at this point of the order.
    pub fn get(key: impl AsRef<[u8]>) -> Op {
        wrap(op::Op::Get(GetOp { key: copy(key) }))
    }

    /// Deletes a key, if it is there.
    pub fn delete(key: impl AsRef<[u8]>) -> Op {
        wrap(op::Op::Delete(Delete { key: copy(key) }))
    }

    /// Deletes the keys of `[from, to)`, up to a bound: see `next` of the result. An empty `to` is
    /// no bound.
    pub fn delete_range(from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Op {
        wrap(op::Op::DeleteRange(DeleteRange { from: copy(from), to: copy(to) }))
    }

    fn wrap(op: op::Op) -> Op {
        Op { op: Some(op) }
    }

    fn copy(bytes: impl AsRef<[u8]>) -> Bytes {
        Bytes::copy_from_slice(bytes.as_ref())
    }
}
