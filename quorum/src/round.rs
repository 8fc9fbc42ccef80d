//! Rounds of a coordinator: a query that finds a majority of one mind, or a ballot that makes it so.

use crate::acceptor::{self, Ask, Replica, Reply};
use crate::coordinator::{Accept, Effect, Outcome, Prepare, Query, Work};
use crate::group::{Set, Votes};
use crate::mutant::{self, Mutant};
use crate::register::{Object, RESULTS, Register, Told};
use crate::{Ballot, Coordinator};

impl<O: Object> Coordinator<O> {
    /// Asks under which ballots the others hold the block. No more of them than it takes, and last those that do not
    /// seem to answer.
    pub(crate) fn query(&mut self, local: &mut impl Replica<Value = Register<O>>) {
        let here = (local.accepted(), local.value().object().clone());
        let others = self.place.others();
        let wanted = self.place.majority() - 1;
        let likely = others.without(self.suspected);
        let asked = if likely.len() >= wanted { likely.first(wanted) } else { others };
        let agree = Votes::of(self.place.me);
        let reads = std::mem::take(&mut self.reads);
        self.work = Work::Query(Query { reads, here, asked, agree, differ: Votes::default() });
        self.ask(asked, Ask::Report);
        self.answer_reads(local);
    }

    pub(crate) fn reported(&mut self, local: &mut impl Replica<Value = Register<O>>, from: u8, ballot: Ballot) {
        let Work::Query(query) = &mut self.work else { return };
        let agrees = ballot == query.here.0 || mutant::active() == Mutant::OneRoundRead && ballot < query.here.0;
        if agrees {
            query.agree.add(from)
        } else {
            query.differ.add(from)
        }
        self.answer_reads(local);
    }

    /// A majority holds the block under the ballot under which it stood here: so that value is chosen, and whatever was
    /// done before the question was asked is part of it. When all that were asked have answered otherwise, a round of
    /// its own makes a majority agree.
    fn answer_reads(&mut self, local: &mut impl Replica<Value = Register<O>>) {
        let enough = self.place.enough(self.suspected);
        let Work::Query(query) = &mut self.work else { return };
        if query.agree.count() >= enough {
            let value = query.here.1.clone();
            let reads = std::mem::take(&mut query.reads);
            self.end_reads(reads, &value);
            self.work = Work::Nothing;
            return self.go_on(local);
        }
        if query.asked.without(query.agree.from()).without(query.differ.from()).is_empty() {
            self.settle(local);
        }
    }

    /// Gives up a query, and has a majority hold the newest value.
    pub(crate) fn settle(&mut self, local: &mut impl Replica<Value = Register<O>>) {
        let Work::Query(query) = std::mem::replace(&mut self.work, Work::Nothing) else { return };
        self.propose(local, query.reads);
    }

    /// Begins a round: at once with a value when the ballot is held, otherwise with a question for obedience.
    pub(crate) fn propose(&mut self, local: &mut impl Replica<Value = Register<O>>, reads: Vec<u64>) {
        if let Some(ballot) = self.held.take()
            && local.promised() == ballot
        {
            return self.propose_value(local, ballot, local.value(), reads);
        }
        let ballot = self.heard.max(local.promised()).next(self.place.incarnation);
        let mut promised = Votes::default();
        let newest = if mutant::active() == Mutant::OthersFirst {
            (local.accepted(), local.value())
        } else {
            let Some(Reply::Promised(accepted, value)) = acceptor::answer(local, Ask::Prepare(ballot)) else {
                return self.give_up(reads);
            };
            promised.add(self.place.me);
            (accepted, value)
        };
        self.work = Work::Prepare(Prepare { ballot, reads, newest, promised, refused: Votes::default() });
        self.ask(self.place.others(), Ask::Prepare(ballot));
        self.go_on_when_promised(local);
    }

    pub(crate) fn promised(
        &mut self,
        local: &mut impl Replica<Value = Register<O>>,
        from: u8,
        accepted: Ballot,
        value: Register<O>,
    ) {
        let Work::Prepare(prepare) = &mut self.work else { return };
        prepare.promised.add(from);
        if accepted > prepare.newest.0 {
            prepare.newest = (accepted, value);
        }
        self.go_on_when_promised(local);
    }

    fn go_on_when_promised(&mut self, local: &mut impl Replica<Value = Register<O>>) {
        let enough = self.place.enough(self.suspected);
        if matches!(&self.work, Work::Prepare(prepare) if prepare.promised.count() >= enough)
            && let Work::Prepare(prepare) = std::mem::replace(&mut self.work, Work::Nothing)
        {
            self.propose_value(local, prepare.ballot, prepare.newest.1, prepare.reads);
        }
    }

