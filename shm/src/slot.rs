//! Receive slots: what a write is about to do, kept where the death of the server cannot take it away.
//!
//! A writer takes a slot, puts the new bytes and their place into it, and only then makes a block odd that names the
//! slot. A server killed in the middle of the copy leaves such a block behind, and whoever comes next does the same
//! change again from the slot and makes the block even. Doing it twice does no harm, so dying in the middle of that
//! does none either.
//!
//! Only a block that is odd and names the slot is finished from it. A block that has become even was finished by its
//! writer, and may have been changed by others since: what a slot still says about it is old.
//!
//! Why the record is complete when a block is odd: a thread that is killed has executed its instructions up to some
//! point and none after it. So the order of the instructions is all that counts, as it is for a signal handler, and
//! compiler fences keep it: a record is never changed before the block that it was used for last is even, nor a block
//! made odd before the record is whole.
//!
//! Lock order: a slot is taken before the semaphore of any block, held until the last block of its write is even, and
//! nobody takes two.

use crate::copy;
use crate::layout::{BLOCK_BYTES, FLAG_TORN, REGISTER_BYTES, SLOT_BYTES_OF_PAGE, SLOT_FILL, SLOT_REGISTER};
use crate::map::Map;
use crate::mutant::{self, Mutant};
use crate::register;
use crate::semaphore::{self, Held};
use crate::span::Piece;
use crate::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use crate::sync::atomic::{compiler_fence, fence};
use crate::sync::thread_number;

/// Slots that are tried before a thread waits for its own.
const LOOKED_AT: u32 = 8;

/// A slot that the calling thread has to itself.
pub(crate) struct Slot<'a> {
    map: &'a Map,
    index: u32,
    held: Held<'a>,
}

impl<'a> Slot<'a> {
    /// Takes a slot: mostly the one that this thread had last.
    #[inline]
    pub(crate) fn take(map: &'a Map) -> Slot<'a> {
        let count = map.regions().slot_count;
        let first = thread_number() % count;
        for step in 0..LOOKED_AT.min(count) {
            let index = (first + step) % count;
            if let Some(held) = semaphore::try_take(&map.slot(index).sem) {
                return Slot { map, index, held };
            }
        }
        Slot { map, index: first, held: semaphore::take(&map.slot(first).sem) }
    }

    /// The block that the holder before may have left odd, if it died.
    #[inline]
    pub(crate) fn inherited_block(&self) -> Option<u64> {
        let block = self.map.slot(self.index).block.load(Relaxed);
        (self.held.is_inherited() && block < self.map.regions().blocks()).then_some(block)
    }

    /// What a block's `writer` says while this slot is used for it.
    #[inline]
    pub(crate) fn writer(&self) -> u32 {
        self.index + 1
    }

    /// Where the bytes of `piece` stand in the slot's page: at the same place as in their block, because the processor
    /// copies slowly between places that differ by a few bytes modulo a page.
    #[inline]
    pub(crate) fn place(&self, piece: &Piece) -> *mut u8 {
        // The page changes only after the block that it was used for last is even.
        compiler_fence(SeqCst);
        assert!(piece.within + piece.len_bytes <= BLOCK_BYTES, "{piece:?}");
        // SAFETY: the page has `BLOCK_BYTES`, and the place lies in it by the assertion.
        unsafe { self.map.slot_page(self.index).add(piece.within) }
    }

    /// Notes that `bytes` are to stand in `piece`.
    #[inline]
    pub(crate) fn note(&self, piece: &Piece, bytes: &[u8]) {
        assert_eq!(piece.len_bytes, bytes.len(), "bytes of a piece");
        // SAFETY: the place holds the piece's bytes, and the page is ours while we hold the slot; nobody else reads it
        // before we are dead.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.place(piece), bytes.len()) };
        self.describe(piece, SLOT_BYTES_OF_PAGE, 0);
    }

    /// Notes that the bytes that stand at [`Slot::place`] already are to stand in `piece`.
    #[inline]
    pub(crate) fn note_placed(&self, piece: &Piece) {
        self.describe(piece, SLOT_BYTES_OF_PAGE, 0);
    }

    /// Notes that all of `piece` is to be `byte`.
    #[inline]
    pub(crate) fn note_fill(&self, piece: &Piece, byte: u8) {
        self.describe(piece, SLOT_FILL, byte);
    }

    /// Notes that a whole block and what stands beside it are to be these.
    pub(crate) fn note_register(&self, piece: &Piece, page: &[u8; BLOCK_BYTES], register: &[u8; REGISTER_BYTES]) {
        // SAFETY: both places are ours while we hold the slot, as in `note`, and have the sizes of what goes there.
        unsafe {
            std::ptr::copy_nonoverlapping(page.as_ptr(), self.place(piece), BLOCK_BYTES);
            std::ptr::copy_nonoverlapping(register.as_ptr(), self.map.slot_register(self.index), REGISTER_BYTES);
        }
        self.describe(piece, SLOT_REGISTER, 0);
    }

    #[inline]
    fn describe(&self, piece: &Piece, kind: u32, byte: u8) {
        if mutant::active() == Mutant::NoRecord {
            return;
        }
        compiler_fence(SeqCst);
        let record = self.map.slot(self.index);
        record.kind.store(kind, Relaxed);
        record.block.store(piece.block, Relaxed);
        record.within.store(piece.within as u32, Relaxed);
        record.len_bytes.store(piece.len_bytes as u32, Relaxed);
        record.byte.store(u32::from(byte), Relaxed);
        compiler_fence(SeqCst);
    }
}

/// What has become of a block whose writer may have died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// Nobody was changing it.
    Whole,
    /// Its last change is done now.
    Repaired {
        /// Whether it was torn before, and is not any more.
        healed: bool,
    },
    /// There is no record of its last change: it is marked torn now.
    Torn,
}

