//! The page table: which bytes are whose.

use mcomp_wire::meta::{Allocate, Answer, Lease, Owner, Region, is_name};
use mcomp_wire::{BLOCK_SIZE, Status, limits};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::allocator::{NoRoom, Placement, Run};
use crate::state::{Due, Step, invalid};
use crate::{Effect, Refusal, State};

/// One allocation, by its first address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Allocation {
    pub(crate) size: u64,
    pub(crate) capacity: u64,
    pub(crate) generation: u64,
    pub(crate) name: Option<String>,
    pub(crate) owner: Owner,
    pub(crate) lease: Option<Uuid>,
    pub(crate) notes: Vec<(String, String)>,
    pub(crate) created_ms: u64,
    /// From which address on the bytes were zeroed by which entry: one for the beginning, and one for each
    /// growth or cut that a later cut has not made superfluous.
    pub(crate) zeroed: Vec<(u64, u64)>,
}

impl Allocation {
    /// Becomes longer or shorter, and says what the entry at `index` has to zero: what is new, or what was cut off and
    /// stays taken, so that it is zero when the allocation grows again.
    fn resize(&mut self, addr: u64, size: u64, capacity: u64, index: u64) -> Option<Effect> {
        let (old_size, old_capacity) = (self.size, self.capacity);
        (self.size, self.capacity) = (size, capacity);
        let (from, to) = match capacity > old_capacity {
            true => (addr + old_capacity, addr + capacity),
            false => (addr + size, addr + old_size.min(capacity)),
        };
        self.zeroed.retain(|(at, _)| *at < addr + capacity);
        if from >= to {
            return None;
        }
        self.zeroed.retain(|(at, _)| *at < from);
        self.zeroed.push((from, index));
        Some(Effect::Zero { addr: from, len: to - from })
    }
}

impl State {
    pub(crate) fn allocate(&mut self, session: Uuid, wish: Allocate, step: &mut Step) -> Result<Answer, Refusal> {
        self.check_wish(&wish, step)?;
        let run = self.find_room(&wish, step.placement()).map_err(|why| self.no_room(why))?;
        let generation = self.next_serial();
        let lease = wish.lease_ms.map(|lease_ms| self.grant(run.addr, lease_ms, wish.shared, step));
        if let Some(name) = &wish.name {
            self.names.insert(name.clone(), run.addr);
        }
        self.sessions.get_mut(&session).expect("who asks has a session").owned.insert(run.addr);
        self.asked_bytes += wish.size;
        let allocation = Allocation {
            size: wish.size,
            capacity: run.capacity,
            generation,
            name: wish.name,
            owner: Owner::Session(session),
            lease,
            notes: wish.notes,
            created_ms: self.now_ms,
            zeroed: vec![(run.addr, self.index)],
        };
        self.allocations.insert(run.addr, allocation);
        step.effect(Effect::Zero { addr: run.addr, len: run.capacity });
        self.guard(run.addr, step);
        Ok(Answer::Region(Box::new(self.region(run.addr))))
    }

    /// A run where it may be: anywhere, or on one server of those that are not to be avoided.
    fn find_room(&mut self, wish: &Allocate, placement: Placement) -> Result<Run, NoRoom> {
        if wish.avoid.is_empty() {
            return self.allocator.allocate(wish.size, placement);
        }
        let mut servers = (0..self.space.n()).filter(|server| !wish.avoid.contains(server));
        let found = servers.find_map(|server| self.allocator.allocate(wish.size, Placement::On(server)).ok());
        found.ok_or(NoRoom::Full {
            size: wish.size,
            free: self.allocator.stats().free_bytes,
            largest: self.allocator.largest_free_run(),
        })
    }

    fn check_wish(&self, wish: &Allocate, step: &Step) -> Result<(), Refusal> {
        if self.allocations.len() >= limits::MAX_REGIONS {
            let message = format!("there are {} allocations, and no more are allowed", limits::MAX_REGIONS);
            return Err(Refusal::new(Status::Full, message));
        }
        if let Some(name) = &wish.name {
            check_name(name)?;
            if let Some(addr) = self.names.get(name) {
                let message = format!("{name:?} names the allocation at {addr}: free it, or take another name");
                return Err(Refusal::new(Status::Exists, message));
            }
        }
        if let Some(lease_ms) = wish.lease_ms {
            self.check_lease(lease_ms)?;
            if self.leases.contains_key(&step.stamp.random) {
                return Err(Refusal::new(Status::Busy, "the random id is not new: try again"));
            }
        }
        if wish.avoid.len() > limits::MAX_SERVERS as usize {
            return Err(invalid("more servers are to be avoided than there can be"));
        }
        check_notes(&wish.notes)
    }

