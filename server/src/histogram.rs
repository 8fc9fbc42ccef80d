//! How long things took, in buckets that double from a microsecond to eight seconds.
//!
//! Any thread counts, none waits for another, and who reads sees each count at some moment of its own: the total is
//! that of the buckets, so it never contradicts them. Leaves out names and text, which `metrics.rs` has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets with an upper bound: 1 µs, 2 µs, 4 µs and so on to 2^23 µs, which is 8.4 s.
const BOUNDED: usize = 24;

/// Durations. Relaxed everywhere: counts order nothing.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// The last is for what is longer than every bound.
    buckets: [AtomicU64; BOUNDED + 1],
    sum_ns: AtomicU64,
}

/// A histogram as it was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) sum_s: f64,
    pub(crate) count: u64,
    /// Upper bounds in seconds, and how many are in each bucket alone.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Counts `count` things that took `duration` each.
    pub(crate) fn observe(&self, duration: Duration, count: u64) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns.div_ceil(1000))].fetch_add(count, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns.saturating_mul(count), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Reading {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = (0..).map(bound_s).zip(counts).collect();
        Reading {
            sum_s: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)).as_secs_f64(),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

/// The first bucket whose bound is not below `us`.
fn bucket(us: u64) -> usize {
    let doublings = u64::BITS - us.saturating_sub(1).leading_zeros();
    (doublings as usize).min(BOUNDED)
}

fn bound_s(bucket: usize) -> f64 {
    match bucket {
        BOUNDED.. => f64::INFINITY,
        _ => Duration::from_micros(1 << bucket).as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        for (us, expected) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1 << 23, 23), ((1 << 23) + 1, 24)] {
            assert_eq!(bucket(us), expected, "{us} µs");
        }
        assert_eq!(bucket(u64::MAX), BOUNDED);
        assert_eq!((bound_s(0), bound_s(10), bound_s(24)), (1e-6, 0.001024, f64::INFINITY));
    }

    #[test]
    fn what_was_counted_is_read() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_nanos(1), 3);
        histogram.observe(Duration::from_nanos(1001), 1);
        histogram.observe(Duration::from_secs(10), 2);
        let Reading { sum_s, count, buckets } = histogram.read();
        assert_eq!((count, buckets.len()), (6, BOUNDED + 1));
        assert_eq!((buckets[0], buckets[1], buckets[BOUNDED]), ((1e-6, 3), (2e-6, 1), (f64::INFINITY, 2)));
        assert!((sum_s - 20.000001004).abs() < 1e-9, "{sum_s}");
        histogram.observe(Duration::MAX, 2);
        assert_eq!(histogram.read().count, 8, "no duration is too long to be counted");
    }
}
