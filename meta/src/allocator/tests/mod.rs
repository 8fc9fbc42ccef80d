//! The allocator beside the naive model, and the edges of the space.

mod battery;
mod model;

use proptest::prelude::*;

use self::model::{Model, placement};
use super::class::PAGE_BYTES;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Allocate { size: u64, spread: bool },
    Free { which: prop::sample::Index },
    Resize { which: prop::sample::Index, size: u64 },
}

/// Sizes around every edge: classes, pages, words of pages, and what no space has.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..400_u64,
        4 => 1..=5000_u64,
        4 => (0..6_u64, 0..3_u64).prop_map(|(pages, more)| (pages * PAGE_BYTES + more).saturating_sub(1)),
        2 => (1..200_u64).prop_map(|pages| pages * PAGE_BYTES),
        1 => (1..2000_u64).prop_map(|pages| pages * PAGE_BYTES - 7),
        1 => (20..60_u32, any::<u16>()).prop_map(|(order, odd)| (1 << order) + u64::from(odd)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (size(), any::<bool>()).prop_map(|(size, spread)| Step::Allocate { size, spread }),
        3 => any::<prop::sample::Index>().prop_map(|which| Step::Free { which }),
        2 => (any::<prop::sample::Index>(), size()).prop_map(|(which, size)| Step::Resize { which, size }),
    ]
}

/// Pages of a server, and servers: spaces of one word, of several, of more than a node, and of all levels.
fn shape() -> impl Strategy<Value = (u64, u32)> {
    prop_oneof![
        (1..=6_u64, 1..=5_u32),
        (10..=130_u64, 1..=3_u32),
        (300..=700_u64, 1..=4_u32),
        (1..=1_u64 << 44, 1..=16_u32),
        Just((64, 8)),
    ]
}

/// One step on an allocator; what it answered.
fn apply(allocator: &mut Allocator, live: &[Run], step: &Step) -> (Option<Result<Run, NoRoom>>, Option<Run>) {
    match step {
        Step::Allocate { size, spread } => (Some(allocator.allocate(*size, placement(*spread))), None),
        _ if live.is_empty() => (None, None),
        Step::Free { which } => {
            allocator.free(*which.get(live));
            (None, None)
        }
        Step::Resize { which, size } => (None, allocator.resize(*which.get(live), *size)),
    }
}

/// The same step on the model, which judges the answer.
fn judge(model: &mut Model, live: &[Run], step: &Step, answer: (Option<Result<Run, NoRoom>>, Option<Run>)) {
    match step {
        Step::Allocate { size, .. } => model.allocated(*size, answer.0.expect("an answer")),
        _ if live.is_empty() => {}
        Step::Free { which } => drop(model.live.remove(&which.get(live).addr)),
        Step::Resize { which, size } => model.resized(*which.get(live), *size, answer.1),
    }
}

proptest! {
    /// Every answer is right, an allocator that is built again from the live runs goes on with the same answers, and
    /// at the end nothing is left behind.
    #[test]
    fn answers_are_right_and_follow_from_the_live_runs(
        (pages, n) in shape(),
        steps in prop::collection::vec(step(), 1..120),
        (rebuild_at, seed) in (0..80_usize, any::<u64>()),
    ) {
        let mut model = Model::new(pages * PAGE_BYTES, n);
        let mut allocator = Allocator::new(pages * PAGE_BYTES, n);
        let mut twin = None;
        for (at, step) in steps.iter().enumerate() {
            let live = model.runs();
            if at == rebuild_at {
                twin = Some(model.rebuilt(seed));
            }
            let answer = apply(&mut allocator, &live, step);
            if let Some(twin) = &mut twin {
                prop_assert_eq!(&apply(twin, &live, step), &answer, "the twin at step {}", at);
                prop_assert_eq!(twin.stats(), allocator.stats());
            }
            judge(&mut model, &live, step, answer);
            model.check(&allocator);
            prop_assert!(model.runs().iter().all(|&run| allocator.holds(run)));
        }
        for run in model.runs() {
            allocator.free(run);
        }
        assert_pristine(&allocator, pages * PAGE_BYTES, n);
    }

    /// A run that is not live is never taken for one, and one that is not wholly free is never reserved.
    #[test]
    fn only_live_runs_are_held_and_only_free_ones_reserved(
        sizes in prop::collection::vec(size(), 1..40),
        claims in prop::collection::vec((0..140_000_u64, 0..600_u64, any::<bool>()), 1..60),
    ) {
        let mut model = Model::new(33 * PAGE_BYTES, 1);
        let mut allocator = Allocator::new(33 * PAGE_BYTES, 1);
        for size in sizes {
            model.allocated(size, allocator.allocate(size, Placement::Pack));
        }
        for (addr, size, round) in claims {
            let claim = if round {
                Run { addr: addr / PAGE_BYTES * PAGE_BYTES, capacity: size / 100 * PAGE_BYTES }
            } else {
                Run { addr: addr / 16 * 16, capacity: size / 16 * 16 }
            };
            prop_assert_eq!(allocator.holds(claim), model.live.get(&claim.addr) == Some(&claim.capacity));
            if allocator.reserve(claim).is_ok() {
                model.add(claim);
            }
            model.check(&allocator);
        }
    }
}

/// Everything is free again, in one piece, and no node and no leaf is left that a new allocator has not.
fn assert_pristine(allocator: &Allocator, k_bytes: u64, n: u32) {
    let new = Allocator::new(k_bytes, n);
    assert_eq!(allocator.stats(), new.stats());
    assert_eq!((allocator.stats().free_runs, allocator.largest_free_run()), (1, k_bytes * u64::from(n)));
    assert_eq!(allocator.pages.held(), new.pages.held());
}

/// A space of more than any cluster has costs next to nothing until it is used.
#[test]
fn the_largest_space_is_as_good_as_any() {
    let mut allocator = Allocator::new(MAX_SPACE_BYTES / 256, 256);
    let all = allocator.allocate(MAX_SPACE_BYTES, Placement::Pack).expect("all of it");
    assert_eq!(all, Run { addr: 0, capacity: MAX_SPACE_BYTES });
    allocator.free(all);
    let half = allocator.allocate(MAX_SPACE_BYTES / 2 + 1, Placement::Spread).expect("more than half");
    let small: Vec<Run> = (0..500).map(|_| allocator.allocate(100, Placement::Spread).expect("room")).collect();
    let held = allocator.pages.held();
    assert!(held.0 + held.1 < 5000, "{held:?} nodes and leaves for 501 runs");
    for run in small {
        allocator.free(run);
    }
    allocator.free(half);
    assert_pristine(&allocator, MAX_SPACE_BYTES / 256, 256);
}
