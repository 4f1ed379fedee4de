//! One request from the caller's view: its attempts, and what is known of their outcome.
//!
//! Invariants:
//! - All attempts of a write carry the same request id and the same `since`. (The one exception
//!   proves safe: see [`Call::renew`].)
//! - `maybe_applied` is never forgotten: once an attempt's outcome is open, no later refusal may
//!   claim that the change was not made.
//! - A removal is not sent again once its outcome is open. It carries no id that would tell the two
//!   apart, and a second one could take out the node that came back under the name.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::Link;
use super::{Error, Options, Result};
use crate::limits::{CLIENT_BACKOFF_MAX, CLIENT_BACKOFF_MIN, REQUEST_TIMEOUT_MAX};
use crate::wire::client::{
    ClientFrame, Code, Error as Refusal, Request, Response, client_frame::Frame, request::Command,
};
use crate::wire::validate::REQUEST_ID_LEN;

/// A request that has no answer yet.
#[derive(Debug)]
pub(super) struct Call {
    command: Command,
    pub deadline: Instant,
    pub phase: Phase,
    /// How often it was sent.
    attempts: u32,
    /// An attempt of this change may have been applied, or may be yet.
    maybe_applied: bool,
    /// Why it has no answer yet, for the error at the deadline.
    cause: Option<String>,
    sender: SyncSender<Result<Response>>,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be sent at `until` or, if there is no connection, after that.
    Waiting { until: Instant },
    /// Sent on the connection of this epoch.
    Sent { epoch: u64, at: Instant },
}

/// What to do about a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask the same node again.
    Stay,
    /// Ask another node.
    Rotate,
    /// Ask the leader, at this address.
    Follow(String),
    /// Nothing helps: give the caller this error.
    Stop(Error),
}

impl Call {
    pub fn new(command: Command, deadline: Instant, sender: SyncSender<Result<Response>>) -> Call {
        let phase = Phase::Waiting { until: Instant::now() };
        Call { command, deadline, phase, attempts: 0, maybe_applied: false, cause: None, sender }
    }

    /// Begins an attempt on the connection of `epoch`: the frame to send.
    pub fn attempt(
        &mut self,
        id: u64,
        epoch: u64,
        since: u64,
        now: Instant,
        options: &Options,
    ) -> ClientFrame {
        if let (Command::Write(write), 0) = (&mut self.command, self.attempts) {
            write.since = since;
        }
        self.attempts += 1;
        self.phase = Phase::Sent { epoch, at: now };
        // The node's own time ends a little before the caller's, so that its answer still arrives.
        let left = (self.deadline.saturating_duration_since(now)).mul_f64(0.9);
        // Where there is no second attempt, the first has all the time.
        let most = if self.is_repeatable() { options.attempt_timeout } else { left };
        let timeout = left.min(most).min(REQUEST_TIMEOUT_MAX);
        Frame::Request(Request {
            id,
            timeout_ms: timeout.as_millis().max(1) as u32,
            command: Some(self.command.clone()),
        })
        .into()
    }

    /// The connection of its attempt ended without an answer. `true` if that is its end: there will
    /// be no other attempt.
    pub fn lost(&mut self, cause: &str, now: Instant) -> bool {
        self.maybe_applied |= self.is_change();
        self.wait(cause, now);
        !self.is_repeatable()
    }

    /// No node will have this client at all.
    pub fn stop(self, refusal: Refusal) {
        let error =
            if self.maybe_applied { Error::unknown(refusal.message) } else { Error::from(refusal) };
        self.complete(Err(error));
    }

    /// There is no connection to send it on.
    pub fn unsent(&mut self, cause: &str) {
        self.cause = Some(cause.to_owned());
    }

    fn wait(&mut self, cause: impl Into<String>, until: Instant) {
        self.phase = Phase::Waiting { until };
        self.cause = Some(cause.into());
    }

    /// The attempt on `link` was refused: prepares the next one, or tells that there is none.
    /// `since` is the largest `applied` seen, this answer's included.
    pub fn refused(&mut self, refusal: Refusal, link: &Link, since: u64, now: Instant) -> Next {
        if self.renew(&refusal, since) {
            self.wait(refusal.message, now + backoff(self.attempts));
            return Next::Stay;
        }
        // Whoever ran out of time with a removal may have passed it on.
        let is_open =
            refusal.maybe_applied || refusal.code() == Code::Timeout && !self.is_repeatable();
        self.maybe_applied |= is_open && self.is_change();
        let next = self.next(&refusal, link, now);
        if !matches!(next, Next::Stop(_)) {
            let cause = format!("{}: {}", link.address, refusal.message);
            self.wait(cause, now + backoff(self.attempts));
        }
        next
    }

