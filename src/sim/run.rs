//! One run: what a seed determines from its first event to its last.
//!
//! 1. A cluster is formed, in quiet weather, or amid the trouble.
//! 2. Trouble, as the [scenario](super::scenario) has it, while clients write and read. Whatever happens, nothing that was
//!    promised may be broken: the [checkers](super::checkers) look on.
//! 3. Calm. Nothing goes wrong any more, and within [`CALM_MAX`] all machines must be back, have one leader and the same
//!    state, have answered everybody, and see each other. Whose state was marred has noticed by then.
//! 4. The accounts are settled: what the clients were told, against what is there, and their history before the judge.

use std::time::Duration;

use super::backups::Backups;
use super::checkers::{Checker, Failure, accounts, calm};
use super::clients::Clients;
use super::linearizability::{Verdict, judge};
use super::scenario::Scenario;
use super::tally::Tally;
use super::world::World;

/// How often something may go wrong, and clients act.
const ROUND: Duration = Duration::from_millis(25);
/// For each of the steps from trouble to agreement.
pub const CALM_MAX: Duration = Duration::from_secs(90);

/// What became of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Determines all else.
    pub seed: u64,
    /// What it made of it.
    pub scenario: Scenario,
    /// All that happened, as one number.
    pub trace: u64,
    /// How much time passed in the world.
    pub simulated: Duration,
    /// What happened, in numbers.
    pub tally: Tally,
    /// What happened, in words, if it was asked for.
    pub transcript: Vec<String>,
    /// What was found wrong, if anything was.
    pub failure: Option<Failure>,
}

/// Runs a seed, with a transcript or without.
pub fn run(seed: u64, with_transcript: bool) -> Report {
    let mut rng = fastrand::Rng::with_seed(seed);
    let scenario = Scenario::draw(&mut rng);
    let mut world = scenario.world(rng.u64(..));
    world.transcript = with_transcript.then(Vec::new);
    let mut clients = Clients::new(scenario.clients);
    clients.fill_up = scenario.config.max_bytes > 0;
    let backups = Backups::default();
    let mut run = Run { scenario, world, clients, backups, is_calm: false };
    for phase in [Run::form, Run::suffer, Run::calm_down, Run::settle_accounts] {
        if run.world.failure.is_none() {
            phase(&mut run);
        }
    }
    run.report(seed)
}

struct Run {
    scenario: Scenario,
    world: World,
    clients: Clients,
    backups: Backups,
    /// Machines that are off are started.
    is_calm: bool,
}

impl Run {
    fn form(&mut self) {
        (0..self.scenario.first).for_each(|i| self.world.start(i));
        if self.scenario.forms_in_trouble {
            return;
        }
        self.clients.eagerness = 0.0;
        self.wait("the cluster is formed", World::first_is_settled);
    }

    fn suffer(&mut self) {
        self.clients.eagerness = self.scenario.eagerness;
        self.backups.often = self.scenario.backups;
        self.world.weather = self.scenario.weather.clone();
        let end = self.world.now + self.scenario.trouble;
        while self.world.now < end && self.world.failure.is_none() {
            self.scenario.faults.strike(&mut self.world);
            self.act();
        }
    }

    fn calm_down(&mut self) {
        self.clients.eagerness = 0.0;
        self.backups.often = 0.0;
        self.world.end_trouble();
        self.is_calm = true;
        self.wait("all machines are back and have applied the same", |world| {
            (0..world.machines.len()).all(|i| world.machines[i].process.is_some())
                && world.is_settled()
        });
        let deadline = self.world.now + CALM_MAX;
        while !self.clients.are_idle() && self.world.failure.is_none() {
            self.round();
            self.time_out(deadline, "every write is answered");
        }
        self.wait_for(Checker::Quarantine, "whose state differs has noticed", |world| {
            world.machines.iter().all(|machine| !machine.is_marred)
        });
        if self.world.is_meshed {
            self.wait_for(Checker::Convergence, "all are alive to all", calm::is_converged);
        }
    }

    fn settle_accounts(&mut self) {
        self.wait("all machines have applied the same", World::is_settled);
        let deadline = self.world.now + CALM_MAX;
        while self.world.failure.is_none() {
            match calm::maps_agree(&self.world) {
                Ok(true) => break,
                Ok(false) => self.round(),
                Err(what) => self.world.fail(Checker::EqualStates, what),
            }
            self.time_out(deadline, "all is committed");
        }
        if self.world.failure.is_some() {
            return;
        }
        self.clients.take_answers(&mut self.world);
        let found = accounts::check(&self.clients, &self.world);
        self.world.check(Checker::ExactlyOnce, found);
        match judge(&self.clients.history) {
            Verdict::Linearizable => {}
            Verdict::Violated(violation) => {
                let what = violation.explain(&self.clients.history);
                self.world.fail(Checker::Linearizability, what);
            }
            Verdict::Unknown(_) => self.world.tally.unknown += 1,
        }
    }

    /// A round without trouble.
    fn round(&mut self) {
        if self.is_calm {
            self.world.bring_back();
        }
        self.act();
    }

    /// Clients and operators do something, and a while passes.
    fn act(&mut self) {
        self.backups.act(&mut self.world, &self.clients);
        self.clients.act(&mut self.world);
        self.world.run_for(ROUND);
    }

    fn wait(&mut self, what: &str, done: impl Fn(&World) -> bool) {
        self.wait_for(Checker::Liveness, what, done);
    }

    fn wait_for(&mut self, checker: Checker, what: &str, done: impl Fn(&World) -> bool) {
        let deadline = self.world.now + CALM_MAX;
        while self.world.failure.is_none() && !done(&self.world) {
            self.round();
            if self.world.now >= deadline {
                let what = format!("not within {CALM_MAX:?}: {what}\n{}", self.world.summary());
                self.world.fail(checker, what);
            }
        }
    }

    fn time_out(&mut self, deadline: Duration, what: &str) {
        if self.world.now >= deadline {
            let what = format!("not within {CALM_MAX:?}: {what}\n{}", self.world.summary());
            self.world.fail(Checker::Liveness, what);
        }
    }

    fn report(self, seed: u64) -> Report {
        let Run { scenario, world, clients, backups, .. } = self;
        let World { trace, now, transcript, failure, chunks_sent, mut tally, .. } = world;
        tally.chunks = chunks_sent.len() as u64;
        tally.writes = clients.acknowledged() as u64;
        tally.reads = clients.reads;
        tally.aged_reads = clients.aged_reads;
        tally.swaps = clients.swaps;
        tally.over_quota = clients.over_quota;
        tally.clearings = clients.clearings;
        tally.backups = backups.taken;
        Report {
            seed,
            scenario,
            trace: trace.value(),
            simulated: now,
            tally,
            transcript: transcript.unwrap_or_default(),
            failure,
        }
    }
}
