//! What is measured: a store that takes puts and gets, over connections on which requests may be outstanding at once.

pub mod etcd;
pub mod phalanx;

use std::io;
use std::rc::Rc;

use ::bytes::Bytes;

use crate::load::workload::{KEY_LEN, Operation};

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Phalanx,
    Etcd,
}

impl Target {
    pub const ALL: [Target; 2] = [Target::Phalanx, Target::Etcd];

    pub fn name(self) -> &'static str {
        match self {
            Target::Phalanx => "phalanx",
            Target::Etcd => "etcd",
        }
    }

    pub fn parse(name: &str) -> Result<Target, String> {
        let found = Target::ALL.into_iter().find(|target| target.name() == name);
        found.ok_or_else(|| format!("{name:?} is no target: phalanx or etcd"))
    }
}

/// How a request ended that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// The server was overloaded, and did nothing.
    Refused,
}

/// One place for an outstanding request, on a connection that others may share.
pub enum Slot {
    Phalanx(phalanx::Slot),
    Etcd(etcd::Slot),
}

impl Slot {
    /// Opens one connection, and gives as many slots of it.
    pub async fn open(
        target: Target,
        address: &str,
        depth: usize,
        timeout_ms: u32,
    ) -> io::Result<Vec<Slot>> {
        Ok(match target {
            Target::Phalanx => {
                let connection =
                    Rc::new(phalanx::Connection::open(address, depth, timeout_ms).await?);
                (0..depth)
                    .map(|at| Slot::Phalanx(phalanx::Slot::new(connection.clone(), at)))
                    .collect()
            }
            Target::Etcd => {
                let slot = etcd::Slot::open(address, timeout_ms).await?;
                (0..depth).map(|_| Slot::Etcd(slot.clone())).collect()
            }
        })
    }

    pub async fn call(
        &mut self,
        operation: Operation,
        key: &[u8; KEY_LEN],
        value: &Bytes,
    ) -> io::Result<Answer> {
        match self {
            Slot::Phalanx(slot) => slot.call(operation, key, value).await,
            Slot::Etcd(slot) => slot.call(operation, key, value).await,
        }
    }
}
