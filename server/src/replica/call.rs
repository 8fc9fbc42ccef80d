//! Operations on blocks that one thread waits for together.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::page::{Answer, Page};

/// How an operation on one block ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Read(Page),
    Wrote(Answer),
    /// It had no effect, and will have none.
    NotDone,
    /// It may have been done, or may be yet.
    Unknown,
    /// It was not done now, because it may have been done before; the block's clock.
    Forgotten(u64),
}

/// Operations that are waited for together.
#[derive(Debug)]
pub(super) struct Call {
    /// Guards what has come. Taken last.
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug)]
struct State {
    left: usize,
    ended: Vec<Option<Ended>>,
}

/// Where the end of one of them goes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) call: Arc<Call>,
    pub(super) index: usize,
}

impl Call {
    pub(super) fn new(count: usize) -> Arc<Call> {
        let state = State { left: count, ended: vec![None; count] };
        Arc::new(Call { state: Mutex::new(state), done: Condvar::new() })
    }

    /// Waits until all have ended; which have not by then.
    pub(super) fn wait(&self, deadline: Instant) -> Vec<usize> {
        let mut state = self.state.lock();
        while state.left > 0 {
            if self.done.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        let open = state.ended.iter().enumerate().filter(|(_, ended)| ended.is_none());
        open.map(|(index, _)| index).collect()
    }

    /// What has come; all have ended.
    pub(super) fn take(&self) -> Vec<Ended> {
        let ended = std::mem::take(&mut self.state.lock().ended);
        ended.into_iter().map(|ended| ended.expect("all have ended")).collect()
    }
}

impl Place {
    /// Ends it, once.
    pub(super) fn end(self, how: Ended) {
        let mut state = self.call.state.lock();
        let Some(place) = state.ended.get_mut(self.index).filter(|place| place.is_none()) else { return };
        *place = Some(how);
        state.left -= 1;
        if state.left == 0 {
            self.call.done.notify_all();
        }
    }
}
