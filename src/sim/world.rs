//! A world of machines under one seed: time, the network, the disks and threads of each machine are simulated, the nodes
//! are the real ones. [`World::carry_out`] is the counterpart of the real shell's.
//!
//! Invariant: the same seed and the same calls give the same run.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::machine::{Config, Input, Machine, Process, Tear};
use super::weather::Weather;
use crate::log::{Prepare, prepare};
use crate::node::{ConnectionId, Effects, Token};
use crate::store::mem_map::MemMap;
use crate::store::{Commit, Scan};
use crate::wire::PROTOCOL_VERSION;
use crate::wire::client::{
    Code, Hello, Identity, Op, Put, Request, Response, Role, TransferLeader, Txn, Write, op,
    request, server_frame,
};
use crate::wire::peer::{PeerFrame, peer_frame};

/// What happens to a machine.
enum Event {
    Tick,
    Turn,
    /// Opens the connections that are not up.
    Connect,
    Input(Input),
    Frame(Arc<Identity>, PeerFrame),
    WriteEnds,
    CommitEnds(Commit<MemMap>),
    ScanEnds(Token, Scan<MemMap>),
    SegmentReady(Prepare),
    TransferEnds,
}

struct Scheduled {
    machine: usize,
    /// See [`Machine::life`].
    life: u64,
    event: Event,
}

/// What a client learns.
pub struct Answer {
    pub at: Duration,
    /// See [`World::next_moment`].
    pub moment: u64,
    pub connection: ConnectionId,
    pub id: u64,
    /// `None`: the connection ended first.
    pub response: Option<Response>,
}

pub struct World {
    pub rng: fastrand::Rng,
    pub now: Duration,
    pub weather: Weather,
    pub machines: Vec<Machine>,
    /// Pairs that frames do not pass between, in that direction.
    cuts: BTreeSet<(usize, usize)>,
    events: BTreeMap<(Duration, u64), Scheduled>,
    last_event: u64,
    last_request: u64,
    last_moment: u64,
    answers: Vec<Answer>,
    /// Machines that start are told where the others gossip.
    pub is_meshed: bool,
    /// Writes that one node passed on to another.
    pub forwards: u64,
    /// Chunks of snapshots that were sent: of which snapshot, and their numbers.
    pub chunks_sent: Vec<(u64, u64)>,
    /// What happened, as far as it is told, if it is to be.
    pub transcript: Option<Vec<String>>,
}

const CONNECT_EVERY: Duration = Duration::from_millis(50);
/// An answer may be that late: deadlines are looked at once per tick of TICK_MS.
const ANSWER_LATE_MAX: Duration = Duration::from_millis(210);

