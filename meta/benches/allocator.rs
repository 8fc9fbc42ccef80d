//! The allocator alone: one pair of allocate and free while 10^3 to 10^6 runs are live.
//!
//! Half of the runs are small, half are one to eight pages. A pair frees a live run at random and allocates another,
//! so the free space is as torn as a long life makes it. Which runs go and which sizes come is chosen before the clock
//! starts. Divan's median is the time of [`PAIRS`] pairs, or of all live runs once, and its items are pairs.

use std::cell::RefCell;

use divan::Bencher;
use divan::counter::ItemsCount;
use mcomp_meta::allocator::{Allocator, Placement, Run};

/// Pairs that are timed together: one is shorter than the clock can tell.
const PAIRS: usize = 10_000;

const LIVE: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn main() {
    divan::main();
}

/// A size of the mix.
fn size(random: &mut fastrand::Rng) -> u64 {
    match random.u32(0..8) {
        0..4 => random.u64(1..=512),
        4..7 => random.u64(4096..=4 * 4096),
        _ => random.u64(4 * 4096..=8 * 4096),
    }
}

/// An allocator that has lived: as many live runs as asked for, each replaced a few times.
struct Lived {
    allocator: Allocator,
    live: Vec<Run>,
    placement: Placement,
    random: fastrand::Rng,
}

/// Runs to free, each with the size of the run that takes its place.
type Batch = Vec<(Run, u64)>;

impl Lived {
    fn new(live: usize, servers: u32, placement: Placement) -> Lived {
        let mut random = fastrand::Rng::with_seed(5);
        // Twice as much as the runs take.
        let k_bytes = (live as u64 * 16 * 1024 / u64::from(servers)).next_multiple_of(4096);
        let mut allocator = Allocator::new(k_bytes, servers);
        let place = |_| allocator.allocate(size(&mut random), placement).expect("the space is half empty");
        let live = (0..live).map(place).collect();
        let mut lived = Lived { allocator, live, placement, random };
        for _ in 0..=2 * lived.live.len() / PAIRS {
            let mut batch = lived.batch();
            lived.replace(&mut batch);
            lived.live.extend(batch.iter().map(|(run, _)| *run));
        }
        lived
    }

    /// Takes live runs at random, out of the live ones.
    fn batch(&mut self) -> Batch {
        let taken = PAIRS.min(self.live.len());
        let mut pick = |_| {
            let at = self.random.usize(0..self.live.len());
            (self.live.swap_remove(at), size(&mut self.random))
        };
        (0..taken).map(&mut pick).collect()
    }

    /// The pairs: each run makes way for another.
    fn replace(&mut self, batch: &mut Batch) {
        for (run, size) in batch {
            self.allocator.free(*run);
            *run = self.allocator.allocate(*size, self.placement).expect("the space is half empty");
        }
    }

    fn bench(self, bencher: Bencher) {
        let pairs = PAIRS.min(self.live.len());
        let lived = RefCell::new(self);
        let renewed = RefCell::new(Batch::new());
        bencher
            .counter(ItemsCount::new(pairs))
            .with_inputs(|| {
                let mut lived = lived.borrow_mut();
                lived.live.extend(renewed.take().iter().map(|(run, _)| *run));
                lived.batch()
            })
            .bench_local_values(|mut batch| {
                lived.borrow_mut().replace(&mut batch);
                renewed.replace(batch);
            });
    }
}

#[divan::bench(args = LIVE, sample_size = 1)]
fn pack_on_one_server(bencher: Bencher, live: usize) {
    Lived::new(live, 1, Placement::Pack).bench(bencher);
}

#[divan::bench(args = LIVE, sample_size = 1)]
fn spread_over_five_servers(bencher: Bencher, live: usize) {
    Lived::new(live, 5, Placement::Spread).bench(bencher);
}

/// What `mcomp stat` asks for.
#[divan::bench(args = LIVE)]
fn stats_of_five_servers(bencher: Bencher, live: usize) {
    let lived = Lived::new(live, 5, Placement::Spread);
    bencher.bench_local(|| lived.allocator.stats());
}