    fn no_room(&self, why: NoRoom) -> Refusal {
        let status = match why {
            NoRoom::Zero => Status::Invalid,
            NoRoom::TooLarge { .. } | NoRoom::Full { .. } => Status::Full,
        };
        let quarantined: u64 = self.quarantine.values().map(|(capacity, _)| capacity).sum();
        match (status, quarantined) {
            (Status::Full, 1..) => {
                Refusal::new(status, format!("{why}; {quarantined} bytes more are free when their quarantine ends"))
            }
            _ => Refusal::new(status, why.to_string()),
        }
    }

    pub(crate) fn free(&mut self, addr: u64, generation: Option<u64>, step: &mut Step) -> Result<Answer, Refusal> {
        self.check_unleased(addr, generation, "free")?;
        Ok(Answer::Freed { regions: 1, bytes: self.take_out(addr, None, step) })
    }

    pub(crate) fn resize(
        &mut self,
        addr: u64,
        size: u64,
        generation: Option<u64>,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        let allocation = self.find(addr, generation)?;
        let old = Run { addr, capacity: allocation.capacity };
        if size == 0 {
            return Err(invalid("a size of 0 bytes: an allocation has at least 1; free it instead"));
        }
        let Some(run) = self.resize_run(old, size) else {
            let message = format!("the allocation at {addr} cannot become {size} bytes where it is");
            return Err(Refusal::new(Status::Full, message));
        };
        let index = self.index;
        let allocation = self.allocations.get_mut(&addr).expect("it was found");
        self.asked_bytes = self.asked_bytes - allocation.size + size;
        step.out.effects.extend(allocation.resize(addr, size, run.capacity, index));
        self.guard(addr, step);
        Ok(Answer::Region(Box::new(self.region(addr))))
    }

    /// A run of the same address that holds `size` bytes. One that shrinks stays at least where it is.
    fn resize_run(&mut self, old: Run, size: u64) -> Option<Run> {
        let fits = (size <= old.capacity).then_some(old);
        let page = (size <= BLOCK_SIZE && old.capacity > BLOCK_SIZE).then_some(BLOCK_SIZE);
        self.allocator.resize(old, size).or_else(|| self.allocator.resize(old, page?)).or(fits)
    }

    /// Lets the allocation at `to` take the place of that at `from`.
    pub(crate) fn replace(&mut self, session: Uuid, from: u64, to: u64, step: &mut Step) -> Result<Answer, Refusal> {
        self.find(from, None)?;
        let new = self.find(to, None)?;
        if from == to || new.name.is_some() || new.lease.is_some() || new.owner != Owner::Session(session) {
            return Err(invalid(format!("the allocation at {to} is not a plain one of this session")));
        }
        let old = self.allocations.get_mut(&from).expect("it was found");
        let (name, lease) = (old.name.take(), old.lease.take());
        let (owner, notes, created_ms) = (old.owner, std::mem::take(&mut old.notes), old.created_ms);
        if lease.is_some() {
            step.effect(Effect::Unguard { addr: from });
        }
        if let Some(name) = &name {
            self.names.insert(name.clone(), to);
        }
        if let Some(lease) = lease {
            self.leases.get_mut(&lease).expect("a lease that is named exists").addr = to;
        }
        self.own(to, owner);
        let new = self.allocations.get_mut(&to).expect("it was found");
        (new.name, new.lease, new.notes, new.created_ms) = (name, lease, notes, created_ms);
        self.take_out(from, None, step);
        self.guard(to, step);
        Ok(Answer::Region(Box::new(self.region(to))))
    }

    /// Frees what sessions that died have left without a lease.
    pub(crate) fn collect(&mut self, step: &mut Step) -> Answer {
        let left = |allocation: &Allocation| allocation.owner == Owner::Nobody && allocation.lease.is_none();
        let addrs = self.allocations.iter().filter(|(_, allocation)| left(allocation)).map(|(addr, _)| *addr);
        let addrs: Vec<u64> = addrs.collect();
        let quarantine_ms = step.stamp.quarantine_ms;
        let bytes = addrs.iter().map(|addr| self.take_out(*addr, Some(quarantine_ms), step)).sum();
        Answer::Freed { regions: addrs.len() as u64, bytes }
    }

    /// Takes an allocation out of the table, with its name and lease. Its bytes are free now, or after a quarantine.
    pub(crate) fn take_out(&mut self, addr: u64, quarantine_ms: Option<u64>, step: &mut Step) -> u64 {
        let allocation = self.allocations.remove(&addr).expect("what is taken out was found");
        if let Some(name) = &allocation.name {
            self.names.remove(name);
        }
        if let Some(id) = allocation.lease {
            let lease = self.leases.remove(&id).expect("a lease that is named exists");
            self.dues.remove(&(lease.deadline_ms, Due::Lease(id)));
            step.effect(Effect::Unguard { addr });
        }
        if let Owner::Session(session) = allocation.owner {
            self.sessions.get_mut(&session).expect("an owner lives").owned.remove(&addr);
        }
        self.asked_bytes -= allocation.size;
        match quarantine_ms {
            Some(ms @ 1..) => {
                let until_ms = self.after(ms);
                self.quarantine.insert(addr, (allocation.capacity, until_ms));
                self.dues.insert((until_ms, Due::Quarantine(addr)));
            }
            _ => self.allocator.free(Run { addr, capacity: allocation.capacity }),
        }
        allocation.size
    }