impl World {
    /// Machines that are off. All have the same EXPECT: as many as there are.
    pub fn new(seed: u64, size: usize, weather: Weather) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let config = Config { expect: size as u32, ..Config::default() };
        let machines = (0..size).map(|number| Machine::new(number, config, &mut rng)).collect();
        World {
            rng,
            now: Duration::ZERO,
            weather,
            machines,
            cuts: BTreeSet::new(),
            events: BTreeMap::new(),
            last_event: 0,
            last_request: 0,
            last_moment: 0,
            answers: Vec::new(),
            is_meshed: false,
            forwards: 0,
            chunks_sent: Vec::new(),
            transcript: None,
        }
    }

    // ---- What a test does to it. ----

    pub fn start(&mut self, i: usize) {
        self.tell(|world| Some(format!("{} starts", world.machines[i].name)));
        self.machines[i].start(self.now, &mut self.rng);
        self.schedule(i, Duration::ZERO, Event::Turn);
        self.schedule(i, Duration::ZERO, Event::Connect);
        let phase = Duration::from_micros(self.rng.u64(..10_000));
        self.schedule(i, phase, Event::Tick);
        if self.is_meshed {
            self.seed(i);
        }
    }

    pub fn start_all(&mut self) {
        for i in 0..self.machines.len() {
            if self.machines[i].process.is_none() {
                self.start(i);
            }
        }
    }

    pub fn crash(&mut self, i: usize) {
        let tear = [Tear::Lost, Tear::Torn, Tear::Whole][self.rng.usize(..3)];
        self.tell(|world| Some(format!("{} crashes", world.machines[i].name)));
        let opened = self.machines[i].process.as_ref().map(|process| process.links.clone());
        for (to, from) in opened.unwrap_or_default() {
            self.end_inbound(to, from);
        }
        for (connection, id) in self.machines[i].crash(tear, &mut self.rng) {
            self.note_answer(connection, id, None);
        }
        for other in 0..self.machines.len() {
            self.break_link(other, i);
        }
    }

    /// From now on nothing passes from one of `side` to another machine, nor back. Connections stay up, until something
    /// notices, or break.
    pub fn isolate(&mut self, side: &[usize]) {
        let breaks = self.rng.bool();
        for a in 0..self.machines.len() {
            for b in 0..self.machines.len() {
                if side.contains(&a) != side.contains(&b) {
                    self.cut(a, b);
                    if breaks {
                        self.break_link(a, b);
                    }
                }
            }
        }
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Begins in quiet weather with a cluster that is whole.
    pub fn whole(seed: u64, size: usize) -> World {
        let mut world = World::new(seed, size, Weather::fair());
        world.start_all();
        world.run_until("the cluster is formed", World::is_settled);
        world
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    pub fn input(&mut self, i: usize, input: Input) {
        self.schedule(i, Duration::ZERO, Event::Input(input));
    }

    /// An input that comes over the network.
    pub fn deliver(&mut self, i: usize, input: Input) {
        let range = self.weather.frame_us.clone();
        self.schedule_within(i, range, Event::Input(input));
    }

    /// Sends a request to a machine that runs; gives its id.
    pub fn request(
        &mut self,
        i: usize,
        connection: ConnectionId,
        timeout: Duration,
        command: request::Command,
    ) -> u64 {
        self.last_request += 1;
        let id = self.last_request;
        let timeout_ms = timeout.as_millis() as u32;
        let request = Request { id, timeout_ms, command: Some(command) };
        let process = self.machines[i].process.as_mut().expect("a machine that runs");
        process.unanswered.insert((connection, id), self.now + timeout);
        self.input(i, Input::Request(connection, request));
        id
    }

    pub fn address(&self, i: usize) -> String {
        self.machines[i].address()
    }

    /// Sends a write of one key.
    pub fn put(&mut self, i: usize, key: &str, timeout: Duration) -> u64 {
        let put = Put { key: key.to_owned().into(), value: "value".into() };
        let success = vec![Op { op: Some(op::Op::Put(put)) }];
        let request_id = self.rng.u128(..).to_be_bytes().to_vec().into();
        let since = self.node(i).applied_index();
        let write = Write { request_id, since, txn: Some(Txn { success, ..Txn::default() }) };
        self.request(i, 0, timeout, request::Command::Write(write))
    }

    /// Has a machine lead, by an order of an operator.
    pub fn transfer_leader(&mut self, to: usize) {
        let name = self.machines[to].name.clone();
        let order = TransferLeader { name, raft_id: 0 };
        self.request(to, 0, Duration::from_secs(30), request::Command::TransferLeader(order));
        self.run_until("the order is done", |world| world.unanswered(to) == 0);
        self.take_answers();
        assert_eq!(self.leader(), Some(to));
    }

    /// What clients do and learn has each its own moment, in their order: several answers may come at one time.
    pub fn next_moment(&mut self) -> u64 {
        self.last_moment += 1;
        self.last_moment
    }

    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// Lets that much time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Lets time pass until `done`, a minute at most.
    pub fn run_until(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        let deadline = self.now + Duration::from_secs(60);
        while !done(self) {
            assert!(self.now < deadline, "not within a minute: {what}\n{}", self.describe());
            self.step();
        }
    }

    /// Range reads that are with the threads.
    pub fn scans_running(&self) -> usize {
        let is_scan = |event: &&Scheduled| matches!(event.event, Event::ScanEnds(..));
        self.events.values().filter(is_scan).count()
    }

    /// Notes what happens, if there is a transcript and it is of interest.
    pub fn tell(&mut self, what: impl FnOnce(&World) -> Option<String>) {
        if self.transcript.is_some()
            && let Some(what) = what(self)
        {
            let ms = self.now.as_micros() as f64 / 1000.0;
            let lines = self.transcript.as_mut().expect("checked above");
            lines.push(format!("{ms:9.2}  {what}"));
        }
    }

    // ---- How it turns. ----

    fn next_at(&self) -> Option<Duration> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    fn schedule(&mut self, machine: usize, after: Duration, event: Event) {
        self.last_event += 1;
        let life = self.machines[machine].life;
        let at = (self.now + after, self.last_event);
        self.events.insert(at, Scheduled { machine, life, event });
    }

    fn schedule_within(&mut self, machine: usize, range_us: Range<u64>, event: Event) {
        let after = Duration::from_micros(self.rng.u64(range_us));
        self.schedule(machine, after, event);
    }

    fn process(&mut self, i: usize) -> &mut Process {
        self.machines[i].process.as_mut().expect("events of the dead are not delivered")
    }

    /// Lets the next thing happen.
    pub fn step(&mut self) {
        let ((at, _), scheduled) = self.events.pop_first().expect("machines that run tick");
        self.now = at;
        let Scheduled { machine: i, life, event } = scheduled;
        if self.machines[i].process.is_none() || self.machines[i].life != life {
            return;
        }
        match event {
            Event::Tick => {
                self.check_answered(i);
                self.schedule(i, super::machine::TICK / crate::replica::FINE_TICKS, Event::Tick);
                self.post(i, Input::Tick);
            }
            Event::Turn => self.turn(i),
            Event::Connect => self.connect(i),
            Event::Input(input) => self.post(i, input),
            Event::Frame(from, frame) => self.post(i, Input::PeerFrame(from, frame)),
            Event::WriteEnds => {
                let written = self.machines[i].end_write();
                self.tell(|world| super::words::disk(world, i));
                self.post(i, written);
            }
            Event::CommitEnds(commit) => {
                let committed = commit.run().expect("a map in memory commits");
                self.post(i, Input::Committed(committed));
            }
            Event::ScanEnds(token, scan) => {
                let result = scan.run().expect("a map in memory is read");
                self.post(i, Input::Scanned(token, result));
            }
            Event::TransferEnds => self.end_transfer(i),
            Event::SegmentReady(wish) => {
                prepare(&self.machines[i].disk, &wish).expect("a disk in memory has room");
                self.post(i, Input::Prepared(wish.ordinal));
            }
        }
    }

    /// One thread does the jobs of transfers, in their order.
    fn end_transfer(&mut self, i: usize) {
        let process = self.process(i);
        let job = process.jobs.pop_front().expect("it was begun");
        let is_idle = process.jobs.is_empty();
        let mut told = Vec::new();
        process.transfers.run(job, |news| told.push(news)).expect("maps in memory do not fail");
        told.into_iter().for_each(|news| self.post(i, Input::Transfer(news)));
        if !is_idle {
            let range = self.weather.thread_us.clone();
            self.schedule_within(i, range, Event::TransferEnds);
        }
    }

    /// Queues an input, and a turn for all that gather.
    fn post(&mut self, i: usize, input: Input) {
        let process = self.process(i);
        process.inbox.push(input);
        if !std::mem::replace(&mut process.is_awake, true) {
            self.schedule(i, Duration::from_micros(20), Event::Turn);
        }
    }

    fn turn(&mut self, i: usize) {
        let now = self.machines[i].clock(self.now);
        let name = self.machines[i].name.clone();
        let process = self.process(i);
        process.is_awake = false;
        let failed = |error| -> () { panic!("{name} fails: {error}") };
        for input in std::mem::take(&mut process.inbox) {
            process.node.step(now, input).unwrap_or_else(failed);
        }
        let effects = process.node.turn(now).map_err(failed).expect("it panics");
        self.carry_out(i, effects);
        self.note_end(i);
    }

    fn carry_out(&mut self, i: usize, effects: Effects<MemMap>) {
        let Effects {
            replies,
            frames,
            datagrams,
            unlink,
            write,
            prepare,
            commit,
            retired,
            scans,
            transfers,
            identity_changed,
        } = effects;
        if let Some(write) = write {
            let before = self.process(i).writing.replace(write);
            assert!(before.is_none(), "two writes in flight");
            let stalls = self.rng.f64() < self.weather.stall;
            let range = if stalls { &self.weather.stall_us } else { &self.weather.write_us };
            self.schedule_within(i, range.clone(), Event::WriteEnds);
        }
        for (raft_id, frame) in frames {
            self.send(i, raft_id, frame);
        }
        for (to, bytes) in datagrams {
            self.send_datagram(i, to, bytes);
        }
        for raft_id in unlink {
            if let Some(other) = self.index_of(raft_id) {
                self.break_link(i, other);
                self.break_link(other, i);
            }
        }
        for (connection, frame) in replies {
            if let Some(server_frame::Frame::Response(response)) = frame.frame {
                self.reply(i, connection, response);
            }
        }
        let thread_us = self.weather.thread_us.clone();
        if let Some(wish) = prepare {
            self.schedule_within(i, thread_us.clone(), Event::SegmentReady(wish));
        }
        if let Some(commit) = commit {
            self.schedule_within(i, thread_us.clone(), Event::CommitEnds(commit));
        }
        drop(retired);
        for (token, scan) in scans {
            self.schedule_within(i, thread_us.clone(), Event::ScanEnds(token, scan));
        }
        if !transfers.is_empty() {
            let was_idle = self.process(i).jobs.is_empty();
            self.process(i).jobs.extend(transfers);
            if was_idle {
                self.schedule_within(i, thread_us.clone(), Event::TransferEnds);
            }
        }
        if identity_changed {
            for other in 0..self.machines.len() {
                self.break_link(i, other);
            }
        }
    }

    // ---- The network. ----

    fn send(&mut self, from: usize, raft_id: u64, frame: PeerFrame) {
        let to = self.index_of(raft_id);
        let link = to.and_then(|to| Some((to, self.process(from).links.get(&to)?.clone())));
        let Some((to, greeted_as)) = link else {
            return self.post(from, Input::Unsent(raft_id));
        };
        let sender = self.machines[from].raft_id;
        self.machines[from].witness.check_sent(sender, raft_id, &frame);
        if let Some(peer_frame::Frame::Forward(_)) = &frame.frame {
            self.forwards += 1;
        }
        if let Some(peer_frame::Frame::SnapshotPart(part)) = &frame.frame {
            self.chunks_sent.extend(part.chunk.iter().map(|chunk| (part.id, chunk.number)));
        }
        let lost = self.cuts.contains(&(from, to)) || self.rng.f64() < self.weather.loss;
        self.tell(|world| super::words::frame(world, from, to, &frame, lost));
        if !lost && self.machines[to].process.is_some() {
            let range = self.weather.frame_us.clone();
            self.schedule_within(to, range, Event::Frame(greeted_as, frame));
        }
    }

    fn connect(&mut self, i: usize) {
        self.schedule(i, CONNECT_EVERY, Event::Connect);
        for other in 0..self.machines.len() {
            let is_cut = self.cuts.contains(&(i, other)) || self.cuts.contains(&(other, i));
            let is_up = self.process(i).links.contains_key(&other);
            if other == i || is_cut || is_up {
                continue;
            }
            let from = self.process(i).node.identity().clone();
            let Some(process) = &mut self.machines[other].process else { continue };
            let hello = Hello {
                version: PROTOCOL_VERSION,
                role: Role::Peer.into(),
                cluster_id: from.cluster_id.clone(),
                from: Some(from.clone()),
            };
            match process.node.greet(&hello) {
                Ok(welcome) => {
                    let peer = welcome.node.expect("a welcome names the node");
                    match self.process(i).node.admits(&peer) {
                        Ok(()) => {
                            self.process(i).links.insert(other, Arc::new(from));
                            self.post(i, Input::PeerUp(peer));
                        }
                        Err(_) => self.end_inbound(other, Arc::new(from)),
                    }
                }
                Err(refused) if refused.code() == Code::Removed => {
                    self.post(i, Input::Removed(refused.message));
                }
                Err(_) => {}
            }
        }
    }

    /// Ends the connection that one machine has opened to another.
    pub fn break_link(&mut self, from: usize, to: usize) {
        let raft_id = self.machines[to].raft_id;
        let Some(process) = &mut self.machines[from].process else { return };
        if let Some(greeted_as) = process.links.remove(&to) {
            self.post(from, Input::PeerDown(raft_id));
            self.end_inbound(to, greeted_as);
        }
    }

    /// The other end of a connection notices its end.
    fn end_inbound(&mut self, at: usize, opened_by: Arc<Identity>) {
        if self.machines[at].process.is_some() {
            self.post(at, Input::PeerGone(opened_by));
        }
    }

    // ---- Clients. ----

    fn reply(&mut self, i: usize, connection: ConnectionId, response: Response) {
        let id = response.id;
        self.tell(|world| super::words::answer(world, i, &response));
        let expected = self.process(i).unanswered.remove(&(connection, id));
        assert!(expected.is_some(), "{} answers request {id} twice", self.machines[i].name);
        self.note_answer(connection, id, Some(response));
    }

    fn note_answer(&mut self, connection: ConnectionId, id: u64, response: Option<Response>) {
        let (at, moment) = (self.now, self.next_moment());
        self.answers.push(Answer { at, moment, connection, id, response });
    }

    fn check_answered(&mut self, i: usize) {
        let now = self.now;
        for (request, deadline) in &self.process(i).unanswered {
            assert!(now <= *deadline + ANSWER_LATE_MAX, "{request:?} is not answered in time");
        }
    }
}
