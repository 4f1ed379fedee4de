//! What a seed makes of a run: how many machines, how far apart, under what weather, and what goes wrong.

use std::fmt;
use std::time::Duration;

use super::faults::Faults;
use super::machine::{Config, RETAIN_ALL};
use super::weather::Weather;
use super::world::World;
use crate::log::format::BLOCK_LEN;
use crate::replica::Retention;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Scenario {
    /// All machines.
    pub size: usize,
    /// How many of them the cluster begins with; the others join.
    pub first: usize,
    /// Of all machines.
    pub config: Config,
    /// No round trip takes longer than that, in good weather.
    pub rtt_max: Duration,
    /// The clocks of machines run faster or slower by at most that.
    pub drift_max_ppm: i64,
    /// Whether the machines gossip.
    pub is_meshed: bool,
    /// How many clients there are.
    pub clients: usize,
    /// How often an idle client writes, of its rounds.
    pub eagerness: f64,
    /// How often a backup is begun, where none is under way.
    pub backups: f64,
    /// While there is trouble.
    pub weather: Weather,
    /// While there is trouble.
    pub faults: Faults,
    /// The cluster is formed amid the trouble, and not before it.
    pub forms_in_trouble: bool,
    /// Of the log.
    pub segment_len: usize,
    /// How much of the log stays in memory.
    pub retention: Retention,
    /// How long the trouble lasts.
    pub trouble: Duration,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(rng: &mut fastrand::Rng) -> Scenario {
        let size = [1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7][rng.usize(..13)];
        let forms_in_trouble = rng.u8(..4) == 0;
        // Nodes beyond EXPECT keep a first cluster from being formed, as they are told.
        let joiners =
            if size > 2 && !forms_in_trouble && rng.u8(..3) == 0 { rng.usize(1..=2) } else { 0 };
        let first = size - joiners;
        let rtt_max = Duration::from_millis([1, 1, 20, 100, 300][rng.usize(..5)]);
        let config = Config {
            expect: first as u32,
            dead_after: Duration::from_secs([2, 300][rng.usize(..2)]),
            election_ticks: if rtt_max > Duration::from_millis(100) { 10 } else { 4 },
            remembered_max: [12, 1000][rng.usize(..2)],
            ..Config::default()
        };
        let weather = Weather {
            in_order: rng.u8(..3) > 0,
            breaks: [0.0, 0.001, 0.02][rng.usize(..3)],
            duplicates: [0.0, 0.05][rng.usize(..2)],
            stop_in_turn: [0.0, 0.0005, 0.003][rng.usize(..3)],
            stop_at_turning_points: [0.0, 0.05, 0.3][rng.usize(..3)],
            ..Weather::foul(rng)
        };
        let mut scenario = Scenario {
            size,
            first,
            config,
            rtt_max,
            drift_max_ppm: [0, 500, 20_000][rng.usize(..3)],
            is_meshed: rng.bool(),
            clients: rng.usize(2..=4),
            eagerness: [0.1, 0.3, 0.8][rng.usize(..3)],
            backups: 0.0,
            weather,
            faults: Faults::draw(rng),
            forms_in_trouble,
            retention: Retention { count_max: [20, usize::MAX][rng.usize(..2)], ..RETAIN_ALL },
            segment_len: [16, 64][rng.usize(..2)] * BLOCK_LEN,
            trouble: Duration::from_millis(rng.u64(3_000..9_000)),
        };
        // By a generator of its own: the rest of each seed is as it was.
        scenario.draw_more(&mut fastrand::Rng::with_seed(!rng.clone().u64(..)));
        scenario
    }

    /// What seeds did not have at first.
    fn draw_more(&mut self, rng: &mut fastrand::Rng) {
        self.config.max_bytes = [0, 0, 0, 1_000, 5_000][rng.usize(..5)];
        if self.config.max_bytes > 0 {
            // All that fills a store up may come in one batch.
            self.segment_len = 256 * BLOCK_LEN;
        }
        self.backups = [0.0, 0.02, 0.2][rng.usize(..3)];
        self.faults.marred_state = [0.0, 0.0, 0.004, 0.016][rng.usize(..4)];
    }

    /// The machines of it, all of them off.
    pub fn world(&self, seed: u64) -> World {
        let quiet = Weather { in_order: self.weather.in_order, ..Weather::fair() };
        let mut world = World::new(seed, self.size, quiet);
        world.is_lenient = true;
        world.is_meshed = self.is_meshed;
        for i in 0..self.size {
            // Nodes are set differently: whoever leads is heard.
            let max_bytes = self.config.max_bytes / [1, 4][i % 2];
            let drift_ppm = world.rng.i64(-self.drift_max_ppm..=self.drift_max_ppm);
            let machine = &mut world.machines[i];
            machine.config = Config { may_form: i < self.first, max_bytes, ..self.config };
            machine.clock.drift_ppm = drift_ppm;
            machine.segment_len = self.segment_len;
            machine.retention = self.retention;
            for other in 0..self.size {
                let one_way_us = world.rng.u64(..=self.rtt_max.as_micros() as u64 / 2);
                world.set_one_way(i, other, Duration::from_micros(one_way_us));
            }
        }
        world
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} machines, {} of them at first; round trips up to {:?}; {:.1} s of trouble; MAX_BYTES {}\n{:?}\n{:?}",
            self.size,
            self.first,
            self.rtt_max,
            self.trouble.as_secs_f64(),
            self.config.max_bytes,
            self.weather,
            self.faults,
        )
    }
}
