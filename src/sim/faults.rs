//! What goes wrong with machines and the network, and how often.
//!
//! Every fault ends: by itself, by the next one of its kind, or when the trouble does ([`World::end_trouble`]). What may
//! not be had at any time is in the [`budget`](super::budget).

use std::time::Duration;

use super::clients::OPERATOR;
use super::machine::{Input, Machine};
use super::weather::Weather;
use super::world::World;
use crate::wire::client::{RemoveMember, TransferLeader, request};

/// How likely each is in one round of 25 ms.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// kill -9: what was written is in the page cache, and comes back.
    pub kill: f64,
    /// What was not synced is lost.
    pub power_cut: f64,
    /// A machine that is off is started.
    pub start: f64,
    /// A process stands still for a while, and goes on.
    pub pause: f64,
    /// Some are cut off from the others, in one direction or both, or what was cut is healed.
    pub partition: f64,
    /// A disk has no room for another segment, or has it again.
    pub full_disk: f64,
    /// A write of the log fails, and the process stops.
    pub failed_disk: f64,
    /// A bit of the log flips while the machine is off.
    pub flipped_bit: f64,
    /// What the map says of its rows is changed while the machine is off, and only the others can tell.
    pub marred_state: f64,
    /// A machine comes back with an empty disk.
    pub lost_disk: f64,
    /// The wall clock jumps.
    pub clock_jump: f64,
    /// The operator removes a member, or has another lead.
    pub order: f64,
}

impl Faults {
    /// Draws each: rare, frequent, or none at all, so that runs differ in kind and not only in order.
    pub fn draw(rng: &mut fastrand::Rng) -> Faults {
        let mut often = |usual: f64| [0.0, 0.0, usual, 4.0 * usual][rng.usize(..4)];
        Faults {
            kill: often(0.006),
            power_cut: often(0.004),
            pause: often(0.004),
            partition: often(0.01),
            full_disk: often(0.004),
            failed_disk: often(0.002),
            flipped_bit: often(0.004),
            lost_disk: often(0.004),
            clock_jump: often(0.01),
            order: often(0.004),
            start: [0.02, 0.1, 0.5][rng.usize(..3)],
            ..Faults::default()
        }
    }

    /// A round of it.
    pub fn strike(&self, world: &mut World) {
        let i = world.rng.usize(..world.machines.len());
        let mut strikes = |often: f64| often > 0.0 && world.rng.f64() < often;
        let [kill, power_cut, pause, full, failed] =
            [self.kill, self.power_cut, self.pause, self.full_disk, self.failed_disk]
                .map(&mut strikes);
        let [start, flip, lose, jump, order, partition] = [
            self.start,
            self.flipped_bit,
            self.lost_disk,
            self.clock_jump,
            self.order,
            self.partition,
        ]
        .map(&mut strikes);
        match world.machines[i].process.is_some() {
            true if kill => world.kill(i),
            true if power_cut => world.cut_power(i),
            true if pause => world.pause(i),
            true if failed => world.fail_disk(i),
            true => {}
            false if lose && world.may_lose(i) => world.replace(i),
            false => {
                if flip && world.may_lose(i) {
                    world.flip_bit(i);
                }
                let mars = self.marred_state > 0.0 && world.rng.f64() < self.marred_state;
                // One at a time: learners that are marred too would vote before anybody compares their states.
                let all_sound = world.machines.iter().all(Machine::has_sound_disk);
                if mars && all_sound && world.may_lose(i) {
                    world.mar(i);
                }
                if start {
                    world.restart(i);
                }
            }
        }
        if full {
            world.fill_or_free_disk(i);
        }
        if jump {
            world.jump_clock(i);
        }
        if order {
            world.order_something();
        }
        if partition {
            world.partition_somehow(i);
        }
    }
}

impl World {
    /// kill -9.
    pub fn kill(&mut self, i: usize) {
        self.tally.crashes += 1;
        self.crash(i);
    }

    /// The machine loses its power.
    pub fn cut_power(&mut self, i: usize) {
        self.tally.power_cuts += 1;
        self.crash(i);
        let density = [0.0, 0.0, 0.5][self.rng.usize(..3)];
        let World { machines, rng, .. } = self;
        machines[i].disk.power_cut(|| rng.f64() < density);
    }

    /// The machine stops, in one of the two ways.
    pub(super) fn stop(&mut self, i: usize) {
        match self.rng.bool() {
            true => self.kill(i),
            false => self.cut_power(i),
        }
    }

    /// The process stands still.
    fn pause(&mut self, i: usize) {
        if self.machines[i].paused_until > self.now {
            return;
        }
        self.tally.pauses += 1;
        let pause = Duration::from_millis(self.rng.u64(50..4000));
        self.tell(|world| Some(format!("{} stands still for {pause:?}", world.machines[i].name)));
        self.machines[i].paused_until = self.now + pause;
        self.forgive(i, pause);
    }

