//! A leaf: 64 pages, which of them are free, where runs begin, and which are slabs.

use super::super::class::Class;
use super::bits;
use super::node::{FREE, Link, TAKEN};

/// 64 pages.
///
/// Invariants: no page is both free and the first of a run; every slab is the first page of a run; `classes` are those
/// of the slabs with room.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Leaf {
    /// Pages that are free.
    pub(super) free: u64,
    /// Pages that are the first of a run, or a slab.
    pub(super) starts: u64,
    classes: u32,
    slabs: Option<Box<Slabs>>,
}

/// The slabs of a leaf, by page.
#[derive(Clone, Debug)]
struct Slabs {
    /// 0 for a page that is no slab; else the number of the class and one, and whether there is room.
    codes: [u8; 64],
    /// The number of the slab in its arena.
    numbers: [u32; 64],
    count: u32,
}

const ROOM: u8 = 0x80;

fn code(class: Class, room: bool) -> u8 {
    class.number() + 1 + if room { ROOM } else { 0 }
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
        self.free >> (page % 64) & 1 == 1
    }

    /// Whether this page is the first of a run of pages.
    pub(in super::super) fn starts_run(&self, page: u64) -> bool {
        self.starts >> (page % 64) & 1 == 1 && self.slab(page).is_none()
    }

    /// The number of the slab at this page.
    pub(in super::super) fn slab(&self, page: u64) -> Option<u32> {
        let (slabs, page) = (self.slabs.as_ref()?, page as usize % 64);
        (slabs.codes[page] != 0).then(|| slabs.numbers[page])
    }

    /// The lowest slab of the class with room in the pages from `from` on: its place in the leaf.
    pub(super) fn first_with_room(&self, class: Class, from: u64, to: u64) -> Option<u64> {
        let slabs = self.slabs.as_ref()?;
        let codes = &slabs.codes[from as usize..to as usize];
        codes.iter().position(|&found| found == code(class, true)).map(|at| from + at as u64)
    }

    /// Turns a free page into a slab.
    pub(super) fn open_slab(&mut self, page: u64, number: u32, class: Class) {
        self.take(1 << (page % 64), 1 << (page % 64));
        let slabs = self.slabs.get_or_insert_with(|| Box::new(Slabs { codes: [0; 64], numbers: [0; 64], count: 0 }));
        slabs.numbers[page as usize % 64] = number;
        slabs.count += 1;
        self.set_code(page, code(class, true), class);
    }

    /// Notes whether a slab has room.
    pub(super) fn set_room(&mut self, page: u64, class: Class, room: bool) {
        self.set_code(page, code(class, room), class);
    }

    /// Turns a slab into a free page.
    pub(super) fn close_slab(&mut self, page: u64, class: Class) {
        self.set_code(page, 0, class);
        let slabs = self.slabs.as_mut().expect("a leaf with a slab");
        slabs.count -= 1;
        if slabs.count == 0 {
            self.slabs = None;
        }
        self.give(1 << (page % 64));
    }

    fn set_code(&mut self, page: u64, new: u8, class: Class) {
        let slabs = self.slabs.as_mut().expect("a leaf with a slab");
        slabs.codes[page as usize % 64] = new;
        if slabs.codes.contains(&code(class, true)) {
            self.classes |= class.bit();
        } else {
            self.classes &= !class.bit();
        }
    }
}
