//! What the allocator can tell about itself: how full it is, and how torn.

use super::Allocator;
use super::class::PAGE_BYTES;

/// How full the address space is, and how torn what is free.
///
/// Internal waste, which is capacity that was not asked for, is not here: only who asked knows the sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of the address space: what is taken and what is free.
    pub space_bytes: u64,
    /// Bytes that are handed out.
    pub taken_bytes: u64,
    /// Bytes that are not.
    pub free_bytes: u64,
    /// Those of the free bytes that lie in pages of small runs, where only runs of the same class fit.
    pub slab_spare_bytes: u64,
    /// Bytes of the longest run of free pages.
    pub largest_free_run: u64,
    /// Runs of free pages: 1 when all that is free is in one piece.
    pub free_runs: u64,
    /// The same by server.
    pub servers: Vec<ServerStats>,
}

/// How full the memory of one server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerStats {
    /// Bytes that are handed out, its part of runs over several servers with them.
    pub taken_bytes: u64,
    /// Bytes that are not.
    pub free_bytes: u64,
    /// Bytes of the longest run of free pages that lies inside it.
    pub largest_free_run: u64,
}

impl Allocator {
    /// How full the address space is, and how torn. Costs the logarithm of the space for each server.
    pub fn stats(&self) -> Stats {
        let servers: Vec<ServerStats> = (0..self.servers.count()).map(|server| self.server_stats(server)).collect();
        let free_bytes = self.space_bytes - self.taken_bytes;
        Stats {
            space_bytes: self.space_bytes,
            taken_bytes: self.taken_bytes,
            free_bytes,
            slab_spare_bytes: free_bytes - self.free_pages * PAGE_BYTES,
            largest_free_run: self.largest_free_run(),
            free_runs: self.free_runs,
            servers,
        }
    }

    /// Bytes of the longest run of free pages.
    pub fn largest_free_run(&self) -> u64 {
        self.pages.longest() * PAGE_BYTES
    }

    fn server_stats(&self, server: usize) -> ServerStats {
        let pages = self.servers.pages_of(server);
        let taken_bytes = self.servers.taken_bytes(server);
        ServerStats {
            taken_bytes,
            free_bytes: (pages.end - pages.start) * PAGE_BYTES - taken_bytes,
            largest_free_run: self.pages.longest_in(&pages) * PAGE_BYTES,
        }
    }
}
