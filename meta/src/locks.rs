//! Locks, counting semaphores and barriers, by name.
//!
//! A lock is a semaphore of one permit. Who waits is served in order. Whoever holds a permit has a fence that no
//! earlier holder had; all of it goes when the session ends, in whatever way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mcomp_wire::meta::{Answer, Fence, lock_id};
use mcomp_wire::{Status, limits};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::state::{Due, Obeyed, Step, invalid};
use crate::table::check_name;
use crate::{Effect, Refusal, State, Ticket};

/// A lock or a semaphore that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock {
    pub(crate) permits: u32,
    /// The sessions that hold it, with their fences.
    pub(crate) holders: BTreeMap<Uuid, u64>,
    /// In the order in which they came.
    pub(crate) waiting: VecDeque<Waiter>,
}

/// A barrier that somebody has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Barrier {
    pub(crate) parties: u32,
    pub(crate) arrived: Vec<Waiter>,
}

/// A command that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiter {
    pub(crate) session: Uuid,
    pub(crate) number: u64,
    pub(crate) deadline_ms: u64,
}

impl Waiter {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { who: self.session, number: self.number }
    }

    fn new(ticket: Ticket, deadline_ms: u64) -> Waiter {
        Waiter { session: ticket.who, number: ticket.number, deadline_ms }
    }
}

impl State {
    pub(crate) fn acquire(
        &mut self,
        ticket: Ticket,
        name: String,
        permits: u32,
        wait_ms: u64,
        step: &mut Step,
    ) -> Obeyed {
        self.check_meeting(&name, permits, wait_ms)?;
        if self.barriers.contains_key(&name) {
            return Err(invalid(format!("{name:?} is a barrier")));
        }
        let lock = self.locks.get(&name);
        if let Some(lock) = lock {
            lock.check(&name, permits, ticket.who)?;
        }
        let taken = lock.map_or(0, |lock| lock.holders.len());
        let is_free = taken < permits as usize && lock.is_none_or(|lock| lock.waiting.is_empty());
        if is_free {
            let lock = || Lock { permits, holders: BTreeMap::new(), waiting: VecDeque::new() };
            self.locks.entry(name.clone()).or_insert_with(lock);
            return Ok(Some(self.hand_to(&name, ticket.who, step)));
        }
        if wait_ms == 0 {
            return Err(Refusal::new(Status::Locked, format!("{name:?} is held by {taken} of {permits}")));
        }
        let deadline_ms = self.after(wait_ms);
        let lock = self.locks.get_mut(&name).expect("it is held");
        if lock.waiting.len() >= limits::MAX_PARTIES as usize {
            let message = format!("{} wait for {name:?} already: try again", limits::MAX_PARTIES);
            return Err(Refusal::new(Status::Busy, message));
        }
        lock.waiting.push_back(Waiter::new(ticket, deadline_ms));
        self.meets(ticket.who, &name, true);
        self.dues.insert((deadline_ms, Due::LockWaiter(name, ticket)));
        Ok(None)
    }

    fn hand_to(&mut self, name: &str, session: Uuid, step: &mut Step) -> Answer {
        let number = self.next_serial();
        let lock = self.locks.get_mut(name).expect("who hands it on has found it");
        lock.holders.insert(session, number);
        self.meets(session, name, true);
        let id = lock_id(name);
        step.effect(Effect::Hold(Fence { id, number }));
        Answer::Locked { id, fence: number }
    }

    pub(crate) fn unlock(&mut self, session: Uuid, name: &str, step: &mut Step) -> Result<Answer, Refusal> {
        let held = self.locks.get(name).is_some_and(|lock| lock.holders.contains_key(&session));
        if !held {
            return Err(Refusal::new(Status::NotFound, format!("this session does not hold {name:?}")));
        }
        self.let_go_of(name, session, step);
        Ok(Answer::Done)
    }

    /// Takes the permit of a holder back, and hands it to who waits.
    fn let_go_of(&mut self, name: &str, session: Uuid, step: &mut Step) {
        let lock = self.locks.get_mut(name).expect("who lets go has found it");
        let number = lock.holders.remove(&session).expect("who lets go holds it");
        self.meets(session, name, false);
        step.effect(Effect::LetGo(Fence { id: lock_id(name), number }));
        self.serve_waiting(name, step);
    }

    fn serve_waiting(&mut self, name: &str, step: &mut Step) {
        while let Some(lock) = self.locks.get_mut(name)
            && lock.holders.len() < lock.permits as usize
            && let Some(waiter) = lock.waiting.pop_front()
        {
            let ticket = waiter.ticket();
            self.dues.remove(&(waiter.deadline_ms, Due::LockWaiter(name.to_owned(), ticket)));
            let answer = self.hand_to(name, ticket.who, step);
            self.tell_later(ticket, Ok(answer), step);
        }
        if self.locks.get(name).is_some_and(|lock| lock.holders.is_empty()) {
            self.locks.remove(name);
        }
    }

    pub(crate) fn lock_waiter_gave_up(&mut self, name: &str, ticket: Ticket, step: &mut Step) {
        let lock = self.locks.get_mut(name).expect("a due waiter waits for a lock");
        lock.waiting.retain(|waiter| waiter.ticket() != ticket);
        self.meets(ticket.who, name, false);
        let refusal = Refusal::new(Status::Locked, format!("{name:?} was not free in time"));
        self.tell_later(ticket, Err(refusal), step);
    }

