//! Ports that nobody uses.

use std::collections::HashSet;
use std::net::{TcpListener, UdpSocket};
use std::sync::Mutex;

/// Below the range from which the kernel takes the ports of outgoing connections: a node that is down for a moment
/// must find its port free when it comes back.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// Never given out twice by one process, even while nobody listens on them.
static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A TCP port of 127.0.0.1 that is free now.
pub fn free_port() -> u16 {
    free(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// A UDP port of 127.0.0.1 that is free now.
pub fn free_udp_port() -> u16 {
    free(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok())
}

fn free(is_free: impl Fn(u16) -> bool) -> u16 {
    let mut taken = TAKEN.lock().expect("nothing panics under this lock");
    let taken = taken.get_or_insert_default();
    std::iter::repeat_with(|| fastrand::u16(RANGE))
        .take(1000)
        .find(|port| is_free(*port) && taken.insert(*port))
        .expect("one of a thousand ports is free")
}
