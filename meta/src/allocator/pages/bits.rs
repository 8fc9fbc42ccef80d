//! A word as a row of 64 pages, bit 0 the lowest: runs of ones, and the buddies among them.
//!
//! The same functions serve the eight children of a node, whose words end after eight bits.

/// By order, the bits at which an aligned group of two of the order below can start.
const PAIRS: [u64; 6] = [
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    0x0000_0000_0000_0001,
];

/// The bits from `from` to below `to`, for `from < to <= 64`.
pub(super) fn between(from: u64, to: u64) -> u64 {
    (u64::MAX >> (64 - (to - from))) << from
}

/// For each order the first bits of the largest aligned groups of ones, until `each` says to stop.
fn groups(ones: u64, mut each: impl FnMut(u32, u64) -> bool) {
    let mut whole = ones;
    for (order, pairs) in (0..).zip(PAIRS) {
        if whole == 0 {
            return;
        }
        let (half, merged) = (1 << order, whole & pairs);
        let merged = merged & (whole >> half);
        if each(order, whole & !(merged | merged << half)) {
            return;
        }
        whole = merged;
    }
    each(6, whole);
}

/// The set of orders `o` of which a largest aligned group of `2^o` ones exists.
pub(super) fn orders(ones: u64) -> u64 {
    let mut found = 0;
    groups(ones, |order, starts| {
        found |= u64::from(starts != 0) << order;
        false
    });
    found
}

/// Where the lowest largest aligned group of `2^order` ones starts.
pub(super) fn first_group(ones: u64, order: u32) -> Option<u64> {
    let mut first = None;
    groups(ones, |at, starts| {
        if at == order && starts != 0 {
            first = Some(u64::from(starts.trailing_zeros()));
        }
        at == order
    });
    first
}

/// The length of the longest run of ones.
pub(super) fn longest(ones: u64) -> u64 {
    if ones == u64::MAX {
        return 64;
    }
    // at[i] has the starts of runs of 2^i: the last that is not empty is extended by smaller and smaller steps.
    let (mut at, mut top) = ([ones; 6], 0);
    while top < 5 && at[top] & at[top] >> (1 << top) != 0 {
        at[top + 1] = at[top] & at[top] >> (1 << top);
        top += 1;
    }
    let (mut starts, mut length) = (at[top], u64::from(ones != 0) << top);
    for step in (0..top).rev() {
        let longer = starts & at[step] >> length;
        if longer != 0 {
            (starts, length) = (longer, length + (1 << step));
        }
    }
    length
}

/// Where the lowest run of at least `length` ones starts.
pub(super) fn first_run(ones: u64, length: u64) -> Option<u64> {
    if length > 64 {
        return None;
    }
    let (mut starts, mut have) = (ones, 1);
    while have < length && starts != 0 {
        let step = have.min(length - have);
        starts &= starts >> step;
        have += step;
    }
    (starts != 0).then(|| u64::from(starts.trailing_zeros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive_runs(ones: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for bit in (0..64).filter(|bit| ones >> bit & 1 == 1) {
            match runs.last_mut() {
                Some((start, length)) if *start + *length == bit => *length += 1,
                _ => runs.push((bit, 1)),
            }
        }
        runs
    }

    /// The largest aligned groups: a run is cut as a buddy would cut it.
    fn naive_groups(ones: u64) -> Vec<(u64, u32)> {
        let mut groups = Vec::new();
        for (mut start, mut length) in naive_runs(ones) {
            while length > 0 {
                let order = start.trailing_zeros().min(length.ilog2()).min(6);
                groups.push((start, order));
                (start, length) = (start + (1 << order), length - (1 << order));
            }
        }
        groups
    }

    fn words() -> impl Iterator<Item = u64> {
        let mut random = fastrand::Rng::with_seed(64);
        let fixed = [0, 1, u64::MAX, 1 << 63, !1, u64::MAX >> 1, 0xff00, 0x0ff0];
        fixed.into_iter().chain((0..3000).map(move |i| match i % 4 {
            0 => random.u64(..),
            1 => random.u64(..) | random.u64(..) | random.u64(..),
            2 => random.u64(..) & random.u64(..),
            _ => between(random.u64(0..32), random.u64(33..=64)),
        }))
    }

    #[test]
    fn runs_and_groups_are_those_of_a_scan() {
        for word in words() {
            let (runs, groups) = (naive_runs(word), naive_groups(word));
            assert_eq!(longest(word), runs.iter().map(|run| run.1).max().unwrap_or(0), "{word:#x}");
            assert_eq!(orders(word), groups.iter().fold(0, |set, group| set | 1 << group.1), "{word:#x}");
            for length in 1..=65 {
                let first = runs.iter().find(|run| run.1 >= length).map(|run| run.0);
                assert_eq!(first_run(word, length), first, "{length} in {word:#x}");
            }
            for order in 0..=6 {
                let first = groups.iter().find(|group| group.1 == order).map(|group| group.0);
                assert_eq!(first_group(word, order), first, "order {order} in {word:#x}");
            }
        }
    }
}
