//! The budget for large connection buffers: what all connections together may hold.
//!
//! A small connection's buffers (16 KiB to receive, 128 KiB to send) are covered by the cap on
//! connections, and so are the answers that its session remembers (64 KiB of large ones, 128 small
//! ones; broken sessions that wait have a cap of their own). What a connection needs beyond that, for
//! large frames, it takes from here before it allocates, with one share for each of its two buffers;
//! when nothing is left it refuses the request and the peer tries again.
//!
//! One connection takes at most one frame for each buffer, so that it takes a hundred greedy ones to use the
//! default up. Once half of it is taken, connections give back what they have after every answer: those that are
//! silent keep no more than that half.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may still be allocated.
#[derive(Debug)]
pub(crate) struct Budget {
    total: usize,
    /// Relaxed everywhere: a count that guards no other memory.
    left: AtomicUsize,
}

/// Bytes taken from a budget; they go back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(total: usize) -> Arc<Budget> {
        Arc::new(Budget { total, left: AtomicUsize::new(total) })
    }

    /// Whether more than half is taken: then connections give back what they do not need at once.
    pub(crate) fn is_pressed(&self) -> bool {
        self.left.load(Ordering::Relaxed) < self.total / 2
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.total - self.left.load(Ordering::Relaxed)
    }

    pub(crate) fn share(self: &Arc<Budget>) -> Share {
        Share { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    /// Makes this share at least `bytes`; false, and nothing taken, when the budget has not that much.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let taken = self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
        if taken.is_ok() {
            self.bytes += more;
        }
        taken.is_ok()
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.left.fetch_add(less, Ordering::Relaxed);
        self.bytes -= less;
    }

    /// The budget it is a part of.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(100);
        let mut one = budget.share();
        let mut two = budget.share();
        assert!(one.grow_to(60) && budget.is_pressed());
        assert!(!two.grow_to(41));
        assert!(two.grow_to(40));
        one.shrink_to(10);
        assert!(!budget.is_pressed());
        drop((one, two));
        assert!(budget.share().grow_to(100));
    }
}
