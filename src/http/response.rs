//! From requests to the bytes of their answers.

use super::{Health, Method, Page, Request, StatusPage};
use crate::limits::{HTTP_HEAD_LEN_MAX, HTTP_HEADERS_MAX, HTTP_TIMEOUT};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const INDEX: &str = "Phalanx\n\n\
    /health        whether this node can serve, and as what\n\
    /debug/status  what this node knows of itself and of its peers (JSON)\n";

const FULL: &str = "the store is full: writes that would take it over MAX_BYTES are refused";

/// The status of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 200.
    Ok,
    /// 400: the bytes are no HTTP request.
    BadRequest,
    /// 404: there is no such page.
    NotFound,
    /// 405: neither GET nor HEAD.
    MethodNotAllowed,
    /// 408: the request was not complete in time. The shell's clock decides that.
    RequestTimeout,
    /// 413: the request has a body.
    ContentTooLarge,
    /// 431: the request's head is over a limit.
    HeadTooLarge,
    /// 503: of a page, the node cannot serve; as a rejection, there are too many connections.
    Unavailable,
    /// 505: neither HTTP/1.0 nor HTTP/1.1.
    VersionNotSupported,
}

impl Status {
    /// The code and the reason phrase.
    pub fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// What a person is told who gets this status instead of a page.
    fn explanation(self) -> String {
        match self {
            Status::Ok => String::new(),
            Status::BadRequest => "this is no HTTP request\n".into(),
            Status::NotFound => "there is no such page: / lists those that there are\n".into(),
            Status::MethodNotAllowed => "only GET and HEAD are answered here\n".into(),
            Status::RequestTimeout => {
                format!("the request was not complete within {} s\n", HTTP_TIMEOUT.as_secs())
            }
            Status::ContentTooLarge => "no page takes a request with a body\n".into(),
            Status::HeadTooLarge => format!(
                "the request line and headers are over {HTTP_HEAD_LEN_MAX} bytes, or there are \
                 more than {HTTP_HEADERS_MAX} headers\n"
            ),
            Status::Unavailable => "too many connections at once: close some, or retry\n".into(),
            Status::VersionNotSupported => "only HTTP/1.0 and HTTP/1.1 are spoken here\n".into(),
        }
    }
}

/// The bytes that answer a request, from what `page` tells at this moment.
pub fn respond(request: &Request, page: &Page) -> Vec<u8> {
    let (status, content_type, body) = match request.path.as_str() {
        "/" => (Status::Ok, TEXT, INDEX.to_owned()),
        "/health" => health(&page.health),
        "/debug/status" => (Status::Ok, JSON, json(&page.status)),
        _ => (Status::NotFound, TEXT, Status::NotFound.explanation()),
    };
    let mut response = head(status, content_type, body.len(), request.keep_alive);
    if request.method == Method::Get {
        response.push_str(&body);
    }
    response.into_bytes()
}

/// The bytes that answer what is no request that can be answered. The connection is to be closed.
pub fn reject(status: Status) -> Vec<u8> {
    let body = status.explanation();
    let mut response = head(status, TEXT, body.len(), false);
    response.push_str(&body);
    response.into_bytes()
}

fn health(health: &Health) -> (Status, &'static str, String) {
    match health {
        Health::Ready { role, is_full: false } => (Status::Ok, TEXT, format!("{role}\n")),
        Health::Ready { role, is_full: true } => (Status::Ok, TEXT, format!("{role}\n{FULL}\n")),
        Health::Forming { waiting_for } => (Status::Ok, TEXT, format!("forming\n{waiting_for}\n")),
        Health::Unavailable { reason } => (Status::Unavailable, TEXT, format!("{reason}\n")),
    }
}

fn json(page: &StatusPage) -> String {
    // Only maps with keys that are no strings, and types with a failing `Serialize` of their own,
    // fail here. The page has neither.
    let mut text = serde_json::to_string_pretty(page).expect("plain structs become JSON");
    text.push('\n');
    text
}

fn head(status: Status, content_type: &str, content_len: usize, keep_alive: bool) -> String {
    let line = status.line();
    let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    format!(
        "HTTP/1.1 {line}\r\n{allow}Content-Type: {content_type}\r\n\
         Content-Length: {content_len}\r\nConnection: {connection}\r\n\r\n"
    )
}
