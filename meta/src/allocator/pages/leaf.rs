//! A leaf: 64 pages, which of them are free, where runs begin, and the slabs among them.

use super::super::class::Class;
use super::super::slab::Slab;
use super::bits;
use super::node::{FREE, Link, TAKEN};

/// 64 pages.
///
/// Invariants: no page is both free and the first of a run; every slab is the first page of a run; slabs stand in the
/// order of their pages; `room` are the slabs that are not full, and `classes` their classes; between two calls of
/// the allocator no slab is empty.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
pub(in super::super) struct Leaf {
    /// Pages that are free.
    pub(super) free: u64,
    /// Pages that are the first of a run, or a slab.
    pub(super) starts: u64,
    slab_pages: u64,
    room: u64,
    classes: u32,
    slabs: Vec<Slab>,
}

impl Leaf {
    /// A leaf of which all pages are free, or taken by a run that begins before it.
    pub(super) fn uniform(free: bool) -> Leaf {
        Leaf { free: if free { u64::MAX } else { 0 }, ..Leaf::default() }
    }

    /// What the node above knows of the leaf, which has this number.
    pub(super) fn link(&self, number: u32) -> Link {
        if self.free == u64::MAX {
            return Link::uniform(FREE, 0);
        }
        if self.free | self.starts == 0 {
            return Link::uniform(TAKEN, 0);
        }
        Link {
            prefix: u64::from(self.free.trailing_ones()),
            suffix: u64::from(self.free.leading_ones()),
            longest: bits::longest(self.free),
            orders: bits::orders(self.free),
            classes: self.classes,
            number,
        }
    }

    /// Marks the pages of `mask` free.
    pub(super) fn give(&mut self, mask: u64) {
        self.free |= mask;
        self.starts &= !mask;
    }

    /// Marks the pages of `mask` taken; a run begins at those of `start`.
    pub(super) fn take(&mut self, mask: u64, start: u64) {
        self.free &= !mask;
        self.starts |= start;
    }

    /// Whether this page is free.
    pub(in super::super) fn is_free(&self, page: u64) -> bool {
        self.free & bit(page) != 0
    }

    /// Whether this page is the first of a run of pages.
    pub(in super::super) fn starts_run(&self, page: u64) -> bool {
        self.starts & !self.slab_pages & bit(page) != 0
    }

    /// The slab at this page.
    pub(in super::super) fn slab(&self, page: u64) -> Option<&Slab> {
        (self.slab_pages & bit(page) != 0).then(|| &self.slabs[self.place_of(page)])
    }

    /// The classes of the slabs with room.
    pub(super) fn classes(&self) -> u32 {
        self.classes
    }

    /// The lowest slab of the class with room, from one page of the leaf to before another: its place in the leaf.
    pub(super) fn first_with_room(&self, class: Class, from: u64, to: u64) -> Option<u64> {
        let mut room = self.room & bits::between(from, to);
        while room != 0 {
            let page = u64::from(room.trailing_zeros());
            if self.slabs[self.place_of(page)].class() == class {
                return Some(page);
            }
            room &= room - 1;
        }
        None
    }

    /// Turns a free page into an empty slab.
    pub(in super::super) fn open_slab(&mut self, page: u64, class: Class) {
        let place = self.place_of(page);
        if self.slabs.len() == self.slabs.capacity() {
            self.slabs.reserve_exact(1 + self.slabs.len() / 2);
        }
        self.slabs.insert(place, Slab::new(class));
        self.take(bit(page), bit(page));
        self.slab_pages |= bit(page);
        self.room |= bit(page);
        self.classes |= class.bit();
    }

    /// Takes a slot of a slab, the lowest that is free if none is named: which one, and whether the slab is full now.
    pub(in super::super) fn take_slot(&mut self, page: u64, slot: Option<u32>) -> (u32, bool) {
        let place = self.place_of(page);
        let slab = &mut self.slabs[place];
        let slot = slot.unwrap_or_else(|| slab.first_free());
        slab.take(slot);
        let (full, class) = (slab.is_full(), slab.class());
        if full {
            self.room &= !bit(page);
            self.forget_class(class);
        }
        (slot, full)
    }

    /// Gives a slot of a slab back, and with the last one the page: whether it was the last one, and whether the slab
    /// was full.
    pub(in super::super) fn release_slot(&mut self, page: u64, slot: u32) -> (bool, bool) {
        let place = self.place_of(page);
        let slab = &mut self.slabs[place];
        let (full, class) = (slab.is_full(), slab.class());
        slab.release(slot);
        let empty = slab.is_empty();
        if empty {
            self.slabs.remove(place);
            self.slab_pages &= !bit(page);
            self.room &= !bit(page);
            self.forget_class(class);
            self.give(bit(page));
        } else if full {
            self.room |= bit(page);
            self.classes |= class.bit();
        }
        (empty, full)
    }

    /// After a slab of the class has no room any more.
    fn forget_class(&mut self, class: Class) {
        if self.first_with_room(class, 0, 64).is_none() {
            self.classes &= !class.bit();
        }
    }

    fn place_of(&self, page: u64) -> usize {
        (self.slab_pages & (bit(page) - 1)).count_ones() as usize
    }
}

fn bit(page: u64) -> u64 {
    1 << (page % 64)
}
