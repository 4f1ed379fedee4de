//! What the clients were told, held against the state of every machine: acknowledged writes are there, once; refused ones
//! are not; of those in between each is there once or not at all.

use super::Finding;
use crate::sim::clients::{Clients, Fate, number, own_key, register};
use crate::sim::world::World;

/// Holds what the clients were told against the machines, all of which have applied all that is committed.
pub fn check(clients: &Clients, world: &World) -> Finding {
    world.running().into_iter().try_for_each(|i| check_machine(clients, world, i))
}

fn check_machine(clients: &Clients, world: &World, i: usize) -> Finding {
    let name = &world.machines[i].name;
    let get = |key: String| {
        world.node(i).store().get(key.as_bytes()).map_err(|error| format!("{name}: {error}"))
    };
    let mut applied = vec![(0, 0); clients.count()];
    for (&(c, number), fate) in &clients.fates {
        let version = get(own_key(c, number))?.map_or(0, |kv| kv.version);
        let allowed = match fate {
            Fate::Acknowledged => 1..=1,
            Fate::Refused => 0..=0,
            Fate::Unknown => 0..=1,
        };
        if !allowed.contains(&version) {
            return Err(format!(
                "{name}: write {number} of client {c} is {fate:?}, and was applied {version} times"
            ));
        }
        if version > 0 {
            applied[c] = (applied[c].0 + 1, number);
        }
    }
    for (c, expected) in applied.into_iter().enumerate() {
        let found = get(register(c))?.map_or((0, 0), |kv| (kv.version, number(&kv.value)));
        if found.0 != expected.0 {
            return Err(format!(
                "{name}: the register of client {c} was written {} times, and {} of its writes were applied",
                found.0, expected.0
            ));
        }
    }
    Ok(())
}
