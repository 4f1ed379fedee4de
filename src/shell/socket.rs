//! Sockets and descriptors, made here and handed to the reactor: the one place of the shell with `unsafe`.
//!
//! glommio's own binds set SO_REUSEPORT, under which a second server on the same port starts without an error and takes
//! part of the connections. These do not.

#![allow(unsafe_code)]

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, Result};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// An address that is still taken then is in use by another process.
const FREE_WITHIN: Duration = Duration::from_secs(3);

/// A bound and listening socket, not yet the reactor's.
pub(super) struct Listener {
    socket: Socket,
    /// Where it listens: with the port that was chosen, if it was asked for any.
    pub address: SocketAddr,
}

impl Listener {
    /// Listens at `host:port`. `[::]` takes IPv4 too; where there is no IPv6, it means `0.0.0.0`.
    ///
    /// Waits a little for an address that is taken: what a killed process had asked of io_uring keeps its sockets open
    /// until the kernel has taken it back, which is after the process is gone.
    pub fn bind(variable: &str, host_port: &str) -> Result<Listener> {
        let action = || format!("listen on {variable}={host_port}");
        let addresses: Vec<SocketAddr> =
            host_port.to_socket_addrs().map_err(|e| Error::io(action(), e))?.collect();
        let deadline = Instant::now() + FREE_WITHIN;
        loop {
            match Listener::bind_now(&addresses) {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => return result.map_err(|e| refused(variable, host_port, e)),
            }
        }
    }

    fn bind_now(addresses: &[SocketAddr]) -> io::Result<Listener> {
        let mut last = io::Error::other("the name has no address");
        for &address in addresses {
            match Listener::listen(address) {
                Ok(listener) => return Ok(listener),
                Err(e) => last = e,
            }
            if address.ip().is_unspecified() && address.is_ipv6() && !has_ipv6() {
                return Listener::listen(SocketAddr::from(([0, 0, 0, 0], address.port())));
            }
        }
        Err(last)
    }

    fn listen(address: SocketAddr) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // For a restart while connections of the process before linger. Two listeners it does not allow.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Listener { socket, address })
    }

    /// Hands the socket to the reactor of this thread.
    pub fn adopt(self) -> glommio::net::TcpListener {
        let descriptor = self.socket.into_raw_fd();
        // SAFETY: the descriptor is open, is a listening TCP socket, and nobody else owns it: `into_raw_fd` gave it up.
        unsafe { glommio::net::TcpListener::from_raw_fd(descriptor) }
    }
}

fn refused(variable: &str, host_port: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::Environment(format!(
            "{variable}={host_port} is taken by another process: stop that one, or choose another port"
        )),
        _ => Error::io(format!("listen on {variable}={host_port}"), error),
    }
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok()
}

/// Locks the open file behind a descriptor of the reactor's, without waiting. The lock lasts as long as the open file,
/// which a write in flight keeps open even after its process was killed.
pub(super) fn lock(file: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: `file` keeps the descriptor open for the length of this call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) };
    rustix::fs::flock(descriptor, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(())
}
