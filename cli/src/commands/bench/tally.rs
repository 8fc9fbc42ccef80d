//! What was measured: latencies, counts and errors. Each thread has a tally of its own, so that they
//! share nothing while they measure; the tallies of a run are merged when it is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mcomp_client::Error;

/// Longer ones count as this long: no request outlives its timeout by much.
const LATENCY_MAX: Duration = Duration::from_secs(86_400);
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// What one or more threads have measured.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Of each request that succeeded, in nanoseconds.
    pub(super) latencies_ns: Histogram<u64>,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) errors: BTreeMap<&'static str, Kind>,
    /// The first of all errors, and when it came.
    pub(super) first_error: Option<(Instant, Error)>,
    /// Requests before the measurement, whatever came of them.
    pub(super) warm_up_operations: u64,
    /// When the first measured request began and the last one ended.
    pub(super) span: Option<(Instant, Instant)>,
    /// Whether it went on to its planned end.
    pub(super) is_complete: bool,
}

/// Errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) count: u64,
    /// What the first of them said.
    pub(super) sentence: String,
}

impl Default for Tally {
    /// Nothing yet, all of it as planned.
    fn default() -> Tally {
        let latency_max_ns = u64::try_from(LATENCY_MAX.as_nanos()).expect("a day fits into 64 bits");
        let latencies_ns = Histogram::new_with_max(latency_max_ns, DIGITS).expect("the bounds of latencies are right");
        Tally {
            latencies_ns,
            reads: 0,
            writes: 0,
            errors: BTreeMap::new(),
            first_error: None,
            warm_up_operations: 0,
            span: None,
            is_complete: true,
        }
    }
}

impl Tally {
    /// Requests that succeeded.
    pub(super) fn operations(&self) -> u64 {
        self.reads + self.writes
    }

    /// Requests that did not.
    pub(super) fn errors(&self) -> u64 {
        self.errors.values().map(|kind| kind.count).sum()
    }

    /// Counts requests that succeeded, all of which took this long.
    pub(super) fn succeed(&mut self, reads: u64, writes: u64, took: Duration) {
        if reads + writes == 0 {
            return;
        }
        self.reads += reads;
        self.writes += writes;
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(self.latencies_ns.high());
        // The value lies inside the bounds of the histogram.
        let _ = self.latencies_ns.record_n(ns, reads + writes);
    }

    /// Counts a request that did not.
    pub(super) fn fail(&mut self, error: Error) {
        let kind = self.errors.entry(error.kind());
        kind.or_insert_with(|| Kind { count: 0, sentence: error.to_string() }).count += 1;
        self.first_error.get_or_insert_with(|| (Instant::now(), error));
    }

    /// Forgets everything but how much it was: the measurement begins now.
    pub(super) fn end_warm_up(&mut self) {
        self.warm_up_operations = self.operations() + self.errors();
        // A new histogram would be touched for the first time while something is measured.
        self.latencies_ns.reset();
        (self.reads, self.writes) = (0, 0);
        self.errors.clear();
        self.first_error = None;
    }

    /// How long the measurement took.
    pub(super) fn elapsed(&self) -> Duration {
        self.span.map_or(Duration::ZERO, |(began, ended)| ended - began)
    }

    /// Adds what another thread of the same run has measured.
    pub(super) fn merge(&mut self, other: Tally) {
        self.latencies_ns.add(&other.latencies_ns).expect("all tallies have the same bounds");
        self.reads += other.reads;
        self.writes += other.writes;
        self.warm_up_operations += other.warm_up_operations;
        self.is_complete &= other.is_complete;
        for (word, Kind { count, sentence }) in other.errors {
            self.errors.entry(word).or_insert(Kind { count: 0, sentence }).count += count;
        }
        let firsts = [self.first_error.take(), other.first_error];
        self.first_error = firsts.into_iter().flatten().min_by_key(|(at, _)| *at);
        let spans = [self.span, other.span];
        let hull = |a: (Instant, Instant), b: (Instant, Instant)| (a.0.min(b.0), a.1.max(b.1));
        self.span = spans.into_iter().flatten().reduce(hull);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(server: u32) -> Error {
        Error::Unavailable { server, address: "127.0.0.1:1".into(), reason: "gone".into() }
    }

    #[test]
    fn tallies_add_up() {
        let (mut a, mut b) = (Tally::default(), Tally::default());
        a.succeed(3, 1, Duration::from_micros(10));
        b.succeed(0, 1, Duration::from_micros(1000));
        b.fail(error(1));
        a.fail(error(2));
        a.fail(Error::Usage("never".into()));
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        (a.span, b.span) = (Some((now + Duration::from_secs(1), later)), Some((now, now)));
        a.merge(b);
        assert_eq!((a.reads, a.writes, a.operations(), a.errors()), (3, 2, 5, 3));
        assert_eq!(a.errors["unavailable"].count, 2);
        assert!(matches!(a.first_error, Some((_, Error::Unavailable { server: 1, .. }))), "{:?}", a.first_error);
        assert_eq!(a.elapsed(), Duration::from_secs(2));
        assert_eq!(a.latencies_ns.len(), 5);
        assert!(a.latencies_ns.value_at_quantile(0.5).abs_diff(10_000) <= 10);
        assert!(a.latencies_ns.max().abs_diff(1_000_000) <= 1000);
    }

    #[test]
    fn a_warm_up_leaves_only_its_length() {
        let mut tally = Tally::default();
        tally.succeed(2, 1, Duration::from_secs(1));
        tally.fail(error(0));
        tally.end_warm_up();
        assert_eq!((tally.warm_up_operations, tally.operations(), tally.errors()), (4, 0, 0));
        assert!(tally.latencies_ns.is_empty() && tally.first_error.is_none());
    }

    #[test]
    fn no_latency_is_too_long_or_too_short() {
        let mut tally = Tally::default();
        tally.succeed(1, 0, Duration::MAX);
        tally.succeed(1, 0, Duration::ZERO);
        assert_eq!(tally.latencies_ns.len(), 2);
    }
}
