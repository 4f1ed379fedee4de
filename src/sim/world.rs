//! A world of machines under one seed: time, the network, the disks and threads of each machine are simulated, the nodes
//! are the real ones. What stands in for the real shell is in [`turns`](super::turns).
//!
//! Invariant: the same seed and the same calls give the same run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::checkers::witness::Witness;
use super::checkers::{Checker, Failure, Finding, Watch};
use super::machine::{Config, Input, Machine, Process, TICK, Tear};
use super::network::Network;
use super::requests::Answer;
use super::tally::Tally;
use super::trace::Trace;
use super::weather::Weather;
use crate::error::Error;
use crate::log::Prepare;
use crate::node::Token;
use crate::store::mem_map::MemMap;
use crate::store::{Commit, Scan};
use crate::wire::client::Identity;
use crate::wire::peer::PeerFrame;

/// What happens to a machine.
pub(super) enum Event {
    Tick,
    Turn,
    /// Opens the connections that are not up.
    Connect,
    Input(Input),
    /// A frame, on the connection of that number.
    Frame(u64, Arc<Identity>, PeerFrame),
    WriteEnds,
    CommitEnds(Commit<MemMap>),
    ScanEnds(Token, Scan<MemMap>),
    SegmentReady(Prepare),
    /// The first job of the thread of transfers is done.
    TransferEnds,
}

struct Scheduled {
    machine: usize,
    /// See [`Machine::life`].
    life: u64,
    event: Event,
}

