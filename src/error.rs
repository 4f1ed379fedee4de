//! The one error type, and the question that decides what becomes of an error.
//!
//! Every error is of one of two kinds, and [`Error::stops_node`] tells which:
//!
//! - **Refused**: what every replica would answer alike, or what concerns one request only. It goes to the client, and
//!   nothing else is disturbed.
//! - everything else concerns *this* node: its disk, its files, its kernel, its settings. A node that met one stops. It
//!   is never retried: after a failed sync the kernel may have dropped what it could not write.
//!
//! Every message names the cause and the way out.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::wire::client::{Code, Error as Refusal};

/// The result of what can fail in Phalanx.
pub type Result<T> = std::result::Result<T, Error>;

/// See the [module](self).
#[derive(Debug)]
pub enum Error {
    /// A request that is refused: goes to the client as it is.
    Refused(Refusal),
    /// The settings make no sense.
    Config(String),
    /// The machine lacks something that the node needs (io_uring, locked memory, a free port).
    Environment(String),
    /// A system call failed.
    Io {
        /// What was being done, with the path or address: "write /data/log/7.seg".
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file does not hold what was written to it.
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong, and the way out.
        what: String,
    },
    /// The state machine's database failed.
    Store(String),
}

impl Error {
    /// Whether the node that met this error must stop. Errors for which it is false are answers to a client.
    pub fn stops_node(&self) -> bool {
        !matches!(self, Error::Refused(_))
    }

    /// A refusal with a code and a message for a person.
    pub fn refused(code: Code, message: impl Into<String>) -> Error {
        Error::Refused(refusal(code, message))
    }

    /// A failed system call, with what was being done.
    pub fn io(action: impl Into<String>, source: io::Error) -> Error {
        Error::Io { action: action.into(), source }
    }

    /// A file that does not hold what was written to it.
    pub fn corrupt(file: &Path, offset: u64, what: impl Into<String>) -> Error {
        Error::Corrupt { file: file.to_owned(), offset, what: what.into() }
    }
}

/// An error for a client.
pub fn refusal(code: Code, message: impl Into<String>) -> Refusal {
    Refusal { code: code.into(), message: message.into(), ..Refusal::default() }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(refusal) => f.write_str(&refusal.message),
            Error::Config(what) | Error::Environment(what) => f.write_str(what),
            Error::Io { action, source } => write!(f, "cannot {action}: {source}"),
            Error::Corrupt { file, offset, what } => {
                write!(f, "{} is corrupt at byte {offset}: {what}", file.display())
            }
            Error::Store(what) => write!(f, "the state machine's database failed: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
