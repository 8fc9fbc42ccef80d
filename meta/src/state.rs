//! The state machine: one entry in, its outcome out.

use std::collections::{BTreeMap, BTreeSet};

use mcomp_wire::meta::{Answer, Ask, Command, MembersReport, Told};
use mcomp_wire::{Shape, Space, Status};
use uuid::Uuid;

use crate::allocator::{Allocator, Placement};
use crate::leases::LeaseState;
use crate::locks::{Barrier, Lock};
use crate::reset::Coming;
use crate::sessions::Session;
use crate::table::Allocation;
use crate::{Effect, Entry, Outcome, Refusal, Stamp, Ticket};

/// What the cluster has agreed on.
///
/// Invariants, which [`State::assert_invariants`] looks after:
/// - `index` and `now_ms` never go back, and `serial` is at least every generation and fence that was given out.
/// - Allocations and quarantined runs do not overlap, and are exactly what the allocator has taken.
/// - A name belongs to one allocation, which has that name; a lease to one allocation, which has that lease.
/// - Every session, lease, waiter and quarantine has one entry among the dues, at its deadline, later than `now_ms`.
/// - A lock has a holder, at most as many as its permits, and waiters only when it has all of them.
/// - The servers of the address space are those that the shape of the cluster says.
/// - A page table of which parts have come belongs to a session that lives, and holds together as far as it has come.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) space: Space,
    /// Names the log: random bits of its first entry, or 0 before that.
    pub(crate) log_id: u64,
    /// The last entry that was applied.
    pub(crate) index: u64,
    pub(crate) now_ms: u64,
    /// The last generation or fence that was given out.
    pub(crate) serial: u64,
    pub(crate) sessions: BTreeMap<Uuid, Session>,
    pub(crate) allocations: BTreeMap<u64, Allocation>,
    pub(crate) names: BTreeMap<String, u64>,
    pub(crate) leases: BTreeMap<Uuid, LeaseState>,
    /// Runs that nobody has and nobody gets yet, by address: their capacity, and until when.
    pub(crate) quarantine: BTreeMap<u64, (u64, u64)>,
    pub(crate) locks: BTreeMap<String, Lock>,
    pub(crate) barriers: BTreeMap<String, Barrier>,
    /// A page table of which parts have come.
    pub(crate) coming: Option<Box<Coming>>,
    /// The session that has reset the page table last: it ended with that, and may ask again what came of it.
    pub(crate) reset_by: Option<Uuid>,
    /// The servers that keep replicated blocks.
    pub(crate) members: MembersReport,
    /// The last incarnation that was given out.
    pub(crate) last_incarnation: u16,
    /// What ends when. Follows from the rest.
    pub(crate) dues: BTreeSet<(u64, Due)>,
    /// What is free. Follows from the rest.
    pub(crate) allocator: Allocator,
    /// Bytes that allocations asked for. Follows from the rest.
    pub(crate) asked_bytes: u64,
}

/// What ends at its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Session(Uuid),
    Lease(Uuid),
    Quarantine(u64),
    LockWaiter(String, Ticket),
    BarrierWaiter(String, Ticket),
}

/// What came of a command: an answer, a refusal, or nothing yet.
pub(crate) type Obeyed = Result<Option<Answer>, Refusal>;

/// One entry while it is applied.
pub(crate) struct Step {
    pub(crate) stamp: Stamp,
    pub(crate) out: Outcome,
}

impl State {
    /// The state before the first entry: nothing is taken.
    pub fn new(space: Space) -> State {
        State {
            space,
            log_id: 0,
            index: 0,
            now_ms: 0,
            serial: 0,
            sessions: BTreeMap::new(),
            allocations: BTreeMap::new(),
            names: BTreeMap::new(),
            leases: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            locks: BTreeMap::new(),
            barriers: BTreeMap::new(),
            coming: None,
            reset_by: None,
            members: MembersReport { shape: Shape { n: space.n(), step: 0 }, ..MembersReport::default() },
            last_incarnation: 0,
            dues: BTreeSet::new(),
            allocator: Allocator::new(space.k(), space.n()),
            asked_bytes: 0,
        }
    }

    /// The address space that it is about. It grows when a server is added.
    pub fn space(&self) -> Space {
        self.space
    }

    /// The last entry that was applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Names the log that it comes from, so that what was noted of another one is not mixed up with it.
    pub fn log_id(&self) -> u64 {
        self.log_id
    }

