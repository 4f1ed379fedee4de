//! The real shell: sockets, disk, threads and clock around the [node]. The only room that knows glommio.
//!
//! One thread, pinned to a core, does all that must be fast: it reads from sockets, turns the node, issues the log's
//! writes and sends. What blocks has `threads` of its own.
//!
//! - `reactor`: the loop. `clients` and `links` feed it, on `pump`s; so do `mesh`, `disk` and the threads' `mailbox`.
//! - `data_dir`: what is read before the reactor starts; `restore`: how it comes to hold a backup.
//! - `door`: what is let in. `debug`: HTTP. `signal`: SIGTERM. `socket`: binding, the right way. `resolve`: names, off the reactor.

mod clients;
mod data_dir;
mod debug;
mod disk;
mod door;
mod links;
mod mailbox;
mod mesh;
mod pump;
mod reactor;
mod resolve;
mod restore;
mod signal;
mod socket;
mod threads;
mod zeros;

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use glommio::{LocalExecutorBuilder, Placement};

use crate::config::{Bootstrap, Cpu, HostPort, Peer, Settings};
use crate::error::{Error, Result};
use crate::limits::{CLIENTS_MAX, DESCRIPTORS_MIN, SEGMENT_LEN};
use crate::log::{Recovery, recover};
use crate::node::{self, Node, Now};
use crate::store::Store;
use crate::store::lmdb::LmdbMap;
use crate::wire::client::Identity;
use crate::wire::log::MemberInfo;

use data_dir::DataDir;
use disk::LogDisk;
use mailbox::Mailbox;
use mesh::Mesh;
use reactor::{News, Reactor};
use socket::{Datagrams, Listener};
use threads::Threads;

/// glommio does not start with less.
const MEMLOCK_MIN: u64 = 512 << 10;

/// Runs a node until it is asked to stop. An error is the reason why it does not start, or cannot go on.
pub fn run(settings: Settings) -> Result<()> {
    let begun = Instant::now();
    for warning in &settings.warnings {
        ::log::warn!("{warning}");
    }
    raise_descriptor_limit();
    check_kernel()?;
    // A port that is taken is no reason to begin a restore.
    let opened = match settings.restore {
        None => Some(DataDir::open(&settings.data_dir)?),
        Some(_) => None,
    };
    let clients = Listener::bind("LISTEN_ADDR", &settings.listen_addr.to_string())?;
    let debug = settings
        .debug_addr
        .as_ref()
        .map(|address| Listener::bind("DEBUG_ADDR", &address.to_string()));
    let debug = debug.transpose()?;
    let gossip = Datagrams::bind(&settings.gossip.bind)?;

    let data_dir = match (opened, &settings.restore) {
        (Some(data_dir), _) => data_dir,
        (None, file) => {
            let file = file.as_deref().expect("it is not opened only to restore");
            let (name, address) = (settings.node_id.clone(), told_address(&settings, &clients));
            let member = MemberInfo { name, address, ..MemberInfo::default() };
            restore::restore(file, &settings.data_dir, member)?
        }
    };
    let log_files = data_dir.log_files()?;
    let generation =
        u32::try_from(data_dir.starts).map_err(|_| Error::Store("too many starts".to_owned()))?;
    let Recovery { contents, torn, log } = recover(&log_files, SEGMENT_LEN, generation)?;
    if let Some(torn) = torn {
        ::log::warn!(
            "the last write to the log was cut short (batch {} at byte {} of {}): it was never acknowledged, and is dropped",
            torn.sequence,
            torn.offset,
            torn.file.display()
        );
    }
    let live_state = contents.state;
    let store = open_store(&data_dir.state_path(&contents)?)?;
    let identity = identity(&settings, &data_dir, &clients)?;
    ::log::info!(
        "phalanx {} starts: node {} (raft id {}), clients and peers at {}, gossip at {} (UDP), HTTP at {}, \
         data in {}, start {}",
        env!("CARGO_PKG_VERSION"),
        identity.name,
        identity.raft_id,
        clients.address,
        gossip.address,
        debug.as_ref().map_or("none".to_owned(), |debug| debug.address.to_string()),
        settings.data_dir.display(),
        identity.starts
    );
    ::log::info!(
        "recovered in {} ms: log to index {}, applied to {} (the rest is applied again)",
        begun.elapsed().as_millis(),
        contents.last_index(),
        store.applied().index
    );
    ::log::info!(
        "timing: a tick is {} ms, heartbeats every {} ms, an election after {} to {} ms",
        settings.tick_ms,
        settings.heartbeat_interval().as_millis(),
        settings.election_timeout().as_millis(),
        settings.election_timeout().as_millis() * 5 / 4
    );

    let recovered = node::RecoveredLog { log, contents };
    let mesh_settings = mesh_settings(&settings, clients.address, gossip.address)?;
    let node_settings = node_settings(&settings, &identity, mesh_settings)?;
    let node = Node::new(node_settings, identity, recovered, store, now(begun))?;
    data_dir.remove_other_states(live_state)?;
    let mailbox = Mailbox::new();
    // Started before the reactor is pinned: a thread inherits the core of the one that starts it.
    let threads = Threads::start(&settings.data_dir, log_files, &mailbox)?;
    signal::watch(mailbox.clone())?;
    let disk = LogDisk::new(data_dir.log_path());
    let mesh = Mesh::new(gossip.sender()?);
    let executor = LocalExecutorBuilder::new(placement(&settings, clients.address.port()))
        .name("reactor")
        .make()
        .map_err(|e| no_reactor(&settings, &e))?;
    executor.run(async move {
        let reactor = Rc::new(Reactor::new(settings, node, begun, mesh, disk, threads));
        serve(&reactor, mailbox, clients, gossip, debug).await
    })
}

