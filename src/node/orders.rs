//! Orders of an operator: to remove a member, to hand leadership over. An order goes to the leader like a write, but it is
//! no entry of its own: the leader works on it until what was ordered is so.
//!
//! Invariants:
//! - An order is answered as done only when this node sees that it is: the removal is applied here, the voter leads.
//! - A leader is never removed in office: it hands over, and the order goes to the next leader.

use super::requests::{Origin, Place, Request, Work};
use super::{Node, Stage, Token};
use crate::error::refusal;
use crate::limits::NAME_LEN_MAX;
use crate::replica::membership::{self, Removal};
use crate::store::map::Map;
use crate::wire::client::{Code, Done, Error as Refusal, request, response};
use crate::wire::log::Membership;
use crate::wire::peer::forward;
use std::time::Duration;

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
}

impl Order {
    fn new(kind: Kind, name: String) -> Order {
        Order { kind, name, raft_id: None }
    }

    /// As a client gives it.
    pub fn of_request(command: &request::Command) -> Option<Order> {
        match command {
            request::Command::RemoveMember(order) => {
                Some(Order::new(Kind::Remove, order.name.clone()))
            }
            request::Command::TransferLeader(order) => {
                Some(Order::new(Kind::Transfer, order.name.clone()))
            }
            _ => None,
        }
    }

    /// As another node passed it on.
    pub fn of_forward(command: &forward::Command) -> Option<Order> {
        match command {
            forward::Command::RemoveMember(order) => {
                Some(Order::new(Kind::Remove, order.name.clone()))
            }
            forward::Command::TransferLeader(order) => {
                Some(Order::new(Kind::Transfer, order.name.clone()))
            }
            forward::Command::Write(_) => None,
        }
    }

    /// As it is passed on.
    pub fn to_forward(&self) -> forward::Command {
        let name = self.name.clone();
        match self.kind {
            Kind::Remove => {
                forward::Command::RemoveMember(crate::wire::client::RemoveMember { name })
            }
            Kind::Transfer => {
                forward::Command::TransferLeader(crate::wire::client::TransferLeader { name })
            }
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
        orders.retain(|token| self.drive_order(*token));
        self.orders = orders;
    }

    /// False if the order is answered.
    fn drive_order(&mut self, token: Token) -> bool {
        let Some(Request { work: Work::Order { order, place }, .. }) = self.requests.get(token)
        else {
            return false;
        };
        let (mut order, place) = (order.clone(), *place);
        let leads = matches!(&self.stage, Stage::Member(replica) if replica.leads());
        let found = self.store.membership().map(|membership| order.find(membership));
        self.requests.note_found(token, order.raft_id);
        if self.is_done(&order) {
            let done = self.response(response::Result::Done(Done {}));
            self.answer(token, done);
            return false;
        }
        if place != Place::AwaitsProposal {
            return true;
        }
        if !leads {
            if self.known.leader.is_some() {
                self.send_back(token);
            }
            return self.requests.get(token).is_some();
        }
        let stepped = match found {
            Some(Ok(raft_id)) => self.step_order(order.kind, raft_id),
            Some(Err(why)) => Err(why),
            None => Ok(()),
        };
        if let Err(why) = stepped {
            self.answer_refused(token, refusal(Code::Invalid, why));
            return false;
        }
        true
    }

    /// Answers those who ordered that this node be removed: it was.
    pub(super) fn answer_own_removal(&mut self) {
        for token in self.orders.clone() {
            let ordered = self.requests.get(token).is_some_and(|request| {
                matches!(&request.work, Work::Order { order, .. }
                    if order.kind == Kind::Remove && order.name == self.identity.name)
            });
            if ordered {
                let done = self.response(response::Result::Done(Done {}));
                self.answer(token, done);
            }
        }
    }

    fn is_done(&self, order: &Order) -> bool {
        let (Some(raft_id), Stage::Member(replica)) = (order.raft_id, &self.stage) else {
            return false;
        };
        match order.kind {
            Kind::Transfer => replica.leader() == Some(raft_id),
            Kind::Remove => {
                let membership = self.store.membership();
                membership.is_some_and(|known| membership::is_removed(known, raft_id))
            }
        }
    }

    /// What the leader does for an order. An error is final.
    fn step_order(&mut self, kind: Kind, raft_id: u64) -> Result<(), String> {
        match kind {
            Kind::Transfer => self.step_transfer(raft_id),
            Kind::Remove => self.step_removal(raft_id),
        }
    }

    fn step_transfer(&mut self, raft_id: u64) -> Result<(), String> {
        if !self.links.contains_key(&raft_id) {
            let name = self.name_of(raft_id);
            return Err(format!(
                "{name} cannot be reached from the leader: bring it back, or choose another (`phalanx members`)"
            ));
        }
        let Stage::Member(replica) = &mut self.stage else { return Ok(()) };
        if !replica.is_handing_over() {
            replica.transfer_to(raft_id);
        }
        Ok(())
    }

    fn step_removal(&mut self, raft_id: u64) -> Result<(), String> {
        let seen = self.seen();
        let own = self.identity.raft_id;
        let Stage::Member(replica) = &mut self.stage else { return Ok(()) };
        let Some(membership) = self.store.membership() else { return Ok(()) };
        if !replica.may_change_membership() {
            return Ok(());
        }
        let (policy, commit) = (&self.settings.policy, replica.commit());
        match membership::remove(membership, policy, &seen, own, raft_id, commit)? {
            // Rejected: the order stands, and it is proposed again.
            Removal::Change(change) => drop(replica.propose_conf_change(&change)),
            Removal::HandOver => self.hand_over(),
        }
        Ok(())
    }
}