    pub(crate) fn arrive(
        &mut self,
        ticket: Ticket,
        name: String,
        parties: u32,
        wait_ms: u64,
        step: &mut Step,
    ) -> Obeyed {
        self.check_meeting(&name, parties, wait_ms)?;
        if self.locks.contains_key(&name) {
            return Err(invalid(format!("{name:?} is a lock")));
        }
        let deadline_ms = self.after(wait_ms);
        let barrier = self.barriers.entry(name.clone()).or_insert(Barrier { parties, arrived: Vec::new() });
        if barrier.parties != parties {
            let message = format!("the barrier {name:?} waits for {}, not for {parties}", barrier.parties);
            return Err(invalid(message));
        }
        if barrier.arrived.iter().any(|waiter| waiter.session == ticket.who) {
            return Err(invalid(format!("this session waits at the barrier {name:?} already")));
        }
        barrier.arrived.push(Waiter::new(ticket, deadline_ms));
        let is_complete = barrier.arrived.len() == parties as usize;
        self.dues.insert((deadline_ms, Due::BarrierWaiter(name.clone(), ticket)));
        self.meets(ticket.who, &name, true);
        if !is_complete {
            return Ok(None);
        }
        let barrier = self.barriers.remove(&name).expect("it was found");
        let round = self.next_serial();
        for waiter in barrier.arrived {
            self.meets(waiter.session, &name, false);
            self.dues.remove(&(waiter.deadline_ms, Due::BarrierWaiter(name.clone(), waiter.ticket())));
            if waiter.ticket() != ticket {
                self.tell_later(waiter.ticket(), Ok(Answer::Passed { round }), step);
            }
        }
        Ok(Some(Answer::Passed { round }))
    }

    pub(crate) fn barrier_waiter_gave_up(&mut self, name: &str, ticket: Ticket, step: &mut Step) {
        self.leave_barrier(name, ticket);
        self.meets(ticket.who, name, false);
        let refusal = Refusal::new(Status::Locked, format!("not all came to the barrier {name:?} in time"));
        self.tell_later(ticket, Err(refusal), step);
    }

    fn leave_barrier(&mut self, name: &str, ticket: Ticket) {
        let barrier = self.barriers.get_mut(name).expect("who waits at a barrier waits at one");
        barrier.arrived.retain(|waiter| waiter.ticket() != ticket);
        if barrier.arrived.is_empty() {
            self.barriers.remove(name);
        }
    }

    /// A session that has ended holds and waits for nothing.
    pub(crate) fn leave_all(&mut self, session: Uuid, names: &BTreeSet<String>, step: &mut Step) {
        for name in names {
            if let Some(ticket) = self.waiter_at_barrier(name, session) {
                self.leave_barrier(name, ticket);
            }
            let Some(lock) = self.locks.get_mut(name) else { continue };
            if let Some(at) = lock.waiting.iter().position(|waiter| waiter.session == session) {
                let waiter = lock.waiting.remove(at).expect("it was found");
                self.dues.remove(&(waiter.deadline_ms, Due::LockWaiter(name.clone(), waiter.ticket())));
            } else if lock.holders.contains_key(&session) {
                self.let_go_of(name, session, step);
            }
        }
    }

    fn waiter_at_barrier(&mut self, name: &str, session: Uuid) -> Option<Ticket> {
        let waiter = self.barriers.get(name)?.arrived.iter().find(|waiter| waiter.session == session)?.clone();
        self.dues.remove(&(waiter.deadline_ms, Due::BarrierWaiter(name.to_owned(), waiter.ticket())));
        Some(waiter.ticket())
    }

    /// Notes that a session holds or waits for something of this name, or that it does not any more.
    fn meets(&mut self, session: Uuid, name: &str, yes: bool) {
        if let Some(session) = self.sessions.get_mut(&session) {
            if yes {
                session.meets.insert(name.to_owned())
            } else {
                session.meets.remove(name)
            };
        }
    }

    fn check_meeting(&self, name: &str, parties: u32, wait_ms: u64) -> Result<(), Refusal> {
        check_name(name)?;
        if !(1..=limits::MAX_PARTIES).contains(&parties) {
            return Err(invalid(format!(
                "{parties} permits or parties: from 1 to {} are allowed",
                limits::MAX_PARTIES
            )));
        }
        if wait_ms > limits::MAX_WAIT_MS {
            return Err(invalid(format!("a wait of {wait_ms} ms: at most {} are allowed", limits::MAX_WAIT_MS)));
        }
        let is_new = !self.locks.contains_key(name) && !self.barriers.contains_key(name);
        if is_new && self.locks.len() + self.barriers.len() >= limits::MAX_LOCKS {
            let message = format!("there are {} locks and barriers, and no more are allowed", limits::MAX_LOCKS);
            return Err(Refusal::new(Status::Full, message));
        }
        Ok(())
    }
}

impl Lock {
    fn check(&self, name: &str, permits: u32, session: Uuid) -> Result<(), Refusal> {
        if self.permits != permits {
            return Err(invalid(format!("{name:?} is held with {} permits, not with {permits}", self.permits)));
        }
        if self.holders.contains_key(&session) {
            return Err(invalid(format!("this session holds {name:?} already")));
        }
        if self.waiting.iter().any(|waiter| waiter.session == session) {
            return Err(invalid(format!("this session waits for {name:?} already")));
        }
        Ok(())
    }
}
