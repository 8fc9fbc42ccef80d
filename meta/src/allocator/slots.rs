//! Small runs: which slab they come from, and when a page becomes a slab and is one no more.

use super::class::Class;
use super::slab::Slab;
use super::{Allocator, Placement, Run};

impl Allocator {
    pub(super) fn allocate_slot(&mut self, class: Class, placement: Placement) -> Option<Run> {
        let page = self.find_slab(class, placement)?;
        let slot = self.take_slot(page, class, None);
        Some(Run::of_slot(page, class, slot))
    }

    /// The slab to take a run from, or the free page to make one of.
    fn find_slab(&self, class: Class, placement: Placement) -> Option<u64> {
        let of_server = self.preferred(placement).and_then(|within| {
            self.pages.first_slab_in(class, &within).or_else(|| self.pages.first_run_in(1, &within))
        });
        if let Placement::On(_) = placement {
            return of_server;
        }
        of_server.or_else(|| self.pages.first_slab(class)).or_else(|| self.pages.best_buddy(1))
    }

    /// Takes a slot of a slab, the lowest that is free if none is named. A free page becomes a slab first.
    pub(super) fn take_slot(&mut self, page: u64, class: Class, slot: Option<u32>) -> u32 {
        let (neighbours, slot) = self.pages.take_slot(page, class, slot);
        if let Some(neighbours) = neighbours {
            self.count_taken(1, neighbours);
        }
        self.hand_out(page..page + 1, class.capacity());
        slot
    }

    /// Whether this slot is free in a slab of its class, or in a page that can become one.
    pub(super) fn is_vacant(&self, page: u64, class: Class, slot: u32) -> bool {
        match self.slab_at(page) {
            Some(slab) => slab.class() == class && !slab.holds(slot),
            None => self.pages.is_free(page),
        }
    }

    /// Gives a slot back; whether it was held.
    pub(super) fn free_slot(&mut self, page: u64, class: Class, slot: u32) -> bool {
        let Some(freed) = self.pages.release_slot(page, class, slot) else { return false };
        if let Some(neighbours) = freed {
            self.count_freed(1, neighbours);
        }
        self.take_back(page..page + 1, class.capacity());
        true
    }

    /// The slab that this page is.
    pub(super) fn slab_at(&self, page: u64) -> Option<&Slab> {
        self.pages.leaf(page)?.slab(page)
    }
}
