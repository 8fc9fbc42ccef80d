//! The shadow area: whether it is allocated, and that nobody writes to it when it is not.

use std::cell::Cell;
use std::sync::MutexGuard;

use crate::error::ShmError;
use crate::segment::Segment;
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::sync::atomic::fence;

thread_local!(static IS_ALLOCATED: Cell<bool> = const { Cell::new(false) });

/// Forgets the area, for a new execution.
pub(crate) fn clear() {
    IS_ALLOCATED.set(false);
}

/// A writer that touches a page that has been given back allocates it again, or dies of SIGBUS.
pub(crate) fn assert_allocated() {
    assert!(IS_ALLOCATED.get(), "a writer touched a shadow page that had been given back");
}

pub(crate) struct Shadow {
    pub(crate) is_prepared: bool,
}

impl Segment {
    pub(crate) fn prepare_shadow(&self) {
        self.lock_shadow().is_prepared = true;
        IS_ALLOCATED.set(true);
    }

    /// The pages read as zeros afterwards. A system call is at least a fence.
    pub(crate) fn punch_shadow(&self) -> Result<(), ShmError> {
        fence(SeqCst);
        self.map.shadow_words().for_each(|word| word.store(0, Relaxed));
        IS_ALLOCATED.set(false);
        Ok(())
    }

    /// A model has one thread that commands cuts, so the mutex is never waited for.
    pub(crate) fn lock_shadow(&self) -> MutexGuard<'_, Shadow> {
        self.shadow.try_lock().expect("one thread commands cuts")
    }
}
