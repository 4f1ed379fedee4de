//! The table of calls, and the rules by which they are sent, answered and sent again.
//!
//! Three kinds of thread meet here, under one lock that is never held across I/O:
//!
//! - **callers** put a call into the table and, when there is a connection, write it to the socket
//!   themselves;
//! - the **reader** of the connection takes answered calls out of the table and wakes their
//!   callers;
//! - the **driver** (one per client) does what takes time: it connects, sends again what was lost
//!   or refused, expires calls, and ends connections that fell silent.
//!
//! Invariants:
//! - A call leaves the table exactly once, and its caller gets exactly one result.
//! - There is at most one connection. When it ends, every call that was sent on it goes back to
//!   waiting, or ends where it may not be sent again.
//! - Nothing is sent before a node has told its `applied`: a write needs a `since`.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::call::{Call, Next, Phase, backoff};
use super::connection::{ConnectError, Incoming, Link};
use super::{Error, Options, Result};
use crate::limits::{REQUESTS_PER_CLIENT_MAX, WRITE_LEN_MAX};
use crate::wire::client::{
    ClientFrame, Response, Welcome, request::Command, response, server_frame::Frame,
};

/// While there are calls, the driver looks at them at least so often: callers do not wake it for each.
const DRIVER_TICK: Duration = Duration::from_millis(100);
/// How many calls the driver sends again between two looks at the table.
const RESEND_MAX: usize = 64;

/// What the threads of a client share.
#[derive(Debug)]
pub(super) struct Core {
    pub options: Options,
    endpoints: Vec<String>,
    state: Mutex<State>,
    /// Something for the driver to do.
    work: Condvar,
    /// A place in the table came free.
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    calls: HashMap<u64, Call>,
    next_id: u64,
    /// The largest `applied` that any node has told.
    since: u64,
    /// The cluster that this client talks to, once known: no other is accepted later.
    cluster_id: Bytes,
    link: Option<Arc<Link>>,
    /// When the connection last brought anything.
    heard: Option<Instant>,
    /// Connections opened so far.
    epoch: u64,
    /// Which endpoint is next.
    cursor: usize,
    /// Where the leader is said to be: tried before the endpoints.
    hint: Option<String>,
    /// A hint that led nowhere: not followed again.
    dead_hint: Option<String>,
    /// Connections in a row that brought no answer.
    failures: u32,
    /// Nodes in a row that will not have this client.
    refusals: usize,
    /// No connection is tried before that.
    connect_at: Option<Instant>,
    /// The driver waits to be woken.
    parked: bool,
    closed: bool,
}

/// What the driver does next, without the lock.
#[derive(Debug)]
pub(super) enum Job {
    Connect { address: String, cluster_id: Bytes, epoch: u64 },
    Send { link: Arc<Link>, frames: Vec<ClientFrame> },
    Stop,
}

