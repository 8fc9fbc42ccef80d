//! The read-only side of a segment that is an array.

use std::io;
use std::sync::Arc;

use crate::copy;
use crate::layout::{BLOCK_BYTES, Header};
use crate::map::Map;
use crate::mutant::Mutant;

pub(crate) struct Reader {
    pub(crate) map: Arc<Map>,
    pub(crate) mutant: Mutant,
}

impl Reader {
    pub(crate) fn header(&self) -> &Header {
        self.map.header()
    }

    /// The kernel copies as anybody does: words in any order.
    pub(crate) fn pread_shadow(&self, block: u64, bytes: &mut [u8; BLOCK_BYTES]) -> io::Result<()> {
        // SAFETY: a shadow page has `BLOCK_BYTES`, and so have `bytes`.
        unsafe { copy::from_shared(self.map.shadow(block), bytes.as_mut_ptr(), BLOCK_BYTES) };
        Ok(())
    }
}
