//! Clients that write and read, retry, and remember what they were told, so that it can be held against the cluster.
//!
//! Client `c` owns the register `r<c>`, which it sets to 1, 2, 3 and so on, each time in one transaction with a key of
//! that write alone. So a version above 1 of such a key is a write applied twice, and a missing key one that was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::machine::Machine;
use super::world::{Answer, World};
use crate::wire::client::{
    Code, Error as Refusal, Get, Op, Put, Response, Txn, Write, op, request, response,
};

const TIMEOUT: Duration = Duration::from_millis(800);

/// What a client knows of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not answered, or in a way that tells nothing.
    Unknown,
    Acknowledged,
    /// No attempt can have been applied.
    Refused,
}

struct Attempts {
    number: u64,
    write: Write,
    /// The attempt in flight.
    request: Option<u64>,
    /// An attempt may have been applied.
    maybe_applied: bool,
    again_at: Duration,
}

struct Reading {
    request: u64,
    register: usize,
    stale: bool,
    /// The register had this value at least when the read began.
    floor: u64,
}

#[derive(Default)]
struct Client {
    number: u64,
    since: u64,
    writing: Option<Attempts>,
    reading: Option<Reading>,
}

/// The connection that orders come on; what becomes of them is not the clients' concern.
pub(super) const OPERATOR: super::super::ConnectionId = 99;

pub(super) struct Clients {
    clients: Vec<Client>,
    /// By client and number.
    fates: BTreeMap<(usize, u64), Fate>,
    /// From when on each register is known to have had which value, at least.
    floors: Vec<Vec<(Duration, u64)>>,
    /// Of a round of [`Clients::act`], that a client that is idle writes.
    pub eagerness: f64,
    pub reads: u64,
    pub aged_reads: u64,
}

