//! Small runs: which slab they come from, and when a page becomes a slab and is one no more.

use super::class::{Class, PAGE_BYTES};
use super::slab::Slab;
use super::{Allocator, Placement, Run};

impl Allocator {
    pub(super) fn allocate_slot(&mut self, class: Class, placement: Placement) -> Option<Run> {
        let page = self.find_slab(class, placement)?;
        let number = self.slab_at(page).unwrap_or_else(|| self.open_slab(page, class));
        let slot = self.slabs[number].take_first();
        self.account_slot(page, class, number);
        Some(Run::of_slot(page, class, slot))
    }

    /// The slab to take a run from, or the free page to make one of.
    fn find_slab(&self, class: Class, placement: Placement) -> Option<u64> {
        let of_server = self
            .preferred(placement)
            .and_then(|within| self.pages.first_slab(class, &within).or_else(|| self.pages.first_run(1, &within)));
        of_server
            .or_else(|| self.pages.first_slab(class, &(0..self.space_bytes / PAGE_BYTES)))
            .or_else(|| self.pages.best_buddy(1))
    }

    /// The number of the slab that this page is.
    pub(super) fn slab_at(&self, page: u64) -> Option<u32> {
        self.pages.leaf(page)?.slab(page)
    }

    /// Makes a slab of a free page.
    pub(super) fn open_slab(&mut self, page: u64, class: Class) -> u32 {
        let number = self.slabs.insert(Slab::new(class));
        self.account_take(page..page + 1);
        self.pages.open_slab(page, number, class);
        number
    }

    /// Whether this slot is free in a slab of its class, or in a page that can become one.
    pub(super) fn is_vacant(&self, page: u64, class: Class, slot: u32) -> bool {
        match self.slab_at(page) {
            Some(number) => self.slabs[number].class() == class && !self.slabs[number].holds(slot),
            None => self.pages.is_free(page),
        }
    }

    pub(super) fn free_slot(&mut self, page: u64, class: Class, slot: u32) {
        let number = self.slab_at(page).expect("a slot that is held lies in a slab");
        let slab = &mut self.slabs[number];
        let was_full = slab.is_full();
        slab.release(slot);
        if slab.is_empty() {
            self.slabs.release(number);
            self.pages.close_slab(page, class);
            self.account_free(page..page + 1);
        } else if was_full {
            self.pages.set_room(page, class, true);
        }
        self.account_return(page..page + 1, class.capacity());
    }

    /// After one slot of a slab was taken.
    pub(super) fn account_slot(&mut self, page: u64, class: Class, number: u32) {
        if self.slabs[number].is_full() {
            self.pages.set_room(page, class, false);
        }
        self.account_hand_out(page..page + 1, class.capacity());
    }
}
