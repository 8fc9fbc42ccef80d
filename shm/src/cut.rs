//! The server's side of a cut: from which write on the memory belongs to the new epoch.
//!
//! `prepare_shadow`, `switch`, `release`, later `end_cut`. From `switch` on, the first writer of each block keeps
//! the block in its shadow page before it changes it, so the memory at the instant of the switch can be read by a
//! process that holds nothing ([`crate::Reader::cut_block`]). What happens in between, and on the other servers, is
//! the server's business: this module keeps the words.

use crate::error::ShmError;
use crate::segment::Segment;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::sync::{CHANGE_LOOKS, yield_now};

/// The furthest that one message moves an epoch: more than a cut every millisecond needs in a month. So no message
/// uses the epochs up, after which there could be no cut and no restore.
const MOST_EPOCHS_AHEAD: u64 = 1 << 32;

/// Whether `epoch` may come after `current`.
pub(crate) fn follows(current: u64, epoch: u64) -> bool {
    epoch.checked_sub(current).is_some_and(|ahead| (1..=MOST_EPOCHS_AHEAD).contains(&ahead))
}

impl Segment {
    /// Makes the cut: writes that begin after this belong to `epoch`, and the answers of operations that touched
    /// it are to be held until [`Segment::release`]. A cut that is active is superseded.
    ///
    /// # Errors
    /// [`ShmError::EpochNotNewer`], [`ShmError::ShadowNotPrepared`]; nothing has changed then.
    pub fn switch(&self, epoch: u64) -> Result<(), ShmError> {
        let shadow = self.lock_shadow();
        let current = self.epoch();
        // The top bit is lost in the cut word, so an epoch that has it follows none.
        if !follows(current, epoch) || epoch > u64::MAX >> 1 {
            return Err(ShmError::EpochNotNewer { asked: epoch, current });
        }
        if !shadow.is_prepared {
            return Err(ShmError::ShadowNotPrepared { asked: epoch });
        }
        // Hold first: whoever has seen the new epoch, in the cut word or in a block, must find its answer held.
        self.header().hold.store(epoch, SeqCst);
        self.header().cut.store(epoch << 1 | 1, SeqCst);
        Ok(())
    }

    /// Ends the holding of answers for `epoch`; `false` when it is not being held, because it was released before
    /// or a newer cut holds.
    pub fn release(&self, epoch: u64) -> bool {
        epoch != 0 && self.header().hold.compare_exchange(epoch, 0, SeqCst, Relaxed).is_ok()
    }

    /// The epoch whose answers are being held, 0 for none. Ask after the operation: what it saw of the new epoch,
    /// it saw with the hold in force.
    #[inline]
    pub fn held(&self) -> u64 {
        self.header().hold.load(Acquire)
    }

    /// The epoch to which writes belong now.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.cut_word() >> 1
    }

    /// Whether a cut is active: its shadow pages are being kept.
    pub fn is_cutting(&self) -> bool {
        self.cut_word() & 1 == 1
    }

    /// The cut word of the header: epoch << 1 | active.
    #[inline]
    pub fn cut_word(&self) -> u64 {
        self.header().cut.load(SeqCst)
    }

    /// Ends the cut and gives the shadow area back; the epoch stays. A reader of the cut that is still at it finds
    /// itself superseded. Does nothing when no cut is active or prepared.
    pub fn end_cut(&self) -> Result<(), ShmError> {
        let mut shadow = self.lock_shadow();
        if !shadow.is_prepared {
            return Ok(());
        }
        self.header().cut.fetch_and(!1, SeqCst);
        self.await_writers();
        shadow.is_prepared = false;
        self.punch_shadow()
    }

    /// Waits until every change that is going on has ended. A writer that saw the cut active made its `seq` odd
    /// before it looked, so it is seen here; one that is not seen will see the cut ended.
    fn await_writers(&self) {
        for block in 0..self.blocks() {
            let entry = self.map.entry(block);
            let seq = entry.seq.load(SeqCst);
            let mut looks = 0;
            while seq % 2 == 1 && entry.seq.load(Acquire) == seq {
                looks += 1;
                if looks < CHANGE_LOOKS {
                    // The writer is a thread of this process that does nothing but copy a page: it needs a core.
                    yield_now();
                } else {
                    // It has the semaphore until its change is over. If it has vanished, this finishes its change.
                    drop(self.hold(block));
                }
            }
        }
    }
}