impl Clients {
    pub fn new(count: usize) -> Clients {
        Clients {
            clients: (0..count).map(|_| Client::default()).collect(),
            fates: BTreeMap::new(),
            floors: vec![vec![(Duration::ZERO, 0)]; count],
            eagerness: 0.3,
            reads: 0,
            aged_reads: 0,
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.fates.values().filter(|fate| **fate == Fate::Acknowledged).count()
    }

    /// Whether no write is under way.
    pub fn are_idle(&self) -> bool {
        self.clients.iter().all(|client| client.writing.is_none())
    }

    /// Takes the answers that came, and lets each client begin something.
    pub fn act(&mut self, world: &mut World) {
        self.take_answers(world);
        for c in 0..self.clients.len() {
            let machines = world.running();
            if machines.is_empty() {
                return;
            }
            let begins = world.rng.f64() < self.eagerness;
            if self.clients[c].writing.is_none() && begins {
                self.begin_write(c, world);
            }
            let to = machines[world.rng.usize(..machines.len())];
            self.send_write(c, to, world);
            let to = machines[world.rng.usize(..machines.len())];
            if self.clients[c].reading.is_none() && world.rng.f64() < 0.3 {
                self.begin_read(c, to, world);
            }
        }
    }

    fn begin_write(&mut self, c: usize, world: &mut World) {
        let client = &mut self.clients[c];
        client.number += 1;
        let number = client.number;
        let value = Bytes::from(number.to_string());
        let put = |key: String| {
            let put = Put { key: key.into(), value: value.clone() };
            Op { op: Some(op::Op::Put(put)) }
        };
        let success = vec![put(register(c)), put(own_key(c, number))];
        let write = Write {
            request_id: world.rng.u128(..).to_be_bytes().to_vec().into(),
            since: client.since,
            txn: Some(Txn { success, ..Txn::default() }),
        };
        self.fates.insert((c, number), Fate::Unknown);
        client.writing = Some(Attempts {
            number,
            write,
            request: None,
            maybe_applied: false,
            again_at: world.now,
        });
    }

    fn send_write(&mut self, c: usize, to: usize, world: &mut World) {
        if let Some(writing) = &mut self.clients[c].writing
            && writing.request.is_none()
            && world.now >= writing.again_at
        {
            let command = request::Command::Write(writing.write.clone());
            writing.request = Some(world.request(to, c as u64, TIMEOUT, command));
        }
    }

    fn begin_read(&mut self, c: usize, to: usize, world: &mut World) {
        let register = world.rng.usize(..self.clients.len());
        let stale = world.rng.u8(..4) == 0;
        let get = Get { key: self::register(register).into(), stale };
        let request = world.request(to, c as u64, TIMEOUT, request::Command::Get(get));
        let floor = self.floor(register);
        self.clients[c].reading = Some(Reading { request, register, stale, floor });
    }

    fn floor(&self, register: usize) -> u64 {
        self.floors[register].last().expect("there is a first").1
    }

    /// The register is known to have that value now.
    fn raise(&mut self, register: usize, at: Duration, value: u64) {
        if value > self.floor(register) {
            self.floors[register].push((at, value));
        }
    }

    pub fn take_answers(&mut self, world: &mut World) {
        for Answer { at, connection, id, response } in world.take_answers() {
            let c = connection as usize;
            if connection == OPERATOR {
                continue;
            }
            if let Some(response) = &response {
                self.clients[c].since = self.clients[c].since.max(response.applied);
            }
            let client = &mut self.clients[c];
            if client.writing.as_ref().is_some_and(|writing| writing.request == Some(id)) {
                self.end_attempt(c, at, response, world);
            } else if let Some(reading) = client.reading.take_if(|reading| reading.request == id) {
                self.end_read(&reading, at, response);
            } else {
                panic!("an answer to no request: {id}");
            }
        }
    }

    fn end_attempt(
        &mut self,
        c: usize,
        at: Duration,
        response: Option<Response>,
        world: &mut World,
    ) {
        let mut writing = self.clients[c].writing.take().expect("checked by the caller");
        writing.request = None;
        let number = writing.number;
        match response.map(|response| response.result) {
            Some(Some(response::Result::Txn(result))) => {
                assert!(result.succeeded && result.results.len() == 2, "{result:?}");
                self.fates.insert((c, number), Fate::Acknowledged);
                check_durable(world, &writing.write);
                return self.raise(c, at, number);
            }
            Some(Some(response::Result::Error(refused))) => {
                let Refusal { maybe_applied, .. } = refused;
                writing.maybe_applied |= maybe_applied;
                if refused.code() == Code::OutcomeUnknown {
                    return;
                }
                if !writing.maybe_applied && world.rng.u8(..3) == 0 {
                    self.fates.insert((c, number), Fate::Refused);
                    return;
                }
            }
            Some(other) => panic!("a write is answered with {other:?}"),
            None => writing.maybe_applied = true,
        }
        writing.again_at = world.now + Duration::from_millis(world.rng.u64(5..200));
        self.clients[c].writing = Some(writing);
    }

    fn end_read(&mut self, reading: &Reading, at: Duration, response: Option<Response>) {
        let Some(Response { result: Some(response::Result::Get(result)), stale_ms, .. }) = response
        else {
            return;
        };
        let value = result.kv.map_or(0, |kv| number(&kv.value));
        let register = reading.register;
        assert!(value <= self.clients[register].number, "a value that nobody wrote");
        if !reading.stale {
            self.reads += 1;
            assert!(
                value >= reading.floor,
                "a read of register {register} gives {value}, and {} was acknowledged before",
                reading.floor
            );
            return self.raise(register, at, value);
        }
        if let Some(age_ms) = stale_ms {
            self.aged_reads += 1;
            // Told in whole milliseconds, rounded down.
            let as_of = at.saturating_sub(Duration::from_millis(age_ms + 1));
            let known = self.floors[register].iter().rev().find(|(since, _)| *since <= as_of);
            let floor = known.map_or(0, |(_, value)| *value);
            assert!(value >= floor, "a stale read is older than the {age_ms} ms that it tells");
        }
    }

    /// Holds what the clients were told against the state of every machine.
    pub fn check(&self, world: &World) {
        for i in world.running() {
            let get =
                |key: String| world.node(i).store.get(key.as_bytes()).expect("a map in memory");
            let mut applied = vec![(0, 0); self.clients.len()];
            for (&(c, number), fate) in &self.fates {
                let version = get(own_key(c, number)).map_or(0, |kv| kv.version);
                let allowed = match fate {
                    Fate::Acknowledged => 1..=1,
                    Fate::Refused => 0..=0,
                    Fate::Unknown => 0..=1,
                };
                assert!(
                    allowed.contains(&version),
                    "{}: write {number} of client {c} is {fate:?}, and was applied {version} times",
                    world.machines[i].name
                );
                if version > 0 {
                    applied[c] = (applied[c].0 + 1, number);
                }
            }
            for (c, expected) in applied.into_iter().enumerate() {
                let found =
                    get(register(c)).map_or((0, 0), |kv| (kv.version, self::number(&kv.value)));
                assert_eq!(found.0, expected.0, "writes of client {c}, counted by their register");
            }
        }
    }
}

/// An acknowledged write is on the disks of a majority of the voters: one of one, two of three; of five machines, three may
/// vote as yet.
fn check_durable(world: &World, write: &Write) {
    let has = |machine: &&Machine| machine.witness.has_write(&write.request_id);
    let durable = world.machines.iter().filter(has).count();
    let needed = if world.machines.len() < 3 { 1 } else { 2 };
    assert!(durable >= needed, "acknowledged, and on {durable} disks");
}

fn register(c: usize) -> String {
    format!("r{c}")
}

fn own_key(c: usize, number: u64) -> String {
    format!("w{c}/{number}")
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("digits").parse().expect("a number")
}
