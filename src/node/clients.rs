//! The door: a client's request is checked, admitted or refused, and later answered.

use std::time::Duration;

use prost::Message;

use super::orders::Order;
use super::reads::PROBE;
use super::requests::{Origin, Place, Request, Work};
use super::{ConnectionId, Node, Stage, Token, peers};
use crate::error::{Result, refusal};
use crate::limits::{
    REQUEST_TIMEOUT_DEFAULT, REQUEST_TIMEOUT_MAX, REQUESTS_LEN_MAX, REQUESTS_MAX,
    TURN_REPLIES_LEN_MAX,
};
use crate::planted::{Bug, planted};
use crate::store::map::Map;
use crate::wire::client::{
    self as wire, Code, Error as Refusal, Response, ServerFrame, request, response, server_frame,
};
use crate::wire::validate;

impl<M: Map> Node<M> {
    pub(super) fn on_request(
        &mut self,
        connection: ConnectionId,
        request: wire::Request,
    ) -> Result<()> {
        let origin = Origin::Client { connection, id: request.id };
        let deadline = self.deadline(request.timeout_ms);
        match self.take_in(origin, deadline, request.command) {
            Ok(Some(result)) => self.reply(origin, result),
            Ok(None) => {}
            Err(crate::error::Error::Refused(refused)) => self.refuse(origin, refused),
            Err(fatal) => return Err(fatal),
        }
        Ok(())
    }

    /// Checks and takes in a request. What can be answered at once, is.
    fn take_in(
        &mut self,
        origin: Origin,
        deadline: Duration,
        command: Option<request::Command>,
    ) -> Result<Option<Response>> {
        use crate::error::Error::Refused;
        match command {
            None => Err(Refused(refusal(
                Code::Invalid,
                "the request has no command, or one that this version does not know",
            ))),
            Some(request::Command::Status(_)) => {
                Ok(Some(self.response(response::Result::Status(Box::new(self.status())))))
            }
            Some(request::Command::Write(write)) => {
                validate::write(&write).map_err(Refused)?;
                self.admit().map_err(Refused)?;
                self.insert_write(origin, deadline, write);
                Ok(None)
            }
            Some(request::Command::RemoveMember(order)) => {
                self.take_in_order(origin, deadline, Order::removal(&order))
            }
            Some(request::Command::TransferLeader(order)) => {
                self.take_in_order(origin, deadline, Order::transfer(&order))
            }
            Some(request::Command::ReadSnapshot(asked)) => {
                self.take_in_reading(origin, deadline, asked).map_err(Refused)?;
                Ok(None)
            }
            Some(request::Command::Get(get)) => {
                validate::get(&get).map_err(Refused)?;
                if get.stale || planted(Bug::ReadWithoutRound) {
                    self.has_data().map_err(Refused)?;
                    return self.get_stale(&get.key).map(Some);
                }
                self.admit().map_err(Refused)?;
                self.insert_read(origin, deadline, Work::Get { key: get.key });
                Ok(None)
            }
            Some(request::Command::Range(range)) => {
                validate::range(&range).map_err(Refused)?;
                match range.stale {
                    true => self.has_data().and_then(|()| self.has_room()),
                    false => self.admit(),
                }
                .map_err(Refused)?;
                self.insert_read(origin, deadline, Work::Range(range));
                Ok(None)
            }
        }
    }

    fn take_in_order(
        &mut self,
        origin: Origin,
        deadline: Duration,
        order: Order,
    ) -> Result<Option<Response>> {
        order.check().and_then(|()| self.admit()).map_err(crate::error::Error::Refused)?;
        self.insert_order(origin, deadline, order, false);
        Ok(None)
    }

    /// Whether a request that needs the cluster may come in.
    pub(super) fn admit(&self) -> std::result::Result<(), Refusal> {
        if self.stopping {
            return Err(refusal(Code::Stopping, "this node is stopping: ask another"));
        }
        self.is_sound()?;
        if let Some(waiting_for) = self.forming() {
            return Err(refusal(
                Code::FormingCluster,
                format!("the cluster is not formed yet: {waiting_for}"),
            ));
        }
        self.has_room()
    }

    fn has_room(&self) -> std::result::Result<(), Refusal> {
        match self.requests.is_full() {
            false => Ok(()),
            true => Err(refusal(
                Code::Overloaded,
                format!(
                    "{REQUESTS_MAX} requests or {REQUESTS_LEN_MAX} bytes of them are in flight on this node: send \
                     fewer at once, or retry later"
                ),
            )),
        }
    }

    /// Whether the state is that of the cluster, as far as is known.
    fn is_sound(&self) -> std::result::Result<(), Refusal> {
        match self.digests.quarantine() {
            None => Ok(()),
            Some(why) => Err(refusal(Code::Stopping, format!("this node stops: {why}"))),
        }
    }

    /// Whether there is a state to read from, be it an old one.
    fn has_data(&self) -> std::result::Result<(), Refusal> {
        self.is_sound()?;
        match self.stage {
            Stage::Member(_) if self.store.membership().is_some() => Ok(()),
            _ => Err(refusal(
                Code::FormingCluster,
                "this node has no data yet: it belongs to no cluster",
            )),
        }
    }

    pub(super) fn deadline(&self, timeout_ms: u32) -> Duration {
        let timeout = match timeout_ms {
            0 => REQUEST_TIMEOUT_DEFAULT,
            ms => Duration::from_millis(ms.into()).min(REQUEST_TIMEOUT_MAX),
        };
        self.now.monotonic + timeout
    }

