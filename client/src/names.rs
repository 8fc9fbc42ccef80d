//! Names of operations on replicated blocks, and whom to ask.
//!
//! A name is given once. The same operation keeps it, whichever replica it is sent to: so it is done at most once. Numbers
//! are a Lamport clock that begins with the time of day: each is greater than any that a block has shown this process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use mcomp_wire::limits;
use mcomp_wire::replica::Name;

use crate::clock::now_ms;

/// As many numbers as a batch has items.
const STEP: u64 = limits::MAX_BATCH as u64;
/// How long a server that did not answer is asked last: at first, and at most.
const SHUN_MS: u64 = 500;
const SHUN_MOST_MS: u64 = 8_000;

/// The names that one pool gives.
#[derive(Debug)]
pub(crate) struct Names {
    session: u64,
    /// The last number. Relaxed: it only grows.
    last: AtomicU64,
}

impl Names {
    pub(crate) fn new() -> Names {
        Names { session: uuid::Uuid::new_v4().as_u64_pair().0, last: AtomicU64::new(0) }
    }

    /// A name for a request with all of its items.
    pub(crate) fn next(&self) -> Name {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = (since.as_micros() as u64).saturating_mul(STEP);
        let next = |last: u64| last.saturating_add(STEP).max(now);
        // Relaxed: see the field.
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        Name { session: self.session, number: next(last.unwrap_or_default()) }
    }

    /// A block has shown its clock: names count on from it.
    pub(crate) fn count_on_from(&self, clock: u64) {
        // Relaxed: see the field.
        self.last.fetch_max(clock, Ordering::Relaxed);
    }
}

/// Whether a server seems to answer.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Until when it is asked last, and for how long that is. Relaxed: they decide whom to ask first.
    shunned_until_ms: AtomicU64,
    shun_ms: AtomicU64,
}

impl Standing {
    /// Whether it is to be asked before others. Of those who find that its time is over, one tries.
    pub(crate) fn is_good(&self, patience: Duration) -> bool {
        let until = self.shunned_until_ms.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let now = now_ms();
        let later = now + patience.as_millis() as u64;
        now >= until
            && self.shunned_until_ms.compare_exchange(until, later, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether it has answered when it was asked last.
    pub(crate) fn is_known_good(&self) -> bool {
        self.shunned_until_ms.load(Ordering::Relaxed) == 0
    }

    /// It did not answer.
    pub(crate) fn failed(&self) {
        let shun = (self.shun_ms.load(Ordering::Relaxed) * 2).clamp(SHUN_MS, SHUN_MOST_MS);
        self.shun_ms.store(shun, Ordering::Relaxed);
        self.shunned_until_ms.store(now_ms() + shun, Ordering::Relaxed);
    }

    /// It did.
    pub(crate) fn answered(&self) {
        if self.shunned_until_ms.load(Ordering::Relaxed) != 0 {
            self.shunned_until_ms.store(0, Ordering::Relaxed);
            self.shun_ms.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_grow_and_count_on() {
        let names = Names::new();
        let (first, second) = (names.next(), names.next());
        assert!(second.number >= first.number + STEP);
        let ahead = second.number + (1 << 50);
        names.count_on_from(ahead);
        assert!(names.next().number > ahead);
        names.count_on_from(1);
        assert!(names.next().number > ahead);
    }

    #[test]
    fn one_of_many_tries_a_server_again() {
        let standing = Standing::default();
        let patience = Duration::from_secs(60);
        assert!(standing.is_good(patience) && standing.is_good(patience));
        standing.failed();
        assert!(!standing.is_good(patience));
        standing.shunned_until_ms.store(1, Ordering::Relaxed);
        assert_eq!([standing.is_good(patience), standing.is_good(patience)], [true, false]);
        standing.answered();
        assert!(standing.is_good(patience) && standing.is_good(patience));
    }
}
