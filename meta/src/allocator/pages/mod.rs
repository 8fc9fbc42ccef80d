//! Which pages are free: a binary buddy whose blocks are never stored, but read off a tree over the address space.
//!
//! A leaf is a word of 64 pages, a node has eight parts, and a part that is free as a whole, or taken by a run that
//! began before it, has no node. Each node knows of each part its free pages at both ends, its longest free run, and
//! the set of orders of its buddies: the aligned free blocks of `2^order` pages that are part of no larger one. So
//! coalescing is nothing that is done: two buddies that are both free are one, because the set of free pages says so.
//! That makes every answer a function of the runs that are taken, whatever happened before.
//!
//! A change costs one way down the tree and as far up as something changes: with 4 KiB pages, seven levels for 64 TiB
//! and fifteen for 2^60 bytes. Memory follows the runs that are taken: a node stands only where something is both.

mod bits;
mod leaf;
mod node;
mod search;

use std::ops::Range;

use self::leaf::Leaf;
use self::node::{CHILDREN, FREE, Link, Node, TAKEN, order_of, pages_of};
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
    nodes: Arena<Node>,
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

impl Pages {
    /// A space of `count` free pages.
    pub(super) fn new(count: u64) -> Pages {
        let levels = (0..).find(|&level| count <= pages_of(level)).expect("a level for 2^48 pages");
        let root = Link::uniform(FREE, levels);
        let mut pages = Pages { nodes: Arena::default(), leaves: Arena::default(), root, levels, count };
        if count < pages_of(levels) {
            pages.mark(count..pages_of(levels), Mark::Tail);
        }
        pages
    }

    /// Takes free pages as one run.
    pub(super) fn take(&mut self, run: Range<u64>) {
        self.mark(run, Mark::Run);
    }

    /// Takes free pages as the continuation of the run that ends where they begin.
    pub(super) fn extend(&mut self, pages: Range<u64>) {
        self.mark(pages, Mark::Tail);
    }

    /// Frees a run, or the end of one.
    pub(super) fn give(&mut self, pages: Range<u64>) {
        self.mark(pages, Mark::Free);
    }

    /// Turns a free page into the slab with this number.
    pub(super) fn open_slab(&mut self, page: u64, number: u32, class: Class) {
        self.edit(page, |leaf| leaf.open_slab(page, number, class));
    }

    /// Notes whether a slab has room, when that has changed.
    pub(super) fn set_room(&mut self, page: u64, class: Class, room: bool) {
        self.edit(page, |leaf| leaf.set_room(page, class, room));
    }

    /// Turns a slab into a free page.
    pub(super) fn close_slab(&mut self, page: u64, class: Class) {
        self.edit(page, |leaf| leaf.close_slab(page, class));
    }

    /// How many nodes and leaves there are.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.nodes.len(), self.leaves.len())
    }

    fn mark(&mut self, pages: Range<u64>, mark: Mark) {
        debug_assert!(pages.start < pages.end && pages.end <= pages_of(self.levels), "{pages:?}");
        if pages.start / 64 == (pages.end - 1) / 64 {
            self.edit(pages.start, |leaf| mark_leaf(leaf, pages.start % 64, pages.end - pages.start, mark));
        } else {
            self.root = self.mark_part(self.root, self.levels, 0, &pages, mark);
        }
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
            let link = self.nodes[number].links[child as usize];
            let link = self.mark_part(link, level - 1, base + child * part, pages, mark);
            self.nodes[number].links[child as usize] = link;
        }
        self.close_node(number, level)
    }

    /// Changes the leaf of one page, and what the nodes above know of it.
    fn edit(&mut self, page: u64, change: impl FnOnce(&mut Leaf)) {
        let mut path = [0; MAX_LEVELS];
        let mut number = self.root.number;
        for level in (1..=self.levels).rev() {
            let node = self.open_node(number, level);
            path[level as usize - 1] = node;
            number = self.nodes[node].links[child_of(page, level)].number;
        }
        let leaf = self.open_leaf(number);
        change(&mut self.leaves[leaf]);
        let mut link = self.close_leaf(leaf);
        for level in 1..=self.levels {
            let node = path[level as usize - 1];
            let known = &mut self.nodes[node].links[child_of(page, level)];
            if *known == link {
                return;
            }
            *known = link;
            link = self.close_node(node, level);
        }
        self.root = link;
    }

    /// The node with this number, or a new one where the part is uniform.
    fn open_node(&mut self, number: u32, level: u32) -> u32 {
        if number < Arena::<Node>::RESERVED { number } else { self.nodes.insert(Node::uniform(number, level)) }
    }

    fn open_leaf(&mut self, number: u32) -> u32 {
        if number < Arena::<Leaf>::RESERVED { number } else { self.leaves.insert(Leaf::uniform(number == FREE)) }
    }

    /// The link to a node that has changed. A node that has become uniform goes.
    fn close_node(&mut self, number: u32, level: u32) -> Link {
        let link = self.nodes[number].link(number, level);
        if link.number != number {
            self.nodes.release(number);
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
        if number >= Arena::<Node>::RESERVED {
            return;
        }
        if level == 0 {
            self.leaves.release(number);
            return;
        }
        for link in self.nodes.release(number).links {
            self.release(link.number, level - 1);
        }
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
