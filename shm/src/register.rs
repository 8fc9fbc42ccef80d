//! Replicated blocks: the ballots of each, and what came of its last operations, beside its contents.
//!
//! What the bytes mean is for the server; here they are kept as one with the contents: a server that is killed leaves
//! either all of the old or all of the new. A promise alone is one word.
//!
//! Lock order: as for any write. Whoever uses a block's register keeps others of the same process from it: ballots are
//! compared and set in several steps.

use std::sync::Arc;

use crate::copy;
use crate::layout::{BLOCK_BYTES, FLAG_FILLED, REGISTER_BYTES};
use crate::map::Map;
use crate::mutant;
use crate::segment::Segment;
use crate::span::Piece;
use crate::sync::atomic::Ordering::{Acquire, Release, SeqCst};

/// Which replicas of a segment vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The segment is new, and nobody has said yet what it is.
    Unknown,
    /// All of them: nothing was lost since the first vote.
    Whole,
    /// Those that have been filled since: the memory before this segment was lost.
    Filling,
}

impl Life {
    const WHOLE: u64 = 1;
    const FILLING: u64 = 2;
}

/// Whose copies a segment keeps where: what that follows from, as the server says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrangement {
    /// Servers whose parts make up the address space.
    pub n: u32,
    /// How far the adding of another one is.
    pub step: u32,
}

impl Arrangement {
    fn of_word(word: u64) -> Option<Arrangement> {
        let (n, step) = ((word >> 32) as u32, word as u32);
        (n > 0).then_some(Arrangement { n, step })
    }

    fn to_word(self) -> u64 {
        u64::from(self.n) << 32 | u64::from(self.step)
    }
}

impl Segment {
    /// Whose copies stand where, if that was said.
    pub fn arrangement(&self) -> Option<Arrangement> {
        Arrangement::of_word(self.header().arrangement.load(Acquire))
    }

    /// Says whose copies stand where.
    pub fn set_arrangement(&self, arrangement: Arrangement) {
        // Release: who finds it finds the copies as they were made for it.
        self.header().arrangement.store(arrangement.to_word(), Release);
    }

    /// Of how many servers the cluster is.
    pub fn servers(&self) -> u32 {
        self.header().n.load(Acquire)
    }

    /// Says of how many servers the cluster is: programs with another mcomp.cfg leave the segment alone.
    pub fn set_servers(&self, n: u32) {
        self.header().n.store(n, Release);
    }

    /// Whether the blocks are replicated.
    pub fn has_registers(&self) -> bool {
        self.map.regions().has_registers()
    }

    /// Which of its blocks vote.
    pub fn life(&self) -> Life {
        match self.header().life.load(Acquire) {
            Life::WHOLE => Life::Whole,
            Life::FILLING => Life::Filling,
            _ => Life::Unknown,
        }
    }

    /// Says which of its blocks vote from now on.
    pub fn set_life(&self, life: Life) {
        let word = match life {
            Life::Unknown => 0,
            Life::Whole => Life::WHOLE,
            Life::Filling => Life::FILLING,
        };
        self.header().life.store(word, Release);
    }

    /// The newest epoch of the replicas in which this memory has answered.
    pub fn replica_epoch(&self) -> u64 {
        self.header().replica_epoch.load(Acquire)
    }

    /// Notes it, before it answers.
    pub fn set_replica_epoch(&self, epoch: u64) {
        self.header().replica_epoch.fetch_max(epoch, SeqCst);
    }

    /// Whether a block was filled again since the memory was lost.
    #[inline]
    pub fn is_filled(&self, block: u64) -> bool {
        self.map.entry(block).flags.load(Acquire) & FLAG_FILLED != 0
    }

    /// Says that it was.
    pub fn set_filled(&self, block: u64) {
        self.map.entry(block).flags.fetch_or(FLAG_FILLED, Release);
    }

    /// Says that it was not: it does not vote.
    pub fn set_unfilled(&self, block: u64) {
        self.map.entry(block).flags.fetch_and(!FLAG_FILLED, Release);
    }

    /// The promised and the accepted ballot of a block.
    #[inline]
    pub fn ballots(&self, block: u64) -> (u64, u64) {
        let entry = self.map.entry(block);
        (entry.promised.load(Acquire), entry.accepted.load(Acquire))
    }

    /// Keeps a promise.
    #[inline]
    pub fn promise(&self, block: u64, ballot: u64) {
        self.map.entry(block).promised.store(ballot, Release);
    }

    /// The contents of a block, and what stands beside them.
    pub fn register(&self, block: u64) -> (Arc<[u8; BLOCK_BYTES]>, [u8; REGISTER_BYTES]) {
        let mut page = Arc::<[u8; BLOCK_BYTES]>::new_uninit();
        let room = Arc::get_mut(&mut page).expect("nobody else has it yet").as_mut_ptr();
        let mut register = [0; REGISTER_BYTES];
        let held = self.hold(block);
        // SAFETY: the block and its register are mapped and have these sizes, and nobody changes them while the block's
        // semaphore is held. The room has the size of a block, and all of it is written.
        let page = unsafe {
            copy::from_shared(self.map.block(block), room.cast(), BLOCK_BYTES);
            copy::from_shared(self.map.register(block), register.as_mut_ptr(), REGISTER_BYTES);
            page.assume_init()
        };
        let (promised, accepted) = self.ballots(block);
        drop(held);
        register[..8].copy_from_slice(&promised.to_le_bytes());
        register[8..16].copy_from_slice(&accepted.to_le_bytes());
        (page, register)
    }

    /// Replaces both. The first sixteen bytes of the register are its promised and its accepted ballot.
    pub fn set_register(&self, block: u64, page: &[u8; BLOCK_BYTES], register: &[u8; REGISTER_BYTES]) {
        let piece = Piece { block, within: 0, len_bytes: BLOCK_BYTES, skip_bytes: 0 };
        let slot = self.take_slot();
        slot.note_register(&piece, page, register);
        let held = self.hold(block);
        self.change(block, &held, &slot, true, || {
            store(&self.map, block, register);
            let (from, to) = (page.as_ptr(), self.map.block(block));
            // SAFETY: the block is mapped and writable, and `page` has its size.
            let done = mutant::pause_in_copy(BLOCK_BYTES, |half| unsafe { copy::to_shared(from, to, half) });
            // SAFETY: as above.
            unsafe { copy::to_shared(from.add(done), to.add(done), BLOCK_BYTES - done) };
        });
    }
}

/// Puts the register of a block where it belongs: the ballots into the table. The block is odd.
pub(crate) fn store(map: &Map, block: u64, register: &[u8; REGISTER_BYTES]) {
    let word = |at: usize| u64::from_le_bytes(register[at..at + 8].try_into().expect("eight bytes"));
    let entry = map.entry(block);
    entry.promised.store(word(0), Release);
    entry.accepted.store(word(8), Release);
    // SAFETY: the block's register is mapped and writable, and has this size.
    unsafe { copy::to_shared(register.as_ptr(), map.register(block), REGISTER_BYTES) };
}
