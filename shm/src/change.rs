//! Changing blocks: the semaphore, the sequence number, the shadow page, and what a death leaves behind.
//!
//! A writer has put its change into a receive slot (`slot`). It takes the block's semaphore, names its slot, makes
//! `seq` odd, keeps the shadow page if a cut asks for it, changes the bytes, makes `seq` even, and releases.
//!
//! | order | why |
//! |---|---|
//! | writer word and slot before the odd `seq` (compiler order) | whoever finds the block odd after a death finds the record of its change |
//! | SeqCst swap of `seq`, then SeqCst load of `cut` | either the writer sees the new cut, or whoever made it sees the odd `seq`; both accesses of both sides are SeqCst, or each could miss the other |
//! | release fence after them | whoever sees a byte of the change, or of the shadow page, also sees the odd `seq` and the cut word behind it |
//! | release store of the even `seq` | whoever sees it sees the whole change |
//!
//! Between odd and even nothing can panic, wait or call out: a block left odd is unreadable until its next writer
//! has found out about it.

use crate::copy;
use crate::error::Torn;
use crate::layout::{BLOCK_BYTES, Entry, FLAG_TORN, SHADOW_OF_TORN};
use crate::mutant::{self, Mutant};
use crate::segment::Segment;
use crate::semaphore::{self, Held};
use crate::slot::{self, Finished, Slot};
use crate::span::Piece;
use crate::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use crate::sync::atomic::{compiler_fence, fence};

impl Segment {
    /// Takes a receive slot. A block that its holder before left odd when it died is finished first.
    #[inline]
    pub(crate) fn take_slot(&self) -> Slot<'_> {
        let slot = Slot::take(&self.map);
        if let Some(block) = slot.inherited_block() {
            // Taking the semaphore finds the same death there, and finishes the block.
            drop(self.hold(block));
        }
        slot
    }

    /// Makes the change that `slot` has noted for `piece`. `from` is where the new bytes stand.
    ///
    /// # Safety
    /// `from` is readable for the piece's length, and nobody changes it.
    #[inline]
    pub(crate) unsafe fn write_piece(&self, slot: &Slot<'_>, piece: Piece, from: *const u8) -> Result<(), Torn> {
        let held = self.hold(piece.block);
        if !piece.is_whole() {
            self.refuse_torn_block(piece.block)?;
        }
        // SAFETY: the piece lies inside its block by its invariant.
        let to = unsafe { self.map.block(piece.block).add(piece.within) };
        self.change(piece.block, &held, slot, piece.is_whole(), || {
            let done = mutant::pause_in_copy(piece.len_bytes, |half| {
                // SAFETY: `half` is at most the piece's length; as below.
                unsafe { copy::to_shared(from, to, half) }
            });
            // SAFETY: the piece lies inside its block, which is mapped and writable; the caller vouches for `from`.
            unsafe { copy::to_shared(from.add(done), to.add(done), piece.len_bytes - done) };
        });
        Ok(())
    }

    /// Takes the block's semaphore, and finishes what a holder that died left half done.
    #[inline]
    pub(crate) fn hold(&self, block: u64) -> Held<'_> {
        let held = semaphore::take(&self.map.entry(block).sem);
        if held.is_inherited() {
            self.finish_for_the_dead(block);
        }
        held
    }

    /// Takes the block's semaphore, unless the block is torn.
    #[inline]
    pub(crate) fn hold_whole(&self, block: u64) -> Result<Held<'_>, Torn> {
        let held = self.hold(block);
        self.refuse_torn_block(block)?;
        Ok(held)
    }

    /// Changes a block whose semaphore is held, as `slot` has noted it, by `store`, which must neither panic nor wait.
    #[inline]
    pub(crate) fn change(&self, block: u64, _held: &Held<'_>, slot: &Slot<'_>, heals: bool, store: impl FnOnce()) {
        let entry = self.map.entry(block);
        let seq = entry.seq.load(Relaxed);
        debug_assert_eq!(seq % 2, 0, "seq of block {block} while its semaphore was free");
        entry.writer.store(slot.writer(), Relaxed);
        entry.seq.swap(seq.wrapping_add(1), SeqCst);
        let cut = self.header().cut.load(SeqCst);
        fence(Release);
        let epoch = cut >> 1;
        if cut & 1 == 1 && entry.shadow_epoch.load(Relaxed) < epoch && self.mutant != Mutant::NaiveCopy {
            self.keep_shadow(block, entry, epoch);
        }
        entry.change_epoch.store(epoch, Relaxed);
        if heals && entry.flags.load(Relaxed) & FLAG_TORN != 0 {
            entry.flags.fetch_and(!FLAG_TORN, Relaxed);
            self.torn.fetch_sub(1, Relaxed);
        }
        store();
        entry.seq.store(seq.wrapping_add(2), Release);
    }

    /// Keeps the block as it is for the cut of `epoch`, before its first change after that cut.
    #[cold]
    fn keep_shadow(&self, block: u64, entry: &Entry, epoch: u64) {
        let is_torn = entry.flags.load(Relaxed) & FLAG_TORN != 0;
        let change = if is_torn { SHADOW_OF_TORN } else { entry.change_epoch.load(Relaxed) };
        // SAFETY: block and shadow page are mapped, disjoint, page-aligned and one page each. The shadow page is
        // allocated: a cut is active only while the area is prepared, and `end_cut` gives it back only after this
        // block's `seq`, now odd, has moved on.
        unsafe { copy::between_shared(self.map.block(block), self.map.shadow(block), BLOCK_BYTES) };
        entry.shadow_change.store(change, Relaxed);
        entry.shadow_epoch.store(epoch, Release);
        // Whoever finishes the block after our death must not find it changed and without its shadow page.
        compiler_fence(SeqCst);
    }

    /// A thread of this server vanished in the middle of a change: its block is finished.
    ///
    /// A cut for which it has not kept the shadow page loses the block. The thread may have seen that cut, and then the
    /// block is untouched; or it began before the switch, and then half of the block may be new already. Nothing tells
    /// which, and a page that may be a mix must not pass for the block at the switch.
    #[cold]
    fn finish_for_the_dead(&self, block: u64) {
        let (entry, cut) = (self.map.entry(block), self.cut_word());
        let epoch = cut >> 1;
        let is_odd = entry.seq.load(Relaxed) % 2 == 1;
        if is_odd && cut & 1 == 1 && entry.shadow_epoch.load(Relaxed) < epoch {
            entry.shadow_change.store(SHADOW_OF_TORN, Relaxed);
            entry.shadow_epoch.store(epoch, Release);
        }
        match slot::finish(&self.map, block, epoch) {
            Finished::Whole => {}
            Finished::Repaired { healed } => {
                self.repaired.fetch_add(1, Relaxed);
                self.torn.fetch_sub(u64::from(healed), Relaxed);
            }
            Finished::Torn => {
                self.torn.fetch_add(1, Relaxed);
            }
        }
    }

    /// Refuses a torn block. The mark of a block is cleared only under its semaphore.
    #[inline]
    pub(crate) fn refuse_torn_block(&self, block: u64) -> Result<(), Torn> {
        let is_torn = self.map.entry(block).flags.load(Relaxed) & FLAG_TORN != 0;
        if is_torn { Err(Torn { block }) } else { Ok(()) }
    }
}
