//! The set of open connections: how many there may be, and which of them are in the middle of a
//! request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use mcomp_net::{NoPlace, Origin, Places};
use parking_lot::Mutex;

use crate::preflight;

/// Open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    /// One for each connection, until it has said who it is: there are a few more than clients may have, so that other
    /// servers come in however many clients there are.
    places: Arc<Places>,
    /// One for each connection that is not another server's.
    seats: Arc<Places>,
    /// Connections of other servers. Relaxed: it is a count.
    nodes: AtomicUsize,
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
    origin: Origin,
    seat: Option<mcomp_net::Place>,
    is_node: bool,
    connections: Arc<Connections>,
    // Given back last: whoever waits for all places finds an empty set.
    _place: mcomp_net::Place,
}

impl Connections {
    /// As many as are configured, in all and for one address, if the process may open so many files.
    /// `others` servers have places besides.
    pub(crate) fn new(configured: u32, per_address: Option<u32>, others: u32) -> Arc<Connections> {
        let (per_address, others) = (per_address.unwrap_or(configured) as usize, others as usize);
        let most = preflight::most_connections(configured);
        Arc::new(Connections {
            places: Places::new(most + others, per_address + others),
            seats: Places::new(most, per_address),
            nodes: AtomicUsize::new(0),
            configured: configured as usize,
            next: AtomicU64::new(1),
            open: Mutex::default(),
        })
    }

    /// A place for one more of `origin`, unless a cap is reached.
    pub(crate) fn enter(self: &Arc<Connections>, origin: Origin) -> Result<Place, NoPlace> {
        let place = self.places.take(origin)?;
        // Relaxed: the number only has to be unique.
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::<Activity>::default();
        self.open.lock().insert(id, Arc::clone(&activity));
        Ok(Place { id, activity, origin, seat: None, is_node: false, connections: Arc::clone(self), _place: place })
    }

    /// How many are open, those of other servers left out.
    pub(crate) fn count(&self) -> usize {
        self.places.count().saturating_sub(self.nodes.load(Ordering::Relaxed))
    }

    /// Most connections at a time.
    pub(crate) fn most(&self) -> usize {
        self.seats.most()
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

impl Place {
    /// It is a client's or an admin's: those have only so many.
    pub(crate) fn sit(&mut self) -> Result<(), NoPlace> {
        self.seat = Some(self.connections.seats.take(self.origin)?);
        Ok(())
    }

    /// It is another server's, or a snapshot process's.
    pub(crate) fn be_node(&mut self) {
        self.is_node = true;
        self.connections.nodes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_node {
            self.connections.nodes.fetch_sub(1, Ordering::Relaxed);
        }
        // A panic in the middle of a request ends it too, or a restore would wait for it for ever.
        if self.activity.0.load(Ordering::Relaxed) % 2 == 1 {
            self.activity.end();
        }
        self.connections.open.lock().remove(&self.id);
    }
}
