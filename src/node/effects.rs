//! What a turn asks of the shell. Nothing here is done yet, and the shell decides nothing: it does all of it.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{ConnectionId, LogWrite, Token};
use crate::log::Prepare;
use crate::store::map::Map;
use crate::store::transfer;
use crate::store::{Commit, Retired, Scan};
use crate::wire::client::ServerFrame;
use crate::wire::peer::PeerFrame;

/// What a shell is to do. The order within each list is the order of sending.
pub struct Effects<M: Map> {
    /// Frames for clients.
    pub replies: Vec<(ConnectionId, ServerFrame)>,
    /// Frames for peers, by raft id.
    pub frames: Vec<(u64, PeerFrame)>,
    /// Datagrams of gossip.
    pub datagrams: Vec<(SocketAddr, Bytes)>,
    /// Raft ids that do not belong here any more: connections with them are to be ended, both ways.
    pub unlink: Vec<u64>,
    /// To be written to the log, durably.
    pub write: Option<LogWrite>,
    /// A segment to be made ready.
    pub prepare: Option<Prepare>,
    /// To be run on the store's thread.
    pub commit: Option<Commit<M>>,
    /// To be dropped on the store's thread: that takes as long as there is memory to free.
    pub retired: Vec<Retired>,
    /// To be run on a thread for range reads.
    pub scans: Vec<(Token, Scan<M>)>,
    /// To be run on the thread of transfers, in this order.
    pub transfers: Vec<transfer::Job<M>>,
    /// The node's identity has changed (it belongs to a cluster now): peers must be greeted anew.
    pub identity_changed: bool,
    /// The mesh or the membership has changed, and with it maybe [where links are wanted](super::Node::link_targets).
    pub targets_changed: bool,
}

impl<M: Map> Default for Effects<M> {
    fn default() -> Effects<M> {
        Effects {
            replies: Vec::new(),
            frames: Vec::new(),
            datagrams: Vec::new(),
            unlink: Vec::new(),
            write: None,
            prepare: None,
            commit: None,
            retired: Vec::new(),
            scans: Vec::new(),
            transfers: Vec::new(),
            identity_changed: false,
            targets_changed: false,
        }
    }
}
