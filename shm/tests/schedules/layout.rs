//! The words of a header, a block and a slot that the protocol uses. Those on whose order something depends are words of
//! the model's memory; the others are plain, which keeps models small.

use crate::sync::atomic::{AtomicU32, AtomicU64};

/// Two words: the least in which a mix shows.
pub(crate) const BLOCK_BYTES: usize = 16;
pub(crate) const GATE_OPEN: u32 = 0;
pub(crate) const GATE_RESTORING: u32 = 1;
pub(crate) const FLAG_TORN: u32 = 1;
pub(crate) const SHADOW_OF_TORN: u64 = u64::MAX;
pub(crate) const SLOT_BYTES_OF_PAGE: u32 = 1;
pub(crate) const SLOT_FILL: u32 = 2;
pub(crate) const SLOT_REGISTER: u32 = 3;
pub(crate) const REGISTER_BYTES: usize = 512;

/// The epoch before the first cut.
pub(crate) const FIRST_EPOCH: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Serving,
    Clean,
    Retired,
}

impl State {
    pub(crate) fn from_word(word: u32) -> State {
        [State::Retired, State::Serving, State::Clean][word as usize]
    }
}

pub(crate) struct Header {
    pub(crate) cut: AtomicU64,
    pub(crate) hold: AtomicU64,
    pub(crate) state: AtomicU32,
    pub(crate) gate: AtomicU32,
    pub(crate) config_epoch: AtomicU64,
}

impl Header {
    pub(crate) fn new() -> Header {
        Header {
            cut: AtomicU64::shared("cut", 0, FIRST_EPOCH << 1),
            hold: AtomicU64::shared("hold", 0, 0),
            state: AtomicU32::plain("state", 1),
            gate: AtomicU32::shared("gate", 0, GATE_OPEN),
            config_epoch: AtomicU64::shared("config_epoch", 0, 1),
        }
    }
}

pub(crate) struct Entry {
    pub(crate) sem: AtomicU32,
    pub(crate) writer: AtomicU32,
    pub(crate) seq: AtomicU64,
    pub(crate) shadow_epoch: AtomicU64,
    pub(crate) change_epoch: AtomicU64,
    pub(crate) shadow_change: AtomicU64,
    pub(crate) flags: AtomicU32,
}

impl Entry {
    pub(crate) fn new(block: u64, has_rivals: bool) -> Entry {
        Entry {
            sem: semaphore("sem", block, has_rivals),
            writer: AtomicU32::plain("writer", 0),
            seq: AtomicU64::shared("seq", block, 0),
            shadow_epoch: AtomicU64::shared("shadow_epoch", block, 0),
            change_epoch: AtomicU64::shared("change_epoch", block, 0),
            shadow_change: AtomicU64::shared("shadow_change", block, 0),
            flags: AtomicU32::plain("flags", 0),
        }
    }
}

pub(crate) struct SlotRecord {
    pub(crate) sem: AtomicU32,
    pub(crate) kind: AtomicU32,
    pub(crate) block: AtomicU64,
    pub(crate) within: AtomicU32,
    pub(crate) len_bytes: AtomicU32,
    pub(crate) byte: AtomicU32,
}

impl SlotRecord {
    pub(crate) fn new(slot: u64, has_rivals: bool) -> SlotRecord {
        SlotRecord {
            sem: semaphore("slot_sem", slot, has_rivals),
            kind: AtomicU32::plain("record", 0),
            block: AtomicU64::plain("record", 0),
            within: AtomicU32::plain("record", 0),
            len_bytes: AtomicU32::plain("record", 0),
            byte: AtomicU32::plain("record", 0),
        }
    }
}

fn semaphore(name: &'static str, of: u64, has_rivals: bool) -> AtomicU32 {
    if has_rivals { AtomicU32::shared(name, of, 0) } else { AtomicU32::plain(name, 0) }
}
