//! Requests of clients to the machines, and the answers.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::checkers::{Checker, Finding};
use super::machine::Input;
use super::world::World;
use crate::node::ConnectionId;
use crate::wire::client::{
    Op, Put, Request, Response, TransferLeader, Txn, Write, op, request, response,
};
use crate::wire::peer::{Forward, forward};

/// What a client learns.
pub struct Answer {
    /// When.
    pub at: Duration,
    /// See [`World::next_moment`].
    pub moment: u64,
    /// On which connection.
    pub connection: ConnectionId,
    /// To which request.
    pub id: u64,
    /// `None`: the connection ended first.
    pub response: Option<Response>,
}

/// A request that a machine has yet to answer.
pub struct Pending {
    /// Until when.
    deadline: Duration,
    /// Of a write, its request id.
    write: Option<Bytes>,
}

/// An answer may be that late: deadlines are looked at once per tick of TICK_MS.
const ANSWER_LATE_MAX: Duration = Duration::from_millis(210);

impl World {
    /// Sends a request to a machine that runs; gives its id.
    pub fn request(
        &mut self,
        i: usize,
        connection: ConnectionId,
        timeout: Duration,
        command: request::Command,
    ) -> u64 {
        self.last_request += 1;
        let id = self.last_request;
        let timeout_ms = timeout.as_millis() as u32;
        let write = match &command {
            request::Command::Write(write) => Some(write.request_id.clone()),
            _ => None,
        };
        let request = Request { id, timeout_ms, command: Some(command) };
        // One that stands still takes it in later, and each waits by its own clock.
        let begins = self.now.max(self.machines[i].paused_until);
        let pending = Pending { deadline: begins + timeout + self.drift_of(timeout), write };
        let process = self.machines[i].process.as_mut().expect("a machine that runs");
        process.unanswered.insert((connection, id), pending);
        self.input(i, Input::Request(connection, request));
        id
    }

    /// host:port of a machine.
    pub fn address(&self, i: usize) -> String {
        self.machines[i].address()
    }

    /// Sends a write of one key.
    pub fn put(&mut self, i: usize, key: &str, timeout: Duration) -> u64 {
        let put = Put { key: key.to_owned().into(), value: "value".into() };
        let success = vec![Op { op: Some(op::Op::Put(put)) }];
        let request_id = self.rng.u128(..).to_be_bytes().to_vec().into();
        let since = self.node(i).applied_index();
        let write = Write { request_id, since, txn: Some(Txn { success, ..Txn::default() }) };
        self.request(i, 0, timeout, request::Command::Write(write))
    }

    /// Has a machine lead, by an order of an operator.
    ///
    /// # Panics
    /// If it does not lead then.
    pub fn transfer_leader(&mut self, to: usize) {
        let name = self.machines[to].name.clone();
        let order = TransferLeader { name, raft_id: 0 };
        self.request(to, 0, Duration::from_secs(30), request::Command::TransferLeader(order));
        self.run_until("the order is done", |world| world.unanswered(to) == 0);
        self.take_answers();
        assert_eq!(self.leader(), Some(to));
    }

    /// What clients do and learn has each its own moment, in their order: several answers may come at one time.
    pub fn next_moment(&mut self) -> u64 {
        self.last_moment += 1;
        self.last_moment
    }

    /// The answers that came since the last time.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    /// The answers on one connection that came since the last time.
    pub fn take_answers_on(&mut self, connection: ConnectionId) -> Vec<Answer> {
        self.answers.extract_if(.., |answer| answer.connection == connection).collect()
    }

    pub(super) fn reply(&mut self, i: usize, connection: ConnectionId, response: Response) {
        let id = response.id;
        self.tell(|world| super::words::answer(world, i, &response));
        self.trace.add_bytes(&response.encode_to_vec());
        let Some(pending) = self.process(i).unanswered.remove(&(connection, id)) else {
            let name = &self.machines[i].name;
            let what = format!("{name} answers request {id} twice, or one that was never asked");
            return self.fail(Checker::Answers, what);
        };
        if let (Some(request_id), Some(response::Result::Txn(_))) =
            (pending.write, &response.result)
        {
            let found = self.is_durable(i, &request_id);
            self.check(Checker::AcknowledgedIsDurable, found);
        }
        self.note_answer(connection, id, Some(response));
    }

    /// Whether a client asked the machine for the write that it forwards.
    pub(super) fn is_asked(&mut self, i: usize, forward: &Forward) -> Finding {
        let Some(forward::Command::Write(write)) = &forward.command else { return Ok(()) };
        let mut asked = self.process(i).unanswered.values().filter_map(|it| it.write.as_ref());
        match asked.any(|request_id| *request_id == write.request_id) {
            true => Ok(()),
            false => {
                let name = &self.machines[i].name;
                Err(format!("{name} forwards a write that no client of it waits for"))
            }
        }
    }

    pub(super) fn note_answer(
        &mut self,
        connection: ConnectionId,
        id: u64,
        response: Option<Response>,
    ) {
        let (at, moment) = (self.now, self.next_moment());
        self.answers.push(Answer { at, moment, connection, id, response });
    }

    pub(super) fn check_answered(&mut self, i: usize) {
        let now = self.now;
        let unanswered = self.process(i).unanswered.iter();
        let late: Vec<u64> = unanswered
            .filter(|(_, pending)| now > pending.deadline + ANSWER_LATE_MAX)
            .map(|((_, id), _)| *id)
            .collect();
        if let Some(id) = late.first() {
            let what = format!("{} does not answer request {id} in time", self.machines[i].name);
            self.fail(Checker::Answers, what);
        }
    }

    /// After a pause: requests that were overdue are so by that much less.
    pub(super) fn forgive(&mut self, i: usize, pause: Duration) {
        let unanswered = self.process(i).unanswered.values_mut();
        unanswered.for_each(|pending| pending.deadline += pause);
    }
}