    /// Does everything that waits to the newest value, and has a majority hold that.
    fn propose_value(
        &mut self,
        local: &mut impl Replica<Value = Register<O>>,
        ballot: Ballot,
        mut register: Register<O>,
        mut reads: Vec<u64>,
    ) {
        // In the order of their names, and no more than have their results kept: so none of a round makes another one of
        // it forgotten.
        self.writes.make_contiguous().sort_by_key(|write| write.id.number);
        let mut writes = Vec::with_capacity(self.writes.len().min(RESULTS));
        for write in self.writes.drain(..self.writes.len().min(RESULTS)) {
            let told = register.apply(write.id, &write.op);
            writes.push((write, told));
        }
        reads.append(&mut self.reads);
        let is_first = mutant::active() != Mutant::OthersFirst;
        let is_accepted = !is_first
            || acceptor::accept(local, ballot, |local, promised| local.accept(ballot, promised, &register))
                == Some(Reply::Accepted);
        let accept = Ask::Accept(ballot, register.clone());
        let mut round =
            Accept { ballot, register, writes, reads, accepted: Votes::default(), refused: Votes::default() };
        if !is_accepted {
            // Somebody else was here in between. Nobody has seen the value.
            self.work = Work::Accept(round);
            return self.lose();
        }
        if is_first {
            round.accepted.add(self.place.me);
        }
        self.work = Work::Accept(round);
        self.ask(self.place.others(), accept);
        self.end_when_accepted(local);
    }

    pub(crate) fn accepted(&mut self, local: &mut impl Replica<Value = Register<O>>, from: u8) {
        let Work::Accept(accept) = &mut self.work else { return };
        accept.accepted.add(from);
        if mutant::active() == Mutant::OthersFirst {
            let ask = Ask::Accept(accept.ballot, accept.register.clone());
            if acceptor::answer(local, ask) == Some(Reply::Accepted) {
                accept.accepted.add(self.place.me);
            }
        }
        self.end_when_accepted(local);
    }

    fn end_when_accepted(&mut self, local: &mut impl Replica<Value = Register<O>>) {
        let enough = self.place.enough(self.suspected);
        if !matches!(&self.work, Work::Accept(accept) if accept.accepted.count() >= enough) {
            return;
        }
        let Work::Accept(accept) = std::mem::replace(&mut self.work, Work::Nothing) else { return };
        self.held = Some(accept.ballot.next(self.place.incarnation));
        let clock = accept.register.clock();
        for (write, told) in accept.writes {
            let outcome = match told {
                Told::Done(answer) => Outcome::Wrote { answer, clock },
                Told::Forgotten => Outcome::Forgotten { was_tried: write.was_tried, clock },
            };
            self.out.extend(write.ticket.map(|ticket| Effect::Done(ticket, outcome)));
        }
        self.end_reads(accept.reads, accept.register.object());
        self.go_on(local);
    }

    /// Ends the round when so many have refused that the others are no majority. A value that some have accepted may be
    /// chosen all the same, by whoever comes next: what was done to it is tried again, and not said to have failed.
    pub(crate) fn refused(&mut self) {
        let refused = match &self.work {
            Work::Prepare(prepare) => prepare.refused,
            Work::Accept(accept) => accept.refused,
            _ => return,
        };
        if refused.count() + self.place.majority() > u32::from(self.place.replicas) {
            self.lose();
        }
    }

    pub(crate) fn lose(&mut self) {
        match std::mem::replace(&mut self.work, Work::BackedOff) {
            Work::Query(query) => self.reads.extend(query.reads),
            Work::Prepare(prepare) => self.reads.extend(prepare.reads),
            Work::Accept(accept) => {
                self.reads.extend(accept.reads);
                for (mut write, told) in accept.writes.into_iter().rev() {
                    write.was_tried |= told != Told::Forgotten;
                    match write.ticket {
                        Some(ticket) if mutant::active() == Mutant::NackIsFail => {
                            self.out.push(Effect::Done(ticket, Outcome::NotDone));
                        }
                        Some(_) => self.writes.push_front(write),
                        None => {}
                    }
                }
            }
            _ => {}
        }
        self.out.push(Effect::BackOff);
    }

    /// This replica does not vote any more: nothing can be done here.
    fn give_up(&mut self, reads: Vec<u64>) {
        let writes = std::mem::take(&mut self.writes).into_iter();
        let untried = writes.filter(|write| !write.was_tried).filter_map(|write| write.ticket);
        let reads = reads.into_iter().chain(std::mem::take(&mut self.reads));
        let ended = untried.chain(reads).map(|ticket| Effect::Done(ticket, Outcome::NotDone));
        self.out.extend(ended);
    }

    fn end_reads(&mut self, reads: Vec<u64>, value: &O) {
        self.out.extend(reads.into_iter().map(|ticket| Effect::Done(ticket, Outcome::Read(value.clone()))));
    }

    /// Asks a new question, or the next part of one.
    fn ask(&mut self, to: Set, ask: Ask<Register<O>>) {
        self.attempt += 1;
        if !to.is_empty() {
            self.out.push(Effect::Send { to, attempt: self.attempt, ask });
        }
    }
}