    fn next(&self, refusal: &Refusal, link: &Link, now: Instant) -> Next {
        if self.maybe_applied && !self.is_repeatable() {
            return Next::Stop(Error::unknown(refusal.message.clone()));
        }
        let elsewhere = if link.is_settled(now) { Next::Rotate } else { Next::Stay };
        match refusal.code() {
            Code::NotLeader if !["", &link.address].contains(&&*refusal.leader_address) => {
                Next::Follow(refusal.leader_address.clone())
            }
            Code::NotLeader | Code::NoQuorum => elsewhere,
            Code::Overloaded | Code::FormingCluster => Next::Stay,
            Code::Timeout | Code::Stopping => Next::Rotate,
            Code::OutcomeUnknown if self.is_change() => {
                Next::Stop(Error::unknown(refusal.message.clone()))
            }
            // Every attempt meets these two alike, so that no earlier one can have been applied.
            Code::Invalid | Code::TooLarge => Next::Stop(refusal.clone().into()),
            _ if self.maybe_applied => Next::Stop(Error::unknown(format!(
                "an earlier attempt got no answer, and a later one was refused: {}",
                refusal.message
            ))),
            _ => Next::Stop(refusal.clone().into()),
        }
    }

    /// A client that was idle for long has an old `since`, and its next write may be refused as of
    /// unknown outcome on its first attempt. No other attempt exists and this one was not applied:
    /// so a new write, under a new id and with the fresh `since`, cannot be a second application.
    fn renew(&mut self, refusal: &Refusal, since: u64) -> bool {
        let Command::Write(write) = &mut self.command else { return false };
        let sole_and_not_applied =
            self.attempts == 1 && !self.maybe_applied && !refusal.maybe_applied;
        if refusal.code() != Code::OutcomeUnknown || !sole_and_not_applied || since <= write.since {
            return false;
        }
        let Ok(request_id) = new_request_id() else { return false };
        write.request_id = request_id;
        self.attempts = 0;
        true
    }

    /// Whether its attempt is on the connection of `epoch`, and since when.
    pub fn sent_on(&self, epoch: u64) -> Option<Instant> {
        match self.phase {
            Phase::Sent { epoch: on, at } if on == epoch => Some(at),
            _ => None,
        }
    }

    /// Gives the caller the answer.
    pub fn complete(self, result: Result<Response>) {
        // Fails if the caller no longer waits, which is its right.
        let _ = self.sender.send(result);
    }

    /// What is known when there is no more time, or no more client. `endpoints` is where it was to go.
    pub fn verdict(&self, why: &str, endpoints: &[String]) -> Error {
        let in_flight = matches!(self.phase, Phase::Sent { .. });
        let cause = match &self.cause {
            Some(cause) if in_flight => format!("{why} without an answer (before that: {cause})"),
            Some(cause) => format!("{why} ({cause})"),
            None if in_flight => format!("{why} without an answer"),
            // It has waited for a connection since it came.
            None => format!("{why} (no connection to {} yet)", endpoints.join(", ")),
        };
        if self.is_change() && (self.maybe_applied || in_flight) {
            Error::unknown(cause)
        } else {
            Error::unavailable(cause)
        }
    }

    /// Whether it changes anything, so that the caller must know if it was done.
    fn is_change(&self) -> bool {
        matches!(
            self.command,
            Command::Write(_) | Command::RemoveMember(_) | Command::TransferLeader(_)
        )
    }

    /// Whether another attempt does no harm, whatever became of those before: a write is known by its
    /// id, and a transfer to the node that leads already changes nothing.
    pub fn is_repeatable(&self) -> bool {
        !matches!(self.command, Command::RemoveMember(_))
    }
}

impl From<Frame> for ClientFrame {
    fn from(frame: Frame) -> ClientFrame {
        ClientFrame { frame: Some(frame) }
    }
}

/// 16 random bytes that name a write.
pub(super) fn new_request_id() -> Result<Bytes> {
    let mut id = [0; REQUEST_ID_LEN];
    getrandom::fill(&mut id)
        .map_err(|e| Error::Setup(format!("the system gives no random numbers: {e}")))?;
    Ok(Bytes::copy_from_slice(&id))
}

/// The pause after so many attempts: doubling, with jitter so that clients that failed together do
/// not return together.
pub(super) fn backoff(attempts: u32) -> Duration {
    let doubled = CLIENT_BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(CLIENT_BACKOFF_MAX).mul_f64(0.5 + fastrand::f64() / 2.0)
}
