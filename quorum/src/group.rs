//! The replicas of a block, and who of them has answered.

use crate::Incarnation;
use crate::mutant::{self, Mutant};

/// The most replicas that a block can have.
pub const MAX_REPLICAS: u8 = 5;

/// One replica's place among those of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which one it is, from 0 on. Replica 0 is the home.
    pub me: u8,
    /// How many there are.
    pub replicas: u8,
    /// Under which its ballots are.
    pub incarnation: Incarnation,
}

impl Place {
    /// How many are a majority.
    pub fn majority(self) -> u32 {
        u32::from(self.replicas) / 2 + 1
    }

    /// All but this one.
    pub fn others(self) -> Set {
        Set(((1 << self.replicas) - 1) & !(1 << self.me))
    }

    /// How many answers are enough. Suspicion is no part of the rule.
    pub(crate) fn enough(self, suspected: Set) -> u32 {
        match mutant::active() {
            Mutant::ShrunkQuorum => (u32::from(self.replicas) - suspected.len()) / 2 + 1,
            _ => self.majority(),
        }
    }
}

/// Some replicas of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Set(u8);

impl Set {
    /// Of one replica.
    pub fn of(replica: u8) -> Set {
        Set(1 << replica)
    }

    /// Whether it is one of them.
    pub fn has(self, replica: u8) -> bool {
        self.0 >> replica & 1 == 1
    }

    /// Adds one.
    pub fn add(&mut self, replica: u8) {
        self.0 |= 1 << replica;
    }

    /// Takes one out.
    pub fn remove(&mut self, replica: u8) {
        self.0 &= !(1 << replica);
    }

    /// How many they are.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of them that are not in `other`.
    pub fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    /// All of both.
    pub fn union(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    /// The first `n` of them.
    pub fn first(self, n: u32) -> Set {
        let mut left = self;
        while left.len() > n {
            left.0 &= !(1 << left.0.ilog2());
        }
        left
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..u8::BITS as u8).filter(move |replica| self.has(*replica))
    }
}

/// Answers of one kind to one question: each replica counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Votes {
    from: Set,
    /// Differs from the size of the set under a mutant alone.
    count: u32,
}

impl Votes {
    pub(crate) fn of(replica: u8) -> Votes {
        Votes { from: Set::of(replica), count: 1 }
    }

    pub(crate) fn add(&mut self, replica: u8) {
        if !self.from.has(replica) || mutant::active() == Mutant::CountTwice {
            self.from.add(replica);
            self.count += 1;
        }
    }

    pub(crate) fn count(self) -> u32 {
        self.count
    }

    pub(crate) fn from(self) -> Set {
        self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majorities() {
        for (replicas, majority) in [(1, 1), (3, 2), (5, 3)] {
            let place = Place { me: 0, replicas, incarnation: Incarnation(1) };
            assert_eq!(place.majority(), majority);
            assert_eq!(place.others().len(), u32::from(replicas) - 1);
        }
    }

    #[test]
    fn whoever_answers_twice_counts_once() {
        let mut votes = Votes::of(2);
        votes.add(0);
        votes.add(2);
        votes.add(0);
        assert_eq!((votes.count(), votes.from().iter().collect::<Vec<_>>()), (2, vec![0, 2]));
        assert_eq!(votes.from().first(1), Set::of(0));
    }
}