async fn serve(
    reactor: &Rc<Reactor>,
    mailbox: Mailbox<News>,
    clients: Listener,
    gossip: Datagrams,
    debug: Option<Listener>,
) -> Result<()> {
    let spawn = |task: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        drop(glommio::spawn_local(task).detach())
    };
    let r = reactor.clone();
    spawn(Box::pin(async move { r.disk.run(&r).await }));
    let r = reactor.clone();
    spawn(Box::pin(async move { r.receive_news(mailbox).await }));
    let r = reactor.clone();
    spawn(Box::pin(async move { r.tick().await }));
    spawn(Box::pin(clients::accept(reactor.clone(), clients.adopt())));
    spawn(Box::pin(clients::sweep(reactor.clone())));
    spawn(Box::pin(links::keep(reactor.clone())));
    spawn(Box::pin(mesh::receive(reactor.clone(), gossip.adopt())));
    mesh::seek(reactor);
    if let Some(debug) = debug {
        spawn(Box::pin(debug::serve(reactor.clone(), debug.adopt())));
    }
    let stopped = reactor.run().await;
    if stopped.is_ok() {
        ::log::info!("stopped");
    }
    stopped
}

fn open_store(dir: &Path) -> Result<Store<LmdbMap>> {
    Store::open(LmdbMap::open(dir)?).map_err(|error| match error {
        Error::Store(what) => Error::Store(format!("{}: {what}", dir.display())),
        other => other,
    })
}

fn node_settings(
    settings: &Settings,
    identity: &Identity,
    mesh: node::MeshSettings,
) -> Result<node::Settings> {
    let peer = |peer: &Peer| node::Peer {
        name: peer.name.clone(),
        address: peer.address.as_ref().map(ToString::to_string),
    };
    Ok(node::Settings {
        replica: crate::replica::Settings {
            raft_id: identity.raft_id,
            nonce: identity.nonce,
            seed: random_u64()?,
            election_ticks: settings.election as u32,
            heartbeat_ticks: settings.heartbeat as u32,
            tick: Duration::from_millis(settings.tick_ms),
            retention: Default::default(),
        },
        expect: settings.expect as u32,
        may_form: settings.bootstrap == Bootstrap::Auto,
        peers: settings.peers.iter().map(peer).collect(),
        policy: crate::replica::membership::Policy {
            target_voters: settings.target_voters,
            dead_after: settings.dead_after,
        },
        max_bytes: settings.max_bytes,
        mesh,
    })
}

/// What the node tells the mesh of itself. Where it cannot tell its own address, the others put in what they see.
fn mesh_settings(
    settings: &Settings,
    clients: SocketAddr,
    gossip: SocketAddr,
) -> Result<node::MeshSettings> {
    let advertised = advertised(settings, clients);
    let told = settings.gossip.advertise_addr.as_ref().and_then(HostPort::ip);
    // Bound to all addresses: at the one where clients come, if that is known.
    let implied = match gossip.ip().is_unspecified() && !clients.ip().is_unspecified() {
        true => clients.ip(),
        false => gossip.ip(),
    };
    Ok(node::MeshSettings {
        gossip: Default::default(),
        address: advertised,
        gossip_address: SocketAddr::new(told.unwrap_or(implied), gossip.port()).to_string(),
        region: settings.gossip.region.clone(),
        seed: random_u64()?,
    })
}

