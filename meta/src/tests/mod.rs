//! The state machine by its answers: single stories here, random ones against a naive model in `model`.

use mcomp_wire::meta::{Allocate, Answer, Ask, Command, Found, Owner, Query, Region, Told};
use mcomp_wire::{Space, Status};
use uuid::Uuid;

use crate::{Effect, Entry, Outcome, Refusal, Stamp, State, Ticket};

mod model;
mod stories;

pub(crate) const K_BYTES: u64 = 64 << 10;

/// A state and the time, and as much of a leader as it takes.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) state: State,
    pub(crate) now_ms: u64,
    pub(crate) quarantine_ms: u64,
    pub(crate) last: Outcome,
    random: u128,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let state = State::new(Space::new(K_BYTES, 3).unwrap());
        Bench { state, now_ms: 1000, quarantine_ms: 0, last: Outcome::default(), random: 1 }
    }

    pub(crate) fn enter(&mut self, ask: Option<Ask>) {
        self.random += 1;
        let random = Uuid::from_u128(self.random);
        let stamp = Stamp { now_ms: self.now_ms, random, quarantine_ms: self.quarantine_ms, spread: false };
        self.last = self.state.apply(self.state.index() + 1, Entry { stamp, ask });
        self.state.assert_invariants();
    }

    /// Lets time pass, as a leader does: an entry at each due.
    pub(crate) fn pass(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        let mut outcome = Outcome::default();
        while let Some(due_ms) = self.state.next_due_ms()
            && due_ms <= until_ms
        {
            self.now_ms = self.now_ms.max(due_ms);
            self.enter(None);
            outcome.told.append(&mut self.last.told);
            outcome.effects.append(&mut self.last.effects);
        }
        self.now_ms = until_ms;
        self.last = outcome;
    }

    /// What a ticket is told by the last entry.
    pub(crate) fn told(&self, ticket: Ticket) -> Option<Result<Told, Refusal>> {
        self.last.told.iter().find(|(to, _)| *to == ticket).map(|(_, told)| told.clone())
    }

    pub(crate) fn open(&mut self, ttl_ms: u64) -> Asker {
        let token = Uuid::from_u128(u128::from(self.state.index()));
        let command = Command::Open { token, ttl_ms };
        self.enter(Some(Ask { session: Uuid::nil(), number: 0, settled: 0, command }));
        match self.told(Ticket { who: token, number: 0 }) {
            Some(Ok(Told { answer: Answer::Session { id, .. }, .. })) => Asker { session: id, number: 0 },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn region_at(&self, addr: u64) -> Option<Region> {
        match self.state.query(&Query::At { addr }) {
            Found::Region(region) => region.map(|region| *region),
            other => panic!("{other:?}"),
        }
    }
}

/// One session and the number of its last command.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) session: Uuid,
    pub(crate) number: u64,
}

impl Asker {
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket { who: self.session, number: self.number }
    }

    /// Sends the next command, and says what comes of it at once.
    pub(crate) fn start(&mut self, bench: &mut Bench, command: Command) -> Option<Result<Told, Refusal>> {
        self.number += 1;
        self.again(bench, command)
    }

    /// Sends a command under the number of the last one.
    pub(crate) fn again(&mut self, bench: &mut Bench, command: Command) -> Option<Result<Told, Refusal>> {
        bench.enter(Some(Ask { session: self.session, number: self.number, settled: 0, command }));
        bench.told(self.ticket())
    }

    pub(crate) fn ask(&mut self, bench: &mut Bench, command: Command) -> Result<Answer, Status> {
        let told = self.start(bench, command).expect("an answer at once");
        told.map(|told| told.answer).map_err(|refusal| refusal.status)
    }

    pub(crate) fn allocate(&mut self, bench: &mut Bench, wish: Allocate) -> Result<Region, Status> {
        self.ask(bench, Command::Allocate(wish)).map(|answer| match answer {
            Answer::Region(region) => *region,
            other => panic!("{other:?}"),
        })
    }
}

/// A wish for so many bytes and nothing else.
pub(crate) fn bytes(size: u64) -> Allocate {
    Allocate { size, ..Allocate::default() }
}

/// A wish for a lease.
pub(crate) fn leased(size: u64, lease_ms: u64) -> Allocate {
    Allocate { size, lease_ms: Some(lease_ms), ..Allocate::default() }
}
