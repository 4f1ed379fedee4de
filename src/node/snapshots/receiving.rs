//! A snapshot on its way in: asked for, taken in, installed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::window::Window;
use super::{Node, Stage, is_among, mib};
use crate::limits::{SNAPSHOT_IDLE_MAX, SNAPSHOT_WINDOW};
use crate::node::{entry_id, peers};
use crate::replica::{Install, Replica};
use crate::store::Store;
use crate::store::map::Map;
use crate::store::transfer::{Job, Refused, check_header};
use crate::wire::client::Identity;
use crate::wire::log::{ConfState, EntryId};
use crate::wire::peer::{SnapshotOffer, SnapshotPart, SnapshotRequest, peer_frame::Frame};
use crate::wire::snapshot::{Chunk, Header};

/// How often people are told how far a snapshot is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A snapshot that is being taken in.
pub(super) struct Receiving<M: Map> {
    id: u64,
    from: u64,
    /// The number of the state that it becomes.
    state: u64,
    header: Header,
    conf_state: ConfState,
    begun: Duration,
    told: Duration,
    /// When something last came.
    came: Duration,
    /// When something last came, or was asked for.
    heard: Duration,
    /// How many chunks may be on their way.
    window: Window,
    /// Chunks below this number are asked for; below this, given to the thread; below this, taken in.
    asked: u64,
    given: u64,
    added: u64,
    /// The number of the last chunk, once that is known.
    last: Option<u64>,
    /// Chunks that came before one that comes before them: at most a window of them.
    early: BTreeMap<u64, Chunk>,
    len_bytes: u64,
    stage: Building<M>,
}

/// How far it is.
enum Building<M: Map> {
    /// Chunks are missing.
    Incomplete,
    /// It is whole and durable, and waits until the log can take it.
    Whole(Box<Store<M>>),
    /// The record that installs it is on its way to the disk.
    Installing(Box<Store<M>>),
}

impl<M: Map> Receiving<M> {
    fn is_incomplete(&self) -> bool {
        matches!(self.stage, Building::Incomplete)
    }

    /// Whether it is from that sender too, as of a later entry.
    fn is_newer_than(&self, from: u64, header: &Header) -> bool {
        let place = |header: &Header| (header.term, header.index);
        self.from == from && place(&self.header) > place(header)
    }

    /// Whether all chunks are here, though the thread may not have taken them in yet.
    fn has_come(&self) -> bool {
        !self.is_incomplete() || self.last.is_some_and(|last| self.given > last)
    }

    /// The request for the chunks that the window has room for, if there are any. `anew`: what was asked for before counts as
    /// lost.
    fn request(&mut self, now: Duration, anew: bool) -> Option<SnapshotRequest> {
        if anew {
            self.asked = self.given;
            self.window.lost();
        }
        let end = self.last.map_or(u64::MAX, |last| last + 1);
        // What waits for the thread is in memory.
        let until = (self.given + self.window.chunks()).min(self.added + SNAPSHOT_WINDOW).min(end);
        let from = self.asked;
        if from >= until {
            return None;
        }
        self.asked = until;
        self.window.asked(now, from..until);
        Some(SnapshotRequest { id: self.id, from, until, ..Default::default() })
    }
}

impl<M: Map> Node<M> {
    pub(in crate::node) fn on_snapshot_offer(&mut self, from: &Identity, offer: SnapshotOffer) {
        let SnapshotOffer { id, header: Some(header), conf_state: Some(conf_state) } = offer else {
            self.counters.protocol_errors += 1;
            return;
        };
        let Stage::Member(replica) = &self.stage else { return };
        // What is not taken now is offered again, if it is still needed then.
        let is_wanted = replica.leader() == Some(from.raft_id)
            && header.cluster_id == self.identity.cluster_id
            && header.index > replica.commit()
            && header.term <= replica.term()
            && Replica::can_be(EntryId { index: header.index, term: header.term }, &conf_state)
            && is_among(&conf_state, self.identity.raft_id)
            && !self.stopping;
        if !is_wanted {
            return;
        }
        if let Err(refused) = check_header(&header) {
            let why = format!("a snapshot from {} is refused: {refused}", from.name);
            self.tell_refused(from.raft_id, id, &refused);
            return self.tell_refusal(from.raft_id, &why);
        }
        match &self.snapshots.receiving {
            // The first request was lost.
            Some(receiving) if receiving.id == id => return self.ask_for_chunks(true),
            // That one is all there.
            Some(receiving) if receiving.has_come() => return,
            // It was late: what its sender has durably, it does not lose.
            Some(receiving) if receiving.is_newer_than(from.raft_id, &header) => return,
            Some(_) => self.abandon_snapshot("another one is offered"),
            None => {}
        }
        self.begin_snapshot(id, from, header, conf_state);
    }

