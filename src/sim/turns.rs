//! The turns of a machine's node, and its effects carried out: what stands in for the real shell.
//!
//! A machine may stop between any two effects of a turn ([`Weather::stop_in_turn`](super::weather::Weather)): then those
//! before were carried out, and those after never are. The order of effects of different kinds promises nothing, so the
//! write of the log, with which the real shell begins, comes last in every second such turn.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::checkers::Checker;
use super::machine::Input;
use super::world::{Event, World};
use crate::log::{Prepare, is_no_space, prepare};
use crate::node::{ConnectionId, Effects, LogWrite, Token};
use crate::store::mem_map::MemMap;
use crate::store::transfer::Job;
use crate::store::{Commit, Scan};
use crate::wire::client::{ServerFrame, server_frame};
use crate::wire::peer::PeerFrame;

/// A segment for which there was no room is tried again after that.
const PREPARE_AGAIN: Duration = Duration::from_secs(1);

/// One thing that a turn asks for.
enum Effect {
    Write(LogWrite),
    Frame(u64, PeerFrame),
    Datagram(SocketAddr, Bytes),
    Unlink(u64),
    Reply(ConnectionId, ServerFrame),
    Prepare(Prepare),
    Commit(Commit<MemMap>),
    Scan(Token, Scan<MemMap>),
    Transfer(Job<MemMap>),
    ReconnectAll,
}

/// The effects of a turn, in the order in which the real shell carries them out.
fn in_order(effects: Effects<MemMap>) -> Vec<Effect> {
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
        // The network looks by itself.
        targets_changed: _,
    } = effects;
    drop(retired);
    let mut all: Vec<Effect> = write.map(Effect::Write).into_iter().collect();
    all.extend(frames.into_iter().map(|(to, frame)| Effect::Frame(to, frame)));
    all.extend(datagrams.into_iter().map(|(to, bytes)| Effect::Datagram(to, bytes)));
    all.extend(unlink.into_iter().map(Effect::Unlink));
    all.extend(replies.into_iter().map(|(connection, frame)| Effect::Reply(connection, frame)));
    all.extend(prepare.map(Effect::Prepare));
    all.extend(commit.map(Effect::Commit));
    all.extend(scans.into_iter().map(|(token, scan)| Effect::Scan(token, scan)));
    all.extend(transfers.into_iter().map(Effect::Transfer));
    all.extend(identity_changed.then_some(Effect::ReconnectAll));
    all
}

impl World {
    pub(super) fn turn(&mut self, i: usize) {
        let now = self.machines[i].clock.read(self.now);
        let process = self.process(i);
        process.is_awake = false;
        let inbox = std::mem::take(&mut process.inbox);
        let node = &mut process.node;
        let serves_nobody = node.quarantine().is_some();
        let stepped = inbox.into_iter().try_for_each(|input| node.step(now, input));
        match stepped.and_then(|()| node.turn(now)) {
            Ok(effects) => {
                self.observe(i);
                if serves_nobody {
                    self.check_refusals(i, &effects.replies);
                }
                self.carry_out_all(i, effects);
            }
            Err(error) => {
                self.fail(Checker::Stopped, format!("{}: {error}", self.machines[i].name));
                self.crash(i);
            }
        }
        if self.machines[i].process.is_some() {
            self.note_end(i);
        }
    }

    fn carry_out_all(&mut self, i: usize, effects: Effects<MemMap>) {
        let mut effects = in_order(effects);
        let often = self.weather.stop_in_turn;
        if often == 0.0 || effects.is_empty() || self.rng.f64() >= often {
            return effects.into_iter().for_each(|effect| self.carry_out(i, effect));
        }
        if let Some(Effect::Write(_)) = effects.first()
            && self.rng.bool()
        {
            effects.rotate_left(1);
        }
        let until = self.rng.usize(..=effects.len());
        effects.into_iter().take(until).for_each(|effect| self.carry_out(i, effect));
        self.tally.crashes_in_turn += 1;
        self.stop(i);
    }

    fn carry_out(&mut self, i: usize, effect: Effect) {
        match effect {
            Effect::Write(write) => self.begin_write(i, write),
            Effect::Frame(raft_id, frame) => self.send(i, raft_id, frame),
            Effect::Datagram(to, bytes) => self.send_datagram(i, to, bytes),
            Effect::Unlink(raft_id) => {
                if let Some(other) = self.index_of(raft_id) {
                    self.break_link(i, other);
                    self.break_link(other, i);
                }
            }
            Effect::Reply(connection, frame) => {
                if let Some(server_frame::Frame::Response(response)) = frame.frame {
                    self.reply(i, connection, response);
                }
            }
            Effect::Prepare(wish) => self.run_on_thread(i, Event::SegmentReady(wish)),
            Effect::Commit(commit) => self.run_on_thread(i, Event::CommitEnds(commit)),
            Effect::Scan(token, scan) => self.run_on_thread(i, Event::ScanEnds(token, scan)),
            Effect::Transfer(job) => {
                let jobs = &mut self.process(i).jobs;
                jobs.push_back(job);
                if jobs.len() == 1 {
                    self.run_on_thread(i, Event::TransferEnds);
                }
            }
            Effect::ReconnectAll => {
                for other in 0..self.machines.len() {
                    self.break_link(i, other);
                }
            }
        }
    }

    fn begin_write(&mut self, i: usize, write: LogWrite) {
        self.trace.add_bytes(&write.bytes);
        let before = self.process(i).writing.replace(write);
        assert!(before.is_none(), "two writes in flight");
        let stalls = self.rng.f64() < self.weather.stall;
        let range = if stalls { &self.weather.stall_us } else { &self.weather.write_us };
        self.schedule_within(i, range.clone(), Event::WriteEnds);
    }

    fn run_on_thread(&mut self, i: usize, event: Event) {
        let takes_us = self.weather.thread_us.clone();
        self.schedule_within(i, takes_us, event);
    }

    /// One thread does the jobs of transfers, in their order.
    pub(super) fn end_transfer(&mut self, i: usize) {
        let process = self.process(i);
        let job = process.jobs.pop_front().expect("it was begun");
        let is_idle = process.jobs.is_empty();
        let mut told = Vec::new();
        let done = process.transfers.run(job, |news| told.push(news));
        done.expect("maps in memory do not fail");
        told.into_iter().for_each(|news| self.post(i, Input::Transfer(news)));
        if !is_idle {
            self.run_on_thread(i, Event::TransferEnds);
        }
    }

    pub(super) fn prepare(&mut self, i: usize, wish: Prepare) {
        match prepare(&self.machines[i].disk, &wish) {
            Ok(()) => self.post(i, Input::Prepared(wish.ordinal)),
            Err(error) if is_no_space(&error) => {
                self.post(i, Input::DiskSpace(Err(error.to_string())));
                self.schedule(i, PREPARE_AGAIN, Event::SegmentReady(wish));
            }
            // It has stopped halfway.
            Err(_) => self.stop(i),
        }
    }

    /// A node that has come to its end by itself is gone once it may stop.
    fn note_end(&mut self, i: usize) {
        let node = self.node(i);
        if let Some(why) = node.ended().filter(|_| node.may_stop()) {
            let why = why.to_owned();
            self.tally.quarantines += u64::from(node.quarantine().is_some());
            self.crash(i);
            self.tally.ended += 1;
            self.machines[i].ended = Some(why);
        }
    }
}
