//! A node: eight parts of equal size, and what is known of each without looking into it.
//!
//! A node with small parts keeps what it knows in 16 bits, and is two cache lines: the first is all that the way down
//! reads.

use super::super::class::Class;
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

/// Numbers of pages up to those of a part.
pub(super) trait Width: Copy + Into<u64> {
    fn of(value: u64) -> Self;
}

impl Width for u16 {
    fn of(value: u64) -> u16 {
        debug_assert!(value <= u64::from(u16::MAX), "{value} pages in a narrow node");
        value as u16
    }
}

impl Width for u64 {
    fn of(value: u64) -> u64 {
        value
    }
}

/// Eight parts, the lowest first.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Node<W> {
    numbers: [u32; CHILDREN as usize],
    classes: [u32; CHILDREN as usize],
    prefix: [W; CHILDREN as usize],
    suffix: [W; CHILDREN as usize],
    longest: [W; CHILDREN as usize],
    orders: [W; CHILDREN as usize],
}

impl<W: Width> Node<W> {
    /// A node whose parts are all like this one.
    pub(super) fn of(link: Link) -> Node<W> {
        Node {
            numbers: [link.number; CHILDREN as usize],
            classes: [link.classes; CHILDREN as usize],
            prefix: [W::of(link.prefix); CHILDREN as usize],
            suffix: [W::of(link.suffix); CHILDREN as usize],
            longest: [W::of(link.longest); CHILDREN as usize],
            orders: [W::of(link.orders); CHILDREN as usize],
        }
    }

    pub(super) fn number(&self, child: usize) -> u32 {
        self.numbers[child]
    }

    pub(super) fn link(&self, child: usize) -> Link {
        Link {
            prefix: self.prefix[child].into(),
            suffix: self.suffix[child].into(),
            longest: self.longest[child].into(),
            orders: self.orders[child].into(),
            classes: self.classes[child],
            number: self.numbers[child],
        }
    }

    pub(super) fn set_link(&mut self, child: usize, link: Link) {
        self.prefix[child] = W::of(link.prefix);
        self.suffix[child] = W::of(link.suffix);
        self.longest[child] = W::of(link.longest);
        self.orders[child] = W::of(link.orders);
        self.classes[child] = link.classes;
        self.numbers[child] = link.number;
    }

    /// Notes what is known of a part; `false` when that was known.
    pub(super) fn learn(&mut self, child: usize, link: Link) -> bool {
        let news = self.link(child) != link;
        if news {
            self.set_link(child, link);
        }
        news
    }

    pub(super) fn whole(&self) -> u64 {
        let mut set = 0;
        for child in 0..CHILDREN as usize {
            set |= u64::from(self.numbers[child] == FREE) << child;
        }
        set
    }

    pub(super) fn with_class(&self, class: Class) -> u32 {
        let mut set = 0;
        for child in 0..CHILDREN as usize {
            set |= u32::from(self.classes[child] & class.bit() != 0) << child;
        }
        set
    }

    /// Notes the classes of a part; `false` when they were known.
    pub(super) fn learn_classes(&mut self, child: usize, classes: u32) -> bool {
        let known = std::mem::replace(&mut self.classes[child], classes);
        known != classes
    }

    pub(super) fn all_classes(&self) -> u32 {
        self.classes.iter().fold(0, |set, classes| set | classes)
    }

    pub(super) fn summary(&self, number: u32, level: u32) -> Link {
        let whole = self.whole();
        if whole == 0xff {
            return Link::uniform(FREE, level);
        }
        if self.numbers == [TAKEN; CHILDREN as usize] {
            return Link::uniform(TAKEN, level);
        }
        let part = pages_of(level - 1);
        let (mut longest, mut carry, mut orders) = (0, 0, 0);
        for child in 0..CHILDREN as usize {
            longest = longest.max(carry + self.prefix[child].into()).max(self.longest[child].into());
            let is_whole = whole >> child & 1 == 1;
            carry = if is_whole { carry + part } else { self.suffix[child].into() };
            orders |= if is_whole { 0 } else { self.orders[child].into() };
        }
        let low = whole.trailing_ones();
        Link {
            prefix: u64::from(low) * part + self.prefix[low as usize].into(),
            suffix: carry,
            longest,
            orders: orders | bits::orders(whole) << order_of(level - 1),
            classes: self.all_classes(),
            number,
        }
    }

    pub(super) fn first_run(&self, count: u64, part: u64) -> Start {
        let mut carry = 0;
        for child in 0..CHILDREN as usize {
            if carry + self.prefix[child].into() >= count {
                return Start::At(child as u64 * part - carry);
            }
            if self.longest[child].into() >= count {
                return Start::Inside(child);
            }
            carry = if self.numbers[child] == FREE { carry + part } else { self.suffix[child].into() };
        }
        unreachable!("{count} pages were said to be free in a row in one node");
    }

    pub(super) fn first_with_order(&self, order: u32) -> Option<usize> {
        self.orders.iter().position(|&orders| orders.into() >> order & 1 == 1)
    }
}

/// Where a run of free pages starts in a node.
pub(super) enum Start {
    /// At this page of the node.
    At(u64),
    /// Somewhere in this part.
    Inside(usize),
}
