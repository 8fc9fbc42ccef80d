//! The connections to one server: borrowed for a call, given back after it.
//!
//! Lock order: each pool has one lock, and it is a leaf. Nobody holds two of them, nobody takes
//! another lock under one, and none is held across IO. A call that needs connections to several
//! servers borrows them in rising order of server id, so that two calls cannot wait for each other.

mod connect;
mod lease;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use mcomp_net::Connection;
use mcomp_net::auth::Keyring;
use mcomp_wire::{Request, Status};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::ask::Ask;
use crate::link::Link;
use crate::local::{Found, Local, Offer};
use crate::peer::Peer;
use crate::{Error, Options};

pub(crate) use lease::{Lease, Reopen};

/// The connections to one server.
#[derive(Debug)]
pub(crate) struct Pool {
    peer: Peer,
    options: Arc<Options>,
    keyring: Option<Arc<Keyring>>,
    /// Whether the server is on this machine; asked when the first connection is made.
    near: OnceLock<bool>,
    /// The server's segment, if it is read without asking the server.
    local: ArcSwapOption<Local>,
    /// Whether this era's epoch was held against that of the other servers. Changed under the lock of
    /// `state`; acquire and release, because who sees it set has read nothing older than the epochs compared.
    proven: AtomicBool,
    /// Whether `state` holds an offer: so that a read need not take the lock to learn that there is none. Relaxed:
    /// whoever sees it takes the lock before it believes it.
    offered: AtomicBool,
    /// Guards which links are idle and how many exist. A leaf; never held across IO.
    state: Mutex<State>,
    /// A link was given back or given up.
    freed: Condvar,
}

/// - `idle.len() <= open <= max_connections`.
/// - The link used last is last in `idle`.
#[derive(Debug, Default)]
struct State {
    idle: Vec<Link>,
    open: usize,
    /// Links of an older era are not taken back.
    era: u32,
    /// The config epoch of the first handshake of this era.
    epoch: Option<u64>,
    /// What the last handshake said about a segment of this machine, until a read tries it.
    offer: Option<Offer>,
}

impl Pool {
    /// A pool without connections.
    pub(crate) fn new(server: u32, options: Arc<Options>, keyring: Option<Arc<Keyring>>) -> Pool {
        let address = options.servers[server as usize].clone();
        let peer = Peer { server, address };
        Pool {
            peer,
            options,
            keyring,
            near: OnceLock::new(),
            local: ArcSwapOption::empty(),
            proven: AtomicBool::new(false),
            offered: AtomicBool::new(false),
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// The server as errors name it.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// How long a request may go without progress.
    pub(crate) fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// Borrows a link for a call of `era`: the one used last, or a new one, or the next that is given back.
    pub(crate) fn checkout(&self, era: u32) -> Result<Lease<'_>, Error> {
        // Who began the era may not have come here yet.
        self.renew(era);
        loop {
            let link = self.idle_or_room(era)?;
            let mut lease = Lease { pool: self, era, link };
            match &lease.link {
                Some(link) if !link.is_stale() => return Ok(lease),
                Some(_) => lease.break_off(),
                None => {
                    let session = Uuid::new_v4();
                    let connection = self.connect(session).map_err(|error| self.unreached(error))?;
                    self.admit(&connection, era)?;
                    lease.link = Some(Link::new(connection, session, self.options.timeout));
                    return Ok(lease);
                }
            }
        }
    }

    /// Whether this server's memory is known to be of the same restore as that of the others.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    /// Notes that the epoch of `lease` agrees with what was learned from the other servers before.
    pub(crate) fn set_proven(&self, lease: &Lease<'_>) {
        let state = self.state.lock();
        if state.era == lease.era {
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
        let session = Uuid::new_v4();
        let connection = self.connect(session).map_err(|error| self.unreached(error))?;
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
        let state = self.state.lock();
        // A segment of an older era would outlive the epoch that the era lives in.
        let is_current = state.era == era;
        if is_current {
            self.local.store(Some(Arc::new(attached)));
        }
        is_current
    }

    fn take_offer(&self) -> Option<(Offer, u32)> {
        let mut state = self.state.lock();
        self.offered.store(false, Ordering::Relaxed);
        Some((state.offer.take()?, state.era))
    }

    /// Makes sure that it lives in `era` or a later one: if it did not, closes what is idle, and everything else
    /// when it is given back, and forgets the config epoch.
    pub(crate) fn renew(&self, era: u32) {
        let (idle, offer, local) = {
            let mut state = self.state.lock();
            if !is_after(era, state.era) {
                return;
            }
            state.era = era;
            state.epoch = None;
            self.proven.store(false, Ordering::Release);
            state.open -= state.idle.len();
            (std::mem::take(&mut state.idle), state.offer.take(), self.local.swap(None))
        };
        // Closing and unmapping are not for the time of the lock.
        drop((offer, local));
        self.freed.notify_all();
        idle.into_iter().for_each(|link| link.close());
    }

    /// An idle link of `era`, or none and the right to open one.
    fn idle_or_room(&self, era: u32) -> Result<Option<Link>, Error> {
        let mut deadline = None;
        let mut state = self.state.lock();
        loop {
            if state.era != era {
                return Err(Error::Reconnected);
            }
            if let Some(link) = state.idle.pop() {
                return Ok(Some(link));
            }
            if state.open < self.options.max_connections {
                state.open += 1;
                return Ok(None);
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.options.timeout);
            if self.freed.wait_until(&mut state, deadline).timed_out() {
                let Peer { server, address } = self.peer.clone();
                return Err(Error::Timeout { server, address, after: self.options.timeout });
            }
        }
    }

    /// Refuses a new connection that leads to memory of another epoch than the era's other connections, and all if
    /// the era is over. Notes what it offers.
    fn admit(&self, connection: &Connection, era: u32) -> Result<(), Error> {
        let welcome = &connection.greeting().welcome;
        let epoch = welcome.config_epoch;
        let wants_segment = self.options.segment && self.is_near() && self.local.load().is_none();
        let anchor = wants_segment.then(|| connection.stream().try_clone().ok()).flatten();
        let mut state = self.state.lock();
        if state.era != era {
            return Err(Error::Reconnected);
        }
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
        std::mem::take(&mut self.state.get_mut().idle).into_iter().for_each(|link| link.close());
    }
}

/// Whether `era` is later than `other`. Their numbers go round.
fn is_after(era: u32, other: u32) -> bool {
    era.wrapping_sub(other).cast_signed() > 0
}
