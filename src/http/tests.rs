//! Requests, whole and in pieces, good and bad, and what they are answered.

use super::*;
use crate::limits::{HTTP_HEAD_LEN_MAX, HTTP_HEADERS_MAX};
use crate::metrics::{Counters, GossipCounters, LatencySummary};

fn page() -> Page {
    let peer = PeerStatus {
        node_id: "node-2".into(),
        raft_id: 1 << 53,
        address: "10.0.0.2:9000".into(),
        voter: true,
        connected: true,
        matched: 41,
    };
    let node = MeshNodePage {
        node_id: "node-3".into(),
        raft_id: 8,
        state: Liveness::Suspect,
        region: "ams".into(),
        address: "10.0.0.3:9000".into(),
        gossip_address: "10.0.0.3:7946".into(),
        version: "0.1.0".into(),
        role: NodeState::Learner,
        rtt_ms: Some(12.5),
        since_ms: 700,
    };
    let mesh = MeshPage {
        nodes: vec![node],
        health: 1,
        counters: GossipCounters { probes: 17, ..GossipCounters::default() },
        seed_lookups_failed: 3,
        datagrams_dropped: 4,
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
        peers: vec![peer],
        kv_size: 5,
        kv_bytes: 500,
        kv_bytes_max: 5000,
        kv_full: false,
        unavailable: String::new(),
        revision: 9,
        version: "0.1.0".into(),
        uptime_ms: 1234,
        mesh,
        counters: Counters { proposals: 11, ..Counters::default() },
        syncs: LatencySummary { count: 2, p50_us: 150, p99_us: 420, max_us: 421 },
        commits: LatencySummary::default(),
    };
    Page { health: Health::Ready { role: NodeState::Leader, is_full: false }, status }
}

/// All steps up to the one that waits or ends the connection, feeding `chunk_len` bytes at a time.
fn steps(bytes: &[u8], chunk_len: usize) -> Vec<Step> {
    let mut connection = Connection::default();
    let mut steps = Vec::new();
    for chunk in bytes.chunks(chunk_len) {
        connection.feed(chunk);
        assert!(connection.pending_len() < HTTP_HEAD_LEN_MAX + chunk_len);
        loop {
            let step = connection.next_step();
            match &step {
                Step::NeedMore => break,
                Step::Reject(_) => {
                    assert_eq!(connection.next_step(), step, "the end is the end");
                    steps.push(step);
                    return steps;
                }
                Step::Request(_) => steps.push(step),
            }
        }
        assert!(connection.pending_len() < HTTP_HEAD_LEN_MAX);
    }
    steps
}

/// The bytes that a client gets for `bytes`, with `page` behind them.
fn transcript_of(page: &Page, bytes: &[u8]) -> String {
    let answers = steps(bytes, bytes.len()).into_iter().flat_map(|step| match step {
        Step::Request(request) => respond(&request, page),
        Step::Reject(status) => reject(status),
        Step::NeedMore => unreachable!("not a step of the list"),
    });
    String::from_utf8(answers.collect()).unwrap()
}

fn transcript(bytes: impl AsRef<[u8]>) -> String {
    transcript_of(&page(), bytes.as_ref())
}

fn request(method: Method, path: &str, keep_alive: bool) -> Step {
    Step::Request(Request { method, path: path.into(), keep_alive })
}

/// Valid requests and bad ones: each is a golden transcript below or a seed of the fuzz test.
const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "HEAD /debug/status?pretty HTTP/1.0\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
    "\r\nGET /nowhere HTTP/1.0\r\n\r\n",
    "POST /health HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\x16\x03\x01 a TLS hello",
];

