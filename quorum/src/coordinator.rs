//! A coordinator: has operations done to one block by a majority of its replicas.
//!
//! It stands beside one replica, whose acceptor is always the first to hear a ballot: so what that replica keeps says
//! which ballots were ever used, and a restart uses none twice. There is one round at a time; what arrives meanwhile is
//! done together in the next one. After a round the coordinator holds its next ballot, because whoever accepted has
//! promised to obey nothing lower: the next round needs no preparation, until somebody else has had a greater one.
//!
//! Any replica may coordinate at any time. Two that do hinder each other, and do no harm.
//!
//! What it leaves out: time, and how messages travel. Whoever drives it calls [`Coordinator::resend`] when answers stay
//! away, and [`Coordinator::retry`] a random while after [`Effect::BackOff`].

use std::collections::VecDeque;

use crate::Ballot;
use crate::acceptor::{Ask, Replica, Reply};
use crate::group::{Place, Set, Votes};
use crate::mutant::{self, Mutant};
use crate::register::{Object, OpId, Register, Told};

/// Names an operation between the coordinator and whoever drives it.
pub type Ticket = u64;

/// What a replica is asked, of a register.
pub type Asked<O> = Ask<Register<O>>;
/// What it answers.
pub type Replied<O> = Reply<Register<O>>;

/// What is to be done for a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect<O: Object> {
    /// A message for some replicas; their answers name the attempt.
    Send {
        /// For whom.
        to: Set,
        /// Which question it is.
        attempt: u64,
        /// The question.
        ask: Asked<O>,
    },
    /// An operation has ended.
    Done(Ticket, Outcome<O>),
    /// Somebody else is at work on the block: call [`Coordinator::retry`] after a random while.
    BackOff,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome<O: Object> {
    /// A write is held by a majority. The clock is what its asker counts on from.
    Wrote {
        /// What came of it.
        answer: O::Answer,
        /// That of the block.
        clock: u64,
    },
    /// It was not done now, because it may have been done before, for all the block knows.
    Forgotten {
        /// Whether this coordinator may have done it: otherwise only somebody else may, who was asked before.
        was_tried: bool,
        /// What its asker counts on from.
        clock: u64,
    },
    /// What the block held at one moment since the read was asked for.
    Read(O),
    /// It had no effect, and will have none.
    NotDone,
}

/// What is known of an operation that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It had no effect here, and will have none.
    NotDone,
    /// It may have been done, or may be yet.
    Unknown,
}

/// A write that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Write<O: Object> {
    /// Nobody waits for it without one.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) id: OpId,
    pub(crate) op: O::Op,
    /// Whether a value to which it was done may be held by somebody.
    pub(crate) was_tried: bool,
}

