//! Leases: allocations with a time to live.

use mcomp_wire::meta::{Answer, Lease, Owner};
use mcomp_wire::{Status, limits};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::state::{Due, Step, invalid};
use crate::{Refusal, State};

/// One lease, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseState {
    pub(crate) addr: u64,
    pub(crate) fence: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) shared: bool,
}

impl State {
    pub(crate) fn check_lease(&self, lease_ms: u64) -> Result<(), Refusal> {
        let (least, most) = (limits::LEASE_MS.start(), limits::LEASE_MS.end());
        if !limits::LEASE_MS.contains(&lease_ms) {
            return Err(invalid(format!("a lease of {lease_ms} ms: from {least} to {most} ms are allowed")));
        }
        match self.leases.len() < limits::MAX_LEASES {
            true => Ok(()),
            false => Err(Refusal::new(Status::Full, format!("there are {} leases already", limits::MAX_LEASES))),
        }
    }

    /// A new lease of the allocation that is being made at `addr`.
    pub(crate) fn grant(&mut self, addr: u64, lease_ms: u64, shared: bool, step: &Step) -> Uuid {
        let id = step.stamp.random;
        let (fence, deadline_ms) = (self.next_serial(), self.after(lease_ms));
        self.leases.insert(id, LeaseState { addr, fence, deadline_ms, shared });
        self.dues.insert((deadline_ms, Due::Lease(id)));
        id
    }

    pub(crate) fn renew(&mut self, id: Uuid, lease_ms: u64, step: &mut Step) -> Result<Answer, Refusal> {
        self.find_lease(id)?;
        self.check_lease(lease_ms).or_else(|why| if why.status == Status::Full { Ok(()) } else { Err(why) })?;
        let deadline_ms = self.after(lease_ms);
        let lease = self.leases.get_mut(&id).expect("it was found");
        let before_ms = std::mem::replace(&mut lease.deadline_ms, deadline_ms);
        let addr = lease.addr;
        self.dues.remove(&(before_ms, Due::Lease(id)));
        self.dues.insert((deadline_ms, Due::Lease(id)));
        self.guard(addr, step);
        Ok(Answer::Lease(self.lease(id)))
    }

    pub(crate) fn release(&mut self, id: Uuid, step: &mut Step) -> Result<Answer, Refusal> {
        let addr = self.find_lease(id)?.addr;
        Ok(Answer::Freed { regions: 1, bytes: self.take_out(addr, None, step) })
    }

    pub(crate) fn transfer(&mut self, id: Uuid, to: Uuid, step: &mut Step) -> Result<Answer, Refusal> {
        let addr = self.find_lease(id)?.addr;
        if !self.sessions.contains_key(&to) {
            return Err(Refusal::new(Status::NoSession, format!("session {to}, who is to have the lease, has ended")));
        }
        let fence = self.next_serial();
        self.leases.get_mut(&id).expect("it was found").fence = fence;
        self.own(addr, Owner::Session(to));
        self.guard(addr, step);
        Ok(Answer::Lease(self.lease(id)))
    }

    pub(crate) fn lease_ran_out(&mut self, id: Uuid, step: &mut Step) {
        let addr = self.leases[&id].addr;
        let quarantine_ms = step.stamp.quarantine_ms;
        self.take_out(addr, Some(quarantine_ms), step);
    }

    pub(crate) fn find_lease(&self, id: Uuid) -> Result<&LeaseState, Refusal> {
        let message = || format!("there is no lease {id}: it was released, or has run out");
        self.leases.get(&id).ok_or_else(|| Refusal::new(Status::NoLease, message()))
    }

    /// A lease that exists, as people see it.
    pub(crate) fn lease(&self, id: Uuid) -> Lease {
        let LeaseState { fence, deadline_ms, shared, .. } = self.leases[&id];
        Lease { id, fence, deadline_ms, remaining_ms: deadline_ms.saturating_sub(self.now_ms), shared }
    }
}
