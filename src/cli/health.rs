//! `phalanx health`: what a node says of itself at `/health`, as an exit code: for health checks in places that have no HTTP
//! client.
//!
//! It promises to be done within the timeout, and to say who did not answer, or what.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::json;

use super::args::Health;
use super::output::Output;
use super::{Failure, Result};
use crate::limits::HEALTH_LEN_MAX;

/// Where a node answers HTTP if nothing says so.
const DEBUG_ADDR_DEFAULT: &str = "127.0.0.1:8080";

/// Asks the node at the address of `health`, else at `debug_addr`: what DEBUG_ADDR is in the environment.
pub fn health(
    health: Health,
    debug_addr: Option<String>,
    timeout: Duration,
    out: &mut Output<'_>,
) -> Result<()> {
    let address = health.address.or(debug_addr.filter(|address| !address.is_empty()));
    let address = address.unwrap_or_else(|| DEBUG_ADDR_DEFAULT.to_owned());
    if address == "none" {
        return Err(Failure::Unhealthy(
            "DEBUG_ADDR is none: the node answers no HTTP, and cannot be asked for its health"
                .to_owned(),
        ));
    }
    let silent = |e: io::Error| {
        Failure::Unhealthy(format!(
            "no node answers at {address}: {e}; it is asked where DEBUG_ADDR says, or where you say: phalanx health HOST:PORT"
        ))
    };
    let answer = ask(&candidates(&address)?, Instant::now() + timeout).map_err(silent)?;
    let (is_healthy, says) = read(&answer).ok_or_else(|| {
        Failure::Unhealthy(format!("what answers at {address} is no node of Phalanx"))
    })?;
    if out.json {
        out.line(|| json!({ "healthy": is_healthy, "health": says }), String::new)?;
        return if is_healthy { Ok(()) } else { Err(Failure::NotDone) };
    }
    match is_healthy {
        true => Ok(out.line(|| json!(null), || says.to_owned())?),
        false => Err(Failure::Unhealthy(format!("the node at {address} cannot serve: {says}"))),
    }
}

/// Where to connect to. Who listens on all addresses is on this machine.
fn candidates(address: &str) -> Result<Vec<SocketAddr>> {
    let wrong = |what: String| Failure::Usage(format!("{address}: {what}: give host:port"));
    let resolved = address.to_socket_addrs().map_err(|e| match e.kind() {
        io::ErrorKind::InvalidInput => wrong("this is no address".to_owned()),
        _ => Failure::Unhealthy(format!("{address} cannot be looked up: {e}")),
    })?;
    let loopback: [std::net::IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let own = |socket: SocketAddr| match socket.ip().is_unspecified() {
        true => loopback.map(|ip| SocketAddr::new(ip, socket.port())).to_vec(),
        false => vec![socket],
    };
    Ok(resolved.flat_map(own).collect())
}

/// The answer of the first that can be reached.
fn ask(candidates: &[SocketAddr], deadline: Instant) -> io::Result<Vec<u8>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for candidate in candidates {
        match TcpStream::connect_timeout(candidate, left(deadline)?) {
            Ok(stream) => return exchange(stream, deadline),
            Err(e) => last = e,
        }
    }
    left(deadline)?;
    Err(last)
}

