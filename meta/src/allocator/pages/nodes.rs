//! All nodes of the tree, by level and number. Nearly all of them are narrow.

use super::super::arena::Arena;
use super::super::class::Class;
use super::node::{Link, Node, Start, pages_of};

/// The lowest level at which a node has parts of more than 2^15 pages.
const WIDE: u32 = 5;

/// All nodes, by level and number.
#[derive(Clone, Debug, Default)]
pub(super) struct Nodes {
    narrow: Arena<Node<u16>>,
    wide: Arena<Node<u64>>,
}

/// Does the same with a node of either width.
macro_rules! at {
    ($self:ident, $number:ident, $level:ident, $node:ident => $what:expr) => {
        if $level < WIDE {
            let $node = &$self.narrow[$number];
            $what
        } else {
            let $node = &$self.wide[$number];
            $what
        }
    };
}

impl Nodes {
    /// A node at this level whose parts are all [`FREE`], or all [`TAKEN`].
    pub(super) fn insert(&mut self, uniform: u32, level: u32) -> u32 {
        let link = Link::uniform(uniform, level - 1);
        if level < WIDE { self.narrow.insert(Node::of(link)) } else { self.wide.insert(Node::of(link)) }
    }

    /// Gives the number of a node back.
    pub(super) fn release(&mut self, number: u32, level: u32) {
        if level < WIDE { self.narrow.release(number) } else { self.wide.release(number) }
    }

    /// The number of a part.
    pub(super) fn child(&self, number: u32, level: u32, child: usize) -> u32 {
        at!(self, number, level, node => node.number(child))
    }

    /// What is known of a part.
    pub(super) fn link(&self, number: u32, level: u32, child: usize) -> Link {
        at!(self, number, level, node => node.link(child))
    }

    /// Notes what is known of a part.
    pub(super) fn set_link(&mut self, number: u32, level: u32, child: usize, link: Link) {
        if level < WIDE {
            self.narrow[number].set_link(child, link);
        } else {
            self.wide[number].set_link(child, link);
        }
    }

    /// Notes what is known of a part, and returns what the node above then knows; `None` when nothing is new.
    pub(super) fn learn(&mut self, number: u32, level: u32, child: usize, link: Link) -> Option<Link> {
        if level < WIDE {
            let node = &mut self.narrow[number];
            node.learn(child, link).then(|| node.summary(number, level))
        } else {
            let node = &mut self.wide[number];
            node.learn(child, link).then(|| node.summary(number, level))
        }
    }

    /// Notes the classes of a part alone, and returns those of the node; `None` when nothing is new.
    pub(super) fn learn_classes(&mut self, number: u32, level: u32, child: usize, classes: u32) -> Option<u32> {
        if level < WIDE {
            let node = &mut self.narrow[number];
            node.learn_classes(child, classes).then(|| node.all_classes())
        } else {
            let node = &mut self.wide[number];
            node.learn_classes(child, classes).then(|| node.all_classes())
        }
    }

    /// What the node above knows of a node, or of the uniform part that it has become.
    pub(super) fn summary(&self, number: u32, level: u32) -> Link {
        at!(self, number, level, node => node.summary(number, level))
    }

    /// One bit for each part that is free as a whole.
    pub(super) fn whole(&self, number: u32, level: u32) -> u64 {
        at!(self, number, level, node => node.whole())
    }

    /// Where the lowest run of at least `count` free pages starts, in a node that has one.
    pub(super) fn first_run(&self, number: u32, level: u32, count: u64) -> Start {
        at!(self, number, level, node => node.first_run(count, pages_of(level - 1)))
    }

    /// The lowest part that has a buddy of this order, which is lower than that of a part.
    pub(super) fn first_with_order(&self, number: u32, level: u32, order: u32) -> Option<usize> {
        at!(self, number, level, node => node.first_with_order(order))
    }

    /// One bit for each part that has a slab of the class with room.
    pub(super) fn with_class(&self, number: u32, level: u32, class: Class) -> u32 {
        at!(self, number, level, node => node.with_class(class))
    }

    /// How many nodes there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.narrow.len() + self.wide.len()
    }
}
