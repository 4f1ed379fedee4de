//! One server process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use phalanx::client::{Client, Options};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    ELECTION, HEARTBEAT, Namespace, SOON, TICK_MS, free_port, free_udp_port, http, wait_for,
    wait_until,
};

/// Where a node listens if it is told nothing: for clients and peers, for HTTP, for gossip.
const DEFAULT_PORTS: [u16; 3] = [9000, 8080, 7946];

/// How much of its log a node prints when its test fails.
const LOG_TAIL_LEN: u64 = 6000;

/// How a process ended, and how long after it was asked to.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    pub took: Duration,
}

/// A node: its settings, its data directory, and its process while it runs.
pub struct Node {
    pub name: String,
    /// For clients and peers, as `host:port`.
    pub address: String,
    /// For HTTP, as `host:port`.
    pub debug_address: String,
    /// For gossip, a UDP port of its own: no two tests' nodes meet by chance.
    pub gossip_port: u16,
    /// Where it runs, if not in the network of the tests.
    pub namespace: Option<Namespace>,
    env: BTreeMap<String, String>,
    /// Holds the data directory and the log of the process; removed when the node is dropped.
    dir: TempDir,
    process: Option<Child>,
}

impl Node {
    /// A node on free ports with an empty data directory, not started yet. It is on the disk of the
    /// build directory: /tmp may be memory.
    pub fn new(name: &str) -> Node {
        let dir = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("the build directory can be written");
        let mut node = Node {
            name: name.to_owned(),
            address: format!("127.0.0.1:{}", free_port()),
            debug_address: format!("127.0.0.1:{}", free_port()),
            gossip_port: free_udp_port(),
            namespace: None,
            env: BTreeMap::new(),
            dir,
            process: None,
        };
        let data_dir = node.data_dir();
        let (address, debug_address) = (node.address.clone(), node.debug_address.clone());
        let gossip_port = node.gossip_port;
        node.set("NODE_ID", name)
            .set("DATA_DIR", data_dir.display())
            .set("LISTEN_ADDR", address)
            .set("DEBUG_ADDR", debug_address)
            .set("BIND_PORT", gossip_port)
            .set("TICK_MS", TICK_MS)
            .set("ELECTION", ELECTION)
            .set("HEARTBEAT", HEARTBEAT);
        node
    }

    /// A node by itself, started and ready to serve.
    pub fn start_single(name: &str) -> Node {
        let mut node = Node::new(name);
        node.start();
        node.wait_ready();
        node
    }

    /// A node in a network of its own, where it is known under `ip`. It listens where it does by default.
    pub fn on_host(name: &str, namespace: &Namespace, ip: IpAddr) -> Node {
        let mut node = Node::new(name);
        let [address, debug_address, _] = DEFAULT_PORTS.map(|port| SocketAddr::new(ip, port));
        (node.address, node.debug_address) = (address.to_string(), debug_address.to_string());
        node.gossip_port = DEFAULT_PORTS[2];
        node.namespace = Some(namespace.clone());
        for variable in ["LISTEN_ADDR", "DEBUG_ADDR", "BIND_PORT"] {
            node.env.remove(variable);
        }
        node
    }

    /// Sets an environment variable, from the next start on.
    pub fn set(&mut self, variable: &str, value: impl ToString) -> &mut Node {
        self.env.insert(variable.to_owned(), value.to_string());
        self
    }

    /// Takes other ports, from the next start on.
    pub fn move_house(&mut self) {
        self.address = format!("127.0.0.1:{}", free_port());
        self.gossip_port = free_udp_port();
        let (address, gossip_port) = (self.address.clone(), self.gossip_port);
        self.set("LISTEN_ADDR", address).set("BIND_PORT", gossip_port);
    }

