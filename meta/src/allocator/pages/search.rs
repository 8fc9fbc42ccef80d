//! The questions to the tree. None of them changes it.

use std::ops::Range;

use super::super::class::Class;
use super::leaf::Leaf;
use super::node::{CHILDREN, FREE, Link, Start, TAKEN, order_of, pages_of};
use super::{Pages, bits, child_of};

/// A part of the tree: its link, its level, and its first page.
#[derive(Clone, Copy)]
struct Part {
    link: Link,
    level: u32,
    base: u64,
}

impl Part {
    fn end(&self) -> u64 {
        self.base + pages_of(self.level)
    }
}

/// What [`Pages::next`] looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sought {
    /// A page that is taken.
    Taken,
    /// A page that is free, or the first of a run.
    Boundary,
}

impl Pages {
    /// Pages of the longest free run.
    pub(in super::super) fn longest(&self) -> u64 {
        self.root.longest
    }

    /// The leaf of a page, unless the page is one of a large uniform part: see [`Pages::is_free`].
    pub(in super::super) fn leaf(&self, page: u64) -> Option<&Leaf> {
        let mut number = self.root.number;
        for level in (1..=self.levels).rev() {
            if number >= TAKEN {
                return None;
            }
            number = self.nodes.child(number, level, child_of(page, level));
        }
        (number < TAKEN).then(|| &self.leaves[number])
    }

    /// Whether this page is free.
    pub(in super::super) fn is_free(&self, page: u64) -> bool {
        if page >= self.count {
            return false;
        }
        let mut number = self.root.number;
        for level in (1..=self.levels).rev() {
            if number >= TAKEN {
                return number == FREE;
            }
            number = self.nodes.child(number, level, child_of(page, level));
        }
        if number >= TAKEN { number == FREE } else { self.leaves[number].is_free(page) }
    }

    /// The end of the run of pages that begins at this page, if one does.
    pub(in super::super) fn end_of_run(&self, page: u64) -> Option<u64> {
        self.end_of_run_in(self.leaf(page)?, page)
    }

    /// As [`Pages::end_of_run`], when the leaf of the page is known.
    pub(super) fn end_of_run_in(&self, leaf: &Leaf, page: u64) -> Option<u64> {
        if !leaf.starts_run(page) {
            return None;
        }
        let later = (leaf.free | leaf.starts) >> (page % 64) >> 1;
        if later != 0 {
            return Some(page + 1 + u64::from(later.trailing_zeros()));
        }
        Some(self.next(self.root_part(), page + 1, Sought::Boundary).unwrap_or(self.count))
    }

    /// The end of the free pages from this page on; the page itself when it is taken.
    pub(in super::super) fn end_of_free(&self, page: u64) -> u64 {
        self.next(self.root_part(), page, Sought::Taken).unwrap_or(self.count)
    }

    /// The first page from `from` on that is what is sought.
    fn next(&self, part: Part, from: u64, sought: Sought) -> Option<u64> {
        if from >= part.end() {
            return None;
        }
        let first = part.base.max(from);
        match part.link.number {
            FREE => (sought == Sought::Boundary).then_some(first),
            TAKEN => (sought == Sought::Taken).then_some(first),
            number if part.level == 0 => {
                let leaf = &self.leaves[number];
                let found = if sought == Sought::Taken { !leaf.free } else { leaf.free | leaf.starts };
                let found = found >> (first - part.base);
                (found != 0).then(|| first + u64::from(found.trailing_zeros()))
            }
            _ => self.parts(part, first..part.end()).find_map(|child| self.next(child, from, sought)),
        }
    }

    /// The lowest of the smallest buddies that have at least `count` pages: where it starts.
    pub(in super::super) fn best_buddy(&self, count: u64) -> Option<u64> {
        let least = count.next_power_of_two().ilog2();
        let fitting = self.root.orders >> least << least;
        (fitting != 0).then(|| self.first_buddy(fitting.trailing_zeros()))
    }

    /// The lowest buddy of an order that the root has.
    fn first_buddy(&self, order: u32) -> u64 {
        let (mut number, mut base) = (self.root.number, 0);
        for level in (1..=self.levels).rev() {
            let below = order_of(level - 1);
            if number == FREE {
                return base;
            }
            if order >= below {
                let whole = self.nodes.whole(number, level);
                return base + (bits::first_group(whole, order - below).expect("an order of the node") << below);
            }
            let child = self.nodes.first_with_order(number, level, order).expect("an order of a part");
            number = self.nodes.child(number, level, child);
            base += child as u64 * pages_of(level - 1);
        }
        if number == FREE {
            return base;
        }
        base + bits::first_group(self.leaves[number].free, order).expect("an order of the leaf")
    }

    /// The lowest run of at least `count` free pages: where it starts.
    pub(in super::super) fn first_run(&self, count: u64) -> Option<u64> {
        (self.root.longest >= count).then(|| self.run_inside(self.root_part(), count))
    }

    /// The lowest run of at least `count` free pages among these pages: where it starts.
    pub(in super::super) fn first_run_in(&self, count: u64, within: &Range<u64>) -> Option<u64> {
        self.run_in(self.root_part(), count, within, &mut 0)
    }

