//! The connections to one server: borrowed for a call, given back after it.
//!
//! A link at rest lies in a slot, where a thread takes it without a lock, or in the list behind the
//! lock; see `lend.rs`. A call that needs connections to several servers borrows them in rising order of
//! server id, so that two calls cannot wait for each other.

mod connect;
mod lease;
mod lend;
mod slots;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use mcomp_net::Connection;
use mcomp_net::auth::Keyring;
use mcomp_net::tls::Tls;
use mcomp_wire::{Request, Status};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::ask::Ask;
use crate::link::Link;
use crate::local::{Found, Local, Offer};
use crate::names::{Names, Standing};
use crate::peer::Peer;
use crate::{Error, Options};

use slots::{Parked, Slots};

pub(crate) use lease::{Lease, Reopen};

/// The connections to one server.
#[derive(Debug)]
pub(crate) struct Pool {
    peer: Peer,
    options: Arc<Options>,
    keyring: Option<Arc<Keyring>>,
    tls: Option<Tls>,
    names: Names,
    standing: Standing,
    /// Where the server is.
    place: ArcSwap<Place>,
    /// The server's segment, if it is read without asking the server.
    local: ArcSwapOption<Local>,
    /// Whether this era's epoch was held against that of the other servers. Changed under the lock of
    /// `state`; acquire and release, because who sees it set has read nothing older than the epochs compared.
    proven: AtomicBool,
    /// Whether `state` holds an offer: so that a read need not take the lock to learn that there is none. Relaxed:
    /// whoever sees it takes the lock before it believes it.
    offered: AtomicBool,
    /// Links of an older era are not taken back. Changed under the lock of `state`, and looked at without it by
    /// threads that give a link back. Relaxed: under the lock it needs no more, and `lend.rs` fences the others.
    era: AtomicU32,
    /// Threads that found no link and are served before others. As `era`: changed under the lock, looked at without.
    waiting: AtomicUsize,
    /// Links that rest without a lock.
    slots: Slots,
    /// Guards which other links are idle and how many exist in all. A leaf; never held across IO.
    state: Mutex<State>,
    /// Something was promised to a thread that waits.
    freed: Condvar,
}

/// An address, and what is known of it.
#[derive(Debug)]
struct Place {
    /// The server's seat: of two addresses that others tell, the one of the later seat is true.
    seat: u16,
    address: String,
    /// Whether it is on this machine; asked when the first connection is made.
    near: OnceLock<bool>,
}

impl Place {
    fn new(seat: u16, address: String) -> Place {
        Place { seat, address, near: OnceLock::new() }
    }
}

/// - `idle`, the slots and the links on loan together are `open <= max_connections`.
/// - The link used last is last in `idle`.
/// - `promised` is at most the number of threads that sleep, and at most what they could be given: what is
///   idle and what may be opened.
#[derive(Debug, Default)]
struct State {
    #[expect(clippy::vec_box, reason = "a link keeps its box, so that resting and being lent allocate nothing")]
    idle: Vec<Box<Parked>>,
    open: usize,
    promised: usize,
    /// The config epoch of the first handshake of this era.
    epoch: Option<u64>,
    /// What the last handshake said about a segment of this machine, until a read tries it.
    offer: Option<Offer>,
}

