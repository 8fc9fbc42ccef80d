//! What a snapshot process has done, whose turn it is, and how much it does at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use mcomp_wire::limits;
use parking_lot::{Condvar, Mutex};

/// Snapshots that wait for their turn at most. Each of them holds a connection, and the master's process needs
/// some for itself and for those who ask how it is.
pub(crate) const MOST_WAITING: usize = 8;

/// Counts and the last results.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Taken alone, for a string copy.
    inner: Mutex<Counts>,
}

/// The counts of a tally.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) ok: u64,
    pub(crate) aborted: u64,
    pub(crate) last_error: String,
    pub(crate) last: String,
}

impl Tally {
    pub(crate) fn published(&self, name: &str) {
        let mut counts = self.inner.lock();
        counts.ok += 1;
        name.clone_into(&mut counts.last);
    }

    pub(crate) fn given_up(&self, reason: &str) {
        let mut counts = self.inner.lock();
        counts.aborted += 1;
        limits::cut_message(reason).clone_into(&mut counts.last_error);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.inner.lock().clone()
    }
}

/// One snapshot at a time: a turn is taken, not a lock held, because making one takes IO.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Taken alone, for a count.
    line: Mutex<Line>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    is_taken: bool,
    waiting: usize,
}

/// A turn; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn, unless [`MOST_WAITING`] do so already.
    pub(crate) fn take(&self) -> Option<Taken<'_>> {
        let mut line = self.line.lock();
        if line.is_taken && line.waiting == MOST_WAITING {
            return None;
        }
        line.waiting += 1;
        while line.is_taken {
            self.given_back.wait(&mut line);
        }
        line.waiting -= 1;
        line.is_taken = true;
        Some(Taken(self))
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.line.lock().waiting
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.line.lock().is_taken = false;
        self.0.given_back.notify_one();
    }
}

/// Places for what may be done a few times at once, and no more often.
#[derive(Debug)]
pub(crate) struct Places {
    /// Relaxed everywhere: a count that guards no other memory.
    free: AtomicUsize,
}

/// A place; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Places);

impl Places {
    pub(crate) fn new(most: usize) -> Places {
        Places { free: AtomicUsize::new(most) }
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Place<'_>> {
        let taken = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1));
        taken.is_ok().then(|| Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_grows_no_longer() {
        let turn = Turn::default();
        let first = turn.take().expect("nobody waits");
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..MOST_WAITING).map(|_| scope.spawn(|| turn.take().is_some())).collect();
            while turn.waiting() < MOST_WAITING {
                std::thread::yield_now();
            }
            assert!(turn.take().is_none());
            drop(first);
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        });
        assert!(turn.take().is_some());
    }

    #[test]
    fn a_long_reason_is_cut() {
        let tally = Tally::default();
        tally.given_up(&"x".repeat(limits::MAX_CONTROL));
        assert_eq!(tally.counts().last_error.len(), limits::MAX_MESSAGE);
    }
}
