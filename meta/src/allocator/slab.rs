//! A slab: one page that is cut into runs of one size class, and which of them are taken.
//!
//! Knows neither its address nor the pages around it. An empty slab does not stay: its page goes back to the buddies
//! with its last run, so what slabs there are follows from the live runs alone.

use super::class::Class;

/// One page of small runs.
///
/// Invariants: `count` bits of `used` are set, all of them below the slots of the class.
#[derive(Clone, Debug)]
pub(super) struct Slab {
    used: [u64; 4],
    count: u32,
    class: Class,
}

impl Slab {
    pub(super) fn new(class: Class) -> Slab {
        Slab { used: [0; 4], count: 0, class }
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == self.class.slots()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn holds(&self, slot: u32) -> bool {
        self.used[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// The lowest free slot of a slab that is not full.
    pub(super) fn first_free(&self) -> u32 {
        let word = self.used.iter().position(|&used| used != u64::MAX).expect("a slab that is not full");
        word as u32 * 64 + self.used[word].trailing_ones()
    }

    /// Takes one slot.
    pub(super) fn take(&mut self, slot: u32) {
        assert!(slot < self.class.slots() && !self.holds(slot), "slot {slot} of {self:?} cannot be taken");
        self.used[slot as usize / 64] |= 1 << (slot % 64);
        self.count += 1;
    }

    /// Gives one slot back.
    pub(super) fn release(&mut self, slot: u32) {
        assert!(self.holds(slot), "slot {slot} of {self:?} is not taken");
        self.used[slot as usize / 64] &= !(1 << (slot % 64));
        self.count -= 1;
    }
}
