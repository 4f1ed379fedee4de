//! From names to addresses, off the reactor.
//!
//! Each lookup has a thread of its own, for a name server that does not answer holds a lookup up for as long as it likes,
//! and must hold up no other. Whoever no longer waits for the answer leaves such a thread behind until it ends: of these and of
//! those that are waited for there are never more than [`LOOKUPS_MAX`].

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use super::mailbox::Mailbox;
use crate::limits::LOOKUPS_MAX;

thread_local! {
    /// Shared with each thread that looks up a name for this one.
    static LOOKUPS: Arc<()> = Arc::default();
}

/// The addresses of `host:port`. An IP address needs no lookup.
pub(super) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let lookup = LOOKUPS.with(Arc::clone);
    if Arc::strong_count(&lookup) > 1 + LOOKUPS_MAX {
        return Err(io::Error::other(format!(
            "{LOOKUPS_MAX} lookups wait for the name server already"
        )));
    }
    let answer = Mailbox::new();
    let (sender, name) = (answer.clone(), address.to_owned());
    std::thread::Builder::new().name("lookup".to_owned()).spawn(move || {
        let answer = name.to_socket_addrs().map(Iterator::collect);
        drop(lookup);
        sender.send(answer);
    })?;
    let mut answers: std::collections::VecDeque<io::Result<Vec<SocketAddr>>> =
        answer.receive().await;
    // `receive` waits until there is one.
    answers.pop_front().unwrap_or_else(|| Ok(Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_are_bounded() {
        let waiting: Vec<Arc<()>> = (0..LOOKUPS_MAX).map(|_| LOOKUPS.with(Arc::clone)).collect();
        let ask = || {
            let executor = glommio::LocalExecutorBuilder::default().make().unwrap();
            executor.run(async { resolve("localhost:1").await })
        };
        assert!(ask().unwrap_err().to_string().ends_with("wait for the name server already"));
        drop(waiting);
        assert!(ask().unwrap()[0].ip().is_loopback());
    }
}
