//! Replicas that compare their states. What every replica computes from one log must be the same; where it is not, a disk, a
//! memory or this program has failed, and whoever reads there reads what was never written.
//!
//! Whenever a node passes an index that is a multiple of [`DIGEST_EVERY`], and when it has stood still for a while, it takes
//! the [digest](crate::store::Digest) of its state and tells it to the members that it is connected to. Who finds that more
//! than half of the voters have another one than itself, as of the same index, stops for good: that is noted durably, for
//! nothing that it would do after a restart could be trusted either.
//!
//! So does a node whose snapshot was refused by its receiver because the rows in it are not what it says of itself, if it
//! finds the same when it looks at them, and if the other voters that can be reached are a majority without it.
//!
//! Invariants:
//! - Digests are compared as of one index, taken exactly there. None means nothing, and nobody stops for the want of one.
//! - Only voters count, and a majority of them in either half of a joint configuration. So no two states can both be
//!   outvoted, and one node that is wrong stops none that is right.
//! - From the moment when it knows, a node applies nothing and answers nothing but refusals.
//! - What is remembered is bounded: [`DIGESTS_MAX`] of each member, none further ahead than [`DIGEST_AHEAD_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::cluster::Then;
use super::{Node, peers};
use crate::limits::{APPLY_VERSION, DIGEST_AHEAD_MAX, DIGEST_EVERY, DIGEST_STILL, DIGESTS_MAX};
use crate::store::Digest;
use crate::store::map::Map;
use crate::wire::log::{ConfState, Record, Standing};
use crate::wire::peer;

/// Digests by the index that they are as of: the latest [`DIGESTS_MAX`].
type ByIndex = BTreeMap<u64, Digest>;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Digests {
    own: ByIndex,
    /// What members have told, by raft id.
    told: BTreeMap<u64, ByIndex>,
    /// Members whose state differed when it was last compared.
    differ: BTreeSet<u64>,
    /// How far was applied when that last changed, and when it was.
    still: (u64, Duration),
    /// Why this node serves no more.
    quarantine: Option<String>,
}

impl Digests {
    /// How many are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.own.len() + self.told.values().map(ByIndex::len).sum::<usize>()
    }

    pub fn quarantine(&self) -> Option<&str> {
        self.quarantine.as_deref()
    }

    /// Whether nothing was applied for [`DIGEST_STILL`], and the state as it is was not told yet.
    fn is_due(&mut self, applied: u64, now: Duration) -> bool {
        if self.still.0 != applied {
            self.still = (applied, now);
        }
        now >= self.still.1 + DIGEST_STILL && !self.own.contains_key(&applied)
    }

    /// The state is another one from here on: what it was before is beside the point.
    pub fn forget_own(&mut self) {
        self.own.clear();
    }

    fn note_own(&mut self, index: u64, digest: Digest) {
        note(&mut self.own, index, digest);
    }

    fn note_told(&mut self, by: u64, index: u64, digest: Digest) {
        note(self.told.entry(by).or_default(), index, digest);
    }

    fn retain_members(&mut self, is_member: impl Fn(u64) -> bool) {
        self.told.retain(|raft_id, _| is_member(*raft_id));
        self.differ.retain(|raft_id| is_member(*raft_id));
    }

    /// The members whose state as of an index is another than this node's, and those whose state is the same.
    fn compare(&self, index: u64) -> (BTreeMap<Digest, Vec<u64>>, Vec<u64>) {
        let (mut others, mut same) = (BTreeMap::<_, Vec<u64>>::new(), Vec::new());
        let Some(own) = self.own.get(&index) else { return (others, same) };
        for (raft_id, told) in &self.told {
            match told.get(&index) {
                Some(digest) if digest == own => same.push(*raft_id),
                Some(digest) => others.entry(*digest).or_default().push(*raft_id),
                None => {}
            }
        }
        (others, same)
    }
}

fn note(digests: &mut ByIndex, index: u64, digest: Digest) {
    digests.insert(index, digest);
    if digests.len() > DIGESTS_MAX {
        digests.pop_first();
    }
}

/// Whether these are a majority of the voters, in either half of a joint configuration.
fn outvote(conf_state: &ConfState, agreed: &[u64]) -> bool {
    let is_majority = |voters: &[u64]| {
        let count = voters.iter().filter(|raft_id| agreed.contains(raft_id)).count();
        2 * count > voters.len()
    };
    let ConfState { voters, voters_outgoing, .. } = conf_state;
    is_majority(voters) && (voters_outgoing.is_empty() || is_majority(voters_outgoing))
}

impl<M: Map> Node<M> {
    /// Why this node serves nobody any more: its state is not that of a majority.
    pub fn quarantine(&self) -> Option<&str> {
        self.digests.quarantine()
    }

    /// An entry was applied: takes the digest if it is time, before the next one is.
    pub(super) fn pass_index(&mut self, index: u64) {
        if index.is_multiple_of(DIGEST_EVERY) {
            self.tell_digest();
        }
    }

    /// Once per whole tick: tells the digest of a state that stands still.
    pub(super) fn look_at_digest(&mut self) {
        let applied = self.store.applied().index;
        let is_due = self.digests.is_due(applied, self.now.monotonic);
        if is_due && applied > 0 && self.digests.quarantine().is_none() {
            self.tell_digest();
        }
    }

