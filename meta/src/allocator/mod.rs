//! Which bytes of the address space are free, and where the next run goes.
//!
//! Small sizes come from size classes: pages that are cut into runs of one capacity (`class.rs`, `slab.rs`). What is
//! larger than half a page comes in whole pages of 4 KiB, as many as it needs and no more (`pages/`). A power of two of
//! pages is a block of a binary buddy, the lowest of the smallest that fit, so that larger blocks stay whole; any other
//! number is cut from the lowest run of free pages that is long enough, whatever its buddies are. Cut from buddies too,
//! such runs would leave holes that none of them fits: runs of 73 pages would fill 57 % of the space, and so fill all of
//! it. Runs may lie on several servers.
//!
//! # What it promises
//!
//! - **No overlap.** A run that is handed out shares no byte with another.
//! - **Bounded waste.** For sizes up to 288 bytes at most 15 bytes of a run are unused, up to 1,024 at most 21 of 100,
//!   up to 2,048 at most 34 of 100, above that less than a page; and from 9 bytes on always less than half.
//! - **What fits is found.** While a run of enough free pages exists anywhere, over as many servers as it may be,
//!   `allocate` finds it. A small run needs a slab of its class with room, or one free page.
//! - **No history.** Every answer is a function of the runs that are live. The free pages are known as a set, and the
//!   buddies are read off it. Which pages are slabs of which class follows from the capacities of the live runs, since
//!   a class is derived from its capacity and an empty slab is given back at once; among several places the address
//!   decides. So a new allocator in which the live runs are reserved, in any order, goes on exactly like the old one.
//! - **Logarithmic.** An operation costs the logarithm of the space, and memory follows the live runs.
//!
//! What it leaves out: who has a run and for how long, the sizes that were asked for, and the bytes themselves.

mod arena;
mod class;
mod pages;
mod run;
mod servers;
mod slab;
mod slots;
mod stats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use self::class::{Class, PAGE_BYTES};
use self::pages::Pages;
use self::run::Shape;
pub use self::run::{NoRoom, Placement, Run, Taken};
use self::servers::Servers;
pub use self::stats::{ServerStats, Stats};

/// The largest address space, in bytes.
pub const MAX_SPACE_BYTES: u64 = 1 << 60;

/// Which bytes of the address space are free. Knows no owner, no name, no time.
///
/// Invariants:
/// - `taken_bytes` are the capacities of the live runs, and `servers` has the same sum by server.
/// - `free_pages` pages are in no live run, in `free_runs` pieces.
/// - A page is a slab exactly while a small run lies in it.
#[derive(Clone)]
pub struct Allocator {
    pages: Pages,
    servers: Servers,
    space_bytes: u64,
    taken_bytes: u64,
    free_pages: u64,
    free_runs: u64,
}

impl fmt::Debug for Allocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Allocator { space_bytes, taken_bytes, free_runs, .. } = self;
        write!(f, "Allocator {{ {taken_bytes} of {space_bytes} bytes taken, {free_runs} free runs }}")
    }
}

impl Allocator {
    /// An address space of `n` servers with `k_bytes` each, all of it free.
    ///
    /// # Panics
    /// When `k_bytes` is not a multiple of 4,096 above 0, `n` is 0, or the space is larger than [`MAX_SPACE_BYTES`].
    pub fn new(k_bytes: u64, n: u32) -> Allocator {
        assert!(k_bytes > 0 && k_bytes.is_multiple_of(PAGE_BYTES), "{k_bytes} bytes a server are no whole pages");
        let space_bytes = k_bytes.saturating_mul(u64::from(n));
        assert!(n > 0 && space_bytes <= MAX_SPACE_BYTES, "{n} servers of {k_bytes} bytes are none, or too much");
        Allocator {
            pages: Pages::new(space_bytes / PAGE_BYTES),
            servers: Servers::new(k_bytes / PAGE_BYTES, n),
            space_bytes,
            taken_bytes: 0,
            free_pages: space_bytes / PAGE_BYTES,
            free_runs: 1,
        }
    }

    /// The capacity of the run that [`Allocator::allocate`] would hand out for so many bytes.
    pub fn capacity_for(size: u64) -> u64 {
        class::capacity_for(size)
    }

    /// Hands out a free run for `size` bytes.
    pub fn allocate(&mut self, size: u64, placement: Placement) -> Result<Run, NoRoom> {
        if size == 0 {
            return Err(NoRoom::Zero);
        }
        if size > self.space_bytes {
            return Err(NoRoom::TooLarge { size, space: self.space_bytes });
        }
        let run = match Class::of_size(size) {
            Some(class) => self.allocate_slot(class, placement),
            None => self.allocate_pages(size.div_ceil(PAGE_BYTES), placement),
        };
        let (free, largest) = (self.space_bytes - self.taken_bytes, self.largest_free_run());
        run.ok_or(NoRoom::Full { size, free, largest })
    }

    /// Takes back a run that was handed out or reserved.
    ///
    /// # Panics
    /// When the run is not live: whoever keeps the table of runs has a bug.
    pub fn free(&mut self, run: Run) {
        let was_live = match run.shape(self.space_bytes) {
            Ok(Shape::Pages { from, to }) => self.free_run(from..to),
            Ok(Shape::Slot { page, class, slot }) => self.free_slot(page, class, slot),
            Err(_) => false,
        };
        assert!(was_live, "{run} are not handed out in {self:?}");
    }

