//! From names to addresses, off the reactor.
//!
//! Each lookup has a thread of its own, for a name server that does not answer holds a lookup up for as long as it likes,
//! and must hold up no other. Whoever asks waits for the answer before it asks again, so that there are no more such threads
//! than seeds and links.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use super::mailbox::Mailbox;

/// The addresses of `host:port`. An IP address needs no lookup.
pub(super) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let answer = Mailbox::new();
    let (sender, name) = (answer.clone(), address.to_owned());
    std::thread::Builder::new()
        .name("lookup".to_owned())
        .spawn(move || sender.send(name.to_socket_addrs().map(Iterator::collect)))?;
    let mut answers: std::collections::VecDeque<io::Result<Vec<SocketAddr>>> =
        answer.receive().await;
    // `receive` waits until there is one.
    answers.pop_front().unwrap_or_else(|| Ok(Vec::new()))
}
