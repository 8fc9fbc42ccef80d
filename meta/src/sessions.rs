//! Sessions: who asks, and what they were told.
//!
//! A session lives as long as it shows signs of life, by the cluster's time. It remembers the answers of its commands
//! until the asker says that it has them, so that a command which is sent again, to another server or after a change of
//! the leader, gets its first answer.

use std::collections::{BTreeMap, BTreeSet};

use mcomp_wire::meta::{Answer, Ask, Command, Owner, Told};
use mcomp_wire::{Status, limits};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::mutant::{self, Mutant};
use crate::state::{Due, Step, invalid};
use crate::{Refusal, State, Ticket};

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) ttl_ms: u64,
    pub(crate) deadline_ms: u64,
    /// The asker has all answers up to here.
    pub(crate) settled: u64,
    /// What came of later commands; nothing yet for one that waits.
    pub(crate) answers: BTreeMap<u64, Option<Result<Told, Refusal>>>,
    /// The allocations that it owns. Follows from the page table.
    #[serde(skip)]
    pub(crate) owned: BTreeSet<u64>,
    /// The locks that it holds or waits for, and the barriers at which it waits. Follows from them.
    #[serde(skip)]
    pub(crate) meets: BTreeSet<String>,
}

/// What is known of a command before it is done: nothing, or its answer, which may be yet to come.
type Known = Option<Option<Result<Told, Refusal>>>;

impl State {
    pub(crate) fn open(&mut self, ttl_ms: u64, step: &mut Step) -> Result<Answer, Refusal> {
        let (least, most) = (limits::SESSION_TTL_MS.start(), limits::SESSION_TTL_MS.end());
        if !limits::SESSION_TTL_MS.contains(&ttl_ms) {
            return Err(invalid(format!("a session of {ttl_ms} ms: from {least} to {most} ms are allowed")));
        }
        if self.sessions.len() >= limits::MAX_SESSIONS {
            let message = format!("there are {} sessions, and no more are allowed: try again", limits::MAX_SESSIONS);
            return Err(Refusal::new(Status::Busy, message));
        }
        let id = step.stamp.random;
        if id.is_nil() || self.sessions.contains_key(&id) {
            return Err(Refusal::new(Status::Busy, "the random id is not new: try again"));
        }
        let deadline_ms = self.after(ttl_ms);
        let session = Session {
            ttl_ms,
            deadline_ms,
            settled: 0,
            answers: BTreeMap::new(),
            owned: BTreeSet::new(),
            meets: BTreeSet::new(),
        };
        self.sessions.insert(id, session);
        self.dues.insert((deadline_ms, Due::Session(id)));
        Ok(Answer::Session { id, ttl_ms })
    }

    /// Takes a sign of life, and says what is known of the command.
    pub(crate) fn session_for(&mut self, ask: &Ask) -> Result<Known, Refusal> {
        let id = ask.session;
        let now_ms = self.now_ms;
        let Some(session) = self.sessions.get_mut(&id) else {
            let message = format!("session {id} has ended or run out");
            return Err(Refusal::new(Status::NoSession, message));
        };
        let deadline_ms = now_ms.saturating_add(session.ttl_ms);
        self.dues.remove(&(session.deadline_ms, Due::Session(id)));
        self.dues.insert((deadline_ms, Due::Session(id)));
        session.deadline_ms = deadline_ms;
        if ask.command == Command::KeepAlive {
            // Its answer says nothing, so it need not be remembered.
            return Ok(None);
        }
        if let Some(known) = session.answers.get(&ask.number) {
            return Ok(Some(known.clone()));
        }
        if ask.number <= session.settled {
            let message = format!("command {} of this session was answered before", ask.number);
            return Err(Refusal::new(Status::ResultLost, message));
        }
        session.settle(ask.settled.min(ask.number - 1));
        if ask.number > session.settled.saturating_add(limits::MAX_UNANSWERED as u64) {
            let message =
                format!("more than {} commands of this session are without an answer", limits::MAX_UNANSWERED);
            return Err(Refusal::new(Status::Busy, message));
        }
        Ok(None)
    }

    /// Keeps what came of a command, for the asker's second try.
    pub(crate) fn remember(&mut self, ticket: Ticket, told: Option<Result<Told, Refusal>>) {
        if let Some(session) = self.sessions.get_mut(&ticket.who)
            && ticket.number > session.settled
            && mutant::active() != Mutant::NoMemory
        {
            session.answers.insert(ticket.number, told);
        }
    }

    /// What came of a command that has waited.
    pub(crate) fn tell_later(&mut self, ticket: Ticket, told: Result<Answer, Refusal>, step: &mut Step) {
        let told = told.map(|answer| self.told(answer));
        self.remember(ticket, Some(told.clone()));
        step.out.told.push((ticket, told));
    }

    /// The session showed no sign of life.
    pub(crate) fn session_died(&mut self, id: Uuid, step: &mut Step) {
        let session = self.sessions.remove(&id).expect("a due session exists");
        self.forget_coming(id);
        self.disown(&session, Owner::Nobody);
        self.leave_all(id, &session.meets, step);
    }

    /// The session ended in good order.
    pub(crate) fn session_closed(&mut self, id: Uuid, step: &mut Step) {
        let session = self.sessions.remove(&id).expect("who asks has a session");
        self.forget_coming(id);
        self.dues.remove(&(session.deadline_ms, Due::Session(id)));
        self.disown(&session, Owner::Cluster);
        self.leave_all(id, &session.meets, step);
    }

    fn disown(&mut self, session: &Session, owner: Owner) {
        for addr in &session.owned {
            self.allocations.get_mut(addr).expect("what is owned exists").owner = owner;
        }
    }
}

impl Session {
    /// Forgets the answers that the asker has.
    fn settle(&mut self, settled: u64) {
        if settled > self.settled {
            self.settled = settled;
            // An answer that is yet to come stays: somebody waits for it.
            self.answers.retain(|number, told| *number > settled || told.is_none());
        }
    }
}