    /// The disk does not do what it is told; the process stops, as the real one does. What the write left is not known.
    fn fail_disk(&mut self, i: usize) {
        if self.process(i).writing.is_some() {
            self.tally.failed_disks += 1;
            self.crash(i);
        }
    }

    fn fill_or_free_disk(&mut self, i: usize) {
        let is_full = self.machines[i].disk.is_full();
        self.machines[i].disk.set_capacity(if is_full { usize::MAX } else { 0 });
        self.tally.full_disks += u64::from(!is_full);
        self.tell_space(i);
    }

    /// The real shell looks once a second.
    fn tell_space(&mut self, i: usize) {
        if self.machines[i].process.is_some() {
            let is_full = self.machines[i].disk.is_full();
            let space = if is_full { Err("the disk is full".to_owned()) } else { Ok(()) };
            self.input(i, Input::DiskSpace(space));
        }
    }

    /// Of the log of a machine that is off.
    fn flip_bit(&mut self, i: usize) {
        let World { machines, rng, .. } = self;
        if machines[i].has_sound_disk() {
            machines[i].damage = machines[i].disk.flip_some_bit(rng);
            self.tally.flipped_bits += u64::from(machines[i].damage.is_some());
        }
    }

    /// Of the state of a machine that is off.
    fn mar(&mut self, i: usize) {
        let World { machines, rng, .. } = self;
        if machines[i].has_sound_disk() && machines[i].mar(rng) {
            self.tally.marred_states += 1;
            self.tell(|world| Some(format!("the state of {} is marred", world.machines[i].name)));
        }
    }

    /// Puts an empty disk into a machine that is off, and starts it.
    pub(super) fn replace(&mut self, i: usize) {
        self.tally.lost_disks += 1;
        self.machines[i].config.may_form &= !self.could_found(i);
        self.lose_disk(i);
        self.restart(i);
    }

    /// Starts a machine that is off. One whose recovery refuses gets an empty disk, if its disk may be lost by now, and so
    /// does one that was told that it belongs to the cluster no more.
    pub fn restart(&mut self, i: usize) {
        if self.machines[i].ended.is_some() {
            if self.may_lose(i) {
                self.replace(i);
            }
            return;
        }
        // A start may be cut short too.
        let operations = if self.rng.u8(..10) == 0 { self.rng.u32(..8) } else { u32::MAX };
        self.machines[i].disk.stop_after(operations);
        let started = self.try_start(i);
        self.machines[i].disk.stop_after(u32::MAX);
        match started {
            Ok(()) => {
                // Recovery says that it was nowhere where anything is.
                if let Some((file, bit)) = self.machines[i].damage.take() {
                    self.machines[i].disk.flip_bit(&file, bit);
                }
                self.tell_space(i);
            }
            Err(_) if operations < u32::MAX => self.cut_power(i),
            Err(error) if !self.machines[i].has_sound_disk() => {
                self.tally.refused_starts += 1;
                self.tell(|_| Some(error.to_string()));
                if self.may_lose(i) {
                    self.replace(i);
                }
            }
            Err(error) => {
                let what = format!("{} does not start: {error}", self.machines[i].name);
                self.fail(super::checkers::Checker::Recovery, what);
            }
        }
    }

    fn jump_clock(&mut self, i: usize) {
        self.tally.clock_jumps += 1;
        let jump_ms = self.rng.i64(-100_000_000..100_000_000);
        self.machines[i].clock.wall_ahead_ms += jump_ms;
    }

    fn order_something(&mut self) {
        let running = self.running();
        let Some(&at) = running.get(self.rng.usize(..running.len().max(1))) else { return };
        let name = self.machines[self.rng.usize(..self.machines.len())].name.clone();
        self.tally.orders += 1;
        let command = match self.rng.bool() {
            true => request::Command::RemoveMember(RemoveMember { name, raft_id: 0 }),
            false => request::Command::TransferLeader(TransferLeader { name, raft_id: 0 }),
        };
        self.request(at, OPERATOR, Duration::from_secs(5), command);
    }

    fn partition_somehow(&mut self, i: usize) {
        self.heal();
        let other = self.rng.usize(..self.machines.len());
        let kind = self.rng.u8(..5);
        self.tally.partitions += u64::from(kind > 0);
        match kind {
            0 => {}
            1 => self.isolate(&[i]),
            2 => self.isolate(&[i, other]),
            3 => self.cut(i, other),
            _ => (0..self.machines.len()).for_each(|to| self.cut(i, to)),
        }
    }

    /// Nothing goes wrong any more: what was cut is whole, disks have room, machines are on.
    pub fn end_trouble(&mut self) {
        self.weather = Weather { in_order: self.weather.in_order, ..Weather::fair() };
        self.heal();
        for i in 0..self.machines.len() {
            self.machines[i].disk.set_capacity(usize::MAX);
            self.tell_space(i);
        }
        self.bring_back();
    }

    /// Starts machines that are off, as an operator does who sees that they are.
    pub fn bring_back(&mut self) {
        for i in 0..self.machines.len() {
            if self.machines[i].process.is_none() {
                self.restart(i);
            }
        }
    }
}