    fn tell_digest(&mut self) {
        let (index, digest) = (self.store.applied().index, self.store.digest());
        self.digests.note_own(index, digest);
        let linked = self.links.keys().filter(|raft_id| self.is_member(**raft_id));
        let frames = linked.map(|raft_id| (*raft_id, peers::digest_frame(index, &digest)));
        let frames: Vec<_> = frames.collect();
        self.effects.frames.extend(frames);
        self.compare_digests(index);
    }

    /// A member is connected: it is told what it may have missed.
    pub(super) fn tell_digests_to(&mut self, raft_id: u64) {
        if self.is_member(raft_id) {
            let told = self.digests.own.iter();
            let frames = told.map(|(index, digest)| (raft_id, peers::digest_frame(*index, digest)));
            self.effects.frames.extend(frames);
        }
    }

    pub(super) fn on_digest(&mut self, from: u64, told: &peer::Digest) {
        match Digest::try_from(&told.digest[..]) {
            // Another version may well come to another state.
            Ok(_) if told.apply != APPLY_VERSION => {}
            // Not of a state that this node could come to by the log: it would only push out what will be compared.
            Ok(_) if told.index > self.store.applied().index + DIGEST_AHEAD_MAX => {}
            Ok(digest) if self.is_member(from) => {
                self.digests.note_told(from, told.index, digest);
                self.compare_digests(told.index);
            }
            // One that was removed, or of whose addition this node does not know yet.
            Ok(_) => {}
            Err(_) => self.counters.protocol_errors += 1,
        }
    }

    fn compare_digests(&mut self, index: u64) {
        if self.digests.quarantine().is_some() {
            return;
        }
        let mut digests = std::mem::take(&mut self.digests);
        digests.retain_members(|raft_id| self.is_member(raft_id));
        let (others, same) = digests.compare(index);
        digests.differ.retain(|raft_id| !same.contains(raft_id));
        for raft_id in others.values().flatten() {
            if digests.differ.insert(*raft_id) {
                ::log::error!(
                    "as of index {index}, the state of {} is not that of this node: one of the two was damaged",
                    self.name_of(*raft_id)
                );
            }
        }
        self.digests = digests;
        let membership = self.store.membership();
        let conf_state = membership.and_then(|membership| membership.conf_state.as_ref());
        let outvoted = others
            .values()
            .find(|agreed| conf_state.is_some_and(|conf_state| outvote(conf_state, agreed)));
        if let Some(agreed) = outvoted {
            let agreed: Vec<String> = agreed.iter().map(|raft_id| self.name_of(*raft_id)).collect();
            self.go_into_quarantine(&format!(
                "differs from that of a majority of the voters ({}) as of index {index}",
                agreed.join(", ")
            ));
        }
    }

    /// The rows that the disk holds are not what the state says of itself. Where the other voters that can be reached are no
    /// majority without this one, it goes on, for nobody else could, but hands leadership over. A majority without it has all
    /// that was committed: it has somebody of every other majority.
    pub(super) fn on_unsound_rows(&mut self, why: &str) {
        let membership = self.store.membership();
        let conf_state = membership.and_then(|membership| membership.conf_state.clone());
        let own = self.identity.raft_id;
        let others_suffice = conf_state.is_some_and(|conf_state| {
            let ConfState { voters, voters_outgoing, .. } = &conf_state;
            let others = voters.iter().chain(voters_outgoing).copied();
            let answers = |raft_id: &u64| {
                self.links.contains_key(raft_id) && self.is_live_in_mesh(*raft_id) != Some(false)
            };
            let others: Vec<u64> =
                others.filter(|raft_id| *raft_id != own && answers(raft_id)).collect();
            outvote(&conf_state, &others)
        });
        if self.digests.quarantine().is_some() {
            return;
        }
        match others_suffice {
            true => self.go_into_quarantine(&format!("is not what its disk holds ({why})")),
            false => {
                ::log::error!(
                    "the state of this node is not what its disk holds ({why}): its data was damaged. It goes on, for the \
                     other voters are no majority without it, but leads no more if another one can"
                );
                // From whom those who wait for a snapshot may get a sound one, and then outvote this one.
                self.hand_over();
            }
        }
    }

    /// The state of this node is wrong. It refuses everything from now on, and ends when that is durable.
    fn go_into_quarantine(&mut self, what: &str) {
        let why = format!(
            "the state of {} (raft id {}) {what}: its data was damaged, on the disk, in memory or by a fault of the program, \
             and it serves no more. Nothing is lost: move the data directory away (and keep it, if the cause is to be found) \
             and start the node with an empty one; it joins under a new identity and gets the state from the others",
            self.identity.name, self.identity.raft_id,
        );
        ::log::error!("{why}");
        self.refuse_all(&why);
        let standing = Standing {
            cluster_id: self.identity.cluster_id.clone(),
            promise: None,
            quarantine: why.clone(),
        };
        self.digests.quarantine = Some(why.clone());
        let record = Record { standing: Some(standing), ..Record::default() };
        self.journal.push(record, Then::End(why));
    }
}
