//! Where servers are that were moved since mcomp.cfg was written: the others know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcomp_wire::meta::{Found, MembersReport, Query};
use mcomp_wire::{Kind, control};

use crate::Cluster;
use crate::clock::now_ms;
use crate::pool::Pool;

/// How long one server is asked.
const PATIENCE: Duration = Duration::from_millis(250);
/// They are not asked again for so long.
const REST_MS: u64 = 1000;

/// When the servers may be asked again. Relaxed: one thread of many asks.
#[derive(Debug, Default)]
pub(crate) struct Asked(AtomicU64);

impl Asked {
    fn is_due(&self, now_ms: u64) -> bool {
        let next_ms = self.0.load(Ordering::Relaxed);
        now_ms >= next_ms
            && self.0.compare_exchange(next_ms, now_ms + REST_MS, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Cluster {
    /// A server does not answer where it should be: asks the others where it is, every now and then.
    pub(crate) fn miss(&self) {
        if self.replicas() > 1 && self.asked().is_due(now_ms()) {
            self.look_for_moved();
        }
    }

    /// Where a server is, as far as this client knows.
    ///
    /// # Panics
    /// If there is no such server.
    pub fn address(&self, server: u32) -> String {
        self.pool(server).address()
    }

    /// Asks the servers of a replicated cluster where they are, since some may have been moved. Whether any is elsewhere
    /// than this client thought. Calls that miss a server do so by themselves when that goes on.
    pub fn look_for_moved(&self) -> bool {
        let found = (0..self.space().n()).find_map(|server| members_of(self.pool(server)));
        let Some(members) = found else { return false };
        self.added().learn(&members);
        let moved =
            members.seats.iter().filter_map(|(server, seat)| Some((*server, seat.number, seat.address.as_deref()?)));
        moved.fold(false, |is_news, (server, seat, address)| {
            let pool = self.pool_of(server).ok().or_else(|| self.added().pool(server));
            pool.is_some_and(|pool| pool.move_to(seat, address)) || is_news
        })
    }
}

fn members_of(pool: &Pool) -> Option<MembersReport> {
    if !pool.standing().is_known_good() {
        return None;
    }
    let mut link = pool.dedicated_within(PATIENCE).ok()?;
    let body = control::encode(&Query::MembersHere);
    let found = link.control(Kind::Query, body, Instant::now() + PATIENCE);
    link.close();
    match found {
        Ok(Found::Members(report)) => Some(report),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_asked_once_in_a_while() {
        let asked = Asked::default();
        assert_eq!([7, 8, 7 + REST_MS - 1, 7 + REST_MS].map(|now| asked.is_due(now)), [true, false, false, true]);
    }
}