/// Asks, and reads until the node closes the connection, as it does in HTTP/1.0.
fn exchange(mut stream: TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut chunk) {
            Ok(0) if answer.is_empty() => {
                let what = "the connection ended without an answer";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            Ok(0) => return Ok(answer),
            Ok(len) if answer.len() + len <= HEALTH_LEN_MAX => answer.extend(&chunk[..len]),
            Ok(_) => return Err(io::Error::other("it says more than any node")),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(timed_out()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(timed_out()) } else { Ok(left) }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it took too long (--timeout)")
}

/// Whether the node can serve, and what it says. `None` is what no node answers.
fn read(answer: &[u8]) -> Option<(bool, &str)> {
    let (head, body) = std::str::from_utf8(answer).ok()?.split_once("\r\n\r\n")?;
    let mut line = head.lines().next()?.split(' ');
    let is_http = line.next()?.starts_with("HTTP/1.");
    let body = body.trim_end();
    match line.next()? {
        "200" if is_http => Some((true, body)),
        "503" if is_http => Some((false, body)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::client::fake::FakeServer;

    /// What `health` does where a server gives this answer once, and prints.
    fn answered(answer: &'static [u8], json: bool) -> (Result<()>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 24];
            stream.read_exact(&mut asked).unwrap();
            assert_eq!(&asked, b"GET /health HTTP/1.0\r\n\r\n");
            stream.write_all(answer).unwrap();
        });
        let asked = run(Some(&address), None, json);
        server.join().unwrap();
        asked
    }

    fn run(address: Option<&str>, debug_addr: Option<&str>, json: bool) -> (Result<()>, String) {
        let mut printed = Vec::new();
        let mut out = Output::new(&mut printed, json, false);
        let health_args = Health { address: address.map(str::to_owned) };
        let debug_addr = debug_addr.map(str::to_owned);
        let result = health(health_args, debug_addr, Duration::from_secs(5), &mut out);
        out.flush().unwrap();
        drop(out);
        (result, String::from_utf8(printed).unwrap())
    }

    #[track_caller]
    fn assert_unhealthy(result: Result<()>, expected: &str) {
        match result {
            Err(Failure::Unhealthy(what)) => assert!(what.contains(expected), "{what}"),
            other => panic!("{other:?}"),
        }
    }

    const FORMING: &[u8] =
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nforming\nwaits for node-1\n";
    const REFUSED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\r\nno quorum\n";

    #[test]
    fn what_the_node_says_is_printed_if_it_can_serve() {
        let (result, printed) = answered(FORMING, false);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(printed, "forming\nwaits for node-1\n");
        let (result, printed) = answered(FORMING, true);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(printed, "{\"health\":\"forming\\nwaits for node-1\",\"healthy\":true}\n");
    }

    #[test]
    fn what_keeps_it_from_serving_is_the_error() {
        let (result, printed) = answered(REFUSED, false);
        assert_unhealthy(result, "cannot serve: no quorum");
        assert_eq!(printed, "");
        let (result, printed) = answered(REFUSED, true);
        assert!(matches!(result, Err(Failure::NotDone)), "{result:?}");
        assert_eq!(printed, "{\"health\":\"no quorum\",\"healthy\":false}\n");
    }

    #[test]
    fn others_are_no_nodes() {
        for answer in [&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], b"SSH-2.0\r\n\r\n", b"\xff"] {
            assert_unhealthy(answered(answer, false).0, "is no node of Phalanx");
        }
    }

    #[test]
    fn who_ends_before_the_answer_is_not_there() {
        assert_unhealthy(answered(b"", false).0, "the connection ended without an answer");
    }

    #[test]
    fn nobody_is_there() {
        let nobody = FakeServer::nobody();
        assert_unhealthy(run(None, Some(&nobody.address()), false).0, "Connection refused");
        assert_unhealthy(run(None, Some("none"), false).0, "DEBUG_ADDR is none");
    }

    #[test]
    fn all_addresses_are_this_machine() {
        let port_9 = |ip: [u8; 4]| SocketAddr::from((ip, 9));
        assert_eq!(candidates("0.0.0.0:9").unwrap()[0], port_9([127, 0, 0, 1]));
        assert_eq!(candidates("[::]:9").unwrap()[0], port_9([127, 0, 0, 1]));
        assert_eq!(candidates("[::]:9").unwrap()[1], SocketAddr::from((Ipv6Addr::LOCALHOST, 9)));
        assert_eq!(candidates("10.0.0.1:9").unwrap(), [port_9([10, 0, 0, 1])]);
        assert!(matches!(candidates("8080"), Err(Failure::Usage(_))));
    }
}
