//! Snapshots on their way out: offered, read and sent as they are asked for, and closed.

use std::ops::Range;
use std::time::Duration;

use super::{Node, Stage, is_among, mib};
use crate::error::Result;
use crate::limits::{SNAPSHOT_AGE_MAX, SNAPSHOT_IDLE_MAX, SNAPSHOT_WINDOW, SNAPSHOTS_MAX};
use crate::node::peers;
use crate::replica::Progress;
use crate::store::map::Map;
use crate::store::transfer::{Durable, Job, Outgoing, Refused};
use crate::wire::client::Identity;
use crate::wire::peer::{SnapshotOffer, SnapshotPart, SnapshotRequest, peer_frame::Frame};
use crate::wire::snapshot::Chunk;

/// A snapshot that is kept open for a member.
pub(super) struct Sending {
    to: u64,
    /// Which start of it: another one knows nothing of what came before.
    nonce: u64,
    offer: SnapshotOffer,
    /// The last entry in it.
    index: u64,
    begun: Duration,
    offered: Duration,
    /// When something was last asked of it.
    asked: Option<Duration>,
    /// Chunks that are to be read next; each once the one before was.
    wanted: Range<u64>,
    /// Whether the thread is reading one.
    is_reading: bool,
    /// Chunks below this number were read.
    read: u64,
    /// The number of the last chunk, once it was read.
    last: Option<u64>,
    /// When consensus last had the member asked whether it has it.
    probed: Duration,
    len_bytes: u64,
}

/// Why one is closed.
enum End {
    /// The member has it.
    Arrived,
    /// This node does not lead any more, or the member is none any more.
    Void,
    /// The member is to get another one, if it still needs one then.
    GivenUp(String),
}

impl<M: Map> Node<M> {
    /// Consensus has no entries for a member.
    pub(in crate::node) fn offer_snapshot(&mut self, to: u64) -> Result<()> {
        let offered = self.open_snapshot(to)?;
        if let Stage::Member(replica) = &mut self.stage
            && !offered
        {
            // It comes back to it.
            replica.snapshot_failed(to);
        }
        self.note_sending();
        Ok(())
    }

    /// Opens what the store holds durably, and offers it. That may be newer than what consensus counts on. False if it cannot
    /// be: too many are open, or the member could not use it. One that it can still use is offered again.
    fn open_snapshot(&mut self, to: u64) -> Result<bool> {
        let Stage::Member(replica) = &self.stage else { return Ok(false) };
        let Some(nonce) = self.links.get(&to).map(|peer| peer.nonce) else { return Ok(false) };
        let known = self.snapshots.sending.iter_mut().find(|(_, sending)| sending.to == to);
        if let Some((&id, sending)) = known {
            if sending.nonce == nonce && sending.index + 1 >= replica.first_index() {
                sending.offered = self.now.monotonic;
                let offer = Frame::SnapshotOffer(sending.offer.clone());
                self.effects.frames.push((to, peers::frame(offer)));
                return Ok(true);
            }
            self.snapshots.sending.remove(&id);
            self.effects.transfers.push(Job::Close(id));
        }
        // A state that differs from a majority's is not passed on.
        let is_sound = self.digests.quarantine().is_none();
        let pauses = self.snapshots.refused.contains_key(&to);
        if !is_sound || pauses || self.snapshots.open_count() >= SNAPSHOTS_MAX {
            return Ok(false);
        }
        let durable = self.store.durable_snapshot(&self.identity.cluster_id)?;
        let Durable { snapshot, header, membership } = durable;
        let conf_state = membership.and_then(|membership| membership.conf_state);
        let Some(conf_state) = conf_state.filter(|conf_state| is_among(conf_state, to)) else {
            return Ok(false);
        };
        let id = self.rng.u64(1..);
        ::log::info!(
            "{} needs a snapshot: offering one as of entry {}, of {} keys and {}",
            self.name_of(to),
            header.index,
            header.keys,
            mib(header.logical_bytes)
        );
        let now = self.now.monotonic;
        let offer =
            SnapshotOffer { id, header: Some(header.clone()), conf_state: Some(conf_state) };
        let index = header.index;
        self.effects.transfers.push(Job::Open(id, Outgoing { snapshot, header }));
        self.effects.frames.push((to, peers::frame(Frame::SnapshotOffer(offer.clone()))));
        let sending = Sending {
            to,
            nonce,
            offer,
            index,
            begun: now,
            offered: now,
            asked: None,
            wanted: 0..0,
            is_reading: false,
            read: 0,
            last: None,
            probed: now,
            len_bytes: 0,
        };
        self.snapshots.sending.insert(id, sending);
        Ok(true)
    }

