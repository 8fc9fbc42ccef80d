//! Which pages are free: a binary buddy whose blocks are never stored, but read off a tree over the address space.
//!
//! A leaf is a word of 64 pages, a node has eight parts, and a part that is free as a whole, or taken by a run that
//! began before it, has no node. Each node knows of each part its free pages at both ends, its longest free run, and
//! the set of orders of its buddies: the aligned free blocks of `2^order` pages that are part of no larger one. So
//! coalescing is nothing that is done: two buddies that are both free are one, because the set of free pages says so.
//! That makes every answer a function of the runs that are taken, whatever happened before.
//!
//! A change costs one way down the tree and as far up as something changes: six levels above the leaves for 64 GiB, ten
//! for 64 TiB, and fourteen for 2^60 bytes. Memory follows the runs that are taken: a node stands only where something is both.

mod bits;
mod leaf;
mod node;
mod nodes;
mod search;

use std::ops::Range;

use self::leaf::Leaf;
use self::node::{CHILDREN, FREE, Link, TAKEN, order_of, pages_of};
use self::nodes::Nodes;
use super::arena::Arena;
use super::class::Class;

/// The levels above the leaves of the largest space: 2^48 pages.
const MAX_LEVELS: usize = 14;

/// The free pages, where runs begin, and where slabs are.
///
/// Invariants: no part that is uniform has a node; a link says what its part holds; pages beyond the end of the space
/// are taken and no run begins there.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    nodes: Nodes,
    leaves: Arena<Leaf>,
    root: Link,
    levels: u32,
    count: u64,
}

/// Pages that become free, or a run of pages, or the end of one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Free,
    Run,
    Tail,
}

/// The nodes above a leaf, the lowest first, and the leaf.
struct Way {
    nodes: [u32; MAX_LEVELS],
    leaf: u32,
}

impl Pages {
    /// A space of `count` free pages.
    pub(super) fn new(count: u64) -> Pages {
        let levels = (0..).find(|&level| count <= pages_of(level)).expect("a level for 2^48 pages");
        let root = Link::uniform(FREE, levels);
        let mut pages = Pages { nodes: Nodes::default(), leaves: Arena::default(), root, levels, count };
        if count < pages_of(levels) {
            pages.mark(count..pages_of(levels), Mark::Tail);
        }
        pages
    }

    /// Takes free pages as one run. This and what follows return how many of the pages on both sides are free.
    pub(super) fn take(&mut self, run: Range<u64>) -> u64 {
        self.mark(run, Mark::Run)
    }

    /// Takes free pages as the continuation of the run that ends where they begin.
    pub(super) fn extend(&mut self, pages: Range<u64>) -> u64 {
        self.mark(pages, Mark::Tail)
    }

    /// Frees the end of a run.
    pub(super) fn give(&mut self, pages: Range<u64>) -> u64 {
        self.mark(pages, Mark::Free)
    }

    /// Frees a run, or returns `None` when these pages are no live run.
    pub(super) fn give_run(&mut self, run: Range<u64>) -> Option<u64> {
        let way = self.way(run.start)?;
        if self.end_of_run_in(&self.leaves[way.leaf], run.start) != Some(run.end) {
            return None;
        }
        let is_in_leaf = run.start / 64 == (run.end - 1) / 64;
        Some(if is_in_leaf { self.mark_in_leaf(way, run, Mark::Free) } else { self.mark(run, Mark::Free) })
    }

    /// Takes a slot of the slab at this page, the lowest that is free if none is named. A free page becomes a slab of
    /// the class, and then the free pages beside it are counted.
    pub(super) fn take_slot(&mut self, page: u64, class: Class, slot: Option<u32>) -> (Option<u64>, u32) {
        let way = self.open_way(page);
        let opens = self.leaves[way.leaf].slab(page).is_none();
        let neighbours = opens.then(|| self.free_beside(way.leaf, &(page..page + 1)));
        let leaf = &mut self.leaves[way.leaf];
        if opens {
            leaf.open_slab(page, class);
        }
        let (slot, fills) = leaf.take_slot(page, slot);
        if opens {
            self.settle(page, way);
        } else if fills {
            self.settle_classes(page, way);
        }
        (neighbours, slot)
    }

    /// Gives a slot of the slab at this page back, or returns `None` when the slot is not held in a slab of the class.
    /// When the page became free, the free pages beside it are counted.
    pub(super) fn release_slot(&mut self, page: u64, class: Class, slot: u32) -> Option<Option<u64>> {
        let way = self.way(page)?;
        let leaf = &mut self.leaves[way.leaf];
        leaf.slab(page).filter(|slab| slab.class() == class && slab.holds(slot))?;
        let (empty, was_full) = leaf.release_slot(page, slot);
        let neighbours = empty.then(|| self.free_beside(way.leaf, &(page..page + 1)));
        if empty {
            self.settle(page, way);
        } else if was_full {
            self.settle_classes(page, way);
        }
        Some(neighbours)
    }