#[test]
fn health_tells_the_role() {
    assert_eq!(
        transcript("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 7\r\n\
         Connection: keep-alive\r\n\r\nLEADER\n"
    );
}

#[test]
fn health_of_a_node_that_forms_is_full_or_cannot_serve() {
    let mut page = page();
    page.health = Health::Ready { role: NodeState::Leader, is_full: true };
    let full = transcript_of(&page, b"GET /health HTTP/1.0\r\n\r\n");
    let told = "LEADER\nthe store is full: writes that would take it over MAX_BYTES are refused\n";
    assert!(full.starts_with("HTTP/1.1 200 OK") && full.ends_with(told), "{full}");
    page.health = Health::Forming { waiting_for: "waiting for node-2, node-3".into() };
    assert_eq!(
        transcript_of(&page, b"GET /health HTTP/1.0\r\n\r\n"),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 35\r\n\
         Connection: close\r\n\r\nforming\nwaiting for node-2, node-3\n"
    );
    page.health = Health::Unavailable { reason: "no leader".into() };
    assert_eq!(
        transcript_of(&page, b"GET /health HTTP/1.1\r\n\r\n"),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 10\r\nConnection: keep-alive\r\n\r\nno leader\n"
    );
}

#[test]
fn head_gives_the_headers_of_get_alone() {
    for path in ["/", "/health", "/debug/status", "/nowhere"] {
        let get = transcript(format!("GET {path} HTTP/1.1\r\n\r\n"));
        let head = transcript(format!("HEAD {path} HTTP/1.1\r\n\r\n"));
        let (headers, body) = get.split_at(get.find("\r\n\r\n").unwrap() + 4);
        assert_eq!(head, headers);
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    }
}

#[test]
fn the_index_names_every_page() {
    let index = transcript("GET / HTTP/1.1\r\n\r\n");
    assert!(index.starts_with("HTTP/1.1 200 OK\r\n"), "{index}");
    for path in ["/health", "/debug/status"] {
        assert!(index.contains(path), "{index}");
        let page = transcript(format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    }
}

#[test]
fn status_is_json() {
    let response = transcript("GET /debug/status HTTP/1.1\r\n\r\n");
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        head,
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: keep-alive",
            body.len()
        )
    );
    let told: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "node_id": "node-1", "raft_id": 7, "cluster_id": "00ff", "state": "LEADER", "term": 3,
        "leader_id": "node-1", "commit_index": 42, "applied_index": 41, "log_length": 40,
        "log_bytes": 4000, "log_disk_bytes": 33554432,
        "peers": [{
            "node_id": "node-2", "raft_id": 9_007_199_254_740_992_u64, "address": "10.0.0.2:9000",
            "voter": true, "connected": true, "matched": 41,
        }],
        "kv_size": 5, "kv_bytes": 500, "kv_bytes_max": 5000, "kv_full": false, "unavailable": "",
        "revision": 9, "version": "0.1.0", "uptime_ms": 1234,
        "mesh": {
            "nodes": [{
                "node_id": "node-3", "raft_id": 8, "state": "suspect", "region": "ams",
                "address": "10.0.0.3:9000", "gossip_address": "10.0.0.3:7946", "version": "0.1.0",
                "role": "LEARNER", "rtt_ms": 12.5, "since_ms": 700,
            }],
            "health": 1,
            "counters": serde_json::to_value(page().status.mesh.counters).unwrap(),
            "seed_lookups_failed": 3, "datagrams_dropped": 4,
        },
        "counters": {
            "messages_sent": 0, "messages_received": 0, "proposals": 11, "reads": 0,
            "forwarded": 0, "refused": 0, "protocol_errors": 0, "peers_refused": 0, "snapshots_sent": 0,
            "snapshot_bytes_sent": 0, "snapshots_received": 0, "snapshot_bytes_received": 0,
            "snapshots_failed": 0, "major_faults": 0, "ticks_dropped": 0,
        },
        "syncs": { "count": 2, "p50_us": 150, "p99_us": 420, "max_us": 421 },
        "commits": { "count": 0, "p50_us": 0, "p99_us": 0, "max_us": 0 },
    });
    assert_eq!(told, expected);
    assert_eq!(told["mesh"]["counters"]["probes"], 17);
}

#[test]
fn states_are_told_alike_in_json_and_in_text() {
    use NodeState::*;
    let names = [Forming, Follower, Candidate, Leader, Learner].map(|state| {
        assert_eq!(serde_json::to_value(state).unwrap(), state.to_string());
        state.to_string()
    });
    assert_eq!(names, ["FORMING", "FOLLOWER", "CANDIDATE", "LEADER", "LEARNER"]);
}

#[test]
fn an_unknown_path_is_404_and_keeps_the_connection() {
    assert_eq!(
        transcript("GET /nowhere HTTP/1.1\r\n\r\n"),
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 52\r\nConnection: keep-alive\r\n\r\n\
         there is no such page: / lists those that there are\n"
    );
}

#[test]
fn rejections_say_why_and_close() {
    let goldens: [(Status, &str, &str); 7] = [
        (Status::BadRequest, "400 Bad Request", "this is no HTTP request\n"),
        (
            Status::MethodNotAllowed,
            "405 Method Not Allowed\r\nAllow: GET, HEAD",
            "only GET and HEAD are answered here\n",
        ),
        (
            Status::RequestTimeout,
            "408 Request Timeout",
            "the request was not complete within 10 s\n",
        ),
        (Status::ContentTooLarge, "413 Content Too Large", "no page takes a request with a body\n"),
        (
            Status::HeadTooLarge,
            "431 Request Header Fields Too Large",
            "the request line and headers are over 8192 bytes, or there are more than 64 headers\n",
        ),
        (
            Status::Unavailable,
            "503 Service Unavailable",
            "too many connections at once: close some, or retry\n",
        ),
        (
            Status::VersionNotSupported,
            "505 HTTP Version Not Supported",
            "only HTTP/1.0 and HTTP/1.1 are spoken here\n",
        ),
    ];
    for (status, line, body) in goldens {
        let expected = format!(
            "HTTP/1.1 {line}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(String::from_utf8(reject(status)).unwrap(), expected);
    }
}

#[test]
fn what_is_rejected_and_with_what() {
    let rejected: &[(&str, Status)] = &[
        ("\x16\x03\x01\x02", Status::BadRequest),
        ("GET\r\n\r\n", Status::BadRequest),
        ("GET / HTTQ/1.1\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/1.1\r\nContent-Length:\r\n\r\n", Status::BadRequest),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n", Status::ContentTooLarge),
        ("GET / HTTP/1.1\r\ncontent-length: 0\r\nContent-Length: 2\r\n\r\n", {
            Status::ContentTooLarge
        }),
        ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", {
            Status::ContentTooLarge
        }),
        ("HEAD / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", Status::ContentTooLarge),
        ("POST /health HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Status::MethodNotAllowed),
        ("get / HTTP/1.1\r\n\r\n", Status::MethodNotAllowed),
        ("GET / HTTP/2.0\r\n\r\n", Status::VersionNotSupported),
        ("GET / HTTP/0.9\r\n\r\n", Status::VersionNotSupported),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Status::VersionNotSupported),
    ];
    for (bytes, status) in rejected {
        assert_eq!(steps(bytes.as_bytes(), bytes.len()), [Step::Reject(*status)], "{bytes:?}");
    }
}

