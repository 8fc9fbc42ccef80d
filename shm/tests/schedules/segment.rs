//! The server's side of a segment that is an array.

use std::sync::{Arc, Mutex};

use crate::layout::{BLOCK_BYTES, Header};
use crate::map::{Map, Regions};
use crate::mutant::Mutant;
use crate::reader::Reader;
use crate::shadow::Shadow;
use crate::span::{Span, Word8};
use crate::sync::atomic::AtomicU64;

pub(crate) struct Segment {
    pub(crate) map: Arc<Map>,
    pub(crate) shadow: Mutex<Shadow>,
    pub(crate) torn: AtomicU64,
    pub(crate) repaired: AtomicU64,
    pub(crate) mutant: Mutant,
}

impl Segment {
    /// A segment whose semaphores are never waited for, with a slot for each thread.
    pub(crate) fn without_rivals(blocks: u64) -> Arc<Segment> {
        Segment::new(blocks, 8, false)
    }

    /// A segment whose semaphores are words of the model's memory.
    pub(crate) fn with_rivals(blocks: u64, slot_count: u32) -> Arc<Segment> {
        Segment::new(blocks, slot_count, true)
    }

    fn new(blocks: u64, slot_count: u32, has_rivals: bool) -> Arc<Segment> {
        Arc::new(Segment::over(
            Map::new(Regions { k_bytes: blocks * BLOCK_BYTES as u64, slot_count, has_rivals }).into(),
        ))
    }

    /// A server over memory that another one has left.
    pub(crate) fn over(map: Arc<Map>) -> Segment {
        Segment {
            map,
            shadow: Mutex::new(Shadow { is_prepared: false }),
            torn: AtomicU64::plain("torn", 0),
            repaired: AtomicU64::plain("repaired", 0),
            mutant: Mutant::None,
        }
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader { map: Arc::clone(&self.map), mutant: Mutant::None }
    }

    pub(crate) fn header(&self) -> &Header {
        self.map.header()
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.map.regions().blocks()
    }

    /// All of a block.
    pub(crate) fn block(&self, block: u64) -> Span {
        self.part(block, 0, BLOCK_BYTES as u64)
    }

    /// A part of a block.
    pub(crate) fn part(&self, block: u64, within: u64, len_bytes: u64) -> Span {
        Span::new(block * BLOCK_BYTES as u64 + within, len_bytes, self.map.regions().k_bytes).expect("inside")
    }

    pub(crate) fn word8(&self, offset: u64) -> Word8 {
        Word8::new(offset, self.map.regions().k_bytes).expect("inside")
    }
}

/// A block full of one value.
pub(crate) fn full_of(value: u64) -> [u8; BLOCK_BYTES] {
    bytes_of([value, value])
}

pub(crate) fn bytes_of(words: [u64; 2]) -> [u8; BLOCK_BYTES] {
    std::array::from_fn(|at| words[at / 8].to_le_bytes()[at % 8])
}

pub(crate) fn words_of(bytes: &[u8; BLOCK_BYTES]) -> [u64; 2] {
    std::array::from_fn(|word| u64::from_le_bytes(std::array::from_fn(|at| bytes[8 * word + at])))
}

/// The value that fills a block.
pub(crate) fn value_of(bytes: &[u8; BLOCK_BYTES]) -> u64 {
    let [low, high] = words_of(bytes);
    assert_eq!(low, high, "a mix of two writes");
    low
}