    /// How many nodes and leaves there are.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.nodes.len(), self.leaves.len())
    }

    fn mark(&mut self, pages: Range<u64>, mark: Mark) -> u64 {
        debug_assert!(pages.start < pages.end && pages.end <= pages_of(self.levels), "{pages:?}");
        if pages.start / 64 != (pages.end - 1) / 64 {
            self.root = self.mark_part(self.root, self.levels, 0, &pages, mark);
            let before = pages.start.checked_sub(1).is_some_and(|page| self.is_free(page));
            return u64::from(before) + u64::from(self.is_free(pages.end));
        }
        let way = self.open_way(pages.start);
        self.mark_in_leaf(way, pages, mark)
    }

    fn mark_in_leaf(&mut self, way: Way, pages: Range<u64>, mark: Mark) -> u64 {
        let neighbours = self.free_beside(way.leaf, &pages);
        mark_leaf(&mut self.leaves[way.leaf], pages.start % 64, pages.end - pages.start, mark);
        self.settle(pages.start, way);
        neighbours
    }

    /// How many of the pages on both sides of these are free. These lie in one leaf, which mostly knows.
    fn free_beside(&self, leaf: u32, pages: &Range<u64>) -> u64 {
        let leaf = &self.leaves[leaf];
        let before = match pages.start % 64 {
            0 => pages.start > 0 && self.is_free(pages.start - 1),
            _ => leaf.is_free(pages.start - 1),
        };
        let behind = if pages.end.is_multiple_of(64) { self.is_free(pages.end) } else { leaf.is_free(pages.end) };
        u64::from(before) + u64::from(behind)
    }

    /// Marks what lies in the part of `link`, which begins at `base`, and returns the link as it is then.
    fn mark_part(&mut self, link: Link, level: u32, base: u64, pages: &Range<u64>, mark: Mark) -> Link {
        let end = base + pages_of(level);
        let (from, to) = (pages.start.max(base), pages.end.min(end));
        if from == base && to == end && !(mark == Mark::Run && base == pages.start) {
            self.release(link.number, level);
            return Link::uniform(if mark == Mark::Free { FREE } else { TAKEN }, level);
        }
        if level == 0 {
            let number = self.open_leaf(link.number);
            let mark = if from > pages.start && mark == Mark::Run { Mark::Tail } else { mark };
            mark_leaf(&mut self.leaves[number], from - base, to - from, mark);
            return self.close_leaf(number);
        }
        let (number, part) = (self.open_node(link.number, level), pages_of(level - 1));
        for child in (from - base) / part..=(to - 1 - base) / part {
            let link = self.nodes.link(number, level, child as usize);
            let link = self.mark_part(link, level - 1, base + child * part, pages, mark);
            self.nodes.set_link(number, level, child as usize, link);
        }
        self.close_node(number, level)
    }

    /// The way to the leaf of a page, if the page has one.
    fn way(&self, page: u64) -> Option<Way> {
        let (mut nodes, mut number) = ([0; MAX_LEVELS], self.root.number);
        for level in (1..=self.levels).rev() {
            if number >= TAKEN {
                return None;
            }
            nodes[level as usize - 1] = number;
            number = self.nodes.child(number, level, child_of(page, level));
        }
        (number < TAKEN).then_some(Way { nodes, leaf: number })
    }

    /// The way to the leaf of a page, made where a part was uniform. The leaf must be changed then, and settled.
    fn open_way(&mut self, page: u64) -> Way {
        let mut nodes = [0; MAX_LEVELS];
        let mut number = self.root.number;
        for level in (1..=self.levels).rev() {
            let node = self.open_node(number, level);
            nodes[level as usize - 1] = node;
            number = self.nodes.child(node, level, child_of(page, level));
        }
        Way { nodes, leaf: self.open_leaf(number) }
    }

    /// Tells the nodes above a leaf that it has changed, as far up as that changes what they know.
    fn settle(&mut self, page: u64, way: Way) {
        let mut link = self.close_leaf(way.leaf);
        for level in 1..=self.levels {
            let node = way.nodes[level as usize - 1];
            let Some(above) = self.nodes.learn(node, level, child_of(page, level), link) else { return };
            link = above;
            if link.number != node {
                self.nodes.release(node, level);
            }
        }
        self.root = link;
    }

    /// As [`Pages::settle`], when nothing but the classes of a leaf has changed.
    fn settle_classes(&mut self, page: u64, way: Way) {
        let mut classes = self.leaves[way.leaf].classes();
        for level in 1..=self.levels {
            let node = way.nodes[level as usize - 1];
            match self.nodes.learn_classes(node, level, child_of(page, level), classes) {
                Some(above) => classes = above,
                None => return,
            }
        }
        self.root.classes = classes;
    }

    /// The node with this number, or a new one where the part is uniform.
    fn open_node(&mut self, number: u32, level: u32) -> u32 {
        if number < TAKEN { number } else { self.nodes.insert(number, level) }
    }

    fn open_leaf(&mut self, number: u32) -> u32 {
        if number < TAKEN { number } else { self.leaves.insert(Leaf::uniform(number == FREE)) }
    }

    /// The link to a node that has changed. A node that has become uniform goes.
    fn close_node(&mut self, number: u32, level: u32) -> Link {
        let link = self.nodes.summary(number, level);
        if link.number != number {
            self.nodes.release(number, level);
        }
        link
    }

    fn close_leaf(&mut self, number: u32) -> Link {
        let link = self.leaves[number].link(number);
        if link.number != number {
            self.leaves.release(number);
        }
        link
    }

    /// Drops the nodes of a part that becomes uniform.
    fn release(&mut self, number: u32, level: u32) {
        if number >= TAKEN {
            return;
        }
        if level == 0 {
            self.leaves.release(number);
            return;
        }
        for child in 0..CHILDREN as usize {
            self.release(self.nodes.child(number, level, child), level - 1);
        }
        self.nodes.release(number, level);
    }
}

fn mark_leaf(leaf: &mut Leaf, from: u64, count: u64, mark: Mark) {
    let mask = bits::between(from, from + count);
    match mark {
        Mark::Free => leaf.give(mask),
        Mark::Run => leaf.take(mask, 1 << from),
        Mark::Tail => leaf.take(mask, 0),
    }
}

/// Which part of a node at this level holds the page.
fn child_of(page: u64, level: u32) -> usize {
    (page >> order_of(level - 1)) as usize % CHILDREN as usize
}