/// See the [module](self).
pub struct World {
    /// Where all chance comes from.
    pub rng: fastrand::Rng,
    /// Since the beginning.
    pub now: Duration,
    /// As it is now.
    pub weather: Weather,
    /// All machines, those that are off too.
    pub machines: Vec<Machine>,
    pub(super) network: Network,
    events: BTreeMap<(Duration, u64), Scheduled>,
    last_event: u64,
    pub(super) last_request: u64,
    pub(super) last_moment: u64,
    pub(super) answers: Vec<Answer>,
    /// Machines that start are told where the others gossip.
    pub is_meshed: bool,
    /// Chunks of snapshots that were sent: of which snapshot, and their numbers.
    pub chunks_sent: Vec<(u64, u64)>,
    /// What happened, as far as it is told, if it is to be.
    pub transcript: Option<Vec<String>>,
    /// What happened, as one number.
    pub trace: Trace,
    /// What happened, in numbers.
    pub tally: Tally,
    /// Who looks on.
    pub watch: Watch,
    /// Whether the states of machines are compared: not where a test makes one differ, for the nodes to notice.
    pub compares_states: bool,
    /// The first that was found wrong.
    pub failure: Option<Failure>,
    /// Goes on after a failure, which whoever runs the world looks for; else it panics.
    pub is_lenient: bool,
    /// Disks that were lost: whose they were, and what they had held.
    pub(super) lost: Vec<(u64, Witness)>,
}

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
            network: Network::default(),
            events: BTreeMap::new(),
            last_event: 0,
            last_request: 0,
            last_moment: 0,
            answers: Vec::new(),
            is_meshed: false,
            chunks_sent: Vec::new(),
            transcript: None,
            trace: Trace::default(),
            tally: Tally::default(),
            watch: Watch::default(),
            compares_states: true,
            failure: None,
            is_lenient: false,
            lost: Vec::new(),
        }
    }

    // ---- What is done to it. ----

    /// Starts a machine that is off.
    ///
    /// # Panics
    /// If its recovery refuses.
    pub fn start(&mut self, i: usize) {
        if let Err(error) = self.try_start(i) {
            let name = &self.machines[i].name;
            panic!("{name} does not start: {error}");
        }
    }

    /// Starts a machine that is off, unless its recovery refuses.
    pub fn try_start(&mut self, i: usize) -> Result<(), Error> {
        self.tell(|world| Some(format!("{} starts", world.machines[i].name)));
        let started = self.machines[i].start(self.now, &mut self.rng);
        match started {
            Ok(Ok(durable)) => self.note_durable(i, durable),
            Ok(Err(error)) => return Err(error),
            Err(found) => {
                self.fail(Checker::Recovery, format!("{}: {found}", self.machines[i].name));
                return Ok(());
            }
        }
        self.schedule(i, Duration::ZERO, Event::Turn);
        self.schedule(i, Duration::ZERO, Event::Connect);
        let phase = Duration::from_micros(self.rng.u64(..10_000));
        self.schedule(i, phase, Event::Tick);
        if self.is_meshed {
            self.seed(i);
        }
        Ok(())
    }

    /// Starts all machines that are off.
    pub fn start_all(&mut self) {
        for i in 0..self.machines.len() {
            if self.machines[i].process.is_none() {
                self.start(i);
            }
        }
    }

    /// Kills the process of a machine.
    pub fn crash(&mut self, i: usize) {
        let tear = [Tear::Lost, Tear::Torn, Tear::Whole][self.rng.usize(..3)];
        self.tell(|world| Some(format!("{} crashes", world.machines[i].name)));
        let opened = self.machines[i].process.as_ref().map(|process| process.links.clone());
        for (to, link) in opened.unwrap_or_default() {
            self.end(to, link);
        }
        for (connection, id) in self.machines[i].crash(tear, &mut self.rng) {
            self.note_answer(connection, id, None);
        }
        for other in 0..self.machines.len() {
            self.break_link(other, i);
        }
    }

    /// Takes the disk of a machine that is off.
    pub fn lose_disk(&mut self, i: usize) {
        self.tell(|world| Some(format!("{} loses its disk", world.machines[i].name)));
        let machine = &mut self.machines[i];
        self.lost.push((machine.raft_id, std::mem::take(&mut machine.witness)));
        machine.lose_disk(&mut self.rng);
    }

    /// Begins in quiet weather with a cluster that is whole.
    pub fn whole(seed: u64, size: usize) -> World {
        let mut world = World::new(seed, size, Weather::fair());
        world.start_all();
        world.run_until("the cluster is formed", World::is_settled);
        world
    }

    /// Something happens to a machine that runs.
    pub fn input(&mut self, i: usize, input: Input) {
        self.schedule(i, Duration::ZERO, Event::Input(input));
    }

    /// An input that comes over the network.
    pub fn deliver(&mut self, i: usize, input: Input) {
        let range = self.weather.frame_us.clone();
        self.schedule_within(i, range, Event::Input(input));
    }

    /// Lets that much time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
            if self.failure.is_some() {
                return;
            }
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

    /// What a checker says.
    pub fn check(&mut self, checker: Checker, finding: Finding) {
        if let Err(what) = finding {
            self.fail(checker, what);
        }
    }

    /// Something is wrong.
    ///
    /// # Panics
    /// Unless the world is lenient.
    pub fn fail(&mut self, checker: Checker, what: String) {
        let failure = Failure { checker, at: self.now, what };
        self.tell(|_| Some(failure.to_string()));
        assert!(self.is_lenient, "{failure}");
        self.failure.get_or_insert(failure);
    }

    // ---- How it turns. ----

    fn next_at(&self) -> Option<Duration> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn schedule(&mut self, machine: usize, after: Duration, event: Event) {
        self.last_event += 1;
        let life = self.machines[machine].life;
        let at = (self.now + after, self.last_event);
        self.events.insert(at, Scheduled { machine, life, event });
    }

    pub(super) fn schedule_within(&mut self, machine: usize, range_us: Range<u64>, event: Event) {
        let after = Duration::from_micros(self.rng.u64(range_us));
        self.schedule(machine, after, event);
    }

    pub(super) fn process(&mut self, i: usize) -> &mut Process {
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
        let paused_until = self.machines[i].paused_until;
        if paused_until > at {
            // In the order in which it came.
            return self.schedule(i, paused_until - at, event);
        }
        self.tally.events += 1;
        self.trace.add(at.as_nanos() as u64);
        self.trace.add(i as u64);
        match event {
            Event::Tick => {
                self.check_answered(i);
                let tick = self.machines[i].clock.in_world(TICK / crate::replica::FINE_TICKS);
                self.schedule(i, tick, Event::Tick);
                self.post(i, Input::Tick);
            }
            Event::Turn => self.turn(i),
            Event::Connect => self.connect(i),
            Event::Input(input) => self.post(i, input),
            Event::Frame(link, from, frame) => {
                if !self.is_dead(link) {
                    self.post(i, Input::PeerFrame(from, frame));
                }
            }
            Event::WriteEnds => {
                let (written, durable) = self.machines[i].end_write();
                let is_turning_point = durable.is_turning_point;
                // A state that came from another machine takes the place of the one that was changed.
                self.machines[i].is_marred &=
                    !durable.is_installed || self.node(i).quarantine().is_some();
                self.note_durable(i, durable);
                self.tell(|world| super::words::disk(world, i));
                let often = self.weather.stop_at_turning_points;
                if is_turning_point && often > 0.0 && self.rng.f64() < often {
                    return self.stop(i);
                }
                self.post(i, written);
            }
            Event::CommitEnds(commit) => {
                let has_room = commit.reserve().expect("a map in memory tells");
                let input = match has_room {
                    true => Input::Committed(commit.run().expect("a map in memory commits")),
                    false => Input::CommitPutOff(commit),
                };
                self.post(i, input);
            }
            Event::ScanEnds(token, scan) => {
                let result = scan.run().expect("a map in memory is read");
                self.post(i, Input::Scanned(token, result));
            }
            Event::SegmentReady(wish) => self.prepare(i, wish),
            Event::TransferEnds => self.end_transfer(i),
        }
    }

    /// Queues an input, and a turn for all that gather.
    pub(super) fn post(&mut self, i: usize, input: Input) {
        let process = self.process(i);
        process.inbox.push(input);
        if !std::mem::replace(&mut process.is_awake, true) {
            self.schedule(i, Duration::from_micros(20), Event::Turn);
        }
    }
}
