//! What users of an allocator have always tried first: exact fits, holes, growth, and calls that are wrong.

use super::super::class::PAGE_BYTES;
use super::super::{Allocator, NoRoom, Placement, Run, Taken};
use super::assert_pristine;

const PACK: Placement = Placement::Pack;

fn pages(count: u64) -> u64 {
    count * PAGE_BYTES
}

#[test]
fn a_space_splits_into_two_runs_exactly() {
    let mut allocator = Allocator::new(pages(117), 2);
    let first = allocator.allocate(pages(200), PACK).expect("200 of 234");
    let second = allocator.allocate(pages(34), PACK).expect("the other 34");
    assert_eq!((first.addr, second.addr), (0, pages(200)));
    assert_eq!(allocator.allocate(1, PACK), Err(NoRoom::Full { size: 1, free: 0, largest: 0 }));
    allocator.free(first);
    assert_eq!(allocator.allocate(pages(200), PACK), Ok(first));
    allocator.free(first);
    allocator.free(second);
    assert_pristine(&allocator, pages(117), 2);
}

#[test]
fn all_of_it_fits_in_any_space() {
    for (k, n) in [(1, 1), (1, 7), (3, 5), (64, 1), (65, 3), (511, 1), (513, 2), (1000, 9)] {
        let mut allocator = Allocator::new(pages(k), n);
        let space = pages(k) * u64::from(n);
        for placement in [Placement::Pack, Placement::Spread] {
            let all = allocator.allocate(space, placement).expect("all of it");
            assert_eq!(all, Run { addr: 0, capacity: space });
            assert_eq!(allocator.largest_free_run(), 0);
            allocator.free(all);
            assert_pristine(&allocator, pages(k), n);
        }
    }
}

#[test]
fn an_exact_fit_over_two_servers_is_found() {
    let mut allocator = Allocator::new(pages(100), 3);
    let middle = Run { addr: pages(73), capacity: pages(91) };
    for (from, count) in [(0, 73), (164, 136)] {
        allocator.reserve(Run { addr: pages(from), capacity: pages(count) }).expect("it is free");
    }
    let sizes: Vec<u64> = allocator.stats().servers.iter().map(|server| server.largest_free_run).collect();
    assert_eq!(sizes.iter().sum::<u64>(), pages(91));
    assert_eq!(allocator.allocate(pages(91), Placement::Spread), Ok(middle));
}

#[test]
fn spread_takes_the_server_with_most_left() {
    let mut allocator = Allocator::new(pages(10), 3);
    let place =
        |allocator: &mut Allocator, size| allocator.allocate(size, Placement::Spread).expect("room").addr / pages(10);
    assert_eq!([pages(4), pages(2), 100, 100, 100].map(|size| place(&mut allocator, size)), [0, 1, 2, 2, 2]);
    assert_eq!([pages(5), pages(5), pages(5)].map(|size| place(&mut allocator, size)), [2, 1, 0]);
    assert_eq!(place(&mut allocator, pages(4)), 2);
}

#[test]
fn pack_takes_the_smallest_buddy_or_the_lowest_run() {
    let mut allocator = Allocator::new(pages(256), 1);
    let runs: Vec<Run> = (0..32).map(|_| allocator.allocate(pages(8), PACK).expect("room")).collect();
    allocator.free(runs[2]);
    allocator.free(runs[3]);
    allocator.free(runs[9]);
    assert_eq!(allocator.allocate(pages(8), PACK), Ok(runs[9]), "a power of two leaves larger buddies whole");
    assert_eq!(allocator.allocate(pages(11), PACK).expect("room").addr, runs[2].addr);
    assert_eq!(allocator.allocate(pages(5), PACK).expect("room").addr, runs[2].addr + pages(11), "no page is lost");
}

