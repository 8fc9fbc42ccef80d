//! The words of the allocator: runs, where to place them, and why there is none.

use std::fmt;

use super::class::{Class, PAGE_BYTES};

/// A piece of the address space.
///
/// A run that the allocator hands out begins at a multiple of 16. A capacity of half a page and less is the capacity of
/// a size class, and the run lies at a multiple of it within one page; any other capacity is a number of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// Its first byte.
    pub addr: u64,
    /// The bytes that are really taken: at least as many as were asked for.
    pub capacity: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {:#x}", self.capacity, self.addr)
    }
}

/// Where an allocation goes when there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The lowest address that fits well: low addresses fill up first, and large free runs stay whole.
    Pack,
    /// The server with most free bytes, at the lowest address there; as [`Placement::Pack`] where it does not fit.
    Spread,
    /// This server alone, at the lowest address there.
    On(u32),
}

/// Why there is no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Nothing was asked for.
    #[error("0 bytes cannot be allocated: ask for at least 1")]
    Zero,
    /// More than there is altogether.
    #[error("{size} bytes are more than the whole address space of {space}: ask for less, or add servers")]
    TooLarge {
        /// What was asked for.
        size: u64,
        /// Bytes of the address space.
        space: u64,
    },
    /// More than there is now.
    #[error(
        "no room for {size} bytes: {free} are free, at most {largest} of them in one run; free something, or ask for less"
    )]
    Full {
        /// What was asked for.
        size: u64,
        /// Bytes that nobody has. Some may lie between small runs, where only runs of the same class fit.
        free: u64,
        /// Bytes of the longest run of free pages.
        largest: u64,
    },
}

/// Why a run cannot be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// Some of it is not free, or it is a small run in a page of another class.
    #[error("{0} are not free: reserve what was live at one time, each run once")]
    Taken(Run),
    /// It ends behind the address space.
    #[error("{run} do not lie in the address space of {space} bytes: the space that it comes from was larger")]
    Outside {
        /// The run.
        run: Run,
        /// Bytes of the address space.
        space: u64,
    },
    /// No allocator hands out such a run.
    #[error("{0} are no run: the capacity is neither a class nor whole pages, or the address does not suit it")]
    Malformed(Run),
}

/// What a run is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One slot of a slab.
    Slot { page: u64, class: Class, slot: u32 },
    /// Pages, from the first to the one behind the last.
    Pages { from: u64, to: u64 },
}

impl Run {
    /// The run of these pages.
    pub(super) fn of_pages(from: u64, to: u64) -> Run {
        Run { addr: from * PAGE_BYTES, capacity: (to - from) * PAGE_BYTES }
    }

    /// The run of one slot.
    pub(super) fn of_slot(page: u64, class: Class, slot: u32) -> Run {
        Run { addr: page * PAGE_BYTES + u64::from(slot) * class.capacity(), capacity: class.capacity() }
    }

    /// What it is made of in an address space of so many bytes, if it can be at all.
    pub(super) fn shape(self, space: u64) -> Result<Shape, Taken> {
        if self.addr.checked_add(self.capacity).is_none_or(|end| end > space) {
            return Err(Taken::Outside { run: self, space });
        }
        let (page, offset) = (self.addr / PAGE_BYTES, self.addr % PAGE_BYTES);
        if self.capacity > 0 && self.capacity.is_multiple_of(PAGE_BYTES) && offset == 0 {
            return Ok(Shape::Pages { from: page, to: page + self.capacity / PAGE_BYTES });
        }
        let class = Class::of_capacity(self.capacity).ok_or(Taken::Malformed(self))?;
        let (slot, rest) = (offset as u32 / class.capacity() as u32, offset as u32 % class.capacity() as u32);
        if rest != 0 || slot >= class.slots() {
            return Err(Taken::Malformed(self));
        }
        Ok(Shape::Slot { page, class, slot })
    }
}
