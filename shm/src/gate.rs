//! The gate of a restore and the config epoch, from the server's side: who may see the memory now.
//!
//! A restore closes the gate, writes, raises the config epoch and opens the gate, in this order; a client of the same
//! machine asks for both after it has read (`client_read`).

use crate::cut::follows;
use crate::layout::{GATE_OPEN, GATE_RESTORING};
use crate::segment::Segment;
use crate::sync::atomic::Ordering::{Acquire, SeqCst};

impl Segment {
    /// The config epoch that clients must speak of.
    #[inline]
    pub fn config_epoch(&self) -> u64 {
        self.header().config_epoch.load(Acquire)
    }

    /// Moves the config epoch forward; `false`, and nothing done, when it is that far already, or when `epoch` is
    /// absurdly far ahead.
    pub fn raise_config_epoch(&self, epoch: u64) -> bool {
        let raise = |current| follows(current, epoch).then_some(epoch);
        self.header().config_epoch.fetch_update(SeqCst, SeqCst, raise).is_ok()
    }

    /// Whether a restore has begun and not ended. It outlives the server, so that half restored memory is never
    /// served as if it were whole.
    ///
    /// Sequentially consistent, as [`Segment::set_restoring`] is: a thread that announces its operation before it
    /// asks here is either seen by the one who closes the gate, or sees the gate closed.
    #[inline]
    pub fn is_restoring(&self) -> bool {
        self.header().gate.load(SeqCst) != GATE_OPEN
    }

    /// Says that a restore begins (`true`) or has ended.
    pub fn set_restoring(&self, restoring: bool) {
        self.header().gate.store(if restoring { GATE_RESTORING } else { GATE_OPEN }, SeqCst);
    }
}