#[test]
fn thousands_of_blocks_live_and_go() {
    let mut allocator = Allocator::new(1 << 25, 3);
    let size = |i: u64| (i * 7919 + 1) % 9000 + 1;
    let runs: Vec<Run> = (0..4096).map(|i| allocator.allocate(size(i), PACK).expect("room")).collect();
    let mut sorted = runs.clone();
    sorted.sort();
    assert!(sorted.is_sorted_by(|a, b| a.addr + a.capacity <= b.addr));
    runs.into_iter().for_each(|run| allocator.free(run));
    assert_pristine(&allocator, 1 << 25, 3);
}

#[test]
fn what_is_freed_is_used_again() {
    let mut allocator = Allocator::new(pages(5), 1);
    for _ in 0..10_000 {
        let runs = [4096, 8193, 1].map(|size| allocator.allocate(size, PACK).expect("room"));
        assert_eq!(allocator.stats().taken_bytes, 4096 + 3 * 4096 + 16);
        runs.into_iter().rev().for_each(|run| allocator.free(run));
    }
    assert_pristine(&allocator, pages(5), 1);
}

#[test]
fn every_other_block_is_freed_and_its_place_taken_again() {
    for size in [16, 100, 1360, 4096, 12288] {
        let mut allocator = Allocator::new(1 << 24, 1);
        let mut runs: Vec<Run> = (0..1000).map(|_| allocator.allocate(size, PACK).expect("room")).collect();
        let full = allocator.stats();
        let mut holes: Vec<Run> = runs.iter().copied().step_by(2).collect();
        holes.iter().for_each(|&run| allocator.free(run));
        let mut again: Vec<Run> = holes.iter().map(|_| allocator.allocate(size, PACK).expect("room")).collect();
        holes.sort();
        again.sort();
        assert_eq!((holes, allocator.stats()), (again, full), "blocks of {size}");
        runs.drain(..).for_each(|run| allocator.free(run));
        assert_pristine(&allocator, 1 << 24, 1);
    }
}

#[test]
fn a_block_grows_byte_by_byte_and_shrinks_again() {
    let mut allocator = Allocator::new(pages(4), 1);
    let mut run = allocator.allocate(1, PACK).expect("room");
    let mut moves = 0;
    for size in (1..=1024).chain((1..1024).rev()) {
        run = allocator.resize(run, size).unwrap_or_else(|| {
            let new = allocator.allocate(size, PACK).expect("room");
            allocator.free(run);
            moves += 1;
            new
        });
        assert_eq!((run.capacity, allocator.stats().taken_bytes), (Allocator::capacity_for(size), run.capacity));
    }
    assert_eq!(moves, 2 * 27, "it moves only where its class ends");
}

#[test]
fn pages_grow_into_what_is_free_behind_them() {
    let mut allocator = Allocator::new(pages(300), 1);
    let run = Run { addr: 0, capacity: pages(3) };
    allocator.reserve(run).expect("it is free");
    let grown = allocator.resize(run, pages(290)).expect("nothing is behind it");
    let next = allocator.allocate(pages(10), PACK).expect("the rest");
    assert_eq!(allocator.resize(grown, pages(290) + 1), None);
    assert_eq!(allocator.resize(grown, 0), None);
    assert_eq!(allocator.resize(grown, 100), None, "a small run needs a slab");
    let shrunk = allocator.resize(grown, pages(2) + 1).expect("shrinking stays in place");
    assert_eq!((shrunk, allocator.largest_free_run()), (Run { addr: 0, capacity: pages(3) }, pages(287)));
    allocator.free(next);
    allocator.free(shrunk);
    assert_pristine(&allocator, pages(300), 1);
}

#[test]
fn what_cannot_be_allocated_is_told_with_its_values() {
    let mut allocator = Allocator::new(pages(8), 2);
    assert_eq!(allocator.allocate(0, PACK), Err(NoRoom::Zero));
    assert_eq!(allocator.allocate(u64::MAX, PACK), Err(NoRoom::TooLarge { size: u64::MAX, space: pages(16) }));
    allocator.allocate(pages(15), PACK).expect("room");
    allocator.allocate(1, PACK).expect("room");
    let full = allocator.allocate(5000, PACK).expect_err("one page is left, in a slab");
    assert_eq!(
        full.to_string(),
        "no room for 5000 bytes: 4080 are free, at most 0 of them in one run; free something, or ask for less"
    );
}

