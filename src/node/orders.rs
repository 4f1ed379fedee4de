//! Orders of an operator: to remove a member, to hand leadership over. An order goes to the leader like a write, but it is
//! no entry of its own: the leader works on it until what was ordered is so.
//!
//! Invariants:
//! - An order is answered as done only when this node sees that it is: the removal is applied here, the voter leads.
//! - A leader is never removed in office: it hands over, and the order goes to the next leader.
//! - For one order, a leader hands over once: no write is taken meanwhile, and an heir that does not take over may never.
//! - Whom an order means is settled once, and told to the leader with it.

use std::time::Duration;

use super::requests::{Origin, Place, Request, Work};
use super::{Node, Stage, Token};
use crate::error::refusal;
use crate::limits::{NAME_LEN_MAX, ORDERS_MAX};
use crate::replica::membership::{self, Removal, Seen};
use crate::store::map::Map;
use crate::wire::client::{
    Code, Done, Error as Refusal, Identity, RemoveMember, TransferLeader, response,
};
use crate::wire::log::Membership;
use crate::wire::peer::forward;

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The member is to be taken out.
    Remove,
    /// The voter is to lead.
    Transfer,
}

/// An order, and what has become of it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub kind: Kind,
    /// Of whom it is.
    pub name: String,
    /// The member of that name, as soon as this node has found one: that one is meant, whoever has the name later.
    pub raft_id: Option<u64>,
    /// The term in which this node, as the leader, has begun to hand over for it.
    handed_over_in: Option<u64>,
}

impl Order {
    pub fn removal(order: &RemoveMember) -> Order {
        Order::new(Kind::Remove, &order.name, order.raft_id)
    }

    pub fn transfer(order: &TransferLeader) -> Order {
        Order::new(Kind::Transfer, &order.name, order.raft_id)
    }

    fn new(kind: Kind, name: &str, raft_id: u64) -> Order {
        let raft_id = Some(raft_id).filter(|raft_id| *raft_id != 0);
        Order { kind, name: name.to_owned(), raft_id, handed_over_in: None }
    }

    /// As another node passed it on.
    pub fn of_forward(command: &forward::Command) -> Option<Order> {
        match command {
            forward::Command::RemoveMember(order) => Some(Order::removal(order)),
            forward::Command::TransferLeader(order) => Some(Order::transfer(order)),
            forward::Command::Write(_) => None,
        }
    }

    /// As it is passed on.
    pub fn to_forward(&self) -> forward::Command {
        let (name, raft_id) = (self.name.clone(), self.raft_id.unwrap_or_default());
        match self.kind {
            Kind::Remove => forward::Command::RemoveMember(RemoveMember { name, raft_id }),
            Kind::Transfer => forward::Command::TransferLeader(TransferLeader { name, raft_id }),
        }
    }

    pub fn check(&self) -> Result<(), Refusal> {
        match (1..=NAME_LEN_MAX).contains(&self.name.len()) {
            true => Ok(()),
            false => Err(refusal(
                Code::Invalid,
                format!("a member's name has 1 to {NAME_LEN_MAX} characters"),
            )),
        }
    }

    fn find(&mut self, membership: &Membership) -> Result<u64, String> {
        if let Some(raft_id) = self.raft_id {
            return Ok(raft_id);
        }
        let found = match self.kind {
            Kind::Remove => membership::member_named(membership, &self.name),
            Kind::Transfer => membership::voter_named(membership, &self.name),
        }?;
        self.raft_id = Some(found);
        Ok(found)
    }

    /// Whether the node of that identity is meant.
    fn means(&self, identity: &Identity) -> bool {
        match self.raft_id {
            Some(raft_id) => raft_id == identity.raft_id,
            None => self.name == identity.name,
        }
    }
}

