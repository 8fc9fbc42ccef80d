//! What is always true of a state; see [`State`].

use mcomp_wire::meta::{Owner, is_name};

use crate::State;
use crate::state::Due;
use crate::table::Allocation;

impl State {
    /// Panics with what is wrong, if anything is.
    pub fn assert_invariants(&self) {
        if let Err(broken) = self.check_invariants() {
            panic!("after entry {}, at {} ms: {broken}", self.index, self.now_ms);
        }
    }

    pub(crate) fn check_invariants(&self) -> Result<(), String> {
        ensure(self.space.n() == self.members.shape.n, || format!("{:?} of {:?}", self.space, self.members.shape))?;
        self.check_table()?;
        self.check_leases()?;
        self.check_sessions()?;
        self.check_meetings()?;
        self.check_coming()?;
        self.check_dues()
    }

    fn check_coming(&self) -> Result<(), String> {
        let Some(coming) = &self.coming else { return Ok(()) };
        ensure(self.sessions.contains_key(&coming.session), || "a page table comes from nobody".to_owned())?;
        ensure(coming.parts > 0, || "a page table comes of which nothing has come".to_owned())?;
        let unowned = |a: &Allocation| a.owner == Owner::Cluster && a.lease.is_none() && a.generation == 0;
        ensure(coming.table.allocations.values().all(unowned), || "a page table comes with owners".to_owned())?;
        coming.table.check_table()
    }

    fn check_table(&self) -> Result<(), String> {
        let mut runs: Vec<(u64, u64)> = self.allocations.iter().map(|(addr, a)| (*addr, a.capacity)).collect();
        runs.extend(self.quarantine.iter().map(|(addr, (capacity, _))| (*addr, *capacity)));
        runs.sort_unstable();
        let overlap = runs.windows(2).find(|pair| pair[0].0.checked_add(pair[0].1).is_none_or(|end| end > pair[1].0));
        if let Some(pair) = overlap {
            return Err(format!("{:?} and {:?} overlap", pair[0], pair[1]));
        }
        let taken: u64 = runs.iter().map(|(_, capacity)| capacity).sum();
        let free = self.allocator.stats().free_bytes;
        ensure(taken + free == self.space.size(), || format!("{taken} bytes are taken and {free} are free"))?;
        let asked: u64 = self.allocations.values().map(|a| a.size).sum();
        ensure(asked == self.asked_bytes, || format!("{asked} bytes are asked for, not {}", self.asked_bytes))?;
        for (addr, allocation) in &self.allocations {
            let fits = (1..=allocation.capacity).contains(&allocation.size);
            ensure(fits, || format!("{addr} has {} bytes of {}", allocation.size, allocation.capacity))?;
            ensure(allocation.generation <= self.serial, || format!("{addr} has a generation that is to come"))?;
            let named = allocation.name.as_ref().is_none_or(|name| is_name(name) && self.names.get(name) == Some(addr));
            ensure(named, || format!("{addr} has a name that is not its own"))?;
            let first = allocation.zeroed.first().map(|(from, _)| *from);
            let ascending = allocation.zeroed.windows(2).all(|pair| pair[0].0 < pair[1].0);
            let inside = allocation.zeroed.last().is_some_and(|(from, _)| *from < addr + allocation.capacity);
            ensure(first == Some(*addr) && ascending && inside, || format!("{addr} was not zeroed in order"))?;
        }
        let names = self.allocations.values().filter(|a| a.name.is_some()).count();
        ensure(names == self.names.len(), || format!("{} names for {names} allocations", self.names.len()))
    }

    fn check_leases(&self) -> Result<(), String> {
        for (id, lease) in &self.leases {
            let its_own = self.allocations.get(&lease.addr).is_some_and(|a| a.lease == Some(*id));
            ensure(its_own, || format!("lease {id} is not that of {}", lease.addr))?;
            ensure(lease.fence <= self.serial, || format!("lease {id} has a fence that is to come"))?;
        }
        let leased = self.allocations.values().filter(|a| a.lease.is_some()).count();
        ensure(leased == self.leases.len(), || format!("{} leases of {leased} allocations", self.leases.len()))
    }

    fn check_sessions(&self) -> Result<(), String> {
        for (id, session) in &self.sessions {
            for addr in &session.owned {
                let owner = self.allocations.get(addr).map(|a| a.owner);
                ensure(owner == Some(Owner::Session(*id)), || format!("{addr} is not owned by {id}"))?;
            }
        }
        let owned: usize = self.sessions.values().map(|session| session.owned.len()).sum();
        let owners = self.allocations.values().filter(|a| matches!(a.owner, Owner::Session(_))).count();
        ensure(owned == owners, || format!("{owned} allocations are owned, and {owners} have owners"))
    }

    fn check_meetings(&self) -> Result<(), String> {
        for (name, lock) in &self.locks {
            let (held, permits) = (lock.holders.len(), lock.permits as usize);
            ensure((1..=permits).contains(&held), || format!("{name:?} has {held} holders of {permits}"))?;
            ensure(lock.waiting.is_empty() || held == permits, || format!("{name:?} is free and waited for"))?;
            ensure(lock.holders.values().all(|fence| *fence <= self.serial), || {
                format!("{name:?} has a fence to come")
            })?;
            ensure(!self.barriers.contains_key(name), || format!("{name:?} is a lock and a barrier"))?;
        }
        for (name, barrier) in &self.barriers {
            let (come, parties) = (barrier.arrived.len(), barrier.parties as usize);
            ensure((1..parties).contains(&come), || format!("{come} of {parties} wait at {name:?}"))?;
        }
        for (id, session) in &self.sessions {
            let meets = session.meets.iter().all(|name| {
                let holds = self.locks.get(name).is_some_and(|lock| {
                    lock.holders.contains_key(id) || lock.waiting.iter().any(|waiter| waiter.session == *id)
                });
                let waits = |name| self.barriers.get(name).is_some_and(|b| b.arrived.iter().any(|w| w.session == *id));
                holds || waits(name)
            });
            ensure(meets, || format!("session {id} is said to hold what it does not: {:?}", session.meets))?;
        }
        Ok(())
    }

    fn check_dues(&self) -> Result<(), String> {
        let waiting: usize = self.locks.values().map(|lock| lock.waiting.len()).sum();
        let arrived: usize = self.barriers.values().map(|barrier| barrier.arrived.len()).sum();
        let due = self.sessions.len() + self.leases.len() + self.quarantine.len() + waiting + arrived;
        ensure(due == self.dues.len(), || format!("{} dues for {due} deadlines", self.dues.len()))?;
        for (due_ms, due) in &self.dues {
            let real = match due {
                Due::Session(id) => self.sessions.get(id).map(|session| session.deadline_ms),
                Due::Lease(id) => self.leases.get(id).map(|lease| lease.deadline_ms),
                Due::Quarantine(addr) => self.quarantine.get(addr).map(|(_, until_ms)| *until_ms),
                Due::LockWaiter(name, ticket) => self.locks.get(name).and_then(|lock| {
                    lock.waiting.iter().find(|waiter| waiter.ticket() == *ticket).map(|waiter| waiter.deadline_ms)
                }),
                Due::BarrierWaiter(name, ticket) => self.barriers.get(name).and_then(|barrier| {
                    barrier.arrived.iter().find(|waiter| waiter.ticket() == *ticket).map(|waiter| waiter.deadline_ms)
                }),
            };
            ensure(real == Some(*due_ms), || format!("{due:?} is due at {due_ms}, and its deadline is {real:?}"))?;
        }
        Ok(())
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