    fn begin_snapshot(&mut self, id: u64, from: &Identity, header: Header, conf_state: ConfState) {
        ::log::info!(
            "taking in a snapshot from {} as of entry {}: {} keys, {}",
            from.name,
            header.index,
            header.keys,
            mib(header.logical_bytes)
        );
        let now = self.now.monotonic;
        let state = self.state.max(self.snapshots.last_state) + 1;
        self.snapshots.last_state = state;
        let incoming = self.store.incoming(state);
        self.effects.transfers.push(Job::Begin(id, incoming, header.clone()));
        self.snapshots.receiving = Some(Receiving {
            id,
            from: from.raft_id,
            state,
            header,
            conf_state,
            begun: now,
            told: now,
            came: now,
            heard: now,
            window: Window::default(),
            asked: 0,
            given: 0,
            added: 0,
            last: None,
            early: BTreeMap::new(),
            len_bytes: 0,
            stage: Building::Incomplete,
        });
        self.ask_for_chunks(false);
    }

    fn ask_for_chunks(&mut self, anew: bool) {
        let now = self.now.monotonic;
        let Some(receiving) = &mut self.snapshots.receiving else { return };
        if receiving.is_incomplete()
            && let Some(request) = receiving.request(now, anew)
        {
            receiving.heard = now;
            let request = Frame::SnapshotRequest(request);
            self.effects.frames.push((receiving.from, peers::frame(request)));
        }
    }

    pub(in crate::node) fn on_snapshot_part(&mut self, from: u64, part: SnapshotPart) {
        let Some(receiving) = &mut self.snapshots.receiving else { return };
        if (receiving.id, receiving.from) != (part.id, from) || !receiving.is_incomplete() {
            return;
        }
        let Some(chunk) = part.chunk else {
            return self.abandon_snapshot("its sender has closed it");
        };
        // What is outside was asked for twice, or never: no more is taken in than the thread keeps up with.
        let end = receiving.asked.min(receiving.added + SNAPSHOT_WINDOW);
        if !(receiving.given..end).contains(&chunk.number) {
            return;
        }
        (receiving.came, receiving.heard) = (self.now.monotonic, self.now.monotonic);
        receiving.window.came(self.now.monotonic, chunk.number);
        receiving.early.insert(chunk.number, chunk);
        while let Some(chunk) = receiving.early.remove(&receiving.given) {
            receiving.given += 1;
            receiving.len_bytes += chunk.rows.len() as u64;
            self.counters.snapshot_bytes_received += chunk.rows.len() as u64;
            if chunk.is_last {
                receiving.last = Some(chunk.number);
            }
            self.effects.transfers.push(Job::Add(receiving.id, chunk));
        }
        self.ask_for_chunks(false);
    }

    pub(super) fn on_chunk_added(&mut self, id: u64, number: u64) {
        let Some(receiving) = self.snapshots.receiving.as_mut().filter(|it| it.id == id) else {
            return;
        };
        (receiving.came, receiving.heard) = (self.now.monotonic, self.now.monotonic);
        receiving.added = number + 1;
        self.ask_for_chunks(false);
    }

    /// All is there: it is installed as soon as that can be.
    pub(super) fn on_snapshot_built(&mut self, id: u64, store: Box<Store<M>>) {
        let Some(receiving) = self.snapshots.receiving.as_mut().filter(|it| it.id == id) else {
            // It was abandoned while the last chunk was taken in.
            self.effects.transfers.push(Job::Discard(store));
            return;
        };
        let conf_state = store.membership().and_then(|membership| membership.conf_state.as_ref());
        let is_as_offered = conf_state == Some(&receiving.conf_state)
            && store.applied().index == receiving.header.index;
        receiving.stage = Building::Whole(store);
        if !is_as_offered {
            self.abandon_snapshot("it is not what was offered");
        }
    }

    pub(super) fn on_snapshot_refused(&mut self, id: u64, why: &Refused) {
        let refused = self.snapshots.receiving.take_if(|receiving| receiving.id == id);
        if let Some(receiving) = refused {
            self.counters.snapshots_failed += 1;
            ::log::error!("the snapshot is not taken over: {why}");
            self.tell_refused(receiving.from, id, why);
        }
    }

    /// Its sender may be who can do something about it, and shall not go on.
    fn tell_refused(&mut self, to: u64, id: u64, why: &Refused) {
        let (refused, is_unsound) = (why.to_string(), why.is_unsound());
        let request = SnapshotRequest { id, refused, is_unsound, ..SnapshotRequest::default() };
        self.effects.frames.push((to, peers::frame(Frame::SnapshotRequest(request))));
    }