    /// Grows or shrinks a live run where it is, or returns `None` and leaves it.
    ///
    /// The new capacity is that of a new run of `size` bytes. Small runs stay only within their class.
    ///
    /// # Panics
    /// When the run is not live, as [`Allocator::free`] does.
    pub fn resize(&mut self, run: Run, size: u64) -> Option<Run> {
        assert!(self.holds(run), "{run} are not handed out in {self:?}");
        if size == 0 || size > self.space_bytes {
            return None;
        }
        let capacity = class::capacity_for(size);
        if capacity == run.capacity {
            return Some(run);
        }
        let is_pages = |capacity: u64| capacity >= PAGE_BYTES;
        if !is_pages(run.capacity) || !is_pages(capacity) {
            return None;
        }
        let from = run.addr / PAGE_BYTES;
        self.resize_pages(from, from + run.capacity / PAGE_BYTES, from + capacity / PAGE_BYTES)
    }

    /// Takes this run out of the free space, as if `allocate` had handed it out: for a state that is built again.
    pub fn reserve(&mut self, run: Run) -> Result<(), Taken> {
        match run.shape(self.space_bytes)? {
            Shape::Pages { from, to } if self.pages.end_of_free(from) >= to => self.take_pages(from..to),
            Shape::Slot { page, class, slot } if self.is_vacant(page, class, slot) => {
                self.take_slot(page, class, Some(slot));
            }
            _ => return Err(Taken::Taken(run)),
        }
        Ok(())
    }

    /// Whether this very run is handed out.
    pub fn holds(&self, run: Run) -> bool {
        match run.shape(self.space_bytes) {
            Ok(Shape::Pages { from, to }) => self.pages.end_of_run(from) == Some(to),
            Ok(Shape::Slot { page, class, slot }) => {
                self.slab_at(page).is_some_and(|slab| slab.class() == class && slab.holds(slot))
            }
            Err(_) => false,
        }
    }
}

/// Runs of pages.
impl Allocator {
    fn allocate_pages(&mut self, count: u64, placement: Placement) -> Option<Run> {
        let from = self.find_pages(count, placement)?;
        self.take_pages(from..from + count);
        Some(Run::of_pages(from, from + count))
    }

    /// Where `count` free pages start.
    fn find_pages(&self, count: u64, placement: Placement) -> Option<u64> {
        let of_server = self.preferred(placement).and_then(|within| self.pages.first_run_in(count, &within));
        if let Placement::On(_) = placement {
            return of_server;
        }
        let buddy = || count.is_power_of_two().then(|| self.pages.best_buddy(count)).flatten();
        let anywhere = || self.pages.first_run(count);
        of_server.or_else(buddy).or_else(anywhere)
    }

    /// The pages where to look first, if there is a choice, or only.
    fn preferred(&self, placement: Placement) -> Option<Range<u64>> {
        match placement {
            Placement::Spread if self.servers.count() > 1 => Some(self.servers.pages_of(self.servers.freest())),
            Placement::Spread | Placement::Pack => None,
            Placement::On(server) => {
                let server = server as usize;
                (server < self.servers.count()).then(|| self.servers.pages_of(server))
            }
        }
    }

    fn take_pages(&mut self, pages: Range<u64>) {
        let neighbours = self.pages.take(pages.clone());
        self.count_taken(pages.end - pages.start, neighbours);
        self.hand_out(pages, PAGE_BYTES);
    }

    /// Frees a run; whether it was live.
    fn free_run(&mut self, run: Range<u64>) -> bool {
        let Some(neighbours) = self.pages.give_run(run.clone()) else { return false };
        self.count_freed(run.end - run.start, neighbours);
        self.take_back(run, PAGE_BYTES);
        true
    }

    fn resize_pages(&mut self, from: u64, to: u64, new_to: u64) -> Option<Run> {
        if new_to < to {
            let neighbours = self.pages.give(new_to..to);
            self.count_freed(to - new_to, neighbours);
            self.take_back(new_to..to, PAGE_BYTES);
        } else if self.pages.end_of_free(to) < new_to {
            return None;
        } else {
            let neighbours = self.pages.extend(to..new_to);
            self.count_taken(new_to - to, neighbours);
            self.hand_out(to..new_to, PAGE_BYTES);
        }
        Some(Run::of_pages(from, new_to))
    }
}

/// The sums.
impl Allocator {
    /// After so many pages in a row became taken, with so many free pages beside them.
    fn count_taken(&mut self, pages: u64, neighbours: u64) {
        self.free_pages -= pages;
        self.free_runs = self.free_runs + neighbours - 1;
    }

    /// After so many pages in a row became free, with so many free pages beside them.
    fn count_freed(&mut self, pages: u64, neighbours: u64) {
        self.free_pages += pages;
        self.free_runs = self.free_runs + 1 - neighbours;
    }

    fn hand_out(&mut self, pages: Range<u64>, page_bytes: u64) {
        self.taken_bytes += (pages.end - pages.start) * page_bytes;
        self.servers.hand_out(pages, page_bytes);
    }

    fn take_back(&mut self, pages: Range<u64>, page_bytes: u64) {
        self.taken_bytes -= (pages.end - pages.start) * page_bytes;
        self.servers.take_back(pages, page_bytes);
    }
}
