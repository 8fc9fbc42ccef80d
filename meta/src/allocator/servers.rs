//! What is handed out at each server, and which of them has most left.
//!
//! Sums over what the allocator takes and gives back, and a tournament: each inner place holds the winner of the two
//! below it, so the server with most free bytes is known at once and a change costs the logarithm of their number.

use std::ops::Range;

/// Taken bytes by server.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    pages_each: u64,
    taken_bytes: Vec<u64>,
    /// Places 1.. are the matches, the root first; leaves are not stored. Empty for one server.
    winners: Vec<u32>,
}

impl Servers {
    /// `n` servers of `pages_each` pages, of which nothing is handed out.
    pub(super) fn new(pages_each: u64, n: u32) -> Servers {
        // The first server below each place: all are alike, and the lower address wins.
        let leaves = n.next_power_of_two();
        let first = |place: u32| (place << (leaves.ilog2() - place.ilog2())) & (leaves - 1);
        let winners = if n > 1 { (0..leaves).map(|place| first(place.max(1))).collect() } else { Vec::new() };
        Servers { pages_each, taken_bytes: vec![0; n as usize], winners }
    }

    pub(super) fn count(&self) -> usize {
        self.taken_bytes.len()
    }

    /// The pages of one server.
    pub(super) fn pages_of(&self, server: usize) -> Range<u64> {
        let first = server as u64 * self.pages_each;
        first..first + self.pages_each
    }

    pub(super) fn taken_bytes(&self, server: usize) -> u64 {
        self.taken_bytes[server]
    }

    /// The server with most bytes that are not handed out; the lowest of equals.
    pub(super) fn freest(&self) -> usize {
        self.winners.get(1).map_or(0, |&server| server as usize)
    }

    /// These pages are handed out, `page_bytes` of each.
    pub(super) fn hand_out(&mut self, pages: Range<u64>, page_bytes: u64) {
        for (server, count) in split(self.pages_each, self.count(), pages) {
            self.taken_bytes[server] += count * page_bytes;
            self.replay(server);
        }
    }

    /// These pages came back, `page_bytes` of each.
    pub(super) fn take_back(&mut self, pages: Range<u64>, page_bytes: u64) {
        for (server, count) in split(self.pages_each, self.count(), pages) {
            self.taken_bytes[server] -= count * page_bytes;
            self.replay(server);
        }
    }

    /// Plays the matches of one server again, from the lowest to the root.
    fn replay(&mut self, server: usize) {
        let leaves = self.winners.len();
        let mut place = (leaves + server) / 2;
        while place >= 1 && leaves > 0 {
            let (left, right) = (self.entrant(2 * place), self.entrant(2 * place + 1));
            self.winners[place] = if self.beats(right, left) { right } else { left };
            place /= 2;
        }
    }

    fn entrant(&self, place: usize) -> u32 {
        let leaves = self.winners.len();
        if place < leaves { self.winners[place] } else { (place - leaves) as u32 }
    }

    /// Whether the server of a higher address has more left. Leaves beyond the last server never win.
    fn beats(&self, right: u32, left: u32) -> bool {
        self.taken_bytes.get(right as usize).is_some_and(|&taken| taken < self.taken_bytes[left as usize])
    }
}

/// How many of `pages` each server holds.
fn split(pages_each: u64, servers: usize, pages: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let server = if servers == 1 { 0 } else { pages.start / pages_each };
    let mut next = (server, pages.start);
    std::iter::from_fn(move || {
        let (server, from) = next;
        let to = pages.end.min((server + 1) * pages_each);
        next = (server + 1, to);
        (from < to).then(|| (server as usize, to - from))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freest_server_is_the_one_a_scan_finds() {
        for n in 1..=9 {
            let mut servers = Servers::new(8, n);
            let mut random = fastrand::Rng::with_seed(u64::from(n));
            for _ in 0..200 {
                let scan = (0..n as usize).min_by_key(|&server| (servers.taken_bytes(server), server));
                assert_eq!(Some(servers.freest()), scan, "{servers:?}");
                let page = random.u64(0..8 * u64::from(n));
                servers.hand_out(page..page + 1, random.u64(1..=4096));
            }
        }
    }

    #[test]
    fn a_run_over_several_servers_counts_at_each() {
        let mut servers = Servers::new(10, 4);
        servers.hand_out(5..31, 2);
        assert_eq!((0..4).map(|server| servers.taken_bytes(server)).collect::<Vec<_>>(), [10, 20, 20, 2]);
        servers.take_back(5..31, 2);
        assert!((0..4).all(|server| servers.taken_bytes(server) == 0), "{servers:?}");
    }
}