#[test]
fn keep_alive_is_as_each_version_defines_it() {
    for (version, header, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "connection: Upgrade, CLOSE\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
    ] {
        let bytes = format!("GET /a HTTP/{version}\r\n{header}\r\n");
        assert_eq!(
            steps(bytes.as_bytes(), bytes.len()),
            [request(Method::Get, "/a", expected)],
            "{bytes:?}"
        );
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_up_to_the_last() {
    let bytes = "GET /a HTTP/1.1\r\n\r\nHEAD /b?q HTTP/1.1\r\n\r\n\
                 GET /c HTTP/1.1\r\nConnection: close\r\n\r\nGET /d HTTP/1.1\r\n\r\n";
    let expected = [
        request(Method::Get, "/a", true),
        request(Method::Head, "/b", true),
        request(Method::Get, "/c", false),
    ];
    assert_eq!(steps(bytes.as_bytes(), bytes.len()), expected);
}

#[test]
fn heads_at_and_over_the_limits() {
    let head = |padding: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(padding));
    let fits = head(HTTP_HEAD_LEN_MAX - head(0).len());
    let over = head(HTTP_HEAD_LEN_MAX - head(0).len() + 1);
    let lines = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: a\r\n".repeat(count));
    for (bytes, expected) in [
        (fits, request(Method::Get, "/", true)),
        (over, Step::Reject(Status::HeadTooLarge)),
        ("G".repeat(HTTP_HEAD_LEN_MAX), Step::Reject(Status::HeadTooLarge)),
        (lines(HTTP_HEADERS_MAX), request(Method::Get, "/", true)),
        (lines(HTTP_HEADERS_MAX + 1), Step::Reject(Status::HeadTooLarge)),
    ] {
        for chunk_len in [1, 1000, bytes.len()] {
            assert_eq!(steps(bytes.as_bytes(), chunk_len), std::slice::from_ref(&expected));
        }
    }
}

#[test]
fn an_idle_connection_holds_nothing() {
    let mut connection = Connection::default();
    connection.feed(b"GET / HTTP/1.1\r\n\r\nGET");
    assert_eq!(connection.next_step(), request(Method::Get, "/", true));
    assert_eq!(connection.next_step(), Step::NeedMore);
    assert_eq!(connection.pending_len(), 3);
    connection.feed(b" / HTTP/1.1\r\n\r\n");
    assert_eq!(connection.next_step(), request(Method::Get, "/", true));
    assert_eq!(connection.pending_len(), 0);
}

#[test]
#[should_panic(expected = "fed before all steps were taken")]
fn feeding_without_taking_steps_is_a_mistake() {
    let mut connection = Connection::default();
    for _ in 0..=HTTP_HEAD_LEN_MAX {
        connection.feed(b"GET / HTTP/1.1\r\n\r\n");
    }
}

/// Valid requests with bytes changed, taken out, put in or repeated; or random ones alone.
fn mutated(rng: &mut fastrand::Rng) -> Vec<u8> {
    if rng.u32(0..10) == 0 {
        return (0..rng.usize(1..200)).map(|_| rng.u8(..)).collect();
    }
    let mut bytes: Vec<u8> =
        (0..rng.usize(1..5)).flat_map(|_| rng.choice(REQUESTS).unwrap().bytes()).collect();
    for _ in 0..rng.usize(0..4) {
        let at = rng.usize(0..bytes.len());
        match rng.u32(0..5) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes.insert(at, *rng.choice(b" \r\n:/?,\0\xff").unwrap()),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            3 => bytes.truncate(at + 1),
            _ => {
                let count = rng.usize(1..2 * HTTP_HEAD_LEN_MAX);
                let repeated = bytes[at];
                bytes.splice(at..at, std::iter::repeat_n(repeated, count));
            }
        }
    }
    bytes
}

#[test]
fn any_bytes_in_any_cut_give_the_same_steps() {
    for seed in 0..3000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let bytes = mutated(&mut rng);
        let whole = steps(&bytes, bytes.len());
        let chunk_len = rng.usize(1..=bytes.len().min(50));
        assert_eq!(steps(&bytes, chunk_len), whole, "seed {seed}, {chunk_len} bytes at a time");
        if bytes.len() < 1000 {
            assert_eq!(steps(&bytes, 1), whole, "seed {seed}, byte by byte");
        }
    }
}