    /// As [`Pages::first_run_in`], in one part; `carry` free pages end where it begins, and then where it ends.
    fn run_in(&self, part: Part, count: u64, within: &Range<u64>, carry: &mut u64) -> Option<u64> {
        let (from, to) = (within.start.max(part.base), within.end.min(part.end()));
        let (start, link) = (from - *carry, part.link);
        if from == part.base && to == part.end() {
            if *carry + link.prefix >= count {
                return Some(start);
            }
            if link.longest >= count {
                return Some(self.run_inside(part, count));
            }
            *carry = if link.number == FREE { *carry + link.prefix } else { link.suffix };
            return None;
        }
        if from > part.base && to == part.end() && link.longest < count {
            *carry = link.suffix.min(to - from);
            return None;
        }
        if link.number == FREE || link.number == TAKEN {
            *carry = if link.number == FREE { *carry + (to - from) } else { 0 };
            return (*carry >= count).then_some(start);
        }
        if part.level > 0 {
            return self.parts(part, from..to).find_map(|child| self.run_in(child, count, within, carry));
        }
        // The free pages from `from` to `to`, moved to the low end and to the high end of a word.
        let width = to - from;
        let low =
            (self.leaves[link.number].free & bits::between(from - part.base, to - part.base)) >> (from - part.base);
        let prefix = u64::from(low.trailing_ones());
        if *carry + prefix >= count {
            return Some(start);
        }
        *carry = if prefix == width { *carry + width } else { u64::from((low << (64 - width)).leading_ones()) };
        bits::first_run(low, count).map(|at| from + at)
    }

    /// As [`Pages::first_run`], in one part that has such a run.
    fn run_inside(&self, part: Part, count: u64) -> u64 {
        let (mut number, mut base) = (part.link.number, part.base);
        for level in (1..=part.level).rev() {
            // A part that is free as a whole is the lowest run, and has no node.
            if number == FREE {
                return base;
            }
            match self.nodes.first_run(number, level, count) {
                Start::At(page) => return base + page,
                Start::Inside(child) => {
                    number = self.nodes.child(number, level, child);
                    base += child as u64 * pages_of(level - 1);
                }
            }
        }
        if number == FREE { base } else { base + bits::first_run(self.leaves[number].free, count).expect("a run") }
    }

    /// Pages of the longest free run that lies in these pages.
    pub(in super::super) fn longest_in(&self, within: &Range<u64>) -> u64 {
        let (mut longest, mut carry) = (0, 0);
        self.measure(self.root_part(), within, &mut longest, &mut carry);
        longest
    }

    fn measure(&self, part: Part, within: &Range<u64>, longest: &mut u64, carry: &mut u64) {
        let (from, to) = (within.start.max(part.base), within.end.min(part.end()));
        let link = part.link;
        let inside = from == part.base && to == part.end();
        let (prefix, suffix, inner) = match link.number {
            FREE => (to - from, to - from, 0),
            TAKEN => (0, 0, 0),
            _ if inside => (link.prefix, link.suffix, link.longest),
            number if part.level == 0 => {
                let mask = bits::between(from - part.base, to - part.base);
                let low = (self.leaves[number].free & mask) >> (from - part.base);
                let high = low << (64 - (to - from));
                (u64::from(low.trailing_ones()), u64::from(high.leading_ones()), bits::longest(low))
            }
            _ => return self.parts(part, from..to).for_each(|child| self.measure(child, within, longest, carry)),
        };
        *longest = (*longest).max(inner).max(*carry + prefix);
        *carry = if prefix == to - from { *carry + prefix } else { suffix };
    }

    /// The lowest slab of the class with room.
    pub(in super::super) fn first_slab(&self, class: Class) -> Option<u64> {
        self.first_slab_in(class, &(0..self.count))
    }

    /// The lowest slab of the class with room among these pages.
    pub(in super::super) fn first_slab_in(&self, class: Class, within: &Range<u64>) -> Option<u64> {
        let exists = self.root.classes & class.bit() != 0;
        exists.then(|| self.slab_in(self.root.number, self.levels, 0, class, within)).flatten()
    }

    /// As [`Pages::first_slab_in`], in a part with this number, level and first page that has such a slab.
    fn slab_in(&self, number: u32, level: u32, base: u64, class: Class, within: &Range<u64>) -> Option<u64> {
        if level == 0 {
            let (from, to) = (within.start.max(base), within.end.min(base + 64));
            return self.leaves[number].first_with_room(class, from - base, to - base).map(|at| base + at);
        }
        let (mut with_class, size) = (self.nodes.with_class(number, level, class), pages_of(level - 1));
        while with_class != 0 {
            let child = with_class.trailing_zeros();
            let start = base + u64::from(child) * size;
            if start < within.end && start + size > within.start {
                let number = self.nodes.child(number, level, child as usize);
                let found = self.slab_in(number, level - 1, start, class, within);
                if found.is_some() {
                    return found;
                }
            }
            with_class &= with_class - 1;
        }
        None
    }

    fn root_part(&self) -> Part {
        Part { link: self.root, level: self.levels, base: 0 }
    }

    fn part_of(&self, part: Part, child: usize) -> Part {
        let level = part.level - 1;
        let link = self.nodes.link(part.link.number, part.level, child);
        Part { link, level, base: part.base + child as u64 * pages_of(level) }
    }

    /// The parts of one with a node that hold some of these pages, which lie in it.
    fn parts(&self, part: Part, pages: Range<u64>) -> impl Iterator<Item = Part> + '_ {
        let size = pages_of(part.level - 1);
        let children = (pages.start - part.base) / size..((pages.end - part.base).div_ceil(size)).min(CHILDREN);
        children.map(move |child| self.part_of(part, child as usize))
    }
}