    /// Removes what there is of the snapshot that is being taken in, unless the log has it.
    fn abandon_snapshot(&mut self, why: &str) {
        let Some(receiving) = self.snapshots.receiving.take() else { return };
        self.effects.transfers.push(match receiving.stage {
            Building::Incomplete => Job::Abandon(receiving.id),
            Building::Whole(store) => Job::Discard(store),
            Building::Installing(_) => unreachable!("nobody abandons what the log has"),
        });
        self.counters.snapshots_failed += 1;
        let len_bytes = mib(receiving.len_bytes);
        ::log::warn!("the snapshot is given up after {len_bytes}: {why}");
    }

    /// The sender can be reached again: what was asked of it may be lost.
    pub(in crate::node) fn resume_snapshot(&mut self, raft_id: u64) {
        if self.snapshots.receiving.as_ref().is_some_and(|receiving| receiving.from == raft_id) {
            self.ask_for_chunks(true);
        }
    }

    pub(super) fn tend_receiving(&mut self) {
        let Stage::Member(replica) = &self.stage else { return };
        let now = self.now.monotonic;
        let ask_again_after = 2 * self.settings.replica.election_timeout();
        let Some(receiving) = &mut self.snapshots.receiving else { return };
        if !receiving.is_incomplete() {
            return;
        }
        if now >= receiving.told + TELL_EVERY {
            receiving.told = now;
            let (here, all) = (mib(receiving.len_bytes), mib(receiving.header.logical_bytes));
            ::log::info!("taking in a snapshot: {here} of about {all} are here");
        }
        // With the thread, it is this node's own disk that takes its time.
        let awaits_sender = receiving.given == receiving.added;
        if receiving.header.index <= replica.commit() {
            self.abandon_snapshot("the log has got as far by itself");
        } else if self.stopping {
            self.abandon_snapshot("this node stops");
        } else if awaits_sender && now >= receiving.came + SNAPSHOT_IDLE_MAX {
            self.abandon_snapshot("nothing came for long");
        } else if awaits_sender && now >= receiving.heard + ask_again_after {
            self.ask_for_chunks(true);
        }
    }

    /// Whether a snapshot is whole: then the old state is not committed any more.
    pub(in crate::node) fn has_whole_snapshot(&self) -> bool {
        self.snapshots.receiving.as_ref().is_some_and(|receiving| !receiving.is_incomplete())
    }

    /// Gives a snapshot that is whole to the log, if it takes it now.
    pub(in crate::node) fn install_snapshot(&mut self) {
        let Some(Receiving { stage: Building::Whole(store), state, .. }) =
            &self.snapshots.receiving
        else {
            return;
        };
        let Stage::Member(replica) = &mut self.stage else { return };
        // It would be a commit of the old state that ends after the new one is in its place.
        if self.store.is_committing() || self.digests.quarantine().is_some() {
            return;
        }
        let conf_state = store.membership().and_then(|membership| membership.conf_state.as_ref());
        let Some(conf_state) = conf_state else { unreachable!("it was checked when it was built") };
        match replica.install(entry_id(store.applied()), conf_state, *state) {
            Install::Later => {}
            Install::Declined => self.abandon_snapshot("the log has no use for it"),
            Install::Taken => {
                // All of them are in it.
                self.to_apply.clear();
                if let Some(receiving) = &mut self.snapshots.receiving {
                    receiving.install();
                }
            }
        }
    }

    /// The record that installs the snapshot is durable: from now on this is the node's state.
    pub(in crate::node) fn switch_state(&mut self) {
        let receiving = self.snapshots.receiving.take();
        let Some(Receiving { stage: Building::Installing(store), state, begun, len_bytes, .. }) =
            receiving
        else {
            unreachable!("a snapshot is kept until its record is durable");
        };
        assert!(self.to_apply.is_empty(), "entries are committed before the snapshot is applied");
        let old = std::mem::replace(&mut self.store, *store);
        self.state = state;
        self.effects.targets_changed = true;
        self.digests.forget_own();
        self.end_audit();
        let applied = self.store.applied();
        if let Stage::Member(replica) = &mut self.stage {
            replica.applied(applied.index);
        }
        // Whether they were applied, the leader knows.
        for token in self.requests.overtaken(applied.index) {
            self.send_back(token);
        }
        self.give_up_passed();
        self.counters.snapshots_received += 1;
        let seconds = (self.now.monotonic - begun).as_secs_f64();
        ::log::info!(
            "the snapshot as of entry {} is installed: {} in {seconds:.1} s",
            applied.index,
            mib(len_bytes)
        );
        let known: &[u64] = old.membership().map_or(&[], |before| &before.removed);
        let removed = self.store.membership().map_or(&[][..], |after| &after.removed);
        let removed = removed.iter().filter(|raft_id| !known.contains(raft_id)).copied().collect();
        self.effects.transfers.push(Job::Discard(Box::new(old)));
        self.part_with(removed);
    }
}

impl<M: Map> Receiving<M> {
    fn install(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Building::Incomplete) {
            Building::Whole(store) => Building::Installing(store),
            stage => stage,
        };
    }
}
