//! Blocks that are to be looked at again at their time: because answers stay away, or a round was lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// Why a block is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// The question of this attempt may have been lost.
    Silence(u64),
    /// Somebody else was at work on it.
    BackOff,
}

/// What is due when.
#[derive(Debug, Default)]
pub(super) struct Timer {
    /// Guards the heap. Taken last.
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    heap: BinaryHeap<Reverse<(Instant, u64, Why)>>,
    stopped: bool,
}

impl Timer {
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
