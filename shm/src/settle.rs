//! What a take-over does with the words that the dead server left: its cut, its semaphores, its half-written blocks.

use crate::layout::{FLAG_TORN, Header};
use crate::map::Map;
use crate::mutant::{self, Mutant};
use crate::slot::{self, Finished};
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};

/// What a take-over found in the block table.
pub(crate) struct Settled {
    pub(crate) repaired: u64,
    pub(crate) torn: u64,
    pub(crate) newly_torn: u64,
}

/// Clears what the dead server's threads held, and finishes the blocks that they left half written.
///
/// The lock of the file proves that no other server lives, so every semaphore is free and every odd `seq` is the
/// trace of a death. The slots are cleared last: dying here leaves them to the next server.
pub(crate) fn settle_blocks(map: &Map, epoch: u64) -> Settled {
    let mut settled = Settled { repaired: 0, torn: 0, newly_torn: 0 };
    if mutant::active() == Mutant::RedoEven {
        slot::redo_all(map);
    }
    for block in 0..map.regions().blocks() {
        let entry = map.entry(block);
        entry.sem.store(0, Relaxed);
        match slot::finish(map, block, epoch) {
            Finished::Whole => {}
            Finished::Repaired { .. } => settled.repaired += 1,
            Finished::Torn => settled.newly_torn += 1,
        }
        settled.torn += u64::from(entry.flags.load(Relaxed) & FLAG_TORN != 0);
    }
    (0..map.regions().slot_count).for_each(|slot| map.slot(slot).sem.store(0, Relaxed));
    settled
}

/// A cut does not outlive its server: the epoch moves, so that its reader finds itself superseded. The epoch after it.
pub(crate) fn end_old_cut(header: &Header) -> u64 {
    let cut = header.cut.load(Relaxed);
    if cut & 1 == 1 {
        header.cut.store(((cut >> 1) + 1) << 1, SeqCst);
    }
    header.hold.store(0, SeqCst);
    header.cut.load(Relaxed) >> 1
}
