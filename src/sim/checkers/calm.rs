//! Once all trouble has ended: everybody is back, has applied the same, and is alive to all others.

use crate::gossip::State;
use crate::sim::world::World;
use crate::store::map::Map;

/// Whether the maps of all machines hold all that is applied, and the same bytes. `Err` if they hold all, and differ.
pub fn maps_agree(world: &World) -> Result<bool, String> {
    let running = world.running();
    let holds_all = |i: usize| world.node(i).store().durable() == world.node(i).store().applied();
    if !world.is_settled() || !running.iter().all(|&i| holds_all(i)) {
        return Ok(false);
    }
    let bytes = |i: usize| world.machines[i].map().snapshot().map_err(|error| error.to_string());
    let first = bytes(running[0])?;
    for &i in &running[1..] {
        if bytes(i)? != first {
            return Err(format!(
                "the maps of {} and {} differ",
                world.machines[running[0]].name, world.machines[i].name
            ));
        }
    }
    Ok(true)
}

/// Whether every machine that runs is alive to every other, through gossip.
pub fn is_converged(world: &World) -> bool {
    let running = world.running();
    let sees = |i: usize, other: usize| {
        let member = world.node(i).mesh().member(world.machines[other].raft_id);
        member.is_some_and(|member| member.state == State::Alive)
    };
    running.iter().all(|&i| running.iter().all(|&other| i == other || sees(i, other)))
}
