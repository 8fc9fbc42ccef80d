//! Blocks that are to be looked at again at their time: because answers stay away, or a round was lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// What need not be exact is due at multiples of this: so the thread wakes for many at once, and seldom.
const TICK: Duration = Duration::from_millis(10);

/// Why a block is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Questions about blocks of its shard may have been lost.
    Silence,
    /// Somebody else was at work on it.
    BackOff,
}

/// What is due when.
#[derive(Debug)]
pub(super) struct Timer {
    began: Instant,
    /// Guards the heap. Taken last.
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    heap: BinaryHeap<Reverse<(Instant, u64, Why)>>,
    stopped: bool,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { began: Instant::now(), state: Mutex::default(), news: Condvar::new() }
    }
}

impl Timer {
    /// As [`Timer::set`], at the next tick from `at` on.
    pub(super) fn set_about(&self, at: Instant, block: u64, why: Why) {
        let past = at.saturating_duration_since(self.began).as_nanos() % TICK.as_nanos();
        let wait = if past == 0 { Duration::ZERO } else { TICK - Duration::from_nanos(past as u64) };
        self.set(at + wait, block, why);
    }

    pub(super) fn set(&self, at: Instant, block: u64, why: Why) {
        let mut state = self.state.lock();
        let is_first = state.heap.peek().is_none_or(|Reverse((first, ..))| at < *first);
        state.heap.push(Reverse((at, block, why)));
        drop(state);
        if is_first {
            self.news.notify_one();
        }
    }

    /// Waits for the next one that is due; none when it is over.
    pub(super) fn next(&self) -> Option<(u64, Why)> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = Instant::now();
            match state.heap.peek().map(|Reverse((at, ..))| *at) {
                None => self.news.wait(&mut state),
                Some(at) if at > now => drop(self.news.wait_until(&mut state, at)),
                Some(_) => return state.heap.pop().map(|Reverse((_, block, why))| (block, why)),
            }
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_need_not_be_exact_is_due_together_and_never_early() {
        let timer = Timer::default();
        let at = |ms| timer.began + Duration::from_millis(ms);
        for ms in [1, 9, 10, 11] {
            timer.set_about(at(ms), ms, Why::Silence);
        }
        timer.set(at(3), 3, Why::BackOff);
        let heap = std::mem::take(&mut timer.state.lock().heap).into_sorted_vec();
        let due: Vec<_> = heap.into_iter().rev().map(|Reverse((due, block, _))| (block, due)).collect();
        assert_eq!(due, [(3, at(3)), (1, at(10)), (9, at(10)), (10, at(10)), (11, at(20))]);
    }
}
