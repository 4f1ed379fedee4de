//! Bad requests on DEBUG_ADDR. How bytes become answers is tested in the `http` room; here, that a bad client costs no
//! more than its own connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use phalanx::limits::{HTTP_CONNECTIONS_MAX, HTTP_TIMEOUT};
use rustix::process::Signal;

use crate::harness::{Node, SOON};
use crate::is_end;

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(&node.debug_address).expect("the node accepts connections");
    stream.set_read_timeout(Some(SOON)).expect("it is a valid timeout");
    stream
}

/// All that the node says to these bytes until it closes the connection. It may have had enough before the last of them.
fn conversation(node: &Node, bytes: &[u8]) -> String {
    let mut stream = connect(node);
    match stream.write_all(bytes) {
        Err(e) if !is_end(&e) => panic!("the node does not take what it is sent: {e}"),
        _ => rest(stream),
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(e) if !is_end(&e) => panic!("neither an answer nor the end: {e}"),
        _ => String::from_utf8(answer).expect("the node says text"),
    }
}

#[test]
fn a_bad_request_gets_its_status() {
    let node = Node::start_single("http");
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    for (request, status, told) in [
        ("GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n", "404", "/ lists those that there"),
        ("DELETE /health HTTP/1.1\r\n\r\n", "405", "Allow: GET, HEAD"),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "405", "only GET and HEAD"),
        ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "413", "no page takes a request with"),
        ("GET / HTTP/9.9\r\n\r\n", "505", "only HTTP/1.0 and HTTP/1.1"),
        ("\0\0\0\x05hello", "400", "this is no HTTP request"),
        (&huge, "431", "over 8192 bytes"),
        (&many, "431", "more than 64 headers"),
    ] {
        let answer = conversation(&node, request.as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(told), "{answer}");
        assert_eq!(node.health_page().0, 200);
    }
}

#[test]
fn a_slow_request_times_out_while_others_are_answered() {
    let node = Node::start_single("slow");
    let mut dripping = connect(&node);
    dripping.write_all(b"GET /health HTTP/1.1\r\n").unwrap();
    let idle = connect(&node);
    let mut dripper = dripping.try_clone().unwrap();
    // A byte now and then does not prolong it. Writing fails once the node has had enough.
    let drip = std::thread::spawn(move || {
        while dripper.write_all(b"a").is_ok() {
            std::thread::sleep(HTTP_TIMEOUT / 20);
        }
    });
    assert_eq!(node.health_page().0, 200);
    let mut answer = [0; 4096];
    let len = dripping.read(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("not complete within 10 s"), "{answer}");
    assert_eq!(rest(idle), "", "an idle connection is closed without a word");
    drip.join().unwrap();
}

#[test]
fn a_crowd_of_requests_is_bounded() {
    let node = Node::start_single("http-crowd");
    let crowd: Vec<TcpStream> = (0..HTTP_CONNECTIONS_MAX).map(|_| connect(&node)).collect();
    let answer = rest(connect(&node));
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("too many connections"), "{answer}");
    drop(crowd);
    crate::harness::wait_until("there is room again", Duration::from_secs(20), || {
        node.health().is_some_and(|(code, _)| code == 200)
    });
}

#[test]
fn the_command_line_tells_healthy_from_unhealthy() {
    let health = |node: &Node, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phalanx"));
        let command = command.arg("health").args(args).env("DEBUG_ADDR", &node.debug_address);
        let ran = command.output().expect("the command line can be started");
        let text = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        (ran.status.code(), text)
    };
    #[track_caller]
    fn assert_ended(ended: (Option<i32>, String), code: i32, told: &str) {
        assert!(ended.0 == Some(code) && ended.1.contains(told), "{ended:?}");
    }
    let mut node = Node::start_single("health");
    assert_ended(health(&node, &[]), 0, "LEADER");
    assert_ended(health(&node, &["--addr", "h:1"]), 2, "phalanx health HOST:PORT");
    node.signal(Signal::STOP);
    let frozen = health(&node, &["--timeout", "300ms"]);
    node.signal(Signal::CONT);
    assert_ended(frozen, 1, "took too long");
    node.kill();
    // Refused or reset: io_uring keeps the sockets of a killed process for a moment, and connections are made to them.
    assert_ended(health(&node, &[]), 1, &format!("no node answers at {}", node.debug_address));
    assert_ended(health(&node, &["8080"]), 2, "give host:port");
}
