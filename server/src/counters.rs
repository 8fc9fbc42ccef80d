//! What the server counts. A connection counts for itself and adds up once per burst, so that a
//! small request touches no shared cache line of counters more than once.
//!
//! Durations are counted only when somebody can read them: without metrics no clock is read for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcomp_net::{Cause, Refusals};
use mcomp_wire::control::{ByteCounters, Counters as Report, SnapshotCounters};
use mcomp_wire::{Kind, Status, limits};
use parking_lot::Mutex;

use crate::histogram::Histogram;

const KINDS: usize = Kind::Batch as usize + 1;

/// Totals since the server started. Relaxed everywhere: counts order nothing.
#[derive(Debug)]
pub(crate) struct Counters {
    ops: [AtomicU64; KINDS],
    refusals: Refusals,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    snapshots_ok: AtomicU64,
    snapshots_aborted: AtomicU64,
    /// How long cuts held answers.
    holds: Histogram,
    /// How long requests took, by kind, if that is counted.
    durations: Option<Box<[Histogram; KINDS]>>,
    /// Why the last snapshot was aborted. Taken alone, for the length of a string copy.
    last_error: Mutex<String>,
}

/// One connection's counts since it last added up.
#[derive(Debug)]
pub(crate) struct Tally {
    ops: [u32; KINDS],
    read_bytes: u64,
    written_bytes: u64,
    /// One bit for each kind that it has counted, from the lowest.
    kinds: u32,
}

const _: () = assert!(KINDS <= u32::BITS as usize, "each kind has a bit");

/// Requests whose answers leave together, by kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    ops: [u32; KINDS],
    kinds: u32,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            ops: [const { AtomicU64::new(0) }; KINDS],
            refusals: Refusals::default(),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            snapshots_ok: AtomicU64::new(0),
            snapshots_aborted: AtomicU64::new(0),
            holds: Histogram::default(),
            durations: None,
            last_error: Mutex::default(),
        }
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally { ops: [0; KINDS], read_bytes: 0, written_bytes: 0, kinds: 0 }
    }
}

impl Tally {
    /// The requests that it has counted.
    pub(crate) fn burst(&self) -> Burst {
        Burst { ops: self.ops, kinds: self.kinds }
    }

    pub(crate) fn count(&mut self, kind: Kind, read_bytes: usize, written_bytes: usize) {
        self.ops[kind as usize] += 1;
        self.read_bytes += read_bytes as u64;
        self.written_bytes += written_bytes as u64;
        self.kinds |= 1 << kind as usize;
    }
}

impl Counters {
    pub(crate) fn add(&self, tally: &mut Tally) {
        if tally.kinds == 0 {
            return;
        }
        for kind in bits(tally.kinds) {
            self.ops[kind].fetch_add(u64::from(tally.ops[kind]), Ordering::Relaxed);
        }
        self.read_bytes.fetch_add(tally.read_bytes, Ordering::Relaxed);
        self.written_bytes.fetch_add(tally.written_bytes, Ordering::Relaxed);
        *tally = Tally::default();
    }

    /// Without anything counted yet; with durations or without.
    pub(crate) fn new(with_durations: bool) -> Counters {
        Counters { durations: with_durations.then(Box::default), ..Counters::default() }
    }

    /// Whether durations are counted.
    #[inline]
    pub(crate) fn wants_durations(&self) -> bool {
        self.durations.is_some()
    }

    /// Counts the requests of a burst, each of which took as long as all of it.
    pub(crate) fn took(&self, burst: &Burst, duration: Duration) {
        let Some(durations) = &self.durations else { return };
        bits(burst.kinds).for_each(|kind| durations[kind].observe(duration, burst.ops[kind].into()));
    }

    /// Counts the end of a hold.
    pub(crate) fn held(&self, duration: Duration) {
        self.holds.observe(duration, 1);
    }

