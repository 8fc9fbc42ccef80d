//! A segment in an array: the addresses that `src/map.rs` hands out for mapped memory.

use std::cell::UnsafeCell;

use crate::copy;
use crate::layout::{BLOCK_BYTES, Entry, Header, SlotRecord};
use crate::machine;
use crate::sync::atomic::AtomicU64;

const WORDS: usize = BLOCK_BYTES / 8;

/// What a model consists of.
#[derive(Clone, Copy)]
pub(crate) struct Regions {
    pub(crate) k_bytes: u64,
    pub(crate) slot_count: u32,
    /// Whether threads may meet at a semaphore. Without rivals it is a plain word, and no step of a schedule.
    pub(crate) has_rivals: bool,
}

impl Regions {
    /// The blocks of the model are not replicated.
    pub(crate) fn has_registers(&self) -> bool {
        false
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.k_bytes / BLOCK_BYTES as u64
    }
}

/// The array stands for addresses only: the values of blocks and shadow pages are words of the model's memory, which
/// `copy` finds by the address. The pages of slots are the array's own bytes.
pub(crate) struct Map {
    regions: Regions,
    header: Header,
    entries: Vec<Entry>,
    slots: Vec<SlotRecord>,
    words: Vec<AtomicU64>,
    array: Box<[UnsafeCell<u64>]>,
}

// SAFETY: the threads of a model run one at a time, on one thread of the system.
unsafe impl Send for Map {}
// SAFETY: as for Send.
unsafe impl Sync for Map {}

impl Map {
    pub(crate) fn new(regions: Regions) -> Map {
        let (blocks, slots) = (regions.blocks() as usize, regions.slot_count as usize);
        let array: Box<[_]> = (0..(2 * blocks + slots) * WORDS).map(|_| UnsafeCell::new(0)).collect();
        let mut words = Vec::new();
        for (at, cell) in array[..2 * blocks * WORDS].iter().enumerate() {
            let name = if at < blocks * WORDS { "data" } else { "shadow" };
            let named = machine::named(name, (at / WORDS % blocks) as u64, 0);
            copy::register(cell.get().addr(), named);
            words.push(AtomicU64::of(named));
        }
        Map {
            regions,
            header: Header::new(),
            entries: (0..regions.blocks()).map(|block| Entry::new(block, regions.has_rivals)).collect(),
            slots: (0..regions.slot_count).map(|slot| SlotRecord::new(slot.into(), regions.has_rivals)).collect(),
            words,
            array,
        }
    }

    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn entry(&self, block: u64) -> &Entry {
        &self.entries[block as usize]
    }

    pub(crate) fn slot(&self, slot: u32) -> &SlotRecord {
        &self.slots[slot as usize]
    }

    pub(crate) fn block(&self, block: u64) -> *mut u8 {
        self.page(block)
    }

    pub(crate) fn shadow(&self, block: u64) -> *mut u8 {
        self.page(self.regions.blocks() + block)
    }

    pub(crate) fn slot_page(&self, slot: u32) -> *mut u8 {
        self.page(2 * self.regions.blocks() + u64::from(slot))
    }

    pub(crate) fn slot_register(&self, slot: u32) -> *mut u8 {
        unreachable!("slot {slot} of blocks that are not replicated has no register")
    }

    pub(crate) fn word(&self, block: u64, within: usize) -> &AtomicU64 {
        &self.words[block as usize * WORDS + within / 8]
    }

    /// All words of shadow pages.
    pub(crate) fn shadow_words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.words[self.words.len() / 2..].iter()
    }

    fn page(&self, page: u64) -> *mut u8 {
        UnsafeCell::raw_get(self.array[page as usize * WORDS..][..WORDS].as_ptr()).cast()
    }
}
