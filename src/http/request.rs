//! From bytes to requests, incrementally.

use bytes::{Buf, BytesMut};
use httparse::{EMPTY_HEADER, Header};

use super::Status;
use crate::limits::{HTTP_HEAD_LEN_MAX, HTTP_HEADERS_MAX};

/// What a request asks to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The page.
    Get,
    /// The headers of the page.
    Head,
}

/// One request, whole and valid. Whether its page exists is for [`respond`](super::respond) to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// GET or HEAD.
    pub method: Method,
    /// The path, without a query.
    pub path: String,
    /// Whether the connection stays open after the answer.
    pub keep_alive: bool,
}

/// What to do next with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read more bytes and feed them.
    NeedMore,
    /// Answer this, and close unless it is to be kept alive.
    Request(Request),
    /// Answer with [`reject`](super::reject), and close.
    Reject(Status),
}

/// The receiving half of one connection.
///
/// ```
/// use phalanx::http::{Connection, Status, Step};
///
/// let mut connection = Connection::default();
/// connection.feed(b"GET /health HTTP/1.1\r\n");
/// assert_eq!(connection.next_step(), Step::NeedMore);
/// connection.feed(b"\r\nPUT / HTTP/1.1\r\n\r\n");
/// assert!(matches!(connection.next_step(), Step::Request(r) if r.path == "/health"));
/// assert_eq!(connection.next_step(), Step::Reject(Status::MethodNotAllowed));
/// ```
#[derive(Debug, Default)]
pub struct Connection {
    buffer: BytesMut,
    /// Set after the last request: what every further step is.
    end: Option<Step>,
}

impl Connection {
    /// Adds bytes as they came. They are ignored once the last request of the connection is known.
    ///
    /// # Panics
    /// If whole requests are still waiting: take all steps up to [`Step::NeedMore`] first, or a
    /// client that sends faster than it is answered would fill the memory.
    pub fn feed(&mut self, bytes: &[u8]) {
        assert!(self.buffer.len() < HTTP_HEAD_LEN_MAX, "fed before all steps were taken");
        if self.end.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next step.
    pub fn next_step(&mut self) -> Step {
        if let Some(end) = &self.end {
            return end.clone();
        }
        let step = match self.cut() {
            Ok(None) => Step::NeedMore,
            Ok(Some(request)) => Step::Request(request),
            Err(status) => Step::Reject(status),
        };
        self.end = match &step {
            Step::Request(request) if !request.keep_alive => Some(Step::NeedMore),
            Step::Reject(_) => Some(step.clone()),
            _ => None,
        };
        if self.end.is_some() || self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        step
    }

    /// Bytes of a request that is not complete yet. When the time is up, a connection with some is
    /// owed a [`Status::RequestTimeout`], and one with none is closed without a word.
    pub fn pending_len(&self) -> usize {
        self.buffer.len()
    }

    /// Takes one request out of the buffer.
    fn cut(&mut self) -> Result<Option<Request>, Status> {
        // What lies behind the limit is not looked at: how the bytes were cut must not matter.
        let window = &self.buffer[..self.buffer.len().min(HTTP_HEAD_LEN_MAX)];
        let mut headers = [EMPTY_HEADER; HTTP_HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(window) {
            Ok(httparse::Status::Complete(len)) => {
                let request = check(&head)?;
                self.buffer.advance(len);
                Ok(Some(request))
            }
            Ok(httparse::Status::Partial) if window.len() == HTTP_HEAD_LEN_MAX => {
                Err(Status::HeadTooLarge)
            }
            Ok(httparse::Status::Partial) => Ok(None),
            Err(httparse::Error::TooManyHeaders) => Err(Status::HeadTooLarge),
            Err(httparse::Error::Version) if names_other_version(window) => {
                Err(Status::VersionNotSupported)
            }
            Err(_) => Err(Status::BadRequest),
        }
    }
}

/// Tells `HTTP/2.0`, a version that is not spoken, from what is no version at all. Looks at no byte
/// behind the one at which the parser fails: how the bytes were cut must not matter.
fn names_other_version(window: &[u8]) -> bool {
    let line = window.trim_ascii_start();
    let version = line.split(|byte| *byte == b' ').nth(2).unwrap_or_default();
    version.strip_prefix(b"HTTP/").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
}

fn check(head: &httparse::Request<'_, '_>) -> Result<Request, Status> {
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        _ => return Err(Status::MethodNotAllowed),
    };
    refuse_body(head.headers)?;
    let target = head.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _query)| path);
    let keep_alive = keep_alive(head.version, head.headers);
    Ok(Request { method, path: path.to_owned(), keep_alive })
}

/// No page takes a body, and a body that was announced and not read would be taken for a request.
fn refuse_body(headers: &[Header<'_>]) -> Result<(), Status> {
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Status::ContentTooLarge);
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            if header.value.is_empty() || !header.value.iter().all(u8::is_ascii_digit) {
                return Err(Status::BadRequest);
            }
            if header.value.iter().any(|digit| *digit != b'0') {
                return Err(Status::ContentTooLarge);
            }
        }
    }
    Ok(())
}

/// HTTP/1.1 keeps a connection unless told to close it, HTTP/1.0 only if told to keep it.
fn keep_alive(minor_version: Option<u8>, headers: &[Header<'_>]) -> bool {
    let says = |option: &str| {
        headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("connection"))
            .flat_map(|header| header.value.split(|byte| *byte == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    };
    !says("close") && (minor_version == Some(1) || says("keep-alive"))
}