impl Core {
    pub fn new(endpoints: Vec<String>, options: Options) -> Core {
        assert!(!endpoints.is_empty(), "a client has an endpoint");
        Core {
            options,
            endpoints,
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }

    /// Where nodes are, as the caller named them.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock but a failed assertion, and callers have their deadline.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- Callers. ----

    /// Takes a call and sends it if there is a connection. Blocks while the table is full.
    pub fn submit(&self, command: Command, deadline: Instant) -> (u64, Receiver<Result<Response>>) {
        let (sender, receiver) = sync_channel(1);
        let mut call = Call::new(command, deadline, sender);
        let mut state = self.lock();
        while state.calls.len() >= REQUESTS_PER_CLIENT_MAX {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                call.complete(Err(Error::unavailable(format!(
                    "{REQUESTS_PER_CLIENT_MAX} requests of this client are in flight already"
                ))));
                return (state.take_id(), receiver);
            }
            state = self.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let id = state.take_id();
        let direct = state.link.clone().map(|link| {
            let frame = call.attempt(id, link.epoch, state.since, Instant::now(), &self.options);
            (link, frame)
        });
        state.calls.insert(id, call);
        if state.parked || direct.is_none() {
            self.work.notify_one();
        }
        drop(state);
        if let Some((link, frame)) = direct {
            link.send([&frame]);
        }
        (id, receiver)
    }

    /// The caller's time is up: takes the call out of the table and tells what is known of it.
    /// `None` if it was answered at the last moment.
    pub fn give_up(&self, id: u64) -> Option<Error> {
        let call = self.lock().calls.remove(&id)?;
        self.room.notify_one();
        Some(call.verdict(&self.time_is_up(), &self.endpoints))
    }

    /// Ends the client: nothing is sent any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(link) = state.link.take() {
            link.close();
        }
        for (_, call) in state.calls.drain() {
            let verdict = call.verdict("the client was closed", &self.endpoints);
            call.complete(Err(verdict));
        }
        self.work.notify_one();
    }

    fn time_is_up(&self) -> String {
        format!("{:?} passed", self.options.timeout)
    }

    // ---- The reader. ----

    /// Reads one connection until it ends.
    pub fn read(&self, link: &Link, mut incoming: Incoming) {
        let end = loop {
            match incoming.next() {
                Ok(Frame::Response(response)) => self.answered(link, response),
                Ok(Frame::Error(refusal)) => break refusal.message,
                Ok(Frame::Welcome(_)) => break "a second welcome".to_owned(),
                Err(what) => break what,
            }
        };
        self.ended(link, &end);
    }

    /// A connection is at its end.
    pub fn ended(&self, link: &Link, why: &str) {
        link.close();
        let cause = format!("the connection to {} ended: {why}", link.address);
        let mut state = self.lock();
        if self.leave(&mut state, link.epoch, &cause) {
            state.cursor += 1;
            self.delay_connect(&mut state);
            self.work.notify_one();
        }
    }

    fn answered(&self, link: &Link, mut response: Response) {
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        state.since = state.since.max(response.applied);
        state.heard = Some(now);
        state.failures = 0;
        // No such call: its caller gave up.
        let Some(call) = state.calls.get_mut(&response.id) else { return };
        let id = response.id;
        let result = match response.result.take() {
            // The refusal of an attempt that was replaced meanwhile says nothing.
            Some(response::Result::Error(_)) if call.sent_on(link.epoch).is_none() => return,
            Some(response::Result::Error(refusal)) => {
                match call.refused(refusal, link, state.since, now) {
                    Next::Stop(error) => Err(error),
                    next => {
                        self.turn_to(state, next, link);
                        self.work.notify_one();
                        return;
                    }
                }
            }
            result => {
                state.dead_hint = None;
                Ok(Response { result, ..response })
            }
        };
        let call = state.calls.remove(&id).expect("it was found above, under the same lock");
        self.room.notify_one();
        drop(guard);
        call.complete(result);
    }

    /// Acts on a refusal that came over `link`.
    fn turn_to(&self, state: &mut State, next: Next, link: &Link) {
        match next {
            Next::Stay | Next::Stop(_) => return,
            Next::Follow(address) if state.dead_hint.as_ref() != Some(&address) => {
                state.hint = Some(address);
            }
            // There is no other.
            Next::Follow(_) | Next::Rotate if self.endpoints == [&*link.address] => return,
            // The leader is said to be where it is not: this node may not know better for long.
            Next::Follow(_) if !link.is_settled(Instant::now()) => return,
            Next::Follow(_) | Next::Rotate => state.cursor += 1,
        }
        link.close();
        self.leave(state, link.epoch, &format!("left {} for another node", link.address));
    }

    /// Forgets the connection of `epoch`; what was sent on it waits to be sent again, where it may be.
    /// `false` if it was left before.
    fn leave(&self, state: &mut State, epoch: u64, cause: &str) -> bool {
        if state.link.as_ref().is_none_or(|link| link.epoch != epoch) {
            return false;
        }
        state.link = None;
        let now = Instant::now();
        let ended = state
            .calls
            .extract_if(|_, call| call.sent_on(epoch).is_some() && call.lost(cause, now));
        for (_, call) in ended {
            call.complete(Err(Error::unknown(cause)));
            self.room.notify_one();
        }
        true
    }

    // ---- The driver. ----

    /// Waits for the next thing to do.
    pub fn next_job(&self) -> Job {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Job::Stop;
            }
            let now = Instant::now();
            self.expire(&mut state, now);
            self.leave_if_hung(&mut state, now);
            if state.calls.is_empty() {
                state.parked = true;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.parked = false;
                continue;
            }
            let wake_at = match state.link.clone() {
                None => match state.connect_at {
                    Some(at) if at > now => at,
                    _ => return self.connect_job(&mut state),
                },
                Some(link) => {
                    let frames = self.due(&mut state, &link, now);
                    if !frames.is_empty() {
                        return Job::Send { link, frames };
                    }
                    state.next_due().unwrap_or(now + DRIVER_TICK)
                }
            };
            let pause = wake_at.saturating_duration_since(now).min(DRIVER_TICK);
            state = self.work.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Callers that wait see to their deadline themselves; this is for those that do not.
    fn expire(&self, state: &mut State, now: Instant) {
        for (_, call) in state.calls.extract_if(|_, call| call.deadline <= now) {
            let verdict = call.verdict(&self.time_is_up(), &self.endpoints);
            call.complete(Err(verdict));
            self.room.notify_one();
        }
    }

    /// A connection that brought nothing for the time of an attempt, with a call on it for as long,
    /// is given up: the node may be stopped, or the path to it broken, with no one to say so. A call
    /// that could not be sent again gains nothing by that.
    fn leave_if_hung(&self, state: &mut State, now: Instant) {
        let Some(link) = state.link.clone() else { return };
        let repeatable = state.calls.values().filter(|call| call.is_repeatable());
        let oldest = repeatable.filter_map(|call| call.sent_on(link.epoch)).min();
        let (Some(sent), Some(heard)) = (oldest, state.heard) else { return };
        if sent.max(heard) + self.options.attempt_timeout > now {
            return;
        }
        link.close();
        let silence = self.options.attempt_timeout;
        let cause = format!("no answer from {} for {silence:?}", link.address);
        self.leave(state, link.epoch, &cause);
        state.cursor += 1;
    }

    /// Begins an attempt of the calls whose time has come, as far as they fit into one write.
    fn due(&self, state: &mut State, link: &Link, now: Instant) -> Vec<ClientFrame> {
        let mut frames = Vec::new();
        let mut len = 0;
        for (&id, call) in &mut state.calls {
            if frames.len() == RESEND_MAX || len > WRITE_LEN_MAX {
                break;
            }
            if matches!(call.phase, Phase::Waiting { until } if until <= now) {
                let frame = call.attempt(id, link.epoch, state.since, now, &self.options);
                len += prost::Message::encoded_len(&frame);
                frames.push(frame);
            }
        }
        frames
    }

    fn connect_job(&self, state: &mut State) -> Job {
        state.epoch += 1;
        let address = match &state.hint {
            Some(hint) => hint.clone(),
            None => self.endpoints[state.cursor % self.endpoints.len()].clone(),
        };
        Job::Connect { address, cluster_id: state.cluster_id.clone(), epoch: state.epoch }
    }

    /// There is a connection. `false` if the client was closed meanwhile.
    pub fn connected(&self, link: Arc<Link>, welcome: Welcome) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        assert!(state.link.is_none(), "a client has one connection");
        state.since = state.since.max(welcome.applied);
        if let (true, Some(node)) = (state.cluster_id.is_empty(), welcome.node) {
            state.cluster_id = node.cluster_id;
        }
        state.heard = Some(Instant::now());
        state.refusals = 0;
        state.hint = None;
        state.link = Some(link);
        true
    }

    /// There is none: the next endpoint is tried, after a pause if each was.
    pub fn not_connected(&self, error: ConnectError) {
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(hint) = state.hint.take() {
            state.dead_hint = Some(hint);
        } else {
            state.cursor += 1;
            self.delay_connect(state);
            state.refusals = if error.refused.is_some() { state.refusals + 1 } else { 0 };
        }
        for call in state.calls.values_mut() {
            call.unsent(&error.message);
        }
        match error.refused {
            Some(refusal) if state.refusals >= self.endpoints.len() => {
                for (_, call) in state.calls.drain() {
                    call.stop(refusal.clone());
                }
                self.room.notify_all();
            }
            _ => {}
        }
    }

    /// Counts a connection that brought nothing, and once all endpoints had their turn makes the
    /// next one wait.
    fn delay_connect(&self, state: &mut State) {
        state.failures += 1;
        let rounds = state.failures / self.endpoints.len() as u32;
        let whole_round = state.failures.is_multiple_of(self.endpoints.len() as u32);
        state.connect_at = whole_round.then(|| Instant::now() + backoff(rounds));
    }
}

impl State {
    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The earliest time at which a waiting call is to be sent.
    fn next_due(&self) -> Option<Instant> {
        let waiting = self.calls.values().filter_map(|call| match call.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Sent { .. } => None,
        });
        waiting.min()
    }
}