/// Where others reach this node, with a wildcard for the host if it cannot tell.
fn advertised(settings: &Settings, clients: SocketAddr) -> String {
    match &settings.gossip.advertise_addr {
        Some(address) if address.port() == 0 => address.at_port(clients.port()).to_string(),
        Some(address) => address.to_string(),
        None => clients.to_string(),
    }
}

/// What the node tells others of where it is reached, if it can tell.
fn told_address(settings: &Settings, clients: &Listener) -> String {
    let is_told = settings.gossip.advertise_addr.is_some();
    match !is_told && clients.address.ip().is_unspecified() {
        // A wildcard is no address to reach anybody at.
        true => String::new(),
        false => advertised(settings, clients.address),
    }
}

fn identity(settings: &Settings, data_dir: &DataDir, clients: &Listener) -> Result<Identity> {
    Ok(Identity {
        cluster_id: Default::default(),
        raft_id: data_dir.raft_id,
        name: settings.node_id.clone(),
        address: told_address(settings, clients),
        starts: data_dir.starts,
        nonce: random_u64()?,
    })
}

fn now(epoch: Instant) -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { monotonic: epoch.elapsed(), wall_ms: wall.as_millis() as u64 }
}

fn random_u64() -> Result<u64> {
    getrandom::u64()
        .map_err(|e| Error::Environment(format!("the kernel gives no random numbers: {e}")))
}

/// A core for the reactor. Nodes of one machine have different ports, and by them take different cores.
fn placement(settings: &Settings, port: u16) -> Placement {
    match settings.cpu {
        Cpu::Unpinned => Placement::Unbound,
        Cpu::Core(core) => Placement::Fixed(core),
        Cpu::Auto => {
            let Ok(allowed) = rustix::thread::sched_getaffinity(None) else {
                return Placement::Unbound;
            };
            let cores: Vec<usize> =
                (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
            match cores.len() {
                0 => Placement::Unbound,
                count => Placement::Fixed(cores[usize::from(port) % count]),
            }
        }
    }
}

fn no_reactor(settings: &Settings, error: &glommio::GlommioError<()>) -> Error {
    let way_out = match settings.cpu {
        Cpu::Core(core) => {
            format!(" (CPU is {core}: set `auto`, `none`, or a core that this process may use)")
        }
        Cpu::Auto | Cpu::Unpinned => String::new(),
    };
    Error::Environment(format!("the reactor does not start: {error}{way_out}"))
}

/// Each connection takes a descriptor. As many as the kernel gives; what is over the limit is then refused one by one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = (2 * CLIENTS_MAX) as u64;
    let raised = Rlimit {
        current: limit.maximum.map_or(Some(wanted), |most| Some(most.min(wanted))),
        ..limit
    };
    if limit.current.is_some_and(|current| current < wanted)
        && setrlimit(Resource::Nofile, raised).is_err()
    {
        ::log::warn!("the limit of open files stays at {:?}", limit.current);
    }
}

/// Asks the kernel for what the reactor will need: glommio panics where there is no io_uring.
fn check_kernel() -> Result<()> {
    use rustix::process::{Resource, getrlimit};
    let locked = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    if locked < MEMLOCK_MIN {
        return Err(Error::Environment(format!(
            "the limit of locked memory is {} KiB, and io_uring needs {} KiB: raise it (`ulimit -l 8192`, systemd: \
             LimitMEMLOCK=8M, docker: --ulimit memlock=8388608)",
            locked >> 10,
            MEMLOCK_MIN >> 10
        )));
    }
    let descriptors = door::descriptors();
    if descriptors < DESCRIPTORS_MIN {
        return Err(Error::Environment(format!(
            "the limit of open files is {descriptors}, and a node needs {DESCRIPTORS_MIN}, and one more for each client: \
             raise it (`ulimit -n 65536`, systemd: LimitNOFILE=65536, docker: --ulimit nofile=65536)"
        )));
    }
    socket::try_io_uring().map_err(|e| {
        Error::Environment(format!(
            "the kernel refuses io_uring ({e}): Linux 5.8 or newer is needed, with kernel.io_uring_disabled=0; in a \
             container, a seccomp profile that allows it, which that of Docker 25 and newer does not: \
             `docker run --rm phalanx seccomp > seccomp.json`, then `docker run --security-opt seccomp=seccomp.json ...`"
        ))
    })
}
