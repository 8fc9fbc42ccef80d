//! When the master gives a snapshot up by itself: its process stops, or the time for it is over.
//!
//! The servers have a limit of their own, for a master that is gone; this one is for servers and snapshot
//! processes that go on and on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::SnapshotError;

/// What ends a snapshot.
#[derive(Debug)]
pub(crate) struct Limit<'a> {
    /// Relaxed: a flag, looked at again soon.
    stopping: &'a AtomicBool,
    began: Instant,
    time_limit: Duration,
}

impl Limit<'_> {
    /// The limit of a snapshot that begins now.
    pub(crate) fn new(stopping: &AtomicBool, time_limit: Duration) -> Limit<'_> {
        Limit { stopping, began: Instant::now(), time_limit }
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Refuses to go on when there is a reason to give up.
    pub(crate) fn check(&self) -> Result<(), SnapshotError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(SnapshotError::stopped());
        }
        if self.elapsed() >= self.time_limit {
            return Err(SnapshotError::too_long(self.time_limit));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_ends_with_its_time_and_with_its_process() {
        let (going, stopping) = (AtomicBool::new(false), AtomicBool::new(true));
        let long = Duration::from_secs(600);
        Limit::new(&going, long).check().unwrap();
        let late = Limit::new(&going, Duration::ZERO).check().unwrap_err();
        assert_eq!((late.kind(), late.exit_code()), ("cut_lost", 75), "{late}");
        assert_eq!(Limit::new(&stopping, long).check().unwrap_err().kind(), "unavailable");
    }
}