/// What it is at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work<O: Object> {
    Nothing,
    /// It has lost a round.
    BackedOff,
    /// It asks under which ballots the others hold the block.
    Query(Query<O>),
    /// It asks for the obedience of a majority.
    Prepare(Prepare<O>),
    /// It has a value held by a majority.
    Accept(Accept<O>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Query<O: Object> {
    pub(crate) reads: Vec<Ticket>,
    /// What stood here when it began.
    pub(crate) here: (Ballot, O),
    pub(crate) asked: Set,
    pub(crate) agree: Votes,
    pub(crate) differ: Votes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Prepare<O: Object> {
    pub(crate) ballot: Ballot,
    pub(crate) reads: Vec<Ticket>,
    pub(crate) newest: (Ballot, Register<O>),
    pub(crate) promised: Votes,
    pub(crate) refused: Votes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Accept<O: Object> {
    pub(crate) ballot: Ballot,
    pub(crate) register: Register<O>,
    pub(crate) writes: Vec<(Write<O>, Told<O::Answer>)>,
    pub(crate) reads: Vec<Ticket>,
    pub(crate) accepted: Votes,
    pub(crate) refused: Votes,
}

/// Has operations done to one block.
///
/// - `attempt` grows with every question, and answers to earlier ones are not looked at.
/// - `held` is a ballot that a majority has promised to obey nothing below, with this replica's value as the newest.
/// - Writes stand in `writes` until a round takes them, and come back when it is lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator<O: Object> {
    pub(crate) place: Place,
    pub(crate) attempt: u64,
    /// The greatest ballot that a replica refused with.
    pub(crate) heard: Ballot,
    pub(crate) held: Option<Ballot>,
    pub(crate) work: Work<O>,
    pub(crate) writes: VecDeque<Write<O>>,
    pub(crate) reads: Vec<Ticket>,
    /// Whom to ask last.
    pub(crate) suspected: Set,
    pub(crate) out: Vec<Effect<O>>,
}

impl<O: Object> Coordinator<O> {
    /// One that has done nothing yet. `attempt` is greater than any that an earlier one of this replica has used.
    pub fn new(place: Place, attempt: u64) -> Coordinator<O> {
        Coordinator {
            place,
            attempt,
            heard: Ballot::ZERO,
            held: None,
            work: Work::Nothing,
            writes: VecDeque::new(),
            reads: Vec::new(),
            suspected: Set::default(),
            out: Vec::new(),
        }
    }

    /// Has an operation done.
    pub fn write(&mut self, local: &mut impl Replica<Value = Register<O>>, ticket: Ticket, id: OpId, op: O::Op) {
        if !local.votes() {
            return self.out.push(Effect::Done(ticket, Outcome::NotDone));
        }
        self.writes.push_back(Write { ticket: Some(ticket), id, op, was_tried: false });
        // A value that is written settles what is read, too.
        if let Work::Query(query) = &mut self.work {
            self.reads.append(&mut query.reads);
            self.work = Work::Nothing;
        }
        self.go_on(local);
    }

    /// Finds out what the block holds.
    pub fn read(&mut self, local: &mut impl Replica<Value = Register<O>>, ticket: Ticket) {
        if !local.votes() {
            return self.out.push(Effect::Done(ticket, Outcome::NotDone));
        }
        self.reads.push(ticket);
        self.go_on(local);
    }

    /// Which question it is at: another one than before says that it goes on.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Takes the answer of a replica to the question `attempt`.
    pub fn heard(&mut self, local: &mut impl Replica<Value = Register<O>>, from: u8, attempt: u64, reply: Replied<O>) {
        if let Reply::Refused(ballot) = reply {
            self.heard = self.heard.max(ballot);
        }
        if attempt != self.attempt {
            return;
        }
        match (&mut self.work, reply) {
            (Work::Query(_), Reply::Reported(ballot)) => self.reported(local, from, ballot),
            (Work::Prepare(_), Reply::Promised(ballot, value)) => self.promised(local, from, ballot, value),
            (Work::Prepare(prepare), Reply::Refused(_)) => {
                prepare.refused.add(from);
                self.refused();
            }
            (Work::Accept(_), Reply::Accepted) => self.accepted(local, from),
            (Work::Accept(accept), Reply::Refused(_)) => {
                accept.refused.add(from);
                self.refused();
            }
            // It belongs to a part of the attempt that is over.
            _ => {}
        }
    }

    /// Asks again whoever has not answered; all of them, if only some were asked so far. A round that somebody has
    /// refused is lost instead: those who have not answered may never do.
    pub fn resend(&mut self, local: &mut impl Replica<Value = Register<O>>) {
        let was_refused = match &self.work {
            Work::Prepare(prepare) => !prepare.refused.from().is_empty(),
            Work::Accept(accept) => !accept.refused.from().is_empty(),
            Work::Nothing | Work::BackedOff | Work::Query(_) => false,
        };
        if was_refused {
            return self.lose();
        }
        let attempt = self.attempt;
        let others = self.place.others();
        let (answered, ask) = match &mut self.work {
            Work::Nothing | Work::BackedOff => return,
            Work::Query(query) => {
                let answered = Set::of(self.place.me).union(query.agree.from()).union(query.differ.from());
                if answered.len() >= self.place.majority() {
                    return self.settle(local);
                }
                query.asked = others;
                (answered, Ask::Report)
            }
            Work::Prepare(prepare) => {
                (prepare.promised.from().union(prepare.refused.from()), Ask::Prepare(prepare.ballot))
            }
            Work::Accept(accept) => {
                let answered = accept.accepted.from().union(accept.refused.from());
                (answered, Ask::Accept(accept.ballot, accept.register.clone()))
            }
        };
        let to = others.without(answered);
        if !to.is_empty() {
            self.out.push(Effect::Send { to, attempt, ask });
        }
    }

    /// Goes on after a lost round.
    pub fn retry(&mut self, local: &mut impl Replica<Value = Register<O>>) {
        if matches!(self.work, Work::BackedOff) {
            self.work = Work::Nothing;
            self.go_on(local);
        }
    }

    /// The replicas, or the life of one of them, are others from now on: what the former ones have said counts no more.
    pub fn start_over(&mut self) {
        if mutant::active() == Mutant::OldVotes {
            return;
        }
        self.attempt += 1;
        self.held = None;
        if !matches!(self.work, Work::Nothing | Work::BackedOff) {
            self.lose();
        }
    }

    /// Nobody waits for an operation any more; what is known of it.
    pub fn abandon(&mut self, ticket: Ticket) -> Fate {
        let of = |write: &Write<O>| write.ticket == Some(ticket);
        if let Work::Accept(accept) = &mut self.work
            && let Some((write, _)) = accept.writes.iter_mut().find(|(write, _)| of(write))
        {
            write.ticket = None;
            return Fate::Unknown;
        }
        if let Some(at) = self.writes.iter().position(of) {
            let write = self.writes.remove(at).expect("it was found");
            return if write.was_tried { Fate::Unknown } else { Fate::NotDone };
        }
        let in_work = match &mut self.work {
            Work::Query(query) => &mut query.reads,
            Work::Prepare(prepare) => &mut prepare.reads,
            Work::Accept(accept) => &mut accept.reads,
            Work::Nothing | Work::BackedOff => &mut Vec::new(),
        };
        in_work.retain(|of| *of != ticket);
        self.reads.retain(|of| *of != ticket);
        Fate::NotDone
    }

    /// Who does not seem to answer: they are asked last. That changes nothing in how many are a majority.
    pub fn suspect(&mut self, suspected: Set) {
        self.suspected = suspected;
    }

    /// What is to be done, in this order.
    pub fn take_effects(&mut self) -> Vec<Effect<O>> {
        std::mem::take(&mut self.out)
    }

    /// Whether nothing is under way and nobody waits. Such a one can be dropped; the next one prepares anew.
    pub fn is_idle(&self) -> bool {
        matches!(self.work, Work::Nothing) && self.out.is_empty()
    }

    /// Begins the next round, if there is something to do and none is under way.
    pub(crate) fn go_on(&mut self, local: &mut impl Replica<Value = Register<O>>) {
        if !matches!(self.work, Work::Nothing) {
            return;
        }
        if !self.writes.is_empty() {
            self.propose(local, Vec::new());
        } else if !self.reads.is_empty() {
            self.query(local);
        }
    }
}