    pub(super) fn insert(&mut self, origin: Origin, deadline: Duration, work: Work) -> Token {
        let arrived = self.now.monotonic;
        self.requests.insert(Request { origin, arrived, deadline, work, maybe_applied: false })
    }

    /// A response as of now, but for the request's id.
    pub(super) fn response(&self, result: response::Result) -> Response {
        Response {
            id: 0,
            revision: self.store.revision(),
            applied: self.store.applied().index,
            result: Some(result),
            stale_ms: None,
        }
    }

    /// Answers a request of the table, which is thereby done. One that was answered before is left alone.
    pub(super) fn answer(&mut self, token: Token, response: Response) {
        if let Some(request) = self.requests.take(token) {
            self.reply(request.origin, response);
        }
    }

    /// Refuses a request of the table, which is thereby done.
    pub(super) fn answer_refused(&mut self, token: Token, mut refused: Refusal) {
        if let Some(request) = self.requests.take(token) {
            refused.maybe_applied |= request.maybe_applied;
            self.refuse(request.origin, refused);
        }
    }

    pub(super) fn refuse(&mut self, origin: Origin, refused: Refusal) {
        self.counters.refused += 1;
        let response = self.response(response::Result::Error(refused));
        self.reply(origin, response);
    }

    fn reply(&mut self, origin: Origin, mut response: Response) {
        // What one turn answers is in memory at once.
        if self.replies_len > TURN_REPLIES_LEN_MAX {
            response = without_room(&response);
        }
        self.replies_len += response.encoded_len();
        match origin {
            Origin::Client { connection, id } => {
                response.id = id;
                let frame = ServerFrame { frame: Some(server_frame::Frame::Response(response)) };
                self.effects.replies.push((connection, frame));
            }
            Origin::Peer { raft_id, id } => {
                self.effects.frames.push((raft_id, peers::reply_frame(id, response)));
            }
        }
    }

    /// Refuses what has waited too long: at its deadline; when no leader was known for so long that a quorum seems lost; or
    /// when no majority has confirmed it for 2 E, for who is cut off together with the leader learns of that late. An order
    /// may take the leader long, which says nothing of a majority: where no leader is known it is refused before it was
    /// begun, for another node may know one, and else at its deadline alone.
    pub(super) fn expire_requests(&mut self) {
        let now = self.now.monotonic;
        let patience = self.settings.replica.election_timeout() / 2;
        let leaderless =
            self.known.leader.is_none() && now >= self.known.leaderless_since + patience;
        let doubtful = self.doubts_quorum || leaderless;
        let mut due = self.requests.select(|request| {
            let waited = |longest: Duration| now >= request.arrived + longest;
            let waits_in_vain = match &request.work {
                Work::Range(range) if range.stale => false,
                Work::Order { place, .. } => {
                    let is_begun = *place != Place::AwaitsLeader || request.maybe_applied;
                    leaderless && !is_begun && waited(patience)
                }
                Work::Write { .. } | Work::Get { .. } | Work::Range(_) | Work::Snapshot => {
                    doubtful && waited(patience) || waited(4 * patience)
                }
            };
            now >= request.deadline && !planted(Bug::ForgetDeadline) || waits_in_vain
        });
        due.retain(|token| {
            let is_late = self.requests.get(*token).is_some_and(|it| now >= it.deadline);
            let is_served =
                |token| self.reads.is_confirmed(token) || self.snapshots.reading.is_served(token);
            is_late || !is_served(*token)
        });
        if due.is_empty() {
            return;
        }
        self.doubts_quorum |= due.iter().any(|token| {
            let request = self.requests.get(*token);
            request.is_some_and(|it| now < it.deadline && !matches!(it.work, Work::Order { .. }))
        });
        for token in due {
            let refused = self.why_expired(token);
            self.answer_refused(token, refused);
        }
        let requests = &self.requests;
        let waits = |token| token == PROBE || requests.get(token).is_some();
        self.reads.retain(waits);
        self.snapshots.reading.retain(waits);
        if let Stage::Member(replica) = &mut self.stage {
            replica.retain_reads(waits);
        }
        self.to_dispatch.retain(|token| self.requests.get(*token).is_some());
        self.put_off.retain(|token| self.requests.get(*token).is_some());
    }

    fn why_expired(&self, token: Token) -> Refusal {
        let sent = self.requests.is_open(token);
        let is_late_order = self.requests.get(token).is_some_and(|request| {
            matches!(request.work, Work::Order { .. }) && self.now.monotonic >= request.deadline
        });
        let mut refused = if is_late_order {
            let message = "the order's time ran out before what was ordered was so: `phalanx members` shows how things are";
            refusal(Code::Timeout, message)
        } else if self.known.leader.is_none() {
            let message = "no quorum: this node knows of no leader, and a majority of the voters cannot be reached";
            refusal(Code::NoQuorum, message)
        } else if self.doubts_quorum {
            let message = "no quorum: the leader that this node knows of gets no answer from a majority of the voters, or gives none";
            refusal(Code::NoQuorum, message)
        } else {
            refusal(Code::Timeout, "the request's time ran out before the cluster had answered")
        };
        refused.maybe_applied = sent;
        refused
    }
}

/// What is answered when there is no room for an answer. A write may have been applied all the same: sent again, it gets
/// its one result.
pub fn without_room(response: &Response) -> Response {
    let message =
        "the answers that wait to be sent are too long: read them, or ask for less at once";
    let mut refused = refusal(Code::Overloaded, message);
    refused.maybe_applied = match &response.result {
        Some(response::Result::Txn(_)) => true,
        Some(response::Result::Error(refused)) => refused.maybe_applied,
        _ => false,
    };
    Response { result: Some(response::Result::Error(refused)), ..*response }
}
