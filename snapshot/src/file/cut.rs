//! Where one chunk ends and the next begins.
//!
//! A chunk starts and ends at a block that must be recorded. Between them it bridges gaps of fewer
//! than [`GAP_BLOCKS`] blocks that need not be, because sixteen needless blocks compress to less
//! than they would cost in table entries and reads; and it is never longer than
//! [`MAX_CHUNK_BLOCKS`]. Two chunks that are not full are therefore at least 17 blocks apart from
//! start to start, and the table, 32 bytes a chunk, stays under 1/1000 of the memory.
//!
//! Pure: block numbers in, ranges out. In a full snapshot a block must be recorded when it is not
//! zero, in an incremental one when it changed. The caller copies the bridged blocks too: their
//! contents belong to the same cut and are as right as the others.

/// A gap of this many blocks ends a chunk.
pub const GAP_BLOCKS: u64 = 16;

/// The most blocks in one chunk: 1 MiB.
pub const MAX_CHUNK_BLOCKS: u64 = 256;

/// A run of blocks that becomes one chunk.
///
/// - `blocks` is at least 1 and at most [`MAX_CHUNK_BLOCKS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRange {
    /// The number of the first block.
    pub first: u64,
    /// How many blocks.
    pub blocks: u64,
}

/// Cuts an ascending stream of blocks into chunks.
///
/// A caller that copies blocks as it goes needs room for [`MAX_CHUNK_BLOCKS`] blocks and no more:
/// a range is handed out as soon as nothing that follows can extend it.
#[derive(Debug, Default)]
pub struct Cutter {
    /// The first and the last block of the open chunk that must be recorded.
    open: Option<(u64, u64)>,
    /// The lowest block that may come next.
    next: u64,
}

impl Cutter {
    /// A cutter that has seen nothing.
    pub fn new() -> Cutter {
        Cutter::default()
    }

    /// The first block of the chunk that is being gathered, if any.
    pub fn open_at(&self) -> Option<u64> {
        self.open.map(|(first, _)| first)
    }

    /// Takes the next block; `wanted` says that it must be recorded. Blocks come in ascending order,
    /// and one that is skipped counts as not wanted. Returns the chunk that this block completes.
    ///
    /// # Panics
    ///
    /// When blocks do not ascend: that is a bug of the caller.
    pub fn push(&mut self, block: u64, wanted: bool) -> Option<BlockRange> {
        assert!(block >= self.next, "block {block} came after block {}", self.next.saturating_sub(1));
        self.next = block.saturating_add(1);
        let done = self.close_before(block, wanted);
        if wanted {
            let first = self.open.map_or(block, |(first, _)| first);
            self.open = Some((first, block));
        }
        // Never both: a chunk closed before this block leaves at most this block open.
        done.or_else(|| self.close_when_full(block))
    }

    /// The chunk that is still open when the stream ends.
    pub fn finish(mut self) -> Option<BlockRange> {
        self.close()
    }

    fn close_before(&mut self, block: u64, wanted: bool) -> Option<BlockRange> {
        let (first, last) = self.open?;
        let gap = block - last - u64::from(wanted);
        if gap >= GAP_BLOCKS || block - first >= MAX_CHUNK_BLOCKS { self.close() } else { None }
    }

    fn close_when_full(&mut self, block: u64) -> Option<BlockRange> {
        let (first, _) = self.open?;
        if block - first + 1 >= MAX_CHUNK_BLOCKS { self.close() } else { None }
    }

    fn close(&mut self) -> Option<BlockRange> {
        self.open.take().map(|(first, last)| BlockRange { first, blocks: last - first + 1 })
    }
}

/// The chunks of a memory, given the ascending numbers of the blocks that must be recorded.
///
/// The iterator panics when the numbers do not ascend, as [`Cutter::push`] does.
pub fn cut_runs(wanted: impl IntoIterator<Item = u64>) -> impl Iterator<Item = BlockRange> {
    let mut blocks = wanted.into_iter();
    let mut cutter = Some(Cutter::new());
    std::iter::from_fn(move || {
        for block in blocks.by_ref() {
            if let Some(range) = cutter.as_mut()?.push(block, true) {
                return Some(range);
            }
        }
        cutter.take()?.finish()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(wanted: &[u64]) -> Vec<(u64, u64)> {
        cut_runs(wanted.iter().copied()).map(|r| (r.first, r.blocks)).collect()
    }

    #[test]
    fn a_gap_of_fifteen_is_bridged_and_one_of_sixteen_is_not() {
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[7]), [(7, 1)]);
        assert_eq!(ranges(&[0, 16]), [(0, 17)]);
        assert_eq!(ranges(&[0, 17]), [(0, 1), (17, 1)]);
    }

    #[test]
    fn a_chunk_is_never_longer_than_256_blocks() {
        let all: Vec<u64> = (3..600).collect();
        assert_eq!(ranges(&all), [(3, 256), (259, 256), (515, 85)]);
        // The bridge may not carry the chunk past its limit: it ends at the last wanted block.
        let mut sparse: Vec<u64> = (0..=250).collect();
        sparse.push(256);
        assert_eq!(ranges(&sparse), [(0, 251), (256, 1)]);
    }

    #[test]
    fn unwanted_blocks_close_a_chunk_as_soon_as_nothing_can_extend_it() {
        let mut cutter = Cutter::new();
        assert_eq!(cutter.push(0, true), None);
        for block in 1..16 {
            assert_eq!(cutter.push(block, false), None);
        }
        assert_eq!(cutter.push(16, false), Some(BlockRange { first: 0, blocks: 1 }));
        assert_eq!(cutter.finish(), None);
    }

    proptest! {
        #[test]
        fn ranges_cover_what_is_wanted_and_keep_the_rules(flags in proptest::collection::vec(prop::bool::weighted(0.15), 0..2000)) {
            let mut cutter = Cutter::new();
            let mut found = Vec::new();
            for (block, wanted) in flags.iter().enumerate() {
                found.extend(cutter.push(block as u64, *wanted));
                if let Some(first) = cutter.open_at() {
                    prop_assert!(block as u64 - first < MAX_CHUNK_BLOCKS);
                }
            }
            found.extend(cutter.finish());

            let wanted: Vec<u64> = (0..flags.len()).filter(|b| flags[*b]).map(|b| b as u64).collect();
            prop_assert_eq!(&found, &cut_runs(wanted.iter().copied()).collect::<Vec<_>>());
            for range in &found {
                let end = range.first + range.blocks;
                prop_assert!(range.blocks >= 1 && range.blocks <= MAX_CHUNK_BLOCKS);
                prop_assert!(flags[range.first as usize] && flags[end as usize - 1]);
            }
            for pair in found.windows(2) {
                prop_assert!(pair[0].first + pair[0].blocks <= pair[1].first);
            }
            for block in wanted {
                prop_assert!(found.iter().any(|r| r.first <= block && block < r.first + r.blocks));
            }
        }
    }
}
