//! Backups that an operator takes of a node, chunk by chunk, and restores at once, to see what they hold.

use super::checkers::{Checker, backup};
use super::clients::Clients;
use super::requests::Answer;
use super::world::World;
use crate::node::ConnectionId;
use crate::store::mem_map::MemMap;
use crate::store::transfer::{Failure, Restore};
use crate::wire::client::{ReadSnapshot, SnapshotChunk, request, response};
use crate::wire::log::Membership;

/// The connection that they are read on.
const READER: ConnectionId = 98;

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// See the [module](self).
#[derive(Default)]
pub struct Backups {
    /// Of a round, that one is begun where none is under way.
    pub often: f64,
    /// How many came to their end.
    pub taken: u64,
    reading: Option<Reading>,
}

/// A backup that is being taken.
struct Reading {
    /// Of which machine.
    of: usize,
    /// The request in flight.
    request: u64,
    /// The chunk that it asks for.
    due: u64,
    map: MemMap,
    restore: Restore<MemMap>,
    /// What was acknowledged before it was begun.
    revision_min: u64,
}

impl Backups {
    /// Takes the chunk that came, and asks for the next one. Begins, now and then.
    pub fn act(&mut self, world: &mut World, clients: &Clients) {
        for answer in world.take_answers_on(READER) {
            if let Some(reading) = self.reading.take_if(|it| it.request == answer.id) {
                self.go_on(reading, answer, world);
            }
        }
        let machines = world.running();
        // Before the first write there is nothing to back up.
        let is_worth_it = self.often > 0.0 && clients.revision > 0;
        let may_begin = is_worth_it && self.reading.is_none() && !machines.is_empty();
        if may_begin && world.rng.f64() < self.often {
            let of = machines[world.rng.usize(..machines.len())];
            let request = ask(world, of, 0, 0);
            let map = MemMap::default();
            let restore = Restore::new(map.clone());
            let revision_min = clients.revision;
            self.reading = Some(Reading { of, request, due: 0, map, restore, revision_min });
        }
    }

    /// Whoever is refused, or not answered, has no backup.
    fn go_on(&mut self, mut reading: Reading, answer: Answer, world: &mut World) {
        let result = answer.response.and_then(|response| response.result);
        let Some(response::Result::SnapshotChunk(SnapshotChunk { snapshot, chunk })) = result
        else {
            return;
        };
        let added = reading.restore.add(&chunk.unwrap_or_default());
        if added.is_ok() && !reading.restore.is_complete() {
            if world.machines[reading.of].process.is_none() {
                return;
            }
            reading.due += 1;
            reading.request = ask(world, reading.of, snapshot, reading.due);
            self.reading = Some(reading);
            return;
        }
        let Reading { of, map, restore, revision_min, .. } = reading;
        let finished = added.and_then(|()| restore.finish(Membership::default()));
        match finished {
            Ok(header) => {
                self.taken += 1;
                let found = backup::check(world, &header, &map, revision_min);
                world.check(Checker::Backup, found);
            }
            // That the sum over its rows is wrong is found out here.
            Err(Failure::Refused(_)) if world.machines[of].is_marred => {}
            Err(failure) => world.fail(Checker::Backup, format!("it is refused: {failure:?}")),
        }
    }
}

fn ask(world: &mut World, of: usize, snapshot: u64, number: u64) -> u64 {
    let command = request::Command::ReadSnapshot(ReadSnapshot { snapshot, number });
    world.request(of, READER, TIMEOUT, command)
}
