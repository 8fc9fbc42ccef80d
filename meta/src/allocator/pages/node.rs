//! A node: eight parts of equal size, and what is known of each without looking into it.

use super::bits;

/// Children of a node.
pub(super) const CHILDREN: u64 = 8;

/// The number of a part whose pages are all free.
pub(super) const FREE: u32 = u32::MAX;

/// The number of a part whose pages are all taken, by a run that begins before it.
pub(super) const TAKEN: u32 = u32::MAX - 1;

/// The order of a part at this level: it has `2^order` pages. Leaves are level 0.
pub(super) fn order_of(level: u32) -> u32 {
    6 + 3 * level
}

/// Pages of a part at this level.
pub(super) fn pages_of(level: u32) -> u64 {
    1 << order_of(level)
}

/// What a node knows of one of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Free pages at its low end.
    pub(super) prefix: u64,
    /// Free pages at its high end.
    pub(super) suffix: u64,
    /// Pages of its longest free run.
    pub(super) longest: u64,
    /// The orders of the buddies in it: aligned free blocks that are part of no larger one.
    pub(super) orders: u64,
    /// The classes of its slabs with room.
    pub(super) classes: u32,
    /// The number of the node or leaf, or [`FREE`], or [`TAKEN`].
    pub(super) number: u32,
}

impl Link {
    /// The link to a part that needs no node: [`FREE`] or [`TAKEN`].
    pub(super) fn uniform(number: u32, level: u32) -> Link {
        let pages = if number == FREE { pages_of(level) } else { 0 };
        let orders = u64::from(number == FREE) << order_of(level);
        Link { prefix: pages, suffix: pages, longest: pages, orders, classes: 0, number }
    }
}

/// Eight parts, the lowest first.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) links: [Link; CHILDREN as usize],
}

impl Default for Node {
    fn default() -> Node {
        Node { links: [Link::uniform(TAKEN, 0); CHILDREN as usize] }
    }
}

impl Node {
    /// A node at this level whose parts are all alike.
    pub(super) fn uniform(number: u32, level: u32) -> Node {
        Node { links: [Link::uniform(number, level - 1); CHILDREN as usize] }
    }

    /// One bit for each part that is free as a whole.
    pub(super) fn whole(&self) -> u64 {
        (0..).zip(&self.links).fold(0, |set, (at, link)| set | u64::from(link.number == FREE) << at)
    }

    /// What the node above knows of this one, which stands at this level and has this number.
    pub(super) fn link(&self, number: u32, level: u32) -> Link {
        let whole = self.whole();
        if whole == 0xff {
            return Link::uniform(FREE, level);
        }
        if self.links.iter().all(|link| link.number == TAKEN) {
            return Link::uniform(TAKEN, level);
        }
        let part = pages_of(level - 1);
        let low = whole.trailing_ones();
        let mut link = Link {
            prefix: u64::from(low) * part + self.links[low as usize].prefix,
            suffix: 0,
            longest: 0,
            orders: bits::orders(whole) << order_of(level - 1),
            classes: 0,
            number,
        };
        for child in &self.links {
            link.longest = link.longest.max(child.longest).max(link.suffix + child.prefix);
            link.classes |= child.classes;
            if child.number == FREE {
                link.suffix += part;
            } else {
                link.suffix = child.suffix;
                link.orders |= child.orders;
            }
        }
        link
    }
}