    pub(in crate::node) fn on_snapshot_request(
        &mut self,
        from: &Identity,
        request: SnapshotRequest,
    ) {
        let SnapshotRequest { id, from: first, until, refused, is_unsound } = request;
        let is_its =
            |sending: &&mut Sending| (sending.to, sending.nonce) == (from.raft_id, from.nonce);
        match self.snapshots.sending.get_mut(&id).filter(is_its) {
            Some(_) if !refused.is_empty() => {
                self.snapshots.refused.insert(from.raft_id, self.now.monotonic);
                if is_unsound && self.snapshots.audited.is_none() {
                    self.snapshots.audited = Some(id);
                    self.effects.transfers.push(self.store.audit(id));
                }
                self.close_snapshot(id, &End::GivenUp(format!("it was refused: {refused}")));
                self.note_sending();
            }
            Some(sending) => {
                if sending.want(first, until) {
                    sending.asked = Some(self.now.monotonic);
                }
                self.effects.transfers.extend(sending.read_next(id));
            }
            None if !refused.is_empty() => {}
            None => {
                let gone = Frame::SnapshotPart(SnapshotPart { id, chunk: None });
                self.effects.frames.push((from.raft_id, peers::frame(gone)));
            }
        }
    }

    /// A chunk was read.
    pub(super) fn send_part(&mut self, id: u64, chunk: Chunk) {
        let Some(sending) = self.snapshots.sending.get_mut(&id) else { return };
        sending.len_bytes += chunk.rows.len() as u64;
        sending.is_reading = false;
        sending.read = sending.read.max(chunk.number + 1);
        sending.last = sending.last.or(chunk.is_last.then_some(chunk.number));
        self.counters.snapshot_bytes_sent += chunk.rows.len() as u64;
        let part = Frame::SnapshotPart(SnapshotPart { id, chunk: Some(chunk) });
        self.effects.frames.push((sending.to, peers::frame(part)));
        self.effects.transfers.extend(sending.read_next(id));
    }

    pub(super) fn tend_sending(&mut self) {
        let Stage::Member(replica) = &mut self.stage else { return };
        let now = self.now.monotonic;
        let (leads, first_index) = (replica.leads(), replica.first_index());
        let progress = replica.progress();
        let patience = self.settings.replica.election_timeout();
        let mut ended = Vec::new();
        for (id, sending) in &mut self.snapshots.sending {
            let seen = progress.iter().find(|seen| leads && seen.raft_id == sending.to);
            let nonce = self.links.get(&sending.to).map(|peer| peer.nonce);
            let idle_since = sending.asked.unwrap_or(sending.begun);
            if let Some(end) = sending.end(now, seen, first_index, nonce) {
                ended.push((*id, end));
            } else if sending.asked.is_none() && now >= sending.offered + patience {
                sending.offered = now;
                let offer = Frame::SnapshotOffer(sending.offer.clone());
                self.effects.frames.push((sending.to, peers::frame(offer)));
            } else if sending.last.is_some() && now >= sending.probed.max(idle_since) + 2 * patience
            {
                // Its word that it has the snapshot may be lost. If it has not, consensus comes back with an offer.
                sending.probed = now;
                replica.snapshot_sent(sending.to);
            }
        }
        ended.into_iter().for_each(|(id, end)| self.close_snapshot(id, &end));
        self.note_sending();
    }