    /// Counts a refusal under the status of its answer.
    pub(crate) fn refuse(&self, status: Status) {
        self.refusals.refuse(status);
    }

    /// Counts a refusal under its cause.
    pub(crate) fn reject(&self, cause: Cause) {
        self.refusals.reject(cause);
    }

    /// Counts the end of a cut; `failure` says why there is no snapshot. It may be a peer's, and as long as a
    /// control body: what is kept of it fits into the answer to a status request.
    pub(crate) fn cut_ended(&self, failure: Option<&str>) {
        match failure {
            None => self.snapshots_ok.fetch_add(1, Ordering::Relaxed),
            Some(reason) => {
                limits::cut_message(reason).clone_into(&mut self.last_error.lock());
                self.snapshots_aborted.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    /// The counts in the form that `status` shows.
    pub(crate) fn report(&self) -> Report {
        let [(_, read), (_, written)] = self.bytes();
        let [(_, ok), (_, aborted)] = self.cuts();
        Report {
            ops: self.ops().map(|(kind, count)| (kind.to_owned(), count)).collect(),
            bytes: ByteCounters { read, written },
            rejected: self.refusals.report(),
            snapshot: SnapshotCounters { ok, aborted, last_error: self.last_error.lock().clone() },
            repaired_blocks: 0,
            torn_blocks: 0,
        }
    }

    /// Data requests by kind.
    pub(crate) fn ops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        data_kinds().map(|kind| (kind.word(), load(&self.ops[kind as usize])))
    }

    /// Bytes by direction.
    pub(crate) fn bytes(&self) -> [(&'static str, u64); 2] {
        [("read", load(&self.read_bytes)), ("written", load(&self.written_bytes))]
    }

    /// Refusals by status and by cause.
    pub(crate) fn rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refusals.counts()
    }

    /// Cuts by their end.
    pub(crate) fn cuts(&self) -> [(&'static str, u64); 2] {
        [("ok", load(&self.snapshots_ok)), ("aborted", load(&self.snapshots_aborted))]
    }

    /// How long cuts held answers.
    pub(crate) fn holds(&self) -> &Histogram {
        &self.holds
    }

    /// How long data requests took, by kind; nothing if it is not counted.
    pub(crate) fn durations(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        let durations = self.durations.as_deref().into_iter();
        durations.flat_map(|durations| data_kinds().map(|kind| (kind.word(), &durations[kind as usize])))
    }
}

/// The numbers of the bits that are set.
fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (lowest < u32::BITS).then_some(lowest as usize)
    })
}

fn data_kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|kind| kind.is_data())
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_does_not_make_the_status_long() {
        let counters = Counters::default();
        counters.cut_ended(Some(&"é".repeat(limits::MAX_CONTROL / 2)));
        assert_eq!(counters.report().snapshot.last_error, "é".repeat(limits::MAX_MESSAGE / 2));
        counters.cut_ended(Some("short"));
        assert_eq!(counters.report().snapshot.last_error, "short");
    }

    #[test]
    fn a_burst_is_added_once_and_takes_as_long_as_all_of_it() {
        let counters = Counters::new(true);
        let mut tally = Tally::default();
        tally.count(Kind::Batch, 0, 0);
        tally.count(Kind::Read, 7, 0);
        tally.count(Kind::Read, 1, 0);
        let burst = tally.burst();
        counters.add(&mut tally);
        counters.add(&mut tally);
        counters.took(&burst, Duration::from_micros(3));
        let counted: Vec<_> = counters.ops().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("read", 2), ("batch", 1)]);
        assert_eq!(counters.bytes(), [("read", 8), ("written", 0)]);
        let durations = counters.durations().map(|(kind, histogram)| (kind, histogram.read().count));
        assert_eq!(durations.filter(|(_, count)| *count > 0).collect::<Vec<_>>(), counted);
        assert_eq!(Counters::default().durations().count(), 0, "nobody can read them");
    }
}
