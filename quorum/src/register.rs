//! What a block holds: its contents, and what came of the operations that were done to it last.
//!
//! The results are part of the value that a majority agrees on. So whoever coordinates later knows what was done, and an
//! operation that is sent again gets its first answer.
//!
//! Only the last results are kept. An operation whose result may have been dropped must not be done again, however late
//! a copy of it arrives, be it out of the buffers of a server that was frozen for an hour. So the numbers of operations
//! are a Lamport clock: every asker counts on from the greatest number that any answer has shown him. What was dropped
//! had a number of at most [`Register::forgotten`], and what has no greater one is refused ([`Told::Forgotten`]). An
//! asker who is new here is refused once, and learns the clock by that.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;

use crate::mutant::{self, Mutant};

/// How many results a block keeps.
pub const RESULTS: usize = 12;

/// Contents, and everything that can be done to them. Each operation is one function from old to new.
pub trait Object: Clone + Debug + Eq + Hash {
    /// What can be done.
    type Op: Clone + Debug + Eq + Hash;
    /// What it tells.
    type Answer: Clone + Debug + Eq + Hash;

    /// Does it. The same operation on the same contents always gives the same.
    fn apply(&mut self, op: &Self::Op) -> Self::Answer;
}

/// Names an operation for ever: the asker's session, and a number that he gives once, greater than any that he was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// Of whom.
    pub session: u64,
    /// Which.
    pub number: u64,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told<A> {
    /// It was done, now or before, and this is the answer.
    Done(A),
    /// It was not done now. Whether it was done before is no longer known.
    Forgotten,
}

/// The agreed value of one block.
///
/// - `results` holds what came of the last operations, in their order, and no operation twice.
/// - No result was dropped of an operation with a number above `forgotten`.
/// - No operation with a number above `clock` was done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Register<O: Object> {
    object: O,
    clock: u64,
    forgotten: u64,
    results: VecDeque<(OpId, O::Answer)>,
}

impl<O: Object> Register<O> {
    /// A block that nothing was done to.
    pub fn new(object: O) -> Register<O> {
        Register { object, clock: 0, forgotten: 0, results: VecDeque::new() }
    }

    /// The contents.
    pub fn object(&self) -> &O {
        &self.object
    }

    /// The greatest number of an operation that was done.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// The greatest number of an operation whose result was dropped.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// What came of the last ones.
    pub fn results(&self) -> impl Iterator<Item = &(OpId, O::Answer)> {
        self.results.iter()
    }

    /// What was kept of a block, as [`Register::clock`], [`Register::forgotten`] and [`Register::results`] gave it.
    pub fn kept(object: O, clock: u64, forgotten: u64, results: VecDeque<(OpId, O::Answer)>) -> Register<O> {
        Register { object, clock, forgotten, results }
    }

    /// Does an operation, unless it was done before or may have been.
    pub fn apply(&mut self, id: OpId, op: &O::Op) -> Told<O::Answer> {
        if mutant::active() != Mutant::NoOpId {
            if let Some((_, answer)) = self.results.iter().rev().find(|(of, _)| *of == id) {
                return Told::Done(answer.clone());
            }
            if id.number <= self.forgotten && mutant::active() != Mutant::ShortMemory {
                return Told::Forgotten;
            }
        }
        let answer = self.object.apply(op);
        self.clock = self.clock.max(id.number);
        if self.results.len() == RESULTS
            && let Some((dropped, _)) = self.results.pop_front()
        {
            self.forgotten = self.forgotten.max(dropped.number);
        }
        self.results.push_back((id, answer.clone()));
        Told::Done(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct Sum(u64);

    impl Object for Sum {
        type Op = u64;
        type Answer = u64;

        fn apply(&mut self, delta: &u64) -> u64 {
            self.0 += delta;
            self.0 - delta
        }
    }

    fn id(number: u64) -> OpId {
        OpId { session: 1, number }
    }

    #[test]
    fn what_is_sent_again_gets_its_first_answer() {
        let mut register = Register::new(Sum(10));
        assert_eq!(register.apply(id(1), &5), Told::Done(10));
        assert_eq!(register.apply(id(2), &5), Told::Done(15));
        assert_eq!(register.apply(id(1), &5), Told::Done(10));
        assert_eq!((register.object().0, register.clock()), (20, 2));
    }

    #[test]
    fn what_may_have_been_forgotten_is_not_done_again() {
        let mut register = Register::new(Sum(0));
        for number in 1..=RESULTS as u64 + 1 {
            register.apply(id(number), &1);
        }
        let before = register.clone();
        assert_eq!(register.apply(id(1), &1), Told::Forgotten, "it was done, and dropped");
        assert_eq!(register.apply(OpId { session: 2, number: 1 }, &1), Told::Forgotten, "it might have been");
        assert_eq!(register, before);
        let next = OpId { session: 2, number: register.forgotten() + 1 };
        assert_eq!(register.apply(next, &1), Told::Done(RESULTS as u64 + 1), "nothing with its number was dropped");
    }
}
