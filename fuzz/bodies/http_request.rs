//! Requests on the debug address out of a stream of bytes, however it was cut, and their answers.
//!
//! What must hold:
//! - The same bytes give the same steps, fed at once or in pieces.
//! - A connection holds at most a head more than it was last fed, and nothing after its last step.
//! - Every answer is one response whose length is the one that it announces; HEAD gets no body.
//!
//! An input: a byte for the cuts, the rest is the stream. At its highest bit, the lines end as HTTP's do: each `\n` has a
//! `\r` put in front.

use phalanx::http::{
    Connection, Health, MeshPage, Method, NodeState, Page, Request, Status, StatusPage, Step,
    reject, respond,
};
use phalanx::limits::HTTP_HEAD_LEN_MAX;
use phalanx::metrics::{Counters, GossipCounters, LatencySummary};

use super::input::Input;

const LINES: u8 = 0x80;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.u8();
    let mut stream = input.rest().to_vec();
    if kind & LINES != 0 {
        let ended = stream.split(|&byte| byte == b'\n').collect::<Vec<_>>();
        stream = ended.join(&b"\r\n"[..]);
    }
    let whole = steps(&stream, stream.len().max(1));
    let piece_len = usize::from(kind & !LINES) * 3 + 1;
    assert_eq!(steps(&stream, piece_len), whole, "in pieces of {piece_len} bytes");
    let page = page();
    for step in &whole {
        match step {
            Step::Request(request) => check_answer(request, &page),
            Step::Reject(status) => check_response(&reject(*status), *status, Method::Get, false),
            Step::NeedMore => unreachable!("not a step of the list"),
        }
    }
}

/// All steps up to the one that ends the connection, or needs more bytes than there are.
fn steps(stream: &[u8], piece_len: usize) -> Vec<Step> {
    let mut connection = Connection::default();
    let mut steps = Vec::new();
    for piece in stream.chunks(piece_len) {
        connection.feed(piece);
        assert!(connection.pending_len() < HTTP_HEAD_LEN_MAX + piece_len, "it holds too much");
        loop {
            let step = connection.next_step();
            let is_last = match &step {
                Step::NeedMore => break,
                Step::Request(request) => !request.keep_alive,
                Step::Reject(_) => true,
            };
            steps.push(step);
            if is_last {
                assert_eq!(connection.pending_len(), 0, "it holds what nobody will read");
                return steps;
            }
        }
        assert!(connection.pending_len() < HTTP_HEAD_LEN_MAX, "a head over the limit is awaited");
    }
    steps
}

fn check_answer(request: &Request, page: &Page) {
    let status = match request.path.as_str() {
        "/" | "/health" | "/debug/status" => Status::Ok,
        path => {
            assert!(!path.contains(['?', ' ', '\r', '\n']), "no path: {path:?}");
            Status::NotFound
        }
    };
    check_response(&respond(request, page), status, request.method, request.keep_alive);
}

fn check_response(response: &[u8], status: Status, method: Method, keep_alive: bool) {
    let text = std::str::from_utf8(response).expect("all that is answered is text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head ends with an empty line");
    assert!(head.starts_with(&format!("HTTP/1.1 {}\r\n", status.line())), "{head}");
    let header = |name: &str| {
        let prefix = format!("{name}: ");
        head.lines().find_map(|line| line.strip_prefix(&prefix)).expect("it is in every head")
    };
    assert_eq!(header("Connection"), if keep_alive { "keep-alive" } else { "close" });
    let announced: usize = header("Content-Length").parse().expect("a length is a number");
    assert_eq!(body.len(), if method == Method::Head { 0 } else { announced });
}

fn page() -> Page {
    let mesh = MeshPage {
        nodes: Vec::new(),
        health: 0,
        counters: GossipCounters::default(),
        seed_lookups_failed: 0,
        datagrams_dropped: 0,
    };
    let status = StatusPage {
        node_id: "node-1".into(),
        raft_id: 7,
        cluster_id: "00ff".into(),
        state: NodeState::Leader,
        term: 3,
        leader_id: "node-1".into(),
        commit_index: 42,
        applied_index: 41,
        log_length: 40,
        log_bytes: 4000,
        log_disk_bytes: 32 << 20,
        peers: Vec::new(),
        kv_size: 5,
        kv_bytes: 500,
        kv_bytes_max: 4096,
        kv_full: false,
        unavailable: String::new(),
        revision: 9,
        version: "0.1.0".into(),
        uptime_ms: 1234,
        mesh,
        counters: Counters::default(),
        syncs: LatencySummary::default(),
        commits: LatencySummary::default(),
    };
    Page { health: Health::Ready { role: NodeState::Leader, is_full: false }, status }
}