impl<M: Map> Node<M> {
    /// Takes in an order: for the leader, wherever it is, or (`is_forwarded`) for this node alone.
    pub(super) fn insert_order(
        &mut self,
        origin: Origin,
        deadline: Duration,
        order: Order,
        is_forwarded: bool,
    ) {
        if self.orders.len() >= ORDERS_MAX {
            let message = format!("{ORDERS_MAX} orders are under way on this node: retry later");
            return self.refuse(origin, refusal(Code::Overloaded, message));
        }
        let place = if is_forwarded { Place::AwaitsProposal } else { Place::AwaitsLeader };
        let token = self.insert(origin, deadline, Work::Order { order, place });
        self.orders.push(token);
        if !is_forwarded {
            self.to_dispatch.push(token);
        }
    }

    /// Looks after all orders: which are done, and what the leader can do next for the others.
    pub(super) fn drive_orders(&mut self) {
        let mut orders = std::mem::take(&mut self.orders);
        let mut seen = None;
        orders.retain(|token| self.drive_order(*token, &mut seen));
        self.orders = orders;
    }

    /// False if the order is answered. `seen` are the members as the leader sees them, as soon as an order needed that.
    fn drive_order(&mut self, token: Token, seen: &mut Option<Vec<Seen>>) -> bool {
        let Some(Request { work: Work::Order { order, place }, .. }) = self.requests.get_mut(token)
        else {
            return false;
        };
        let found = self.store.membership().map(|membership| order.find(membership));
        let (kind, raft_id, place) = (order.kind, order.raft_id, *place);
        if self.is_done(kind, raft_id) {
            let done = self.response(response::Result::Done(Done {}));
            self.answer(token, done);
            return false;
        }
        if place != Place::AwaitsProposal {
            return true;
        }
        if !matches!(&self.stage, Stage::Member(replica) if replica.leads()) {
            if self.known.leader.is_some() {
                self.pass_on(token);
            }
            return self.requests.get(token).is_some();
        }
        let stepped = match found {
            Some(Ok(raft_id)) if kind == Kind::Transfer => self.step_transfer(token, raft_id),
            Some(Ok(raft_id)) => self.step_removal(token, raft_id, seen),
            Some(Err(why)) => Err(why),
            None => Ok(()),
        };
        if let Err(why) = stepped {
            self.answer_refused(token, refusal(Code::Invalid, why));
            return false;
        }
        true
    }

    /// Lets go of an order that this node had as the leader: another leads.
    fn pass_on(&mut self, token: Token) {
        if let Some(request) = self.requests.get_mut(token)
            && let Origin::Client { .. } = request.origin
        {
            // What this node began may come to pass still.
            request.maybe_applied = true;
        }
        self.send_back(token);
    }

    /// Answers those who ordered that this node be removed: it was.
    pub(super) fn answer_own_removal(&mut self) {
        for token in self.orders.clone() {
            let ordered = self.requests.get(token).is_some_and(|request| {
                matches!(&request.work, Work::Order { order, .. }
                    if order.kind == Kind::Remove && order.means(&self.identity))
            });
            if ordered {
                let done = self.response(response::Result::Done(Done {}));
                self.answer(token, done);
            }
        }
    }

    fn is_done(&self, kind: Kind, raft_id: Option<u64>) -> bool {
        let (Some(raft_id), Stage::Member(replica)) = (raft_id, &self.stage) else {
            return false;
        };
        match kind {
            Kind::Transfer => replica.leader() == Some(raft_id),
            Kind::Remove => {
                let membership = self.store.membership();
                membership.is_some_and(|known| membership::is_removed(known, raft_id))
            }
        }
    }

    /// What the leader does to let another lead. An error is final.
    fn step_transfer(&mut self, token: Token, raft_id: u64) -> Result<(), String> {
        let name = self.name_of(raft_id);
        let conf_state = self.store.membership().and_then(|known| known.conf_state.as_ref());
        if conf_state.is_some_and(|conf_state| !conf_state.voters.contains(&raft_id)) {
            return Err(format!(
                "{name} does not vote, and only a voter can lead (`phalanx members`)"
            ));
        }
        if !self.links.contains_key(&raft_id) {
            return Err(format!(
                "{name} cannot be reached from the leader: bring it back, or choose another (`phalanx members`)"
            ));
        }
        let transfer = |node: &mut Self| {
            if let Stage::Member(replica) = &mut node.stage {
                replica.transfer_to(raft_id);
            }
        };
        match self.hand_over_once(token, Some(raft_id), transfer) {
            true => Ok(()),
            false => Err(format!(
                "{name} did not take over within {:?}: it {}. Choose another, or try again when that has changed \
                 (`phalanx members`)",
                self.settings.replica.election_timeout(),
                self.why_not_taken_over(raft_id)
            )),
        }
    }