    /// For the datagrams of gossip, as `ip:port`.
    pub fn gossip_address(&self) -> SocketAddr {
        let mut address: SocketAddr = self.address.parse().expect("the tests name no hosts");
        address.set_port(self.gossip_port);
        address
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the process wrote to its standard error, over all its starts.
    pub fn log_path(&self) -> PathBuf {
        self.dir.path().join("node.log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    // ---- The process. ----

    /// Starts the process. Does not wait for anything.
    pub fn start(&mut self) {
        let command = self.command();
        self.spawn(command);
    }

    /// The command that starts this node, for tests that start it in a way of their own (see [`Node::spawn`]).
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phalanx-server"));
        command.env_clear().envs(&self.env);
        command
    }

    /// Runs `command` as this node's process, its output going to the log.
    pub fn spawn(&mut self, mut command: Command) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("the log can be written");
        let command = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be had"))
            .stderr(log);
        let child = self.inside(|| command.spawn()).expect("the server can be started");
        self.process = Some(child);
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub fn pid(&self) -> Pid {
        let child = self.process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name));
        Pid::from_child(child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a child can be signalled");
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Waits until the process ends by itself.
    pub fn wait_exit(&mut self, deadline: Duration) -> Exit {
        let started = Instant::now();
        let child = self.process.as_mut().unwrap_or_else(|| panic!("{} does not run", self.name));
        let status = wait_for(&format!("{} ends", self.name), deadline, || {
            child.try_wait().expect("a child can be waited for")
        });
        self.process = None;
        Exit { status, took: started.elapsed() }
    }

    /// Whether the process has ended by itself. It is to be waited for still.
    pub fn has_ended(&mut self) -> bool {
        let ended = |child: &mut Child| child.try_wait().expect("a child can be waited for");
        self.process.as_mut().and_then(ended).is_some()
    }

    /// SIGTERM, and waits until the process has ended.
    pub fn terminate(&mut self) -> Exit {
        self.signal(Signal::TERM);
        self.wait_exit(SOON)
    }

    /// kill -9 and start again, on the same data directory and ports.
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    // ---- What it tells. ----

    /// `/health`: the code and the body. `None` if the node does not answer.
    pub fn health(&self) -> Option<(u16, String)> {
        self.inside(|| http::get(&self.debug_address, "/health")).ok()
    }

    /// `/debug/status`. `None` if the node does not answer.
    pub fn status(&self) -> Option<Value> {
        let (code, body) = self.inside(|| http::get(&self.debug_address, "/debug/status")).ok()?;
        assert_eq!(code, 200, "{body}");
        Some(serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e} in {body}")))
    }

    /// `/debug/status` of a node that runs: waits for it, for a busy machine may take longer than one question does.
    pub fn page(&self) -> Value {
        wait_for(&format!("the page of {}", self.name), SOON, || self.status())
    }

    /// `/health` of a node that runs, in the same way.
    pub fn health_page(&self) -> (u16, String) {
        wait_for(&format!("the health of {}", self.name), SOON, || self.health())
    }

    /// A text of `/debug/status`; empty if the node does not answer.
    pub fn status_text(&self, field: &str) -> String {
        let status = self.status().unwrap_or_default();
        status[field].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the node has a leader, or is it, of a cluster that is formed.
    pub fn is_ready(&self) -> bool {
        self.health().is_some_and(|(code, body)| code == 200 && !body.contains("forming"))
    }

    pub fn wait_ready(&self) {
        wait_until(&format!("{} is ready", self.name), SOON, || self.is_ready());
    }

    /// Waits until the log tells of `what`.
    pub fn wait_log(&self, what: &str) {
        wait_until(&format!("{} logs {what:?}", self.name), SOON, || self.log().contains(what));
    }

    /// A client of this node alone.
    pub fn client(&self, timeout: Duration) -> Client {
        let connect = || Client::connect([self.address.clone()], Options::within(timeout));
        self.inside(connect).expect("it is an address")
    }

    /// Runs the command line against this node.
    pub fn phalanx(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phalanx"));
        let command = command.args(args).args(["-addr", &self.address]);
        self.inside(|| command.output()).expect("the command line can be started")
    }

    /// Does something in the network that the node is in.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.namespace {
            Some(namespace) => namespace.enter(work),
            None => work(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- the end of the log of {} ----\n{}", self.name, tail(&self.log_path()));
        }
    }
}

fn tail(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else { return String::new() };
    let len = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL_LEN)));
    let _ = file.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