impl Pool {
    /// A pool without connections.
    pub(crate) fn new(
        server: u32,
        address: String,
        options: Arc<Options>,
        keyring: Option<Arc<Keyring>>,
        tls: Option<Tls>,
    ) -> Pool {
        let place = ArcSwap::from_pointee(Place::new(0, address.clone()));
        let peer = Peer { server, address };
        let slots = Slots::new(options.max_connections);
        Pool {
            peer,
            options,
            keyring,
            tls,
            names: Names::new(),
            standing: Standing::default(),
            place,
            local: ArcSwapOption::empty(),
            proven: AtomicBool::new(false),
            offered: AtomicBool::new(false),
            era: AtomicU32::new(0),
            waiting: AtomicUsize::new(0),
            slots,
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// The server as errors name it.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Where the server is.
    pub(crate) fn address(&self) -> String {
        self.place.load().address.clone()
    }

    /// In this seat the server is at this address. Links to where it was break by themselves: it has gone from there.
    /// Whether that is news: who lags behind may tell of an earlier seat than another has told of.
    pub(crate) fn move_to(&self, seat: u16, address: &str) -> bool {
        let before = self.place.rcu(|place| match seat > place.seat {
            true => Arc::new(Place::new(seat, address.to_owned())),
            false => Arc::clone(place),
        });
        seat > before.seat && before.address != address
    }

    /// Names for operations on the replicated blocks whose home this server is.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether it seems to answer.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether the blocks of this server are replicated.
    pub(crate) fn is_replicated(&self) -> bool {
        self.options.replicas > 1
    }

    /// How long a request may go without progress.
    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// Whether this server's memory is known to be of the same restore as that of the others.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    /// Notes that the epoch of `lease` agrees with what was learned from the other servers before.
    pub(crate) fn set_proven(&self, lease: &Lease<'_>) {
        let _state = self.state.lock();
        if self.era.load(Ordering::Relaxed) == lease.era {
            self.proven.store(true, Ordering::Release);
        }
    }

    /// The epoch of this era's connections, if there were any.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.state.lock().epoch
    }

    /// Fails unless the server serves the memory of `epoch`. It is asked by a request for no bytes: at the
    /// end of a restore a server is greeted with its old epoch, and closed, while others are open again.
    pub(crate) fn check_epoch(&self, epoch: u64) -> Result<(), Error> {
        let mut link = self.dedicated()?;
        let answer = if link.welcome().config_epoch == epoch {
            let addr = u64::from(self.peer.server) * self.options.space.k();
            let ask = Ask::new(0, Request::Read { addr, len: 0 });
            let answer = link.call(&ask, Instant::now() + self.options.timeout);
            answer.map_err(|error| self.peer.unanswered(error, false, self.options.timeout))
        } else {
            Err(self.peer.refused(Status::Fenced, String::new()))
        };
        link.close();
        answer
    }

    /// A link of the caller's own, outside the pool and its cap.
    pub(crate) fn dedicated(&self) -> Result<Link, Error> {
        self.dedicated_within(self.connect_timeout())
    }

    /// The same, when it can be had in so much time.
    pub(crate) fn dedicated_within(&self, most: Duration) -> Result<Link, Error> {
        let (session, most) = (Uuid::new_v4(), most.min(self.connect_timeout()));
        let connection = self.connect(session, most).map_err(|error| self.peer.unreached(error, most))?;
        Ok(Link::new(connection, session, self.options.timeout))
    }

    /// Fills `buffer` with the bytes from `addr` on without asking the server, if that is possible.
    #[inline]
    pub(crate) fn read_here(&self, addr: u64, buffer: &mut [u8]) -> bool {
        let local = self.local.load();
        let Some(local) = &*local else { return self.attach() && self.read_here(addr, buffer) };
        match local.read(addr, buffer) {
            Found::Bytes => true,
            Found::AskServer => false,
            Found::Leave => {
                // Unless another thread has left it already and found a new one.
                self.local.compare_and_swap(local, None);
                false
            }
        }
    }

    /// Whether reads need not ask the server.
    pub(crate) fn is_local(&self) -> bool {
        self.local.load().is_some() || self.attach()
    }

    /// Tries the segment that the last handshake offered. Whether it is attached now.
    fn attach(&self) -> bool {
        if !self.offered.load(Ordering::Relaxed) || !self.is_proven() {
            return false;
        }
        let Some((offer, era)) = self.take_offer() else { return false };
        let options = &*self.options;
        let Some(attached) = Local::attach(offer, &options.cluster, self.peer.server, options.space) else {
            return false;
        };
        tracing::debug!(server = self.peer.server, "reads go straight to its segment");
        let _state = self.state.lock();
        // A segment of an older era would outlive the epoch that the era lives in.
        let is_current = self.era.load(Ordering::Relaxed) == era;
        if is_current {
            self.local.store(Some(Arc::new(attached)));
        }
        is_current
    }

    fn take_offer(&self) -> Option<(Offer, u32)> {
        let mut state = self.state.lock();
        self.offered.store(false, Ordering::Relaxed);
        Some((state.offer.take()?, self.era.load(Ordering::Relaxed)))
    }

    /// Makes sure that it lives in `era` or a later one: if it did not, closes what rests, and everything else
    /// when it is given back, and forgets the config epoch.
    pub(crate) fn renew(&self, era: u32) {
        let is_due = || is_after(era, self.era.load(Ordering::Relaxed));
        // It never goes back, so that one look without the lock is enough to see that there is nothing to do.
        if !is_due() {
            return;
        }
        let (idle, offer, local) = {
            let mut state = self.state.lock();
            if !is_due() {
                return;
            }
            self.era.store(era, Ordering::Relaxed);
            state.epoch = None;
            self.proven.store(false, Ordering::Release);
            state.open -= state.idle.len();
            (std::mem::take(&mut state.idle), state.offer.take(), self.local.swap(None))
        };
        // Closing and unmapping are not for the time of the lock.
        drop((offer, local));
        self.freed.notify_all();
        idle.into_iter().for_each(|parked| parked.link.close());
        // Whoever puts a link of before into a slot after this look sees that the era is over; see `Pool::park`.
        fence(Ordering::SeqCst);
        self.slots.take_all().for_each(|parked| self.give(parked));
    }

    /// Refuses a new connection that leads to memory of another epoch than the era's other connections, and all if
    /// the era is over. Notes what it offers.
    fn admit(&self, connection: &Connection, era: u32) -> Result<(), Error> {
        let welcome = &connection.greeting().welcome;
        let epoch = welcome.config_epoch;
        let wants_segment =
            self.options.segment && !self.is_replicated() && self.place.load().is_near() && self.local.load().is_none();
        let anchor = wants_segment.then(|| connection.stream().handle());
        if epoch == 0 {
            let message = "its memory is new, and it is not one of the replicas yet".to_owned();
            return Err(self.peer.refused(Status::Busy, message));
        }
        let mut state = self.state.lock();
        self.check_era(era)?;
        if *state.epoch.get_or_insert(epoch) != epoch {
            return Err(self.peer.refused(Status::Fenced, String::new()));
        }
        if let Some(anchor) = anchor {
            state.offer = Some(Offer { segment: welcome.segment, config_epoch: epoch, anchor });
            self.offered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let at_rest: Vec<_> = std::mem::take(&mut state.idle).into_iter().chain(self.slots.take_all()).collect();
        // Not during a panic, which may have come between the two.
        if !std::thread::panicking() {
            debug_assert_eq!(at_rest.len(), state.open, "links were lost, or counted twice");
        }
        at_rest.into_iter().for_each(|parked| parked.link.close());
    }
}

/// Whether `era` is later than `other`. Their numbers go round.
fn is_after(era: u32, other: u32) -> bool {
    era.wrapping_sub(other).cast_signed() > 0
}

#[cfg(test)]
mod tests;