    fn why_not_taken_over(&self, raft_id: u64) -> String {
        let Stage::Member(replica) = &self.stage else { return String::new() };
        let progress = replica.progress();
        let matched = |raft_id| {
            let node = progress.iter().find(|node| node.raft_id == raft_id);
            node.map_or(0, |node| node.matched)
        };
        match matched(self.identity.raft_id).saturating_sub(matched(raft_id)) {
            0 => "does not answer".to_owned(),
            1 => "is behind by 1 entry".to_owned(),
            lag => format!("is behind by {lag} entries"),
        }
    }

    /// What the leader does to remove a member. An error is final.
    fn step_removal(
        &mut self,
        token: Token,
        raft_id: u64,
        seen: &mut Option<Vec<Seen>>,
    ) -> Result<(), String> {
        let own = self.identity.raft_id;
        if !matches!(&self.stage, Stage::Member(replica) if replica.may_change_membership()) {
            return Ok(());
        }
        let seen = seen.get_or_insert_with(|| self.seen());
        let Stage::Member(replica) = &mut self.stage else { return Ok(()) };
        let Some(membership) = self.store.membership() else { return Ok(()) };
        let (policy, commit) = (&self.settings.policy, replica.commit());
        match membership::remove(membership, policy, seen, own, raft_id, commit)? {
            // Rejected: the order stands, and it is proposed again.
            Removal::Change(change) => drop(replica.propose_conf_change(&change)),
            Removal::Wait => {}
            Removal::HandOver if self.hand_over_once(token, None, Self::hand_over) => {}
            Removal::HandOver => {
                return Err(format!(
                    "{} leads, and the voter that it handed over to did not take over within {:?}: choose one that \
                     answers (`phalanx leader transfer NAME`), and order this again",
                    self.identity.name,
                    self.settings.replica.election_timeout()
                ));
            }
        }
        Ok(())
    }

    /// Has leadership handed over for an order: by `begin`, unless it is being handed over already. `heir` is who must take
    /// it, if it matters. False if that was done before in this term, and is over: this node leads still.
    fn hand_over_once(
        &mut self,
        token: Token,
        heir: Option<u64>,
        begin: impl FnOnce(&mut Self),
    ) -> bool {
        let Stage::Member(replica) = &self.stage else { return true };
        let (term, is_idle) = (replica.term(), replica.heir().is_none());
        if is_idle && self.order_mut(token).is_some_and(|it| it.handed_over_in == Some(term)) {
            return false;
        }
        if is_idle {
            begin(self);
        }
        let Stage::Member(replica) = &self.stage else { return true };
        let begun = replica.heir().is_some_and(|to| heir.is_none_or(|heir| heir == to));
        if begun && let Some(order) = self.order_mut(token) {
            order.handed_over_in = Some(term);
        }
        true
    }

    fn order_mut(&mut self, token: Token) -> Option<&mut Order> {
        match &mut self.requests.get_mut(token)?.work {
            Work::Order { order, .. } => Some(order),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_passed_on_with_whom_it_means() {
        for kind in [Kind::Remove, Kind::Transfer] {
            for raft_id in [None, Some(7)] {
                let order = Order { raft_id, ..Order::new(kind, "c", 0) };
                let passed_on = Order::of_forward(&order.to_forward()).expect("an order");
                assert_eq!(
                    (passed_on.kind, passed_on.name.as_str(), passed_on.raft_id),
                    (kind, "c", raft_id)
                );
            }
        }
    }
}
