//! The set of open connections: how many there are, and which of them are in the middle of a
//! request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    next: AtomicU64,
    /// Guards the set. Taken last, for a map operation.
    open: Mutex<HashMap<u64, Arc<Activity>>>,
    /// Signalled when a connection closes.
    closed: Condvar,
}

/// Whether a connection is doing a data request: odd while it does.
///
/// `begin` is SeqCst, as is the close of the restore gate: either the connection sees the closed
/// gate, or the closer sees the odd count and waits for it.
#[derive(Debug, Default)]
pub(crate) struct Activity(AtomicU64);

impl Activity {
    #[inline]
    pub(crate) fn begin(&self) {
        self.0.swap(self.0.load(Ordering::Relaxed) + 1, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn end(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Waits until whatever is being done now is done.
    pub(crate) fn wait(&self) {
        let seen = self.0.load(Ordering::SeqCst);
        while seen % 2 == 1 && self.0.load(Ordering::Acquire) == seen {
            std::thread::yield_now();
        }
    }
}

/// An open connection's place in the set; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: u64,
    pub(crate) activity: Arc<Activity>,
    connections: Arc<Connections>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Connections> {
        Arc::new(Connections { most, next: AtomicU64::new(1), open: Mutex::default(), closed: Condvar::new() })
    }

    /// A place for one more, unless the cap is reached.
    pub(crate) fn enter(self: &Arc<Connections>) -> Option<Place> {
        let mut open = self.open.lock();
        if open.len() >= self.most {
            return None;
        }
        // Relaxed: the number only has to be unique.
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::<Activity>::default();
        open.insert(id, Arc::clone(&activity));
        Some(Place { id, activity, connections: Arc::clone(self) })
    }

    pub(crate) fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Most connections at a time.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Waits until every request that is being done now, on other connections than `own`, is done.
    pub(crate) fn wait_for_requests(&self, own: u64) {
        let others: Vec<_> = {
            let open = self.open.lock();
            open.iter().filter(|&(&id, _)| id != own).map(|(_, activity)| Arc::clone(activity)).collect()
        };
        others.iter().for_each(|activity| activity.wait());
    }

    /// Waits until no connection is open; false if some still are after `patience`.
    pub(crate) fn wait_until_none(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut open = self.open.lock();
        while !open.is_empty() {
            if self.closed.wait_until(&mut open, deadline).timed_out() {
                return open.is_empty();
            }
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A panic in the middle of a request ends it too, or a restore would wait for it for ever.
        if self.activity.0.load(Ordering::Relaxed) % 2 == 1 {
            self.activity.end();
        }
        self.connections.open.lock().remove(&self.id);
        self.connections.closed.notify_all();
    }
}
