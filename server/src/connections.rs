//! The set of open connections: how many there may be, and which of them are in the middle of a
//! request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcomp_net::{NoPlace, Origin, Places};
use parking_lot::Mutex;

use crate::preflight;

/// Open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    places: Arc<Places>,
    configured: usize,
    next: AtomicU64,
    /// Guards the set. Taken last, for a map operation.
    open: Mutex<HashMap<u64, Arc<Activity>>>,
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
    // Given back last: whoever waits for all places finds an empty set.
    _place: mcomp_net::Place,
}

impl Connections {
    /// As many as are configured, in all and for one address, if the process may open so many files.
    pub(crate) fn new(configured: u32, per_address: Option<u32>) -> Arc<Connections> {
        let per_address = per_address.unwrap_or(configured) as usize;
        let places = Places::new(preflight::most_connections(configured), per_address);
        let next = AtomicU64::new(1);
        Arc::new(Connections { places, configured: configured as usize, next, open: Mutex::default() })
    }

    /// A place for one more of `origin`, unless a cap is reached.
    pub(crate) fn enter(self: &Arc<Connections>, origin: Origin) -> Result<Place, NoPlace> {
        let place = self.places.take(origin)?;
        // Relaxed: the number only has to be unique.
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::<Activity>::default();
        self.open.lock().insert(id, Arc::clone(&activity));
        Ok(Place { id, activity, connections: Arc::clone(self), _place: place })
    }

    pub(crate) fn count(&self) -> usize {
        self.places.count()
    }

    /// Most connections at a time.
    pub(crate) fn most(&self) -> usize {
        self.places.most()
    }

    /// How many the configuration allows; the process may be able to serve fewer.
    pub(crate) fn configured(&self) -> usize {
        self.configured
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
        self.places.wait_until_none(patience)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A panic in the middle of a request ends it too, or a restore would wait for it for ever.
        if self.activity.0.load(Ordering::Relaxed) % 2 == 1 {
            self.activity.end();
        }
        self.connections.open.lock().remove(&self.id);
    }
}
