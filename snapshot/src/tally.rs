//! What a snapshot process has done, and whose turn it is.

use parking_lot::{Condvar, Mutex};

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
        reason.clone_into(&mut counts.last_error);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.inner.lock().clone()
    }
}

/// One snapshot at a time: a turn is taken, not a lock held, because making one takes IO.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    taken: Mutex<bool>,
    given_back: Condvar,
}

/// A turn; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Waits for the turn.
    pub(crate) fn take(&self) -> Taken<'_> {
        let mut taken = self.taken.lock();
        while *taken {
            self.given_back.wait(&mut taken);
        }
        *taken = true;
        Taken(self)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock() = false;
        self.0.given_back.notify_one();
    }
}
