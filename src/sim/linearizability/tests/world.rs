//! Correct histories: clients with random overlaps before a plain map with a counter, which shares nothing with the judge.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;

use crate::sim::history::{Answer, Asked, History, OperationId, put};
use crate::wire::client::{KeyValue, PutResult, op_result};

pub struct Shape {
    pub clients: usize,
    pub keys: usize,
    pub operations: usize,
    /// One of so many operations gets no answer.
    pub open_one_in: usize,
}

/// A request that is under way.
struct Underway {
    id: OperationId,
    ask: Ask,
    /// When it reached the map.
    done: Option<(u64, Answer)>,
    is_open: bool,
}

#[derive(Clone)]
enum Ask {
    Get(usize),
    Put(usize, Bytes),
    Delete(usize),
    Swap(usize, Bytes, Bytes),
    PutBoth(usize, usize, Bytes),
}

#[derive(Default)]
struct Map {
    records: BTreeMap<Bytes, KeyValue>,
    revision: u64,
}

fn key(number: usize) -> Bytes {
    format!("key-{number}").into()
}

impl Ask {
    fn random(rng: &mut Rng, shape: &Shape, serial: usize, map: &Map) -> Ask {
        let at = rng.usize(..shape.keys);
        let value = Bytes::from(format!("{serial}"));
        match rng.u8(..12) {
            0..=4 => Ask::Get(at),
            5..=7 => Ask::Put(at, value),
            8 => Ask::Delete(at),
            9 | 10 => {
                let now = map.records.get(&key(at)).map(|it| it.value.clone());
                Ask::Swap(at, now.unwrap_or_default(), value)
            }
            _ => Ask::PutBoth(at, (at + 1) % shape.keys, value),
        }
    }

    fn asked(&self) -> Asked {
        match self {
            Ask::Get(at) => Asked::get(key(*at)),
            Ask::Put(at, value) => Asked::put(key(*at), value.clone()),
            Ask::Delete(at) => Asked::delete(key(*at)),
            Ask::Swap(at, old, new) => Asked::compare_and_swap(key(*at), old.clone(), new.clone()),
            Ask::PutBoth(a, b, value) => {
                Asked::write([put(key(*a), value.clone()), put(key(*b), value.clone())])
            }
        }
    }
}

impl Map {
    fn apply(&mut self, ask: &Ask) -> (u64, Answer) {
        let answer = match ask {
            Ask::Get(at) => Answer::got(self.records.get(&key(*at)).cloned()),
            Ask::Put(at, value) => {
                self.revision += 1;
                Answer::put(self.put(*at, value))
            }
            Ask::Delete(at) => {
                let found = self.records.remove(&key(*at)).is_some();
                self.revision += u64::from(found);
                Answer::deleted(found)
            }
            Ask::Swap(at, old, new) => {
                let holds = self.records.get(&key(*at)).is_some_and(|it| it.value == old);
                match holds {
                    true => {
                        self.revision += 1;
                        Answer::put(self.put(*at, new))
                    }
                    false => Answer::written(false, []),
                }
            }
            Ask::PutBoth(a, b, value) => {
                self.revision += 1;
                let replaced = [self.put(*a, value), self.put(*b, value)];
                let result = |replaced| op_result::Result::Put(PutResult { replaced });
                Answer::written(true, replaced.map(result))
            }
        };
        (self.revision, answer)
    }

    fn put(&mut self, at: usize, value: &Bytes) -> bool {
        let old = self.records.get(&key(at));
        let replaced = old.is_some();
        let record = KeyValue {
            key: key(at),
            value: value.clone(),
            create_revision: old.map_or(self.revision, |old| old.create_revision),
            mod_revision: self.revision,
            version: old.map_or(1, |old| old.version + 1),
        };
        self.records.insert(key(at), record);
        replaced
    }
}

/// A history of such clients. Requests without an answer reach the map late or never; their clients ask on under
/// another number.
pub fn correct(seed: u64, shape: &Shape) -> History {
    let mut rng = Rng::with_seed(seed);
    let (mut history, mut map) = (History::default(), Map::default());
    let mut underway: Vec<Option<Underway>> = (0..shape.clients).map(|_| None).collect();
    let mut late: Vec<Ask> = Vec::new();
    let mut numbers: Vec<u64> = (0..shape.clients as u64).collect();
    let mut called = 0;
    for now in 0.. {
        if called == shape.operations && underway.iter().all(Option::is_none) {
            break;
        }
        if !late.is_empty() && rng.u8(..16) == 0 {
            map.apply(&late.swap_remove(rng.usize(..late.len())));
        }
        let client = rng.usize(..shape.clients);
        underway[client] = match underway[client].take() {
            None if called == shape.operations => None,
            None => {
                let ask = Ask::random(&mut rng, shape, called, &map);
                let id = history.call(numbers[client], now, ask.asked());
                called += 1;
                let is_open = rng.usize(..shape.open_one_in) == 0;
                Some(Underway { id, ask, done: None, is_open })
            }
            Some(Underway { ask, is_open: true, .. }) => {
                numbers[client] += shape.clients as u64;
                late.push(ask);
                None
            }
            Some(Underway { id, done: Some((revision, answer)), .. }) => {
                history.answer(id, now, Some(revision), answer);
                None
            }
            Some(Underway { id, ask, is_open, .. }) => {
                let done = Some(map.apply(&ask));
                Some(Underway { id, ask, done, is_open })
            }
        };
    }
    history
}

/// Clients of a history that was made to be looked at.
pub fn clients(history: &History) -> BTreeSet<u64> {
    history.operations().iter().map(|it| it.client).collect()
}