    /// The cluster's time as of the last entry, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The highest fence that was given out.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// When the next thing ends: whoever leads sees to it that an entry with that time comes.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.dues.first().map(|(due_ms, _)| *due_ms)
    }

    /// Notes that the log has come to `index` without an entry for this machine.
    pub fn skip(&mut self, index: u64) {
        assert!(index > self.index, "entry {index} after {}", self.index);
        self.index = index;
    }

    /// Applies the entry at `index`, which is later than all before.
    pub fn apply(&mut self, index: u64, entry: Entry) -> Outcome {
        self.skip(index);
        self.now_ms = self.now_ms.max(entry.stamp.now_ms);
        if self.log_id == 0 {
            self.log_id = entry.stamp.log_id();
        }
        let mut step = Step { stamp: entry.stamp, out: Outcome::default() };
        self.expire(&mut step);
        if let Some(ask) = entry.ask {
            let ticket = Ticket::of(&ask);
            if let Some(told) = self.ask(ask, &mut step) {
                step.out.told.push((ticket, told));
            }
        }
        step.out
    }

    /// Ends whatever is due.
    fn expire(&mut self, step: &mut Step) {
        while let Some((due_ms, _)) = self.dues.first()
            && *due_ms <= self.now_ms
        {
            let (_, due) = self.dues.pop_first().expect("there is a first");
            match due {
                Due::Session(id) => self.session_died(id, step),
                Due::Lease(id) => self.lease_ran_out(id, step),
                Due::Quarantine(addr) => self.quarantine_ended(addr),
                Due::LockWaiter(name, ticket) => self.lock_waiter_gave_up(&name, ticket, step),
                Due::BarrierWaiter(name, ticket) => self.barrier_waiter_gave_up(&name, ticket, step),
            }
        }
    }

    /// Does a command, unless it was done before.
    fn ask(&mut self, ask: Ask, step: &mut Step) -> Option<Result<Told, Refusal>> {
        if let Command::Open { ttl_ms, .. } = ask.command {
            return Some(self.open(ttl_ms, step).map(|answer| self.told(answer)));
        }
        if let Command::Join { server, memory, seat, address } = ask.command {
            return Some(self.join(server, memory, seat, address).map(|answer| self.told(answer)));
        }
        if let Command::Received { server, memory, shape, replicas, epoch } = ask.command {
            return Some(self.received(server, memory, shape, replicas, epoch).map(|answer| self.told(answer)));
        }
        if self.has_reset(&ask) {
            return Some(Ok(self.told(Answer::Done)));
        }
        let number = ask.number;
        match self.session_for(&ask) {
            Ok(None) => {}
            Ok(Some(known)) => return known,
            Err(refusal) => return Some(Err(refusal)),
        }
        let obeyed = self.obey(ask.session, number, ask.command, step);
        let told = match obeyed {
            Ok(None) => None,
            Ok(Some(answer)) => Some(Ok(self.told(answer))),
            Err(refusal) => Some(Err(refusal)),
        };
        // Whoever was told to try again does that under the same number.
        if !matches!(&told, Some(Err(refusal)) if refusal.status == Status::Busy) {
            self.remember(Ticket { who: ask.session, number }, told.clone());
        }
        told
    }

    fn obey(&mut self, session: Uuid, number: u64, command: Command, step: &mut Step) -> Obeyed {
        let ticket = Ticket { who: session, number };
        self.check_not_resetting(&command)?;
        match command {
            Command::KeepAlive => Ok(Some(Answer::Done)),
            Command::Close => {
                self.session_closed(session, step);
                Ok(Some(Answer::Done))
            }
            Command::Allocate(wish) => self.allocate(session, wish, step).map(Some),
            Command::Free { addr, generation } => self.free(addr, generation, step).map(Some),
            Command::Resize { addr, size, generation } => self.resize(addr, size, generation, step).map(Some),
            Command::Replace { from, to } => self.replace(session, from, to, step).map(Some),
            Command::Renew { lease, lease_ms } => self.renew(lease, lease_ms, step).map(Some),
            Command::Release { lease } => self.release(lease, step).map(Some),
            Command::Transfer { lease, to } => self.transfer(lease, to, step).map(Some),
            Command::Acquire { name, permits, wait_ms } => self.acquire(ticket, name, permits, wait_ms, step),
            Command::Unlock { name } => self.unlock(session, &name, step).map(Some),
            Command::Arrive { name, parties, wait_ms } => self.arrive(ticket, name, parties, wait_ms, step),
            Command::Collect => Ok(Some(self.collect(step))),
            Command::Reset { part, last, regions } => self.reset(session, part, last, regions, step).map(Some),
            Command::Move { server, address } => self.move_server(server, address).map(Some),
            Command::Grow { server, address, replicas, epoch } => self.grow(server, address, replicas, epoch).map(Some),
            Command::Open { .. } | Command::Join { .. } | Command::Received { .. } => {
                unreachable!("done without a session")
            }
        }
    }

    pub(crate) fn told(&self, answer: Answer) -> Told {
        Told { index: self.index, answer }
    }

    /// A number that was never given out.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// A deadline so far from now.
    pub(crate) fn after(&self, ms: u64) -> u64 {
        self.now_ms.saturating_add(ms)
    }
}

impl Step {
    pub(crate) fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    pub(crate) fn placement(&self) -> Placement {
        if self.stamp.spread { Placement::Spread } else { Placement::Pack }
    }
}

/// A refusal of a value that makes no sense.
pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(Status::Invalid, message)
}