    pub(crate) fn quarantine_ended(&mut self, addr: u64) {
        let (capacity, _) = self.quarantine.remove(&addr).expect("a due quarantine exists");
        self.allocator.free(Run { addr, capacity });
    }

    /// Gives an allocation to another owner.
    pub(crate) fn own(&mut self, addr: u64, owner: Owner) {
        let allocation = self.allocations.get_mut(&addr).expect("what changes hands exists");
        let before = std::mem::replace(&mut allocation.owner, owner);
        for (who, now_owns) in [(before, false), (owner, true)] {
            if let Owner::Session(id) = who
                && let Some(session) = self.sessions.get_mut(&id)
            {
                if now_owns {
                    session.owned.insert(addr)
                } else {
                    session.owned.remove(&addr)
                };
            }
        }
    }

    /// The allocation at exactly this address, and of this generation if one is named.
    pub(crate) fn find(&self, addr: u64, generation: Option<u64>) -> Result<&Allocation, Refusal> {
        let Some(allocation) = self.allocations.get(&addr) else { return Err(self.not_an_allocation(addr)) };
        match generation {
            Some(generation) if generation != allocation.generation => {
                let message = format!(
                    "the allocation at {addr} has generation {}, not {generation}: the one that was meant is gone",
                    allocation.generation
                );
                Err(Refusal::new(Status::Fenced, message))
            }
            _ => Ok(allocation),
        }
    }

    /// As [`State::find`], for what a lease would have to allow.
    fn check_unleased(&self, addr: u64, generation: Option<u64>, what: &str) -> Result<(), Refusal> {
        match self.find(addr, generation)?.lease {
            None => Ok(()),
            Some(_) => {
                let message = format!(
                    "the allocation at {addr} is under a lease: whoever has it may release it; a {what} by address does not"
                );
                Err(Refusal::new(Status::Fenced, message))
            }
        }
    }

    fn not_an_allocation(&self, addr: u64) -> Refusal {
        if addr >= self.space.size() {
            let message = format!("address {addr} is outside the address space of {} bytes", self.space.size());
            return Refusal::new(Status::OutOfRange, message);
        }
        match self.holding(addr) {
            Some(base) => {
                let message = format!("address {addr} lies inside the allocation at {base}: name that one");
                Refusal::new(Status::Invalid, message)
            }
            None => Refusal::new(Status::NotFound, format!("nothing is allocated at {addr}; it may have been freed")),
        }
    }

    /// The first address of the allocation that holds `addr`.
    pub(crate) fn holding(&self, addr: u64) -> Option<u64> {
        let (base, allocation) = self.allocations.range(..=addr).next_back()?;
        (addr - base < allocation.capacity).then_some(*base)
    }

    /// An allocation as people see it.
    pub(crate) fn region(&self, addr: u64) -> Region {
        let allocation = &self.allocations[&addr];
        let lease = allocation.lease.map(|id| self.lease(id));
        let Allocation { size, capacity, generation, owner, created_ms, .. } = *allocation;
        let (name, notes) = (allocation.name.clone(), allocation.notes.clone());
        Region { addr, size, capacity, generation, name, owner, lease, notes, created_ms }
    }

    /// What the servers have to know of the allocation's lease, if it has one.
    pub(crate) fn guard(&self, addr: u64, step: &mut Step) {
        step.out.effects.extend(self.guard_of(addr));
    }

    pub(crate) fn guard_of(&self, addr: u64) -> Option<Effect> {
        let allocation = &self.allocations[&addr];
        let Lease { id, fence, deadline_ms, shared, .. } = self.lease(allocation.lease?);
        let fence = mcomp_wire::meta::Fence { id, number: fence };
        Some(Effect::Guard { addr, len: allocation.capacity, fence, deadline_ms, shared })
    }
}

/// Refuses more notes, or longer ones, than are kept.
pub(crate) fn check_notes(notes: &[(String, String)]) -> Result<(), Refusal> {
    let too_long = notes.iter().any(|(key, value)| key.is_empty() || key.len() + value.len() > limits::MAX_NOTE);
    if notes.len() > limits::MAX_NOTES || too_long {
        let (most, bytes) = (limits::MAX_NOTES, limits::MAX_NOTE);
        return Err(invalid(format!("at most {most} notes of at most {bytes} bytes each are kept")));
    }
    Ok(())
}

/// Refuses what cannot be a name.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    match is_name(name) {
        true => Ok(()),
        false => Err(invalid(format!(
            "{name:?} is no name: a name begins with a letter or _, goes on with letters, digits and _ - . /, and has at \
             most {} bytes",
            limits::MAX_NAME
        ))),
    }
}
