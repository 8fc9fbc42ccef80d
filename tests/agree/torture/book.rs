//! The book of the torture: what clients were told, and from when to when it was certain.
//!
//! What may have happened without an answer does not stand in it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

/// From when to when something was certainly one's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sure {
    pub(super) since: Instant,
    /// Open while nothing is known that may have ended it.
    pub(super) until: Option<Instant>,
}

impl Sure {
    fn meets(&self, later: &Sure) -> bool {
        // What came later was given at some moment before it was known: by then the earlier one must have ended.
        self.until.is_none_or(|until| later.since < until)
    }
}

/// Everything that clients were told.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By generation.
    pub(super) regions: BTreeMap<u64, (u64, u64, Sure)>,
    /// By fence: the lock, and how long it was held.
    pub(super) locks: BTreeMap<u64, (u64, Sure)>,
    /// Generations and fences, and what they are of.
    numbers: BTreeMap<u64, String>,
}

impl Book {
    pub(super) fn number(&mut self, number: u64, of: &Value) {
        let before = self.numbers.insert(number, of.to_string());
        assert_eq!(before, None, "{number} was given out twice, now for {of}");
    }

    /// Nobody was given what was certainly another one's.
    pub(super) fn check(&self) {
        let regions: Vec<_> = self.regions.iter().collect();
        for (at, (generation, (addr, end, sure))) in regions.iter().enumerate() {
            for (other, (other_addr, other_end, later)) in &regions[at + 1..] {
                let overlap = addr < other_end && other_addr < end;
                assert!(
                    !(overlap && sure.meets(later)),
                    "generation {generation} had {addr}..{end}, {sure:?}, and {other} {other_addr}..{other_end}, {later:?}"
                );
            }
        }
        for (fence, (name, sure)) in &self.locks {
            for (other, (_, later)) in self.locks.range(fence + 1..).filter(|(_, (other, _))| other == name) {
                assert!(!sure.meets(later), "lock {name} had two holders: {fence}, {sure:?}, and {other}, {later:?}");
            }
        }
    }
}

/// One after the other, or both at a time.
fn two_owners(at_a_time: bool) -> Book {
    let since = Instant::now();
    let until = (!at_a_time).then_some(since);
    let (first, second) = (Sure { since, until }, Sure { since, until: None });
    Book { regions: [(1, (0, 10, first)), (2, (9, 12, second))].into(), ..Book::default() }
}

#[test]
fn owners_one_after_the_other_are_possible() {
    two_owners(false).check();
}

#[test]
#[should_panic(expected = "generation 1 had 0..10")]
fn two_owners_at_a_time_are_noticed() {
    two_owners(true).check();
}