/// Finishes the change that a dead writer left half done, as one of `epoch`. The caller holds the block's semaphore, or
/// has the segment to itself.
pub(crate) fn finish(map: &Map, block: u64, epoch: u64) -> Finished {
    let entry = map.entry(block);
    let seq = entry.seq.load(Relaxed);
    if seq.is_multiple_of(2) {
        return Finished::Whole;
    }
    // As in a change: whoever sees a byte of what follows also sees that `seq` is odd.
    fence(Release);
    let finished = match Record::of(map, block) {
        Some(record) => {
            record.apply(map);
            entry.change_epoch.store(epoch, Relaxed);
            let heals = record.piece.is_whole() && entry.flags.load(Relaxed) & FLAG_TORN != 0;
            if heals {
                entry.flags.fetch_and(!FLAG_TORN, Relaxed);
            }
            Finished::Repaired { healed: heals }
        }
        None => {
            entry.flags.fetch_or(FLAG_TORN, Relaxed);
            Finished::Torn
        }
    };
    // Last of all, so that dying before it leaves the block to be found again.
    entry.seq.store(seq.wrapping_add(1), Release);
    finished
}

/// Does again what every slot says, as a server does that does not ask whether its block is odd: a known mistake.
pub(crate) fn redo_all(map: &Map) {
    (0..map.regions().slot_count).filter_map(|slot| Record::in_slot(map, slot)).for_each(|record| record.apply(map));
}

/// What a slot says about a block that is odd, checked: the segment may have been damaged.
struct Record {
    piece: Piece,
    from: From,
}

enum From {
    Page { slot: u32 },
    Byte(u8),
    Register { slot: u32 },
}

impl Record {
    /// The record of the change that left `block` odd.
    fn of(map: &Map, block: u64) -> Option<Record> {
        let slot = map.entry(block).writer.load(Relaxed).checked_sub(1)?;
        Record::in_slot(map, slot).filter(|record| record.piece.block == block)
    }

    /// What a slot says, if it describes a change of this segment.
    fn in_slot(map: &Map, slot: u32) -> Option<Record> {
        if slot >= map.regions().slot_count {
            return None;
        }
        let record = map.slot(slot);
        let block = record.block.load(Relaxed);
        let (within, len_bytes) = (record.within.load(Relaxed) as usize, record.len_bytes.load(Relaxed) as usize);
        let fits = within < BLOCK_BYTES && (1..=BLOCK_BYTES - within).contains(&len_bytes);
        if block >= map.regions().blocks() || !fits {
            return None;
        }
        let from = match (record.kind.load(Relaxed), u8::try_from(record.byte.load(Relaxed))) {
            (SLOT_BYTES_OF_PAGE, _) => From::Page { slot },
            (SLOT_FILL, Ok(byte)) => From::Byte(byte),
            (SLOT_REGISTER, _) if map.regions().has_registers() && len_bytes == BLOCK_BYTES => From::Register { slot },
            _ => return None,
        };
        Some(Record { piece: Piece { block, within, len_bytes, skip_bytes: 0 }, from })
    }

    /// Makes the change, again or for the first time.
    fn apply(&self, map: &Map) {
        let Piece { block, within, len_bytes, .. } = self.piece;
        let mut page = [0; BLOCK_BYTES];
        let bytes = &mut page[..len_bytes];
        match self.from {
            // SAFETY: `of` has checked that the piece lies inside a page, and the slot's page is one.
            From::Page { slot } => unsafe {
                copy::from_shared(map.slot_page(slot).add(within), bytes.as_mut_ptr(), len_bytes);
            },
            From::Byte(byte) => bytes.fill(byte),
            From::Register { slot } => {
                let mut register = [0; REGISTER_BYTES];
                // SAFETY: the slot's page and register have these sizes.
                unsafe {
                    copy::from_shared(map.slot_page(slot), bytes.as_mut_ptr(), BLOCK_BYTES);
                    copy::from_shared(map.slot_register(slot), register.as_mut_ptr(), REGISTER_BYTES);
                }
                register::store(map, block, &register);
            }
        }
        // SAFETY: the piece lies inside its block, which is mapped and writable; `bytes` has its length.
        unsafe { copy::to_shared(bytes.as_ptr(), map.block(block).add(within), len_bytes) };
    }
}
