//! HTTP on the debug address: bytes in, response bytes out. Pure: no socket and no clock.
//!
//! The shell owns the connection and its deadlines. It feeds a [`Connection`] what it reads, asks
//! for the [`next_step`](Connection::next_step) until more bytes are needed, and writes what
//! [`respond`] or [`reject`] return.
//!
//! Promises:
//! - The same bytes give the same steps, however they were cut on the way.
//! - A connection holds at most [`HTTP_HEAD_LEN_MAX`](crate::limits::HTTP_HEAD_LEN_MAX) bytes more
//!   than it was last fed, and an idle one holds nothing.
//! - Only GET and HEAD are answered and no request has a body, so a request can change nothing, and
//!   where it ends is never in doubt: what would put it in doubt is rejected, and the connection
//!   closed.
//!
//! Of HTTP it speaks 1.0 and 1.1, keep-alive and pipelining included. A `Host` header is not asked
//! for: there is one host, and probes written by hand leave it out.

#![forbid(unsafe_code)]

mod mesh;
mod request;
mod response;
mod status;
#[cfg(test)]
mod tests;

pub use mesh::{Liveness, MeshNodePage, MeshPage};
pub use request::{Connection, Method, Request, Step};
pub use response::{Status, reject, respond};
pub use status::{Health, NodeState, Page, PeerStatus, StatusPage};
