//! Push-pull: two nodes exchange their whole tables. At a join it spares the newcomer the wait for gossip, and now and
//! then it repairs what gossip has missed.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::beliefs::verdict;
use super::members::State;
use super::output::Output;
use super::packet::{self, Refused, VERSION};
use super::{Gossip, same_cluster};
use crate::wire::gossip::{Sync, Update, Verdict, update::News, verdict::Kind};

/// Up to this size of the mesh tables are exchanged every `sync_period`; from there on less, by the logarithm.
const FULL_PACE_MAX: usize = 32;

impl Gossip {
    /// Asks for an exchange with a random member, if it is time.
    pub(super) fn request_sync(&mut self, now: Duration, out: &mut Output) {
        if self.sync_at > now {
            return;
        }
        let rarer = self.members.mesh_size().div_ceil(FULL_PACE_MAX).next_power_of_two().ilog2();
        let pause = self.settings.sync_period * (1 + rarer);
        self.sync_at = now + pause.mul_f64(0.75 + 0.5 * self.rng.f64());
        let partner = self.members.pick(1, &mut self.rng, |member| member.state == State::Alive);
        if !self.leaving {
            out.syncs.extend(partner.into_iter().map(|(raft_id, _)| raft_id));
        }
    }

    /// This node's table, to be sent to the one that [`Output::syncs`] names.
    pub fn sync_request(&mut self) -> Bytes {
        self.table()
    }

    /// Another node's table has come; the reply is this node's.
    ///
    /// # Errors
    /// It cannot be read, or is of another cluster; nothing was merged.
    pub fn on_sync_request(
        &mut self,
        now: Duration,
        bytes: &[u8],
        out: &mut Output,
    ) -> Result<Bytes, Refused> {
        self.merge(now, bytes, out)?;
        Ok(self.table())
    }

    /// The answer to a [`Gossip::sync_request`].
    ///
    /// # Errors
    /// As [`Gossip::on_sync_request`].
    pub fn on_sync_reply(
        &mut self,
        now: Duration,
        bytes: &[u8],
        out: &mut Output,
    ) -> Result<(), Refused> {
        self.merge(now, bytes, out)
    }

    fn table(&mut self) -> Bytes {
        let mut updates = vec![News::Alive(self.me.clone())];
        for member in self.members.iter() {
            if member.state.is_live() {
                updates.push(News::Alive(member.node.clone()));
            }
            if member.state != State::Alive {
                updates.push(News::Verdict(verdict(member, self.me.raft_id)));
            }
        }
        let sync = Sync {
            version: VERSION,
            from: self.me.raft_id,
            cluster_id: self.me.cluster_id.clone(),
            updates: updates.into_iter().map(|news| Update { news: Some(news) }).collect(),
        };
        let bytes = Bytes::from(sync.encode_to_vec());
        self.counters.sync_bytes += bytes.len() as u64;
        bytes
    }

    fn merge(&mut self, now: Duration, bytes: &[u8], out: &mut Output) -> Result<(), Refused> {
        self.counters.sync_bytes += bytes.len() as u64;
        let sync = packet::decode_sync(bytes).inspect_err(|_| self.counters.malformed += 1)?;
        if !same_cluster(&self.me.cluster_id, &sync.cluster_id) {
            self.counters.other_cluster += 1;
            return Err(Refused::OtherCluster);
        }
        if sync.from == self.me.raft_id {
            return Ok(());
        }
        for update in sync.updates {
            self.on_update(now, milder(update), out);
        }
        Ok(())
    }
}

/// A death that a table reports may be long over: the node gets the time of a suspicion to refute it.
fn milder(update: Update) -> Update {
    match update.news {
        Some(News::Verdict(verdict)) if verdict.kind() == Kind::Dead => {
            let suspect = Verdict { kind: Kind::Suspect.into(), ..verdict };
            Update { news: Some(News::Verdict(suspect)) }
        }
        _ => update,
    }
}
