//! The server's side of a segment: what it is, who it is, and how its life ends.
//!
//! How it begins is in `open`, the operations on blocks are in `block`, and the cut is in `cut`. A `Segment` may be
//! used from any number of threads at once. Dropping it closes it and keeps the file with all data, as a kill
//! would: the next server takes it over.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use crate::error::ShmError;
use crate::layout::{BLOCK_BYTES, Header, State};
use crate::map::Map;
use crate::mutant::{self, Mutant};
use crate::object::Object;
use crate::shadow::Shadow;
use crate::span::{Span, Word8, Word16};

/// A segment that this process serves.
///
/// * It holds the lock of the file, so no other server has the segment open.
/// * The map is writable, and everything but the shadow area is allocated.
pub struct Segment {
    pub(crate) map: Map,
    pub(crate) object: Object,
    pub(crate) shadow: Mutex<Shadow>,
    /// Number of blocks that are torn, and of those that were finished for a writer that died. Relaxed: they are
    /// counts, and order nothing.
    pub(crate) torn: AtomicU64,
    pub(crate) repaired: AtomicU64,
    pub(crate) mutant: Mutant,
}

/// How a segment came to be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It did not exist: all bytes are zero.
    Created,
    /// It existed, and keeps every byte.
    TakenOver {
        /// Whether the previous server stopped in good order.
        clean: bool,
        /// Blocks that its death left half written, and that are whole now, with the bytes of that last write.
        repaired: u64,
        /// Blocks that were left half written without a record of what was being written: they are refused now.
        torn: u64,
    },
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.object.path)
            .field("k_bytes", &self.k_bytes())
            .finish_non_exhaustive()
    }
}

impl Segment {
    pub(crate) fn new(map: Map, object: Object, repaired: u64, torn: u64) -> Segment {
        Segment {
            map,
            object,
            shadow: Mutex::new(Shadow { is_prepared: false }),
            torn: AtomicU64::new(torn),
            repaired: AtomicU64::new(repaired),
            mutant: mutant::active(),
        }
    }

    pub(crate) fn header(&self) -> &Header {
        self.map.header()
    }

    /// The checked span of `len_bytes` from `offset`, or `None` when it leaves the k bytes.
    #[inline]
    pub fn span(&self, offset: u64, len_bytes: u64) -> Option<Span> {
        Span::new(offset, len_bytes, self.k_bytes())
    }

    /// The checked word of eight bytes at `offset`, or `None` when that is outside or not a multiple of 8.
    pub fn word8(&self, offset: u64) -> Option<Word8> {
        Word8::new(offset, self.k_bytes())
    }

    /// The checked word of sixteen bytes at `offset`, or `None` when that is outside or not a multiple of 16.
    pub fn word16(&self, offset: u64) -> Option<Word16> {
        Word16::new(offset, self.k_bytes())
    }

    /// Bytes lent.
    #[inline]
    pub fn k_bytes(&self) -> u64 {
        self.map.regions().k_bytes
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.map.regions().blocks()
    }

    /// The segment's file.
    pub fn path(&self) -> &Path {
        &self.object.path
    }

    /// Random id given at creation: another id is other memory.
    pub fn segment_id(&self) -> [u8; 16] {
        words_to_bytes(&self.header().segment_id)
    }

    /// Number of this server's life on the segment; it grows with each take-over.
    pub fn incarnation(&self) -> u64 {
        self.header().incarnation.load(Relaxed)
    }

    /// When the segment was created, in milliseconds since 1970.
    pub fn created_unix_ms(&self) -> u64 {
        self.header().created_unix_ms.load(Relaxed)
    }

    /// Number of blocks that are torn: reading them fails until they are wholly written.
    pub fn torn_blocks(&self) -> u64 {
        self.torn.load(Relaxed)
    }

    /// Number of blocks that this server found half written, at its start or later, and finished.
    pub fn repaired_blocks(&self) -> u64 {
        self.repaired.load(Relaxed)
    }

    /// Bytes in blocks that were ever written. It looks at every entry of the table: about a millisecond a GiB.
    pub fn bytes_used(&self) -> u64 {
        let written = (0..self.blocks()).filter(|&block| self.map.entry(block).change_epoch.load(Relaxed) != 0);
        written.count() as u64 * BLOCK_BYTES as u64
    }

    /// Says that the segment was closed in good order; the data stay, and the next server finds them clean. Call it
    /// when no operation can follow.
    pub fn mark_clean(&self) {
        self.header().pid.store(0, Relaxed);
        self.header().state.store(State::CLEAN, Release);
    }

    /// Ends the segment: its name goes, whoever maps it is told to leave, and the memory is given back when the
    /// last of them has.
    pub fn retire_and_unlink(self) -> Result<(), ShmError> {
        self.header().state.store(State::RETIRED, SeqCst);
        self.object.unlink()
    }
}

/// Sixteen bytes that stand in the header as two words.
pub(crate) fn words_to_bytes(words: &[AtomicU64; 2]) -> [u8; 16] {
    let [low, high] = words.each_ref().map(|word| word.load(Relaxed).to_le_bytes());
    std::array::from_fn(|i| if i < 8 { low[i] } else { high[i - 8] })
}
