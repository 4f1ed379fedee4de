//! MAX_BYTES. It is replicated state, and each node has its own setting: the leader makes its setting that of the state, by
//! an entry of the log. So it is the same for all whoever applies, and what was set on every node comes to hold with the
//! first of them that leads.

use bytes::Bytes;
use prost::Message;

use super::{Node, Stage};
use crate::store::map::Map;
use crate::wire::log::Command;

/// The entry that the leader proposed last for its setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProposedQuota {
    term: u64,
    index: u64,
}

impl<M: Map> Node<M> {
    /// Proposes this node's setting, if it leads and the state has another, and no such entry is on its way.
    pub(super) fn propose_max_bytes(&mut self) {
        let max_bytes = self.settings.max_bytes;
        let applied = self.store.applied().index;
        let Stage::Member(replica) = &mut self.stage else { return };
        let term = replica.term();
        let on_its_way = |it: ProposedQuota| it.term == term && it.index > applied;
        if self.store.max_bytes() == max_bytes
            || !replica.leads()
            || self.stopping
            || self.proposed_quota.is_some_and(on_its_way)
        {
            return;
        }
        let command =
            Command { time_ms: self.now.wall_ms, max_bytes: Some(max_bytes), ..Command::default() };
        // Rejected: it is proposed again with the next tick.
        if let Ok((term, index)) = replica.propose(&[Bytes::from(command.encode_to_vec())]) {
            ::log::info!("setting MAX_BYTES of the cluster to {max_bytes}");
            self.proposed_quota = Some(ProposedQuota { term, index });
        }
    }

    /// Says once that the store is full, and once that it is no more.
    pub(super) fn tell_fullness(&mut self) {
        let is_full = self.store.is_full();
        if is_full == self.told_full {
            return;
        }
        self.told_full = is_full;
        let (bytes, max_bytes) = (self.store.logical_bytes(), self.store.max_bytes());
        match is_full {
            true => ::log::warn!(
                "the store is full: it holds {bytes} bytes of keys and values and may hold {max_bytes} (MAX_BYTES). Writes \
                 that would take it over that are refused: delete keys, or raise MAX_BYTES on every node"
            ),
            false => ::log::info!(
                "the store has room again: it holds {bytes} bytes of keys and values and may hold {max_bytes} (MAX_BYTES)"
            ),
        }
    }
}
