//! Links at rest where the threads that used them last find them again, without the pool's lock.
//!
//! Each slot holds one link or none, and both putting and taking are one swap of a pointer. A thread has a
//! slot that it prefers, so threads that share a cluster do not meet on one word. It leaves out whether
//! a link may rest here at all: that is for the pool to say.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use crossbeam_utils::atomic::AtomicCell;

use crate::link::Link;

/// The most slots of one pool: 8 KiB of padded pointers.
const MOST: usize = 64;

/// A link and the era that it was opened in. The box is made with the link and stays with it, so that
/// neither a loan nor its end allocates.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) era: u32,
    pub(super) link: Link,
}

type Slot = AtomicCell<Option<Box<Parked>>>;

/// The slots of one pool. Their number is a power of two.
pub(super) struct Slots(Box<[CachePadded<Slot>]>);

impl Slots {
    /// As many slots as links may exist, rounded up, within reason.
    pub(super) fn new(links: usize) -> Slots {
        let count = links.min(MOST).next_power_of_two();
        Slots((0..count).map(|_| CachePadded::default()).collect())
    }

    /// The link in this thread's slot.
    pub(super) fn take(&self) -> Option<Box<Parked>> {
        self.0[self.preferred()].take()
    }

    /// Puts a link into this thread's slot, and returns the one that was there.
    pub(super) fn put(&self, parked: Box<Parked>) -> Option<Box<Parked>> {
        self.0[self.preferred()].swap(Some(parked))
    }

    /// The link in any slot, one after the other from this thread's own.
    pub(super) fn take_any(&self) -> Option<Box<Parked>> {
        let (before, after) = self.0.split_at(self.preferred());
        after.iter().chain(before).find_map(|slot| slot.take())
    }

    /// The links in all slots.
    pub(super) fn take_all(&self) -> impl Iterator<Item = Box<Parked>> {
        self.0.iter().filter_map(|slot| slot.take())
    }

    /// The slot of this thread. Threads get theirs in turn, when they first ask for one.
    fn preferred(&self) -> usize {
        // Relaxed: the number only spreads the threads.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed));
        OWN.with(|own| own & (self.0.len() - 1))
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in them cannot be looked at without taking it out.
        f.debug_tuple("Slots").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lock_hides_in_a_slot() {
        assert!(Slot::is_lock_free());
    }

    #[test]
    fn there_are_as_many_slots_as_links_within_reason() {
        let count = |links| Slots::new(links).0.len();
        assert_eq!([1, 2, 3, 64, 65, 100_000].map(count), [1, 2, 4, 64, 64, 64]);
    }

    #[test]
    fn threads_prefer_different_slots() {
        let slots = Slots::new(64);
        let of_thread = || std::thread::scope(|scope| scope.spawn(|| slots.preferred()).join().unwrap());
        // Other tests may draw numbers in between, but hardly all of them the same.
        let mut found: Vec<_> = (0..8).map(|_| of_thread()).collect();
        found.dedup();
        assert!(found.len() > 1, "{found:?}");
        assert_eq!(slots.preferred(), slots.preferred(), "a thread keeps its own");
    }
}
