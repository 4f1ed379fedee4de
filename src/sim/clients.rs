//! Clients that write and read, retry, and remember what they were told, so that it can be held against the cluster.
//!
//! Client `c` owns the register `r<c>`, which it sets to 1, 2, 3 and so on, each time in one transaction with a key of
//! that write alone. So a version above 1 of such a key is a write applied twice, and a missing key one that was lost.
//! Besides, some of these transactions put or swap keys that all clients share.
//!
//! Where MAX_BYTES is set they also fill the store up. A client that is told so makes room: it deletes what it put for nothing
//! else, which must get through however full the store is. A write that was refused for that is never done, now or later.
//!
//! All of it is recorded too, and the whole must be linearizable, as `sim` judges it. No value is written twice to a key.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::checkers::Checker;
use super::history::{self, Asked, History, OperationId, put};
use super::requests::Answer;
use super::world::World;
use crate::wire::client::{
    Code, Compare, DeleteRange, Error as Refusal, Get, GetOp, Op, Range, Response, Txn, Write,
    compare, op, request, response,
};

const TIMEOUT: Duration = Duration::from_millis(800);

/// All clients write them.
const SHARED_KEYS: [&str; 2] = ["s0", "s1"];

/// What a client knows of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not answered, or in a way that tells nothing.
    Unknown,
    /// Done.
    Acknowledged,
    /// No attempt can have been applied.
    Refused,
}

struct Attempts {
    /// `None`: it makes room, and has no key of its own.
    number: Option<u64>,
    write: Write,
    recorded: OperationId,
    /// The attempt in flight.
    request: Option<u64>,
    /// An attempt may have been applied.
    maybe_applied: bool,
    again_at: Duration,
}

struct Reading {
    request: u64,
    /// `None`: it reads something else.
    register: Option<usize>,
    stale: bool,
    /// The register had this value at least when the read began.
    floor: u64,
    /// As a read that must not be stale.
    recorded: Option<OperationId>,
}

#[derive(Default)]
struct Client {
    number: u64,
    since: u64,
    /// By key, the value that it read last.
    seen: BTreeMap<Bytes, Bytes>,
    writing: Option<Attempts>,
    /// The store was full.
    wants_room: bool,
    reading: Option<Reading>,
}

/// The connection that orders come on; what becomes of them is not the clients' concern.
pub const OPERATOR: crate::node::ConnectionId = 99;

/// What a write puts to fill the store up.
const BALLAST_LEN: usize = 100;

/// See the [module](self).
pub struct Clients {
    clients: Vec<Client>,
    /// Of every write, by client and number.
    pub fates: BTreeMap<(usize, u64), Fate>,
    /// From when on each register is known to have had which value, at least.
    floors: Vec<Vec<(Duration, u64)>>,
    /// Of a round of [`Clients::act`], that a client that is idle writes.
    pub eagerness: f64,
    /// They fill the store up, and make room again.
    pub fill_up: bool,
    /// A planted fault: reads without a round of ReadIndex are taken for such with one.
    pub trust_stale_reads: bool,
    /// What they asked and were answered.
    pub history: History,
    /// Linearizable reads of a register.
    pub reads: u64,
    /// Stale reads that told how old they are.
    pub aged_reads: u64,
    /// Swaps that were done, as the key had the value that was expected.
    pub swaps: u64,
    /// Writes that were refused for MAX_BYTES.
    pub over_quota: u64,
    /// Writes that made room.
    pub clearings: u64,
    /// The highest revision of an acknowledged write.
    pub revision: u64,
}

