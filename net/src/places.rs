//! The places for connections: so many in all, and so many for one peer.
//!
//! Whose a connection is, its [`Origin`], is what the kernel knows of it and the peer cannot choose: an address
//! of the network, or a user of this machine. It leaves out what the connections do.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Where a connection comes from.
///
/// An IPv6 address counts by itself, and not with its network: the machines of one cluster share that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An address; one of IPv4 is the same when it comes over IPv6.
    Address(IpAddr),
    /// A user of this machine, through a Unix socket.
    User(u32),
}

/// Places that are taken and given back.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_of_one: usize,
    /// Guards the counts. Taken last, for a map operation.
    taken: Mutex<Taken>,
    /// Signalled when a place is given back.
    freed: Condvar,
}

/// Invariant: `all` is the sum of `by_origin`, which has no zeros.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_origin: HashMap<Origin, usize>,
}

/// A place; it is given back when this is dropped.
#[derive(Debug)]
pub struct Place {
    origin: Origin,
    places: Arc<Places>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// All are taken.
    All {
        /// So many there are.
        most: usize,
    },
    /// This origin has all that one may have.
    OfOne {
        /// Which one.
        origin: Origin,
        /// So many one may have.
        most: usize,
    },
}

impl Origin {
    /// An address, as it is counted.
    pub fn address(ip: IpAddr) -> Origin {
        Origin::Address(ip.to_canonical())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Address(ip) => write!(f, "address {ip}"),
            Origin::User(id) => write!(f, "user {id} of this machine"),
        }
    }
}

impl Places {
    /// `most` places, `most_of_one` for each origin.
    pub fn new(most: usize, most_of_one: usize) -> Arc<Places> {
        Arc::new(Places { most, most_of_one, taken: Mutex::default(), freed: Condvar::new() })
    }

    /// A place, if one is free and `origin` may have one more.
    pub fn take(self: &Arc<Places>, origin: Origin) -> Result<Place, NoPlace> {
        let mut taken = self.taken.lock();
        if taken.all >= self.most {
            return Err(NoPlace::All { most: self.most });
        }
        let of_one = taken.by_origin.get(&origin).copied().unwrap_or(0);
        if of_one >= self.most_of_one {
            return Err(NoPlace::OfOne { origin, most: self.most_of_one });
        }
        taken.by_origin.insert(origin, of_one + 1);
        taken.all += 1;
        Ok(Place { origin, places: Arc::clone(self) })
    }

    /// How many are taken.
    pub fn count(&self) -> usize {
        self.taken.lock().all
    }

    /// How many there are.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Waits until none is taken; false if some still are after `patience`.
    pub fn wait_until_none(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut taken = self.taken.lock();
        while taken.all > 0 {
            if self.freed.wait_until(&mut taken, deadline).timed_out() {
                return taken.all == 0;
            }
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(of_one) = taken.by_origin.get_mut(&self.origin) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.by_origin.remove(&self.origin);
            }
        }
        drop(taken);
        self.places.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Origin {
        Origin::address(text.parse().unwrap())
    }

    #[test]
    fn one_has_its_share_and_all_have_no_more_than_there_are() {
        let places = Places::new(3, 2);
        let one = address("192.0.2.1");
        let mut held: Vec<Place> = (0..2).map(|_| places.take(one).unwrap()).collect();
        assert_eq!(places.take(address("::ffff:192.0.2.1")).unwrap_err(), NoPlace::OfOne { origin: one, most: 2 });
        held.push(places.take(Origin::User(7)).unwrap());
        assert_eq!(places.take(Origin::User(8)).unwrap_err(), NoPlace::All { most: 3 });
        held.remove(0);
        held.push(places.take(one).unwrap());
        assert_eq!(places.count(), 3);
        assert!(!places.wait_until_none(Duration::ZERO));
        held.clear();
        assert!(places.wait_until_none(Duration::ZERO));
        assert!(places.taken.lock().by_origin.is_empty(), "nothing is remembered of those that left");
    }
}
