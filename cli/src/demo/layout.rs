//! Where everything of the demo lies in its memory. Numbers only.
//!
//! ```text
//! 0       64 KiB                                                3k - 64 KiB    3k
//! | counters | the file, over all three servers | nothing yet      | counters |
//! ```

/// Servers at first, and after the restore.
pub(super) const SERVERS_BEFORE: u32 = 3;
pub(super) const SERVERS_AFTER: u32 = 2;

/// How many counters a writer increments, one after the other.
pub(super) const COUNTERS: usize = 4;

const BLOCK_BYTES: u64 = 4096;
/// Room for counters at either end of the memory.
const ROOM_BYTES: u64 = 64 << 10;
const K_MIN_BYTES: u64 = 1 << 20;

/// Where everything lies.
///
/// - The file and the counters lie apart from each other and inside the memory.
/// - Consecutive counters lie on different servers.
/// - `k_after_bytes` is larger than `k_bytes`, and two of it hold all that three of `k_bytes` do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// What each of three servers lends.
    pub(super) k_bytes: u64,
    /// What each of two servers lends later.
    pub(super) k_after_bytes: u64,
    /// The first byte of the file.
    pub(super) file_addr: u64,
    /// The size of the file.
    pub(super) file_bytes: u64,
    /// The counters, in the order in which a writer increments them.
    pub(super) counters: [u64; COUNTERS],
}

impl Layout {
    /// The layout for a file of this size, which fills about 2.4 servers.
    pub(super) fn of(file_bytes: u64) -> Layout {
        let k_bytes = (file_bytes * 5).div_ceil(12).next_multiple_of(BLOCK_BYTES).max(K_MIN_BYTES);
        let end = u64::from(SERVERS_BEFORE) * k_bytes;
        Layout {
            k_bytes,
            k_after_bytes: end.div_ceil(u64::from(SERVERS_AFTER)).next_multiple_of(BLOCK_BYTES),
            file_addr: ROOM_BYTES,
            file_bytes,
            counters: [0, end - ROOM_BYTES, BLOCK_BYTES, end - BLOCK_BYTES],
        }
    }

    /// The bytes of the file that each of the first servers holds.
    pub(super) fn shares(&self) -> impl Iterator<Item = (u32, u64)> {
        let (start, end) = (self.file_addr, self.file_addr + self.file_bytes);
        (0..SERVERS_BEFORE).map(move |id| {
            let first = u64::from(id) * self.k_bytes;
            let last = first + self.k_bytes;
            (id, end.min(last).saturating_sub(start.max(first)))
        })
    }

    /// What /dev/shm has to give: three segments, each with k bytes of memory, as many for a
    /// snapshot's shadow pages, and the block table (64 bytes a block) with some pages around it.
    pub(super) fn shared_memory_bytes(&self) -> u64 {
        let segment = 2 * self.k_bytes + self.k_bytes / 64 + (1 << 20);
        u64::from(SERVERS_BEFORE) * segment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_invariants_hold_for_any_file() {
        for file_bytes in [0, 1, 4095, 600 << 10, 2_500_000, 3 << 20, 15_728_641, 200 << 20] {
            let layout = Layout::of(file_bytes);
            let Layout { k_bytes, k_after_bytes, file_addr, counters, .. } = layout;
            let end = 3 * k_bytes;
            assert!(counters[0] < counters[2] && counters[2] + 8 <= file_addr, "{layout:?}");
            assert!(file_addr + file_bytes <= counters[1] && counters[1] < counters[3], "{layout:?}");
            assert!(counters[3] + 8 <= end && counters[1] >= k_after_bytes, "{layout:?}");
            assert!(k_after_bytes > k_bytes && 2 * k_after_bytes >= end, "{layout:?}");
            assert_eq!(layout.shares().map(|(_, bytes)| bytes).sum::<u64>(), file_bytes, "{layout:?}");
        }
    }

    #[test]
    fn a_real_program_is_larger_than_two_servers() {
        assert!(Layout::of(15 << 20).shares().all(|(_, bytes)| bytes > 0));
    }
}
