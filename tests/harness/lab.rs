//! Machines on one network whose cables can be pulled: network namespaces at a switch, which is one as well.

use std::net::IpAddr;
use std::path::Path;

use super::{Namespace, Node};

/// Two bridges: who is on the other one is cut off from the rest.
const BRIDGES: [&str; 2] = ["here", "there"];

pub struct Lab {
    switch: Namespace,
    hosts: Vec<Namespace>,
}

impl Lab {
    /// So many machines, at one switch. `None`, and that said out loud, where the system gives none.
    pub fn new(size: usize) -> Option<Lab> {
        let switch = Namespace::new()?;
        for bridge in BRIDGES {
            switch.ip(&format!("link add {bridge} type bridge mcast_snooping 0"));
            switch.ip(&format!("link set {bridge} up"));
        }
        let mut lab = Lab { switch, hosts: Vec::new() };
        for host in 0..size {
            lab.hosts.push(Namespace::new()?);
            lab.plug_in(host);
        }
        Some(lab)
    }

    fn plug_in(&self, host: usize) {
        let Lab { switch, hosts } = self;
        let there = hosts[host].path();
        switch.ip(&format!("link add port{host} type veth peer name eth0 netns {there}"));
        switch.ip(&format!("link set port{host} master {}", BRIDGES[0]));
        switch.ip(&format!("link set port{host} up"));
        hosts[host].ip(&match address(host) {
            IpAddr::V6(ip) => format!("addr add {ip}/64 dev eth0 nodad"),
            IpAddr::V4(ip) => format!("addr add {ip}/24 dev eth0"),
        });
        hosts[host].ip("link set eth0 up");
    }

    /// A node on that host, not started yet. It listens where it does by default.
    pub fn node(&self, host: usize, name: &str) -> Node {
        Node::on_host(name, &self.hosts[host], address(host))
    }

    /// Cuts these hosts off from the others. Among themselves they are connected.
    pub fn cut(&self, away: &[usize]) {
        self.connect(away, BRIDGES[1]);
    }

    /// Connects all with all again.
    pub fn heal(&self) {
        let all: Vec<usize> = (0..self.hosts.len()).collect();
        self.connect(&all, BRIDGES[0]);
    }

    fn connect(&self, hosts: &[usize], bridge: &str) {
        for host in hosts {
            self.switch.ip(&format!("link set port{host} master {bridge}"));
        }
    }
}

/// IPv6 where there is any.
fn address(host: usize) -> IpAddr {
    let number = host as u16 + 1;
    match Path::new("/proc/net/if_inet6").exists() {
        true => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, number]),
        false => IpAddr::from([10, 77, 0, number as u8]),
    }
}
