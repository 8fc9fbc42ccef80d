//! Ballots: which proposal counts more.
//!
//! A ballot is a number and the incarnation that proposes under it, so no two proposers ever have the same one. It fits
//! into eight bytes, as the table of blocks has them. With 48 bits of number, a block that is written a million times a
//! second has ballots for nine years.

use std::fmt;

/// One life of one server's memory: a server that comes back with an empty segment is another one. Never given out
/// twice in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u16);

/// What a proposal is made under. Greater ones win.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot(u64);

const INCARNATION_BITS: u32 = u16::BITS;

impl Ballot {
    /// Before every proposal: a block that was never written is accepted under it.
    pub const ZERO: Ballot = Ballot(0);

    /// The least ballot of `by` that is greater than this one.
    pub fn next(self, by: Incarnation) -> Ballot {
        let number = self.number() + u64::from(by.0 <= self.incarnation().0);
        assert!(number >> (u64::BITS - INCARNATION_BITS) == 0, "a block runs out of ballots at {self:?}");
        Ballot(number << INCARNATION_BITS | u64::from(by.0))
    }

    /// How many times the block was fought for or written.
    pub fn number(self) -> u64 {
        self.0 >> INCARNATION_BITS
    }

    /// Who proposes under it.
    pub fn incarnation(self) -> Incarnation {
        Incarnation(self.0 as u16)
    }

    /// As eight bytes hold it.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// From what [`Ballot::to_bits`] gave.
    pub fn from_bits(bits: u64) -> Ballot {
        Ballot(bits)
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number(), self.incarnation().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_is_the_least_that_is_greater() {
        let (low, high) = (Incarnation(3), Incarnation(7));
        let first = Ballot::ZERO.next(low);
        assert_eq!((first.number(), first.incarnation()), (0, low));
        assert_eq!(first.next(high).number(), 0, "a greater incarnation needs no greater number");
        assert_eq!(first.next(low).number(), 1);
        assert_eq!(first.next(high).next(low).number(), 1);
        assert!(first < first.next(high) && first.next(high) < first.next(low));
        assert_eq!(Ballot::from_bits(first.to_bits()), first);
    }
}
