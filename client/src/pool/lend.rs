//! Lending: which link a call gets, where it goes afterwards, and who waits when there is none.
//!
//! A call on its own finds the link of its last call in its thread's slot, and takes no lock. Everything
//! else goes through the lock of the pool: opening, waiting, giving to those who wait, and giving up.
//!
//! Threads that wait are served before threads that come later: a link that is given back while somebody waits
//! is promised to one of them, so that no busy thread snatches it again and again before they wake up.

use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use parking_lot::MutexGuard;
use uuid::Uuid;

use super::slots::Parked;
use super::{Lease, Pool, State};
use crate::Error;
use crate::link::Link;
use crate::peer::Peer;

impl Pool {
    /// Borrows a link for a call of `era`: one that rests, or a new one, or the next that is given back.
    pub(crate) fn checkout(&self, era: u32) -> Result<Lease<'_>, Error> {
        // A link of this era rests here, so the pool has come to the era, and a call that began in it may use it.
        if let Some(lease) = self.slots.take().and_then(|parked| self.lend(parked, era)) {
            return Ok(lease);
        }
        // Who began the era may not have come here yet.
        self.renew(era);
        loop {
            match self.idle_or_room(era)? {
                Some(parked) => {
                    if let Some(lease) = self.lend(parked, era) {
                        return Ok(lease);
                    }
                }
                None => return self.open(era),
            }
        }
    }

    /// The link on loan, if the call can use it. Otherwise it is closed, or given back if it is the call that
    /// is late.
    fn lend(&self, parked: Box<Parked>, era: u32) -> Option<Lease<'_>> {
        if parked.era != era {
            self.give(parked);
            return None;
        }
        let mut lease = Lease { pool: self, era, parked: Some(parked) };
        if lease.is_stale() {
            lease.break_off();
            return None;
        }
        Some(lease)
    }

    /// A new link, for which `open` counts already.
    fn open(&self, era: u32) -> Result<Lease<'_>, Error> {
        let mut lease = Lease { pool: self, era, parked: None };
        let session = Uuid::new_v4();
        let connection = self.connect(session, self.connect_timeout()).map_err(|error| self.unreached(error))?;
        self.admit(&connection, era)?;
        let link = Link::new(connection, session, self.options.timeout);
        lease.parked = Some(Box::new(Parked { era, link }));
        Ok(lease)
    }

    /// Takes a link back that nothing is left over on.
    ///
    /// Whoever waits or begins an era says so first and looks into the slots then; this thread puts the
    /// link into its slot first and looks for them then. With a fence between the two steps on both sides, at least
    /// one sees the other: no link rests here that somebody waits for or that is of an era gone by.
    pub(super) fn park(&self, parked: Box<Parked>) {
        let era = parked.era;
        if self.is_wanted(era) {
            return self.give(parked);
        }
        let displaced = self.slots.put(parked);
        fence(Ordering::SeqCst);
        let wanted = if self.is_wanted(era) { self.slots.take() } else { None };
        displaced.into_iter().chain(wanted).for_each(|parked| self.give(parked));
    }

    /// Whether a link of `era` must not rest in a slot. Relaxed: the fence in `park` orders it.
    fn is_wanted(&self, era: u32) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0 || self.era.load(Ordering::Relaxed) != era
    }

    /// Gives a link to those who wait, or to whoever comes next. Closes it if its era is over.
    pub(super) fn give(&self, parked: Box<Parked>) {
        let mut state = self.state.lock();
        let late = if self.era.load(Ordering::Relaxed) == parked.era {
            state.idle.push(parked);
            None
        } else {
            state.open -= 1;
            Some(parked)
        };
        self.promise(state);
        // Not under the lock: it sends a word of goodbye.
        if let Some(late) = late {
            late.link.close();
        }
    }

    /// Notes that there is one link less.
    pub(super) fn give_up(&self) {
        let mut state = self.state.lock();
        state.open -= 1;
        self.promise(state);
    }

    /// What has become free belongs to one of those who wait.
    fn promise(&self, mut state: MutexGuard<'_, State>) {
        if state.promised < self.waiting.load(Ordering::Relaxed) {
            state.promised += 1;
            drop(state);
            self.freed.notify_one();
        }
    }

    /// A link that rests, or none and the right to open one.
    fn idle_or_room(&self, era: u32) -> Result<Option<Box<Parked>>, Error> {
        let mut state = self.state.lock();
        self.check_era(era)?;
        if state.idle.len() > state.promised {
            return Ok(state.idle.pop());
        }
        // From here on whoever gives a link back goes through the lock; what rests in a slot by then is found.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let found = match self.slots.take_any() {
            Some(parked) => Ok(Some(parked)),
            None => self.room_or_wait(&mut state, era),
        };
        let others = self.waiting.fetch_sub(1, Ordering::Relaxed) - 1;
        if found.is_err() {
            // What this thread was woken for is for another.
            state.promised = state.promised.min(others);
            self.freed.notify_one();
        }
        found
    }

    /// The right to open a link, or after a while what was promised.
    fn room_or_wait(&self, state: &mut MutexGuard<'_, State>, era: u32) -> Result<Option<Box<Parked>>, Error> {
        let max = self.options.max_connections;
        if state.spare(max) > state.promised {
            return Ok(state.claim(max));
        }
        let deadline = Instant::now() + self.options.timeout;
        loop {
            let is_over = self.freed.wait_until(state, deadline).timed_out();
            self.check_era(era)?;
            if state.promised > 0 {
                state.promised -= 1;
                return Ok(state.claim(max));
            }
            if is_over {
                let Peer { server, address } = self.peer.clone();
                return Err(Error::Timeout { server, address, after: self.options.timeout });
            }
        }
    }

    /// Refuses a call of another era than the pool's. The caller holds the lock, so it stays so.
    pub(super) fn check_era(&self, era: u32) -> Result<(), Error> {
        if self.era.load(Ordering::Relaxed) == era { Ok(()) } else { Err(Error::Reconnected) }
    }
}

impl State {
    /// How many calls could be served now: by idle links, and by new ones.
    fn spare(&self, max: usize) -> usize {
        self.idle.len() + max - self.open
    }

    /// One of the spare links, or none and the right to open it.
    fn claim(&mut self, max: usize) -> Option<Box<Parked>> {
        assert!(self.spare(max) > self.promised, "a link that is not there was promised: {} of {max} open", self.open);
        let idle = self.idle.pop();
        self.open += usize::from(idle.is_none());
        idle
    }
}
