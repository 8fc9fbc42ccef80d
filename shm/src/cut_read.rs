//! The reads of a cut: each block as it was at the instant of the switch, while writers go on.

use std::time::Instant;

use crate::copy;
use crate::error::{CutError, Torn};
use crate::layout::{BLOCK_BYTES, FLAG_TORN, SHADOW_OF_TORN, State};
use crate::mutant::Mutant;
use crate::reader::Reader;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::sync::atomic::fence;
use crate::sync::{CUT_SPINS, spin_loop, yield_now};

/// What is known of a block of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockMeta {
    /// Epoch of the block's last modification before the cut; 0 when it was never written. A block has changed
    /// since the cut of epoch P when this is at least P.
    pub change_epoch: u64,
}

impl Reader {
    /// Copies a block as it was at the instant of the cut of `epoch`, while writers go on.
    ///
    /// # Errors
    /// [`CutError`]: the snapshot fails. `deadline` bounds the wait for a writer that stopped half-way through a
    /// change, which only a frozen or dead server does.
    ///
    /// # Panics
    /// When the segment has no such block.
    pub fn cut_block(
        &self,
        block: u64,
        epoch: u64,
        bytes: &mut [u8; BLOCK_BYTES],
        deadline: Instant,
    ) -> Result<BlockMeta, CutError> {
        let change_epoch = self.cut_with(block, epoch, Some(bytes), deadline)?;
        Ok(BlockMeta { change_epoch })
    }

    /// The change epoch that a block had at the instant of the cut of `epoch`, without its bytes: an incremental
    /// snapshot asks it first, and copies only blocks where it is at least the epoch of the parent's cut.
    ///
    /// # Errors
    /// As [`Reader::cut_block`].
    ///
    /// # Panics
    /// When the segment has no such block.
    pub fn cut_change(&self, block: u64, epoch: u64, deadline: Instant) -> Result<u64, CutError> {
        self.cut_with(block, epoch, None, deadline)
    }

    fn cut_with(
        &self,
        block: u64,
        epoch: u64,
        mut bytes: Option<&mut [u8; BLOCK_BYTES]>,
        deadline: Instant,
    ) -> Result<u64, CutError> {
        let mut tries = 0;
        loop {
            if let Some(change_epoch) = self.cut_attempt(block, epoch, bytes.as_deref_mut())? {
                return Ok(change_epoch);
            }
            tries += 1;
            if tries < CUT_SPINS {
                spin_loop();
            } else if Instant::now() < deadline {
                yield_now();
            } else {
                return Err(CutError::Contended { block });
            }
        }
    }

    /// Tries once; `None` means that a writer was at it.
    ///
    /// `seq` is read before the shadow word. The other way round, a whole write could fit between the two: the
    /// shadow word would say "not kept", and the live block, already changed, would pass for the old one.
    pub(crate) fn cut_attempt(
        &self,
        block: u64,
        epoch: u64,
        bytes: Option<&mut [u8; BLOCK_BYTES]>,
    ) -> Result<Option<u64>, CutError> {
        let entry = self.map.entry(block);
        let seq = entry.seq.load(Relaxed);
        fence(Acquire);
        self.check_cut(epoch)?;
        // The other half of the writer's pair: a writer that missed this cut has made `seq` odd before it, so
        // after this fence either the shadow word or the second look at `seq` shows that writer.
        fence(SeqCst);
        let shadow_epoch = entry.shadow_epoch.load(Relaxed);
        fence(Acquire);
        let change_epoch = if shadow_epoch == epoch && self.mutant != Mutant::NaiveCopy {
            self.read_shadow(block, bytes)?;
            entry.shadow_change.load(Relaxed)
        } else {
            match self.read_live(block, seq, bytes) {
                Some(change_epoch) => change_epoch,
                None => return Ok(None),
            }
        };
        // What was read counts only if the cut still stood when the reading had ended.
        fence(Acquire);
        self.check_cut(epoch)?;
        if change_epoch == SHADOW_OF_TORN { Err(Torn { block }.into()) } else { Ok(Some(change_epoch)) }
    }

    /// Reads a block that nobody has changed since the cut; `None` when its `seq` is odd or not `seq` any more.
    fn read_live(&self, block: u64, seq: u64, bytes: Option<&mut [u8; BLOCK_BYTES]>) -> Option<u64> {
        if seq % 2 == 1 {
            return None;
        }
        let entry = self.map.entry(block);
        if let Some(bytes) = bytes {
            // SAFETY: the block is mapped, and both are one block long.
            unsafe { copy::from_shared(self.map.block(block), bytes.as_mut_ptr(), BLOCK_BYTES) };
        }
        let change_epoch = entry.change_epoch.load(Relaxed);
        let flags = entry.flags.load(Relaxed);
        fence(Acquire);
        if entry.seq.load(Relaxed) != seq {
            return None;
        }
        Some(if flags & FLAG_TORN == 0 { change_epoch } else { SHADOW_OF_TORN })
    }

    fn read_shadow(&self, block: u64, bytes: Option<&mut [u8; BLOCK_BYTES]>) -> Result<(), CutError> {
        let Some(bytes) = bytes else { return Ok(()) };
        self.pread_shadow(block, bytes).map_err(|source| CutError::Shadow { block, source })
    }

    /// Whether the cut of `epoch` is still the active one.
    fn check_cut(&self, epoch: u64) -> Result<(), CutError> {
        if !matches!(self.state(), State::Serving | State::Clean) {
            return Err(CutError::Retired);
        }
        let word = self.cut_word();
        if word == epoch << 1 | 1 {
            return Ok(());
        }
        Err(CutError::Superseded { asked: epoch, current: word >> 1, active: word & 1 == 1 })
    }

    /// The cut word: epoch << 1 | active.
    pub fn cut_word(&self) -> u64 {
        let word = self.header().cut.load(Relaxed);
        fence(Acquire);
        word
    }
}
