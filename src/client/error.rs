//! What a request can end with, other than its result.

use std::fmt;

use crate::wire::client::{Code, Error as Refusal};

/// The result of what can fail in this library.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request has no result. The kinds differ in what the caller knows, and so in what it may do
/// next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The cluster will never accept this request as it is: nothing was changed.
    Refused {
        /// Which rule it broke.
        code: Code,
        /// The cause and the way out.
        message: String,
    },
    /// The deadline passed and the request was not executed. It is safe to ask again.
    Unavailable {
        /// What went wrong last.
        cause: String,
    },
    /// A change that may or may not have been made, or may be made yet. Look at what it changes to find out.
    Unknown {
        /// What went wrong last.
        cause: String,
    },
    /// The client could not be set up: an endpoint that is no address, or no thread or randomness
    /// to be had.
    Setup(String),
}

impl Error {
    pub(super) fn unavailable(cause: impl Into<String>) -> Error {
        Error::Unavailable { cause: cause.into() }
    }

    pub(super) fn unknown(cause: impl Into<String>) -> Error {
        Error::Unknown { cause: cause.into() }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused { code: refusal.code(), message: refusal.message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused { code, message } if message.is_empty() => {
                write!(f, "the request was refused: {}", code.as_str_name())
            }
            Error::Refused { message, .. } => write!(f, "the request was refused: {message}"),
            Error::Unavailable { cause } => write!(
                f,
                "the request was not executed within its time: {cause}; it is safe to try again"
            ),
            Error::Unknown { cause } => write!(
                f,
                "the change may or may not have been made: {cause}; look at what it changes to find out"
            ),
            Error::Setup(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}