    fn close_snapshot(&mut self, id: u64, end: &End) {
        let Some(sending) = self.snapshots.sending.remove(&id) else { return };
        if self.snapshots.audited != Some(id) {
            self.effects.transfers.push(Job::Close(id));
        }
        let name = self.name_of(sending.to);
        match end {
            End::Arrived => {
                self.counters.snapshots_sent += 1;
                if let Stage::Member(replica) = &mut self.stage {
                    // What consensus waits for may be newer than what was sent.
                    replica.snapshot_sent(sending.to);
                }
                let seconds = (self.now.monotonic - sending.begun).as_secs_f64();
                ::log::info!(
                    "{name} has the snapshot as of entry {}: {} in {seconds:.1} s",
                    sending.index,
                    mib(sending.len_bytes)
                );
            }
            End::Void => ::log::info!("the snapshot for {name} is not needed any more"),
            End::GivenUp(why) => {
                self.counters.snapshots_failed += 1;
                ::log::warn!("the snapshot for {name} is given up: {why}");
                if let Stage::Member(replica) = &mut self.stage {
                    replica.snapshot_failed(sending.to);
                }
            }
        }
    }

    /// A part of a snapshot that was refused was looked at.
    pub(super) fn on_snapshot_audited(
        &mut self,
        id: u64,
        found: Option<std::result::Result<(), Refused>>,
    ) {
        if self.snapshots.audited != Some(id) {
            return;
        }
        let Some(found) = found else {
            return self.effects.transfers.push(self.store.audit(id));
        };
        self.snapshots.audited = None;
        self.note_sending();
        match found {
            Ok(()) => ::log::info!("the rows of this node are what it says of itself"),
            Err(why) => self.on_unsound_rows(&why.to_string()),
        }
    }

    /// The state that it is of is replaced.
    pub(super) fn end_audit(&mut self) {
        if let Some(id) = self.snapshots.audited.take() {
            self.effects.transfers.push(Job::Close(id));
        }
    }

    /// Tells consensus whether snapshots are on their way, and whether one more can be.
    pub(super) fn note_sending(&mut self) {
        let (sending, open) = (self.snapshots.sending.len(), self.snapshots.open_count());
        if let Stage::Member(replica) = &mut self.stage {
            replica.hold(sending > 0);
            replica.set_may_offer(open < SNAPSHOTS_MAX);
        }
    }
}

impl Sending {
    /// Notes that chunks are asked for. What was asked for before, and in between, is wanted all the same, but no more at once
    /// than a receiver may ask for. False if that cannot be: a receiver that lacks the first of them has not asked for the last
    /// that was read. So this is a word from before, and late, or it begins anew: then it gets another one once this is idle.
    fn want(&mut self, from: u64, until: u64) -> bool {
        if from.saturating_add(SNAPSHOT_WINDOW) < self.read {
            return false;
        }
        let until = until.min(from.saturating_add(SNAPSHOT_WINDOW));
        let wanted = &mut self.wanted;
        // One that begins before has lost what came since.
        let until = if from < wanted.start { until } else { until.max(wanted.end) };
        let start = wanted.start.min(from);
        *wanted = start..until.min(start.saturating_add(2 * SNAPSHOT_WINDOW));
        true
    }

    /// The chunk to be read now, if there is one: no more than one at a time, and in order the first time.
    fn read_next<M: Map>(&mut self, id: u64) -> Option<Job<M>> {
        let number = self.wanted.start;
        let exists = number <= self.read && self.last.is_none_or(|last| number <= last);
        if self.is_reading || self.wanted.is_empty() || !exists {
            return None;
        }
        self.is_reading = true;
        self.wanted.start += 1;
        Some(Job::Read { id, from: number, until: number + 1 })
    }

    /// Why it is to be closed now, if it is. `seen` is how the leader sees the member, `nonce` the start of it that is
    /// connected.
    fn end(
        &self,
        now: Duration,
        seen: Option<&Progress>,
        first_index: u64,
        nonce: Option<u64>,
    ) -> Option<End> {
        let Some(seen) = seen else { return Some(End::Void) };
        if seen.matched >= self.index {
            return Some(End::Arrived);
        }
        let idle_since = self.asked.unwrap_or(self.begun);
        let why = if nonce.is_some_and(|nonce| nonce != self.nonce) {
            "it was started anew"
        } else if self.index + 1 < first_index {
            "meanwhile more was written than is kept for it"
        } else if now >= idle_since + SNAPSHOT_IDLE_MAX {
            "nothing was asked of it for long"
        } else if now >= self.begun + SNAPSHOT_AGE_MAX {
            "it has been under way for too long"
        } else {
            return None;
        };
        Some(End::GivenUp(why.to_owned()))
    }
}