impl Clients {
    /// So many that have done nothing yet.
    pub fn new(count: usize) -> Clients {
        Clients {
            clients: (0..count).map(|_| Client::default()).collect(),
            fates: BTreeMap::new(),
            floors: vec![vec![(Duration::ZERO, 0)]; count],
            eagerness: 0.3,
            fill_up: false,
            trust_stale_reads: false,
            history: History::default(),
            reads: 0,
            aged_reads: 0,
            swaps: 0,
            over_quota: 0,
            clearings: 0,
            revision: 0,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.clients.len()
    }

    /// How many writes were acknowledged.
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
        let (number, txn) = match client.wants_room {
            true => (None, clearing(c)),
            false => {
                client.number += 1;
                let mut txn = client.transaction(c, &mut world.rng);
                if self.fill_up {
                    let key = format!("{}{}", ballast(c), client.number);
                    txn.success.push(put(key, "x".repeat(BALLAST_LEN)));
                }
                (Some(client.number), txn)
            }
        };
        let asked = Asked::Write(txn.clone());
        let write = Write {
            request_id: world.rng.u128(..).to_be_bytes().to_vec().into(),
            since: client.since,
            txn: Some(txn),
        };
        self.fates.extend(number.map(|number| ((c, number), Fate::Unknown)));
        client.writing = Some(Attempts {
            number,
            write,
            recorded: self.history.call(c as u64, world.next_moment(), asked),
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
        let stale = world.rng.u8(..4) == 0;
        let register = (world.rng.u8(..4) > 0).then(|| world.rng.usize(..self.clients.len()));
        let (asked, command) = if register.is_none() && world.rng.bool() {
            let range = Range { from: "r".into(), to: "t".into(), stale, ..Range::default() };
            (Asked::Range(range.clone()), request::Command::Range(range))
        } else {
            let key = register.map_or_else(|| shared_key(&mut world.rng), self::register);
            let key = Bytes::from(key);
            (Asked::Get(key.clone()), request::Command::Get(Get { key, stale }))
        };
        let request = world.request(to, c as u64, TIMEOUT, command);
        let is_judged = !stale || self.trust_stale_reads;
        let recorded = is_judged.then(|| self.history.call(c as u64, world.next_moment(), asked));
        let floor = register.map_or(0, |register| self.floor(register));
        self.clients[c].reading = Some(Reading { request, register, stale, floor, recorded });
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

    /// Takes the answers that came.
    pub fn take_answers(&mut self, world: &mut World) {
        for Answer { at, moment, connection, id, response } in world.take_answers() {
            let c = connection as usize;
            if c >= self.clients.len() {
                // An operator's.
                continue;
            }
            if let Some(response) = &response {
                self.clients[c].since = self.clients[c].since.max(response.applied);
            }
            let client = &mut self.clients[c];
            if let Some(writing) = client.writing.as_ref().filter(|it| it.request == Some(id)) {
                let recorded = writing.recorded;
                self.record(c, moment, Some(recorded), response.as_ref());
                self.end_attempt(c, at, response, world);
            } else if let Some(reading) = client.reading.take_if(|it| it.request == id) {
                self.record(c, moment, reading.recorded, response.as_ref());
                self.end_read(&reading, at, response, world);
            } else {
                world.fail(Checker::Answers, format!("an answer to no request: {id}"));
            }
        }
    }

    /// Takes note of what an answer tells, if it is no refusal.
    fn record(
        &mut self,
        c: usize,
        moment: u64,
        recorded: Option<OperationId>,
        response: Option<&Response>,
    ) {
        let Some(Response { result: Some(result), revision, .. }) = response else { return };
        let Some(answer) = history::Answer::of_response(result) else { return };
        let found = answer.records().map(|kv| (kv.key.clone(), kv.value.clone()));
        self.clients[c].seen.extend(found);
        if matches!(answer, history::Answer::Write(_)) {
            self.revision = self.revision.max(*revision);
        }
        if let Some(id) = recorded {
            self.history.answer(id, moment, Some(*revision), answer);
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
        match response.map(|response| response.result) {
            Some(Some(response::Result::Txn(result))) => {
                let txn = writing.write.txn.as_ref().expect("a write has a transaction");
                let is_swap = !txn.compares.is_empty();
                let ops = if result.succeeded { &txn.success } else { &txn.failure };
                let is_whole = result.results.len() == ops.len();
                if !is_whole || !result.succeeded && !is_swap {
                    world.fail(Checker::Answers, format!("{txn:?} is answered with {result:?}"));
                }
                self.swaps += u64::from(result.succeeded && is_swap);
                let Some(number) = writing.number else {
                    self.clients[c].wants_room = false;
                    self.clearings += 1;
                    return;
                };
                self.fates.insert((c, number), Fate::Acknowledged);
                return self.raise(c, at, number);
            }
            Some(Some(response::Result::Error(refused))) if refused.code() == Code::NoSpace => {
                let Some(number) = writing.number else {
                    return world
                        .fail(Checker::Answers, format!("a delete is refused: {refused:?}"));
                };
                // By the state machine, and not by a leader with a full disk: that speaks of all attempts.
                if refused.message.contains("MAX_BYTES") {
                    self.over_quota += 1;
                    self.clients[c].wants_room = true;
                    return self.give_up(c, number, writing.recorded);
                }
                writing.maybe_applied |= refused.maybe_applied;
            }
            Some(Some(response::Result::Error(refused))) => {
                let Refusal { maybe_applied, .. } = refused;
                writing.maybe_applied |= maybe_applied;
                if refused.code() == Code::OutcomeUnknown {
                    return;
                }
                if let Some(number) = writing.number
                    && !writing.maybe_applied
                    && world.rng.u8(..3) == 0
                {
                    return self.give_up(c, number, writing.recorded);
                }
            }
            Some(other) => {
                world.fail(Checker::Answers, format!("a write is answered with {other:?}"));
            }
            None => writing.maybe_applied = true,
        }
        writing.again_at = world.now + Duration::from_millis(world.rng.u64(5..200));
        self.clients[c].writing = Some(writing);
    }

    /// No attempt at a write can have been applied, nor can one be.
    fn give_up(&mut self, c: usize, number: u64, recorded: OperationId) {
        self.fates.insert((c, number), Fate::Refused);
        self.history.fail(recorded);
    }

    fn end_read(
        &mut self,
        reading: &Reading,
        at: Duration,
        response: Option<Response>,
        world: &mut World,
    ) {
        let Some(Response { result: Some(response::Result::Get(result)), stale_ms, .. }) = response
        else {
            return;
        };
        let Some(register) = reading.register else { return };
        let value = result.kv.map_or(0, |kv| number(&kv.value));
        if value > self.clients[register].number {
            world.fail(Checker::Freshness, format!("register {register} has a value of nobody's"));
        }
        if !reading.stale {
            self.reads += 1;
            if value < reading.floor {
                let known = reading.floor;
                let what = format!("register {register} reads {value}, and {known} was known");
                world.fail(Checker::Freshness, what);
            }
            return self.raise(register, at, value);
        }
        if let Some(age_ms) = stale_ms {
            self.aged_reads += 1;
            // Told in whole milliseconds, rounded down, by a clock that may be slow.
            let age = Duration::from_millis(age_ms + 1);
            let as_of = at.saturating_sub(age + world.drift_of(age));
            let known = self.floors[register].iter().rev().find(|(since, _)| *since <= as_of);
            let floor = known.map_or(0, |(_, value)| *value);
            if value < floor {
                let what = format!("a stale read is older than the {age_ms} ms that it tells");
                world.fail(Checker::Freshness, what);
            }
        }
    }
}

impl Client {
    /// The next write of client `c`: of its register and a key of this write alone, and perhaps of shared keys.
    fn transaction(&self, c: usize, rng: &mut fastrand::Rng) -> Txn {
        let own_key = own_key(c, self.number);
        let number = self.number.to_string();
        let own = vec![put(register(c), number.clone()), put(own_key.clone(), number)];
        // Of shared keys, each write's value is the name of its own key: nobody else writes that.
        match rng.u8(..6) {
            0..=2 => Txn { success: own, ..Txn::default() },
            3 => {
                let shared = SHARED_KEYS.map(|key| put(key, own_key.clone()));
                Txn { success: own.into_iter().chain(shared).collect(), ..Txn::default() }
            }
            _ => self.swap(shared_key(rng), own_key, own),
        }
    }

    /// Puts `new` in the place of what was seen under the key last, and else looks there. Does `also` in any case.
    fn swap(&self, key: String, new: String, also: Vec<Op>) -> Txn {
        let old = self.seen.get(key.as_bytes()).cloned().unwrap_or_default();
        let is_old = Compare {
            key: key.clone().into(),
            operator: compare::Operator::Equal.into(),
            target: Some(compare::Target::Value(old)),
        };
        let look = GetOp { key: key.clone().into() };
        let (mut success, mut failure) = (also.clone(), also);
        success.push(put(key, new));
        failure.push(Op { op: Some(op::Op::Get(look)) });
        Txn { compares: vec![is_old], success, failure }
    }
}

/// The key of a client's register.
pub fn register(c: usize) -> String {
    format!("r{c}")
}

/// Deletes all that a client put to fill the store up.
fn clearing(c: usize) -> Txn {
    let range = DeleteRange { from: ballast(c).into(), to: format!("{}:", ballast(c)).into() };
    Txn { success: vec![Op { op: Some(op::Op::DeleteRange(range)) }], ..Txn::default() }
}

/// What keys begin with that a client puts to fill the store up; a number follows.
fn ballast(c: usize) -> String {
    format!("b{c}/")
}

fn shared_key(rng: &mut fastrand::Rng) -> String {
    SHARED_KEYS[rng.usize(..SHARED_KEYS.len())].to_owned()
}

/// The key of one write alone.
pub fn own_key(c: usize, number: u64) -> String {
    format!("w{c}/{number}")
}

/// The number that a register holds; one that nobody wrote for what is none.
pub fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}
