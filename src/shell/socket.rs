//! Sockets and descriptors, made here and handed to the reactor: the one place of the shell with `unsafe`.
//!
//! glommio's own binds set SO_REUSEPORT, under which a second server on the same port starts without an error and takes
//! part of the connections. These do not.

#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, sendto, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::GossipBind;
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

/// A bound socket for datagrams, not yet the reactor's.
pub(super) struct Datagrams {
    socket: Socket,
    /// Where it is bound: with the port that was taken.
    pub address: SocketAddr,
}

impl Datagrams {
    /// Binds the first free port, really free: no other socket has it. `::` takes IPv4 too; where there is no IPv6, it
    /// means `0.0.0.0`. Waits a little, as [`Listener::bind`] does.
    pub fn bind(bind: &GossipBind) -> Result<Datagrams> {
        let GossipBind { host, .. } = bind;
        let addresses: Vec<SocketAddr> = (host.as_str(), 0)
            .to_socket_addrs()
            .map_err(|e| Error::io(format!("bind BIND_ADDR={host}"), e))?
            .collect();
        let deadline = Instant::now() + FREE_WITHIN;
        loop {
            match Datagrams::bind_now(&addresses, bind.ports.clone()) {
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => return result.map_err(|e| refused_datagrams(bind, e)),
            }
        }
    }

    /// One address after the other; but where the ports are taken the next address is not tried: the nodes of a machine
    /// meet on the first.
    fn bind_now(addresses: &[SocketAddr], ports: RangeInclusive<u16>) -> io::Result<Datagrams> {
        let mut last = io::Error::other("the name has no address");
        for address in addresses {
            let ip = match address.ip() {
                IpAddr::V6(ip) if ip.is_unspecified() && !has_ipv6() => {
                    Ipv4Addr::UNSPECIFIED.into()
                }
                ip => ip,
            };
            for port in ports.clone() {
                match Datagrams::bind_one(SocketAddr::new(ip, port)) {
                    Ok(bound) => return Ok(bound),
                    Err(e) => last = e,
                }
                if last.kind() != io::ErrorKind::AddrInUse {
                    break;
                }
            }
            if last.kind() == io::ErrorKind::AddrInUse {
                break;
            }
        }
        Err(last)
    }

    fn bind_one(address: SocketAddr) -> io::Result<Datagrams> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Datagrams { socket, address })
    }

    /// Another handle to the socket, to send with.
    pub fn sender(&self) -> Result<DatagramSender> {
        let socket = self.socket.try_clone();
        let socket = socket.map_err(|e| Error::io("have a second handle to a socket", e))?;
        Ok(DatagramSender { socket, is_ipv6: self.address.is_ipv6() })
    }

    /// Hands the socket to the reactor of this thread, to receive with.
    pub fn adopt(self) -> glommio::net::UdpSocket {
        let descriptor = self.socket.into_raw_fd();
        // SAFETY: the descriptor is open, is a UDP socket, and nobody else owns it: `into_raw_fd` gave it up.
        unsafe { glommio::net::UdpSocket::from_raw_fd(descriptor) }
    }
}

/// Sends datagrams, at once or not at all.
pub(super) struct DatagramSender {
    socket: Socket,
    is_ipv6: bool,
}

impl DatagramSender {
    /// Whether the kernel took it.
    pub fn send(&self, to: SocketAddr, bytes: &[u8]) -> bool {
        let to = match to {
            SocketAddr::V4(v4) if self.is_ipv6 => {
                SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port()))
            }
            SocketAddr::V6(_) if !self.is_ipv6 => return false,
            to => to,
        };
        // The flag is on this call and not on the socket: io_uring would not wait for what is to be received.
        sendto(&self.socket, bytes, SendFlags::DONTWAIT, &to).is_ok()
    }
}

fn refused_datagrams(GossipBind { host, ports }: &GossipBind, error: io::Error) -> Error {
    let (first, last) = (ports.start(), ports.end());
    match error.kind() {
        io::ErrorKind::AddrInUse if first == last => Error::Environment(format!(
            "BIND_PORT={first} (UDP, for gossip, at {host}) is taken by another process: stop that one, or choose \
             another port"
        )),
        io::ErrorKind::AddrInUse => Error::Environment(format!(
            "the UDP ports {first} to {last} of {host}, for gossip, are all taken: stop one of the processes that have \
             them, or choose a port by BIND_PORT"
        )),
        io::ErrorKind::AddrNotAvailable => Error::Environment(format!(
            "BIND_ADDR={host} is no address of this machine: give one that is, or `[::]` for all of them"
        )),
        _ => {
            Error::io(format!("bind BIND_ADDR={host}, BIND_PORT={first} (UDP, for gossip)"), error)
        }
    }
}

