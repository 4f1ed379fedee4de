//! How much may be lost at once, for the promises to hold.
//!
//! Crashes, cuts, pauses and slow or full disks are free: whatever they do, nothing may be lost by them. A *disk* is not.
//! The rule: **a disk may go only if in every configuration that any disk or process knows, and in each half of a joint
//! one, it has no vote, or a majority of the voters have their disks yet**, and only once the first cluster is formed, and while no change of
//! the voters is under way. A disk with a flipped bit counts as lost, in the log or in the state, and so does an identity that
//! was. What a machine knows whose node has ended for good does not count: it takes part in nothing until it has an empty disk,
//! and two of them must not wait for each other. And once a cluster is formed, a majority of EXPECT without one, of which one may form a cluster (BOOTSTRAP), is as good
//! as an order to form a second: operators give no such order.

use super::machine::Machine;
use super::world::World;
use crate::store::Store;
use crate::wire::log::Membership;

impl World {
    /// Whether the disk of a machine may be lost.
    pub fn may_lose(&self, i: usize) -> bool {
        let memberships = self.memberships(i);
        let is_formed = memberships.iter().any(|known| known.formed);
        let sets = memberships.iter().filter_map(|known| known.conf_state.as_ref());
        let mut sets = sets.flat_map(|known| [&known.voters, &known.voters_outgoing]);
        let own = self.machines[i].raft_id;
        let leaves_majority = |voters: &Vec<u64>| {
            let left = voters.iter().filter(|raft_id| self.has_disk(**raft_id, i));
            !voters.contains(&own) || 2 * left.count() > voters.len()
        };
        let is_changing = self.watch.configurations.is_changing();
        is_formed && !is_changing && sets.all(leaves_majority) && self.leaves_founders_few(i)
    }

    /// Whether that identity has its disk, when the one of `without` is gone.
    fn has_disk(&self, raft_id: u64, without: usize) -> bool {
        let holder = self.index_of(raft_id).filter(|holder| *holder != without);
        holder.is_some_and(|holder| self.machines[holder].has_sound_disk())
    }

    /// Whether that disk may go without a second cluster being formed, if the machine itself may not do it.
    fn leaves_founders_few(&self, without: usize) -> bool {
        let mut others = self.machines.iter().filter(|machine| machine.number != without);
        let found = others.any(|machine| !machine.has_cluster() && machine.config.may_form);
        !found || !self.could_found(without)
    }

    /// Whether the machines without a cluster would be enough for one, with that one among them.
    pub fn could_found(&self, without: usize) -> bool {
        let is_free = |machine: &&Machine| machine.number == without || !machine.has_cluster();
        let free = self.machines.iter().filter(is_free).count() as u32;
        2 * free > self.machines[without].config.expect
    }

    /// What took effect last, and what every process and every map knows of the membership, but for those of `without`.
    fn memberships(&self, without: usize) -> Vec<Membership> {
        let mut known: Vec<Membership> =
            self.watch.configurations.last().cloned().into_iter().collect();
        let others = self.machines.iter().filter(|machine| machine.number != without);
        for machine in others.filter(|machine| machine.ended.is_none()) {
            let running = machine.process.as_ref().and_then(|it| it.node.store().membership());
            known.extend(running.cloned());
            let store = Store::open_with(machine.map(), machine.window());
            known.extend(store.expect("a map in memory opens").membership().cloned());
        }
        known
    }
}