#[test]
fn reserve_refuses_what_is_no_free_run() {
    let mut allocator = Allocator::new(pages(8), 1);
    let small = allocator.allocate(100, PACK).expect("room");
    let run = |addr, capacity| Run { addr, capacity };
    for taken in [small, run(0, pages(1)), run(0, 16), run(0, pages(8))] {
        assert_eq!(allocator.reserve(taken), Err(Taken::Taken(taken)));
    }
    for outside in [run(pages(8), pages(1)), run(pages(7), pages(2)), run(u64::MAX, 16)] {
        assert_eq!(allocator.reserve(outside), Err(Taken::Outside { run: outside, space: pages(8) }));
    }
    for malformed in [run(pages(1) + 16, pages(1)), run(pages(1), 5000), run(pages(1), 0), run(pages(1) + 8, 16)] {
        assert_eq!(allocator.reserve(malformed), Err(Taken::Malformed(malformed)));
    }
    allocator.reserve(run(112, 112)).expect("the slot beside the small run");
}

#[test]
fn freeing_what_is_not_live_is_a_bug_that_shows() {
    let mut allocator = Allocator::new(pages(16), 1);
    let (a, b) = (allocator.allocate(pages(2), PACK).expect("room"), allocator.allocate(pages(2), PACK).expect("room"));
    let small = allocator.allocate(10, PACK).expect("room");
    let wrong = [
        Run { capacity: pages(1), ..a },
        Run { capacity: pages(4), ..a },
        Run { addr: a.addr + pages(1), capacity: pages(1) },
        Run { addr: pages(8), capacity: pages(1) },
        Run { addr: small.addr + 16, capacity: 16 },
        Run { capacity: 32, ..small },
        Run { addr: small.addr, capacity: pages(1) },
    ];
    for run in wrong {
        let mut copy = allocator.clone();
        let freed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || copy.free(run)));
        let message = *freed.expect_err("a panic").downcast::<String>().expect("a message");
        assert!(message.starts_with(&format!("{run} are not handed out")), "{message}");
    }
    [a, b, small].into_iter().for_each(|run| allocator.free(run));
    assert_pristine(&allocator, pages(16), 1);
}

/// How much of the space is taken when something does not fit for the first time, in percent: the mean of many times,
/// with a tenth of the runs freed at random after each.
fn fill_percent(size: impl Fn(&mut fastrand::Rng) -> u64) -> f64 {
    let (mut allocator, mut random) = (Allocator::new(1 << 26, 1), fastrand::Rng::with_seed(7));
    let (mut live, mut fills) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        while let Ok(run) = allocator.allocate(size(&mut random), PACK) {
            live.push(run);
        }
        let stats = allocator.stats();
        fills.push(100.0 * stats.taken_bytes as f64 / stats.space_bytes as f64);
        for _ in 0..live.len() / 10 {
            allocator.free(live.swap_remove(random.usize(0..live.len())));
        }
    }
    fills.iter().sum::<f64>() / fills.len() as f64
}

#[test]
fn little_is_lost_between_runs() {
    let fills = [
        (99.0, fill_percent(|_| pages(73))),
        (88.0, fill_percent(|random| pages(random.u64(1..=100)))),
        (96.0, fill_percent(|random| pages(random.u64(1..=8)))),
        (95.0, fill_percent(|random| pages(1 << random.u32(0..=8)))),
        (96.0, fill_percent(|random| if random.u32(0..64) == 0 { pages(64) } else { random.u64(1..=2048) })),
    ];
    assert!(fills.iter().all(|(least, fill)| fill >= least), "least and real percentages: {fills:?}");
}
