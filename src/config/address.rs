//! An address as a person writes it: a host and a port. Names are resolved by the shell, off the
//! reactor.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// `host:port`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
///
/// ```
/// use phalanx::config::HostPort;
///
/// let address: HostPort = "[::1]:9000".parse().unwrap();
/// assert_eq!((address.host(), address.port()), ("::1", 9000));
/// assert_eq!(address.to_string(), "[::1]:9000");
/// assert!("localhost".parse::<HostPort>().unwrap_err().contains("write `localhost:PORT`"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// All addresses of the machine, IPv4 and IPv6.
    pub(super) fn any(port: u16) -> HostPort {
        HostPort { host: "::".into(), port }
    }

    /// An IP address, at port 0.
    pub(super) fn of_ip(ip: IpAddr) -> HostPort {
        HostPort { host: ip.to_string(), port: 0 }
    }

    /// As [`FromStr`], with `default_port` where `text` has none.
    pub(super) fn parse_or(text: &str, default_port: u16) -> Result<HostPort, String> {
        let (host, port) = split(text)?;
        match port.is_empty() && !host.is_empty() {
            true => Ok(HostPort { host: host_name(host)?, port: default_port }),
            false => text.parse(),
        }
    }

    /// The same host, at another port.
    pub fn at_port(&self, port: u16) -> HostPort {
        HostPort { host: self.host.clone(), port }
    }

    /// The host as an IP address, if it is no name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether nobody but this machine reaches the host.
    pub(super) fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port. To listen on port 0 is to listen on any free port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for HostPort {
    type Err = String;

    /// The error says what is wrong and how to write it.
    fn from_str(text: &str) -> Result<HostPort, String> {
        let (host, port) = split(text)?;
        if host.is_empty() {
            return Err("the host is missing: write `HOST:PORT` (`[::]:PORT` listens on all \
                        addresses)"
                .into());
        }
        let host = host_name(host)?;
        if port.is_empty() {
            let text = text.trim_end_matches(':');
            return Err(match text.parse::<u16>() {
                Ok(port) => format!("the host is missing: write `HOST:PORT`, as in `[::]:{port}`"),
                Err(_) => format!("the port is missing: write `{text}:PORT`"),
            });
        }
        // A `u16` would also be read from "+80".
        match port.parse() {
            Ok(port_number) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(HostPort { host, port: port_number })
            }
            _ => Err(format!("`{port}` is no port: a port is a number of 0 to 65535")),
        }
    }
}

/// Checks a host, which has lost its brackets.
fn host_name(host: &str) -> Result<String, String> {
    match host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte)) {
        true => Ok(host.to_owned()),
        false => Err(format!("`{host}` is neither a host name nor an IP address")),
    }
}

/// Cuts off the port, which is empty if there is none.
fn split(text: &str) -> Result<(&str, &str), String> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("an IPv6 address goes in brackets, as in `[::1]:9000`".into());
    }
    let Some(bracketed) = text.strip_prefix('[') else {
        return Ok(text.split_once(':').unwrap_or((text, "")));
    };
    match bracketed.split_once(']') {
        Some((host, "")) if host.parse::<Ipv6Addr>().is_ok() => Ok((host, "")),
        Some((host, rest)) if host.parse::<Ipv6Addr>().is_ok() && rest.starts_with(':') => {
            Ok((host, &rest[1..]))
        }
        _ => Err("only an IPv6 address begins with a bracket, as in `[::1]:9000`".into()),
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_alike() {
        for (text, host, port) in [
            ("[::]:9000", "::", 9000),
            ("[fe80::1]:1", "fe80::1", 1),
            ("127.0.0.1:0", "127.0.0.1", 0),
            ("node-1.phalanx_net.svc:65535", "node-1.phalanx_net.svc", 65535),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_port_that_is_not_given_is_the_default_one() {
        for (text, read) in [
            ("node-1", "node-1:7"),
            ("node-1:9", "node-1:9"),
            ("10.0.0.1", "10.0.0.1:7"),
            ("[::1]", "[::1]:7"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(HostPort::parse_or(text, 7).unwrap().to_string(), read);
        }
        for (text, told) in [
            ("", "the host is missing"),
            (":9", "the host is missing"),
            ("::1", "an IPv6 address goes in brackets"),
            ("a b", "`a b` is neither a host name nor an IP address"),
            ("a:b", "`b` is no port"),
        ] {
            let error = HostPort::parse_or(text, 7).unwrap_err();
            assert!(error.starts_with(told), "{text:?} gives {error:?}");
        }
    }

    #[test]
    fn a_loopback_address_is_known_by_its_looks() {
        for host in
            ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"]
        {
            assert!(HostPort::parse_or(host, 1).unwrap().is_loopback(), "{host}");
        }
        for host in ["localhost.example", "0.0.0.0", "[::]", "10.0.0.1", "node-1"] {
            assert!(!HostPort::parse_or(host, 1).unwrap().is_loopback(), "{host}");
        }
    }

    #[test]
    fn what_is_refused_is_told_with_the_way_out() {
        for (text, told) in [
            ("localhost", "the port is missing: write `localhost:PORT`"),
            ("10.0.0.1:", "the port is missing: write `10.0.0.1:PORT`"),
            ("[::1]", "the port is missing: write `[::1]:PORT`"),
            ("[::1]:", "the port is missing: write `[::1]:PORT`"),
            ("", "the host is missing"),
            (":9000", "the host is missing"),
            ("9000", "the host is missing: write `HOST:PORT`, as in `[::]:9000`"),
            ("8080:", "the host is missing: write `HOST:PORT`, as in `[::]:8080`"),
            ("65536", "the port is missing: write `65536:PORT`"),
            ("::1", "an IPv6 address goes in brackets"),
            ("::1:9000", "an IPv6 address goes in brackets"),
            ("[::1:9000", "only an IPv6 address begins with a bracket"),
            ("[::1]9000", "only an IPv6 address begins with a bracket"),
            ("[localhost]:9000", "only an IPv6 address begins with a bracket"),
            ("ho st:9000", "`ho st` is neither a host name nor an IP address"),
            ("a@b:9000", "`a@b` is neither a host name nor an IP address"),
            ("localhost:65536", "`65536` is no port"),
            ("localhost:+80", "`+80` is no port"),
            ("localhost:http", "`http` is no port"),
            ("http://localhost:80", "`//localhost:80` is no port"),
        ] {
            let error = text.parse::<HostPort>().unwrap_err();
            assert!(error.starts_with(told), "{text:?} gives {error:?}");
        }
    }
}
