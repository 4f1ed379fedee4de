//! One client, and the record of all that it was told: an operation is called before its first byte leaves, answered
//! when the caller has the answer, open where the client does not know, failed only where it is certain.

use std::time::Instant;

use phalanx::client::{Client, Code, Error, Txn};
use phalanx::sim::history::{Answer, Asked, End, History};
use phalanx::wire::client as wire;

pub struct Recorder {
    /// Tells clients apart.
    pub number: u64,
    client: Client,
    /// When time began, for all clients of a run.
    clock: Instant,
    pub history: History,
}

impl Recorder {
    pub fn new(number: u64, client: Client, clock: Instant) -> Recorder {
        Recorder { number, client, clock, history: History::default() }
    }

    /// Asks, waits, and records both. `None`: no answer.
    pub fn ask(&mut self, asked: Asked) -> Option<Answer> {
        let id = self.history.call(self.number, self.now_ns(), asked.clone());
        let answered = self.send(asked);
        let at = self.now_ns();
        match answered {
            Ok((revision, answer)) => {
                self.history.answer(id, at, Some(revision), answer.clone());
                return Some(answer);
            }
            Err(Error::Unknown { .. }) => {}
            Err(Error::Unavailable { .. } | Error::Refused { code: Code::NoSpace, .. }) => {
                self.history.fail(id);
            }
            Err(error) => panic!("{}: {error}", self.history[id]),
        }
        None
    }

    /// Whether it is unknown what became of what was asked last.
    pub fn left_open(&self) -> bool {
        self.history.operations().last().is_some_and(|last| last.end == End::Open)
    }

    fn send(&self, asked: Asked) -> Result<(u64, Answer), Error> {
        Ok(match asked {
            Asked::Get(key) => {
                let reply = self.client.get(key)?;
                (reply.revision, Answer::got(reply.result))
            }
            Asked::Range(range) => {
                let reply = self.client.range(range)?;
                (reply.revision, Answer::Range(reply.result))
            }
            Asked::Write(txn) => {
                let reply = self.client.txn(for_client(txn))?;
                (reply.revision, Answer::Write(reply.result))
            }
        })
    }

    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

fn for_client(txn: wire::Txn) -> Txn {
    let made = txn.compares.into_iter().fold(Txn::new(), Txn::when);
    let made = txn.success.into_iter().fold(made, Txn::then);
    txn.failure.into_iter().fold(made, Txn::otherwise)
}