fn refused(variable: &str, host_port: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::Environment(format!(
            "{variable}={host_port} is taken by another process: stop that one, or choose another port"
        )),
        io::ErrorKind::AddrNotAvailable => Error::Environment(format!(
            "{variable}={host_port} is no address of this machine: give one that is, or `[::]:PORT` for all of them"
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

/// Sets up a ring, and drops it at once: an error is what keeps the kernel from giving one.
pub(super) fn try_io_uring() -> io::Result<()> {
    let mut params = rustix::io_uring::io_uring_params::default();
    // SAFETY: `params` asks for nothing beyond the ring, and nothing of it is used.
    unsafe { rustix::io_uring::io_uring_setup(1, &mut params) }?;
    Ok(())
}

/// Ends a connection on which what is sent is not acknowledged for so long. Best effort.
pub(super) fn give_up_after(stream: &impl AsRawFd, timeout: Duration) {
    // SAFETY: `stream` keeps the descriptor open for the length of this call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    if let Err(e) = sockopt::set_tcp_user_timeout(descriptor, timeout_ms) {
        ::log::debug!("no TCP_USER_TIMEOUT: {e}");
    }
}

/// Ends a connection whose other end is gone without a word, though nothing is sent on it. Best effort.
pub(super) fn keep_alive(stream: &impl AsRawFd) {
    // SAFETY: `stream` keeps the descriptor open for the length of this call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let set = sockopt::set_socket_keepalive(descriptor, true)
        .and_then(|()| sockopt::set_tcp_keepidle(descriptor, Duration::from_secs(30)))
        .and_then(|()| sockopt::set_tcp_keepintvl(descriptor, Duration::from_secs(10)))
        .and_then(|()| sockopt::set_tcp_keepcnt(descriptor, 3));
    if let Err(e) = set {
        ::log::debug!("no keep-alive: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(host: &str, ports: RangeInclusive<u16>) -> Result<Datagrams> {
        Datagrams::bind(&GossipBind { host: host.to_owned(), ports })
    }

    #[test]
    fn a_port_that_is_taken_is_passed_over_or_refused() {
        let first = bound("127.0.0.1", 0..=0).unwrap();
        let taken = first.address.port();
        let next = bound("127.0.0.1", taken..=taken.saturating_add(15)).unwrap();
        assert!(next.address.port() > taken, "{} and {}", first.address, next.address);
        let error = bound("127.0.0.1", taken..=taken).map(|it| it.address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("BIND_PORT={taken} (UDP, for gossip")), "{error}");
        // All addresses, with the same port.
        assert!(bound("::", taken..=taken).is_err());
    }

    #[test]
    fn what_is_sent_is_received_whether_it_is_waited_for_or_there() {
        let receiver = bound("127.0.0.1", 0..=0).unwrap();
        let (to, four) = (receiver.address, bound("127.0.0.1", 0..=0).unwrap());
        let six = bound("::", 0..=0).unwrap();
        let senders = [four.sender().unwrap(), six.sender().unwrap()];
        glommio::LocalExecutorBuilder::default().make().unwrap().run(async move {
            let receiver = receiver.adopt();
            let mut buffer = [0; 8];
            for (sender, from) in senders.iter().zip([four.address, six.address]) {
                for sent in [&b""[..], b"one", b"longer than the buffer"] {
                    // The first time it is there; the second, it is waited for by io_uring.
                    for is_waited_for in [false, true] {
                        let send = async {
                            if is_waited_for {
                                glommio::timer::Timer::new(Duration::from_millis(20)).await;
                            }
                            assert!(sender.send(to, sent));
                        };
                        let receive = receiver.recv_from(&mut buffer);
                        let ((), received) = match is_waited_for {
                            true => futures_lite::future::zip(send, receive).await,
                            false => (send.await, receive.await),
                        };
                        let (len, seen) = received.unwrap();
                        assert_eq!(buffer[..len], sent[..sent.len().min(8)]);
                        assert_eq!(seen.port(), from.port());
                    }
                }
            }
        });
    }

    #[test]
    fn an_address_that_the_socket_cannot_reach_is_told() {
        let four = bound("127.0.0.1", 0..=0).unwrap().sender().unwrap();
        assert!(!four.send("[::1]:9".parse().unwrap(), b"one"));
    }
}
