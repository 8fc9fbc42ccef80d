//! The answers of a connection that wait to be sent, and what they take of the budget for buffers.
//!
//! A frame is appended to `bytes` after room was made for it, so that the buffer grows by planned steps
//! that were counted, and never by itself.

use mcomp_net::auth::SEAL_LEN;
use mcomp_wire::{HEADER_LEN, limits};

use crate::budget::Share;

/// Answers are sent when this many bytes have gathered, even if more requests wait.
pub(crate) const FLUSH_BYTES: usize = 64 << 10;

/// What every connection may have without asking: what has gathered, and an answer as long again.
pub(crate) const SMALL: usize = 2 * FLUSH_BYTES;

/// The smallest buffer.
const LEAST: usize = 4 << 10;

/// No answer needs more: it is appended when less than `FLUSH_BYTES` have gathered.
const MOST: usize = FLUSH_BYTES + HEADER_LEN + limits::MAX_BODY + SEAL_LEN;

/// Answers, one after the other.
///
/// Invariant: the capacity is at most [`SMALL`], or `share` has what it is above that.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) bytes: Vec<u8>,
    share: Share,
}

impl Outbox {
    pub(crate) fn new(share: Share) -> Outbox {
        Outbox { bytes: Vec::new(), share }
    }

    /// Makes room for a frame with a body of `body` bytes; false when the budget has not that much.
    #[inline]
    pub(crate) fn make_room(&mut self, body: usize) -> bool {
        let wanted = self.bytes.len() + HEADER_LEN + body + SEAL_LEN;
        wanted <= self.bytes.capacity() || self.grow(wanted)
    }

    /// Whole powers of two, so that a burst grows it a few times only.
    #[cold]
    fn grow(&mut self, wanted: usize) -> bool {
        let planned = wanted.next_power_of_two().clamp(LEAST, MOST).max(wanted);
        let has_budget = self.share.grow_to(planned.saturating_sub(SMALL));
        if has_budget {
            self.bytes.reserve_exact(planned - self.bytes.len());
        }
        has_budget
    }

    /// Gives a large buffer back.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > SMALL {
            self.bytes = Vec::new();
            self.share.shrink_to(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[test]
    fn what_it_holds_is_counted() {
        let budget = Budget::new(4 << 20);
        let mut out = Outbox::new(budget.share());
        for body in [0, 5_000, 60_000, 3, limits::MAX_PAYLOAD, limits::MAX_BODY, 70_000] {
            assert!(out.make_room(body));
            let room = out.bytes.capacity();
            out.bytes.resize(out.bytes.len() + HEADER_LEN + body, 0);
            assert_eq!(out.bytes.capacity(), room, "it grew by itself for {body}");
            assert_eq!(budget.taken(), room.saturating_sub(SMALL));
            if out.bytes.len() >= FLUSH_BYTES {
                out.bytes.clear();
            }
        }
        out.shrink();
        assert_eq!((out.bytes.capacity(), budget.taken()), (0, 0));
    }

    #[test]
    fn without_a_budget_it_stays_small() {
        let mut out = Outbox::new(Budget::new(0).share());
        out.bytes.resize(FLUSH_BYTES - 1, 0);
        assert!(!out.make_room(limits::MAX_PAYLOAD));
        assert!(out.make_room(SMALL - FLUSH_BYTES - HEADER_LEN - SEAL_LEN));
        assert!(out.bytes.capacity() <= SMALL);
    }
}
