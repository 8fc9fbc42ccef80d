//! The naive model: a map of live runs, and every question answered by looking at all of them.

use std::collections::BTreeMap;

use super::super::class::PAGE_BYTES;
use super::super::{Allocator, NoRoom, Placement, Run};

/// What is live.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) k_bytes: u64,
    pub(super) n: u32,
    pub(super) live: BTreeMap<u64, u64>,
}

impl Model {
    pub(super) fn new(k_bytes: u64, n: u32) -> Model {
        Model { k_bytes, n, live: BTreeMap::new() }
    }

    fn space(&self) -> u64 {
        self.k_bytes * u64::from(self.n)
    }

    pub(super) fn runs(&self) -> Vec<Run> {
        self.live.iter().map(|(&addr, &capacity)| Run { addr, capacity }).collect()
    }

    /// Runs of free pages, as first page and count, cut at each multiple of `cut` pages.
    fn free_runs(&self, cut: u64) -> Vec<(u64, u64)> {
        let (mut runs, mut at) = (Vec::new(), 0);
        let pages = |(addr, capacity): (&u64, &u64)| (addr / PAGE_BYTES, (addr + capacity).div_ceil(PAGE_BYTES));
        let end = self.space() / PAGE_BYTES;
        for (from, to) in self.live.iter().map(pages).chain([(end, end)]) {
            while at < from {
                let count = (from - at).min(cut - at % cut);
                runs.push((at, count));
                at += count;
            }
            at = at.max(to);
        }
        runs
    }

    /// Whether a small run fits into a page that has runs of its capacity already.
    fn has_slot(&self, capacity: u64) -> bool {
        let mut in_page: BTreeMap<u64, u64> = BTreeMap::new();
        for (addr, _) in self.live.iter().filter(|(_, live)| **live == capacity) {
            *in_page.entry(addr / PAGE_BYTES).or_default() += 1;
        }
        capacity < PAGE_BYTES && in_page.values().any(|&count| count < PAGE_BYTES / capacity)
    }

    /// What `allocate` answered must be what was asked for.
    pub(super) fn allocated(&mut self, size: u64, answer: Result<Run, NoRoom>) {
        let capacity = Allocator::capacity_for(size);
        let largest = self.free_runs(u64::MAX).iter().map(|run| run.1).max().unwrap_or(0) * PAGE_BYTES;
        let fits = largest >= capacity || largest > 0 && capacity < PAGE_BYTES || self.has_slot(capacity);
        match answer {
            Ok(run) => {
                assert!(size > 0 && fits && run.capacity == capacity, "{size} bytes got {run}");
                assert_eq!(run.addr % if capacity < PAGE_BYTES { 16 } else { PAGE_BYTES }, 0, "{run}");
                self.add(run);
            }
            Err(NoRoom::Zero) => assert_eq!(size, 0),
            Err(NoRoom::TooLarge { .. }) => assert!(size > self.space(), "{size} of {}", self.space()),
            Err(NoRoom::Full { free, largest: told, .. }) => {
                assert!(!fits && size > 0 && size <= self.space(), "{size} bytes fit and got nothing");
                assert_eq!((free, told), (self.space() - self.live.values().sum::<u64>(), largest));
            }
        }
    }

    /// Adds a run that must be free.
    pub(super) fn add(&mut self, run: Run) {
        let before = self.live.range(..run.addr + run.capacity).next_back();
        assert!(before.is_none_or(|(addr, capacity)| addr + capacity <= run.addr), "{run} lies over {before:?}");
        assert!(run.addr + run.capacity <= self.space(), "{run} does not lie in the space");
        self.live.insert(run.addr, run.capacity);
    }

    /// Where a run may grow to, exactly.
    pub(super) fn resized(&mut self, run: Run, size: u64, answer: Option<Run>) {
        let capacity = Allocator::capacity_for(size);
        let next = self.live.range(run.addr + 1..).next().map_or(self.space(), |(addr, _)| *addr);
        let pages = run.capacity >= PAGE_BYTES && capacity >= PAGE_BYTES && capacity <= self.space();
        let stays = size > 0 && (capacity == run.capacity || pages && run.addr + capacity <= next);
        assert_eq!(answer, stays.then_some(Run { addr: run.addr, capacity }), "{run} to {size}");
        if stays {
            self.live.insert(run.addr, capacity);
        }
    }

    /// Compares all that can be told with what is seen in the map.
    pub(super) fn check(&self, allocator: &Allocator) {
        let (stats, runs) = (allocator.stats(), self.free_runs(u64::MAX));
        let taken: u64 = self.live.values().sum();
        assert_eq!((stats.space_bytes, stats.taken_bytes), (self.space(), taken));
        assert_eq!((stats.free_bytes, stats.free_runs), (self.space() - taken, runs.len() as u64));
        assert_eq!(stats.largest_free_run, runs.iter().map(|run| run.1).max().unwrap_or(0) * PAGE_BYTES);
        let free_pages: u64 = runs.iter().map(|run| run.1).sum();
        assert_eq!(stats.slab_spare_bytes, stats.free_bytes - free_pages * PAGE_BYTES);
        let pages_each = self.k_bytes / PAGE_BYTES;
        for (server, told) in (0..).zip(&stats.servers) {
            let own = |run: &&(u64, u64)| run.0 / pages_each == server;
            let largest = self.free_runs(pages_each).iter().filter(own).map(|run| run.1).max().unwrap_or(0);
            assert_eq!(told.largest_free_run, largest * PAGE_BYTES, "server {server}");
            assert_eq!(told.free_bytes, self.k_bytes - self.taken_at(server), "server {server}");
        }
    }

    fn taken_at(&self, server: u64) -> u64 {
        let (from, to) = (server * self.k_bytes, (server + 1) * self.k_bytes);
        let part = |(addr, capacity): (&u64, &u64)| (addr + capacity).min(to).saturating_sub(*addr.max(&from));
        self.live.iter().map(part).sum()
    }

    /// An allocator in which the live runs were reserved in another order.
    pub(super) fn rebuilt(&self, seed: u64) -> Allocator {
        let (mut runs, mut allocator) = (self.runs(), Allocator::new(self.k_bytes, self.n));
        fastrand::Rng::with_seed(seed).shuffle(&mut runs);
        for run in runs {
            allocator.reserve(run).expect("live runs lie beside each other");
        }
        allocator
    }
}

/// Both policies, by chance.
pub(super) fn placement(spread: bool) -> Placement {
    if spread { Placement::Spread } else { Placement::Pack }
}
