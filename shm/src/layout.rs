//! The bytes of a segment: header, block table, and where each region lies.
//!
//! Layout version 2. Everything here is drawn in `docs/segment.md`, and a change of one is a change of both.
//! All words are little-endian and naturally aligned; all are atomics, because another process may read or
//! write any of them at any moment, and a reference to an atomic is the only one that allows for that.

use std::mem::{offset_of, size_of};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::error::ShmError;

/// Version of the layout that this crate writes, and the only one that it reads.
pub const LAYOUT_VERSION: u32 = 2;

/// Bytes of a block: the unit of atomicity, of the semaphore and of the shadow page. Also the page size.
pub const BLOCK_BYTES: usize = 4096;

/// Longest cluster name, in bytes: one byte of length and the name fill 64.
pub const CLUSTER_NAME_MAX_BYTES: usize = 63;

/// Largest k: 64 TiB. Far beyond any machine, and low enough that no sum of regions can overflow.
pub const K_MAX_BYTES: u64 = 1 << 46;

/// "MCOMPSEG", written last on creation: a segment without it was never finished.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"MCOMPSEG");

/// Bytes of the header page.
pub(crate) const HEADER_BYTES: usize = 4096;

/// Bytes of one entry of the block table: one cache line, so that two blocks never share one.
pub(crate) const ENTRY_BYTES: usize = 64;

/// Receive slots of a segment. More threads than this can be in a write at once only while some of them wait for a
/// core, and then one more that waits costs nothing.
pub(crate) const SLOT_COUNT: u32 = 128;

/// Most receive slots that are believed, so that a damaged header cannot overflow a sum.
const SLOT_COUNT_MAX: u32 = 1 << 16;

/// Bytes of a receive slot's record; its page stands apart, so that it is page-aligned.
pub(crate) const SLOT_RECORD_BYTES: usize = 64;

/// Bytes that a replicated block has beside its contents: its ballots, and what came of its last operations.
pub const REGISTER_BYTES: usize = 512;

/// Bytes that each receive slot has in a segment of replicated blocks.
const SLOT_BYTES_WITH_REGISTER: u32 = (BLOCK_BYTES + REGISTER_BYTES) as u32;

/// What the segment's life has come to, as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A server serves it, or died without a word.
    Serving,
    /// Its server stopped in good order.
    Clean,
    /// Purged or replaced: whoever still maps it must leave.
    Retired,
    /// A word that this version does not know; treat it like [`State::Retired`].
    Unknown(u32),
}

impl State {
    pub(crate) const SERVING: u32 = 1;
    pub(crate) const CLEAN: u32 = 2;
    pub(crate) const RETIRED: u32 = 3;

    pub(crate) fn from_word(word: u32) -> State {
        match word {
            State::SERVING => State::Serving,
            State::CLEAN => State::Clean,
            State::RETIRED => State::Retired,
            other => State::Unknown(other),
        }
    }
}

/// Values of the header's `gate` word.
pub(crate) const GATE_OPEN: u32 = 0;
pub(crate) const GATE_RESTORING: u32 = 1;

/// Bit 0 of an entry's `flags`: a server died in the middle of a write to the block.
pub(crate) const FLAG_TORN: u32 = 1;

/// Bit 1 of an entry's `flags`: in a segment whose memory was lost before, this block has been filled again.
pub(crate) const FLAG_FILLED: u32 = 2;

/// Value of an entry's `shadow_change` when the block was torn at the moment of the cut.
pub(crate) const SHADOW_OF_TORN: u64 = u64::MAX;

/// The header page.
///
/// The words that every write reads (`cut`, `hold`) have a cache line to themselves; those before it are
/// written at open and at close, those after it only at creation.
#[repr(C, align(4096))]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    pub(crate) layout: AtomicU32,
    pub(crate) state: AtomicU32,
    pub(crate) gate: AtomicU32,
    pub(crate) block_bytes: AtomicU32,
    pub(crate) k_bytes: AtomicU64,
    pub(crate) id: AtomicU32,
    pub(crate) n: AtomicU32,
    /// Length in the first byte, then the name, then zeros.
    pub(crate) cluster: [AtomicU64; 8],
    pub(crate) boot_id: [AtomicU64; 2],
    pub(crate) segment_id: [AtomicU64; 2],
    pub(crate) incarnation: AtomicU64,
    pub(crate) config_epoch: AtomicU64,
    pub(crate) pid: AtomicU32,
    reserved_0: AtomicU32,
    pub(crate) created_unix_ms: AtomicU64,
    /// Which log of the metadata the segment has obeyed, and up to which entry.
    pub(crate) agreed_log: AtomicU64,
    pub(crate) agreed_index: AtomicU64,
    /// Of replicated blocks: whose copies stand where, see [`crate::Arrangement`].
    pub(crate) arrangement: AtomicU64,
    /// Epoch << 1 | a cut is active.
    pub(crate) cut: AtomicU64,
    /// The epoch whose answers are being held; 0 = none.
    pub(crate) hold: AtomicU64,
    reserved_2: [AtomicU64; 6],
    pub(crate) directory: Directory,
    /// Of replicated blocks: which of them vote, see [`crate::Life`].
    pub(crate) life: AtomicU64,
    /// Of replicated blocks: the newest epoch of the replicas in which this server has answered.
    pub(crate) replica_epoch: AtomicU64,
    reserved_3: [AtomicU64; 468],
}

/// Where the regions lie, as the header says it. A reader computes the same from k and compares.
#[repr(C)]
pub(crate) struct Directory {
    pub(crate) table_offset: AtomicU64,
    pub(crate) table_bytes: AtomicU64,
    pub(crate) data_offset: AtomicU64,
    pub(crate) data_bytes: AtomicU64,
    pub(crate) slots_offset: AtomicU64,
    pub(crate) slots_bytes: AtomicU64,
    pub(crate) slot_count: AtomicU32,
    pub(crate) slot_bytes: AtomicU32,
    pub(crate) shadow_offset: AtomicU64,
    pub(crate) shadow_bytes: AtomicU64,
    pub(crate) file_bytes: AtomicU64,
}

/// One entry of the block table.
///
/// * `seq` is odd exactly while the bytes of the block may be in change, and only the holder of `sem` moves it.
/// * While `seq` is odd, `writer` names the receive slot from which the change can be finished. What it names while
///   `seq` is even means nothing.
/// * `shadow_epoch` = e means: the shadow page holds the block as it was when the cut of epoch e was made. It
///   never shrinks, and it is written after the page that it vouches for.
/// * `change_epoch` is the epoch of the last modification, 0 when there was none since creation.
/// * `shadow_change` is `change_epoch` at the moment of that cut, or `SHADOW_OF_TORN`.
#[repr(C, align(64))]
pub(crate) struct Entry {
    pub(crate) sem: AtomicU32,
    /// Receive slot + 1 of the write in progress.
    pub(crate) writer: AtomicU32,
    pub(crate) seq: AtomicU64,
    pub(crate) shadow_epoch: AtomicU64,
    pub(crate) change_epoch: AtomicU64,
    pub(crate) shadow_change: AtomicU64,
    /// Promised and accepted ballot of a replicated block.
    pub(crate) promised: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) flags: AtomicU32,
    reserved: AtomicU32,
}

/// What the write in progress of one receive slot does, complete enough to do it again.
///
/// * Only the holder of `sem` writes the record and the slot's page, and only while no block is odd that names this
///   slot: whoever finds such a block finds the record of its change.
#[repr(C, align(64))]
pub(crate) struct SlotRecord {
    pub(crate) sem: AtomicU32,
    /// `SLOT_BYTES_OF_PAGE`, `SLOT_FILL` or `SLOT_REGISTER`; 0 before the slot was ever used.
    pub(crate) kind: AtomicU32,
    pub(crate) block: AtomicU64,
    /// First byte, counted from the start of the block; the bytes stand at the same place of the slot's page.
    pub(crate) within: AtomicU32,
    pub(crate) len_bytes: AtomicU32,
    /// What a fill fills with.
    pub(crate) byte: AtomicU32,
    reserved: [AtomicU32; 9],
}

/// Kinds of a [`SlotRecord`].
pub(crate) const SLOT_BYTES_OF_PAGE: u32 = 1;
pub(crate) const SLOT_FILL: u32 = 2;
/// A whole block, and its register beside it.
pub(crate) const SLOT_REGISTER: u32 = 3;

const _: () = assert!(size_of::<SlotRecord>() == SLOT_RECORD_BYTES);
const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(size_of::<Entry>() == ENTRY_BYTES);
const _: () = assert!(offset_of!(Header, cut) == 192);
const _: () = assert!(offset_of!(Header, directory) == 256);

/// What a server wants its segment to be: the part of the configuration that is fixed at creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name of the cluster: 1 to 63 ASCII letters, digits, `-` and `_`.
    pub cluster: String,
    /// Index of the server in the cluster, below `n`.
    pub id: u32,
    /// Number of servers of the cluster. An existing segment may have been of fewer or more, as the cluster grows.
    pub n: u32,
    /// Bytes lent: a multiple of 4 KiB, above zero and at most [`K_MAX_BYTES`].
    pub k_bytes: u64,
    /// Whether the blocks are replicated, and have ballots and results beside their contents.
    pub registers: bool,
}

/// What a segment takes from the machine, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of memory that its server takes once, when it makes the segment: all but the shadow area.
    pub start_bytes: u64,
    /// Bytes more while a cut is prepared: the shadow area.
    pub cut_bytes: u64,
    /// Bytes of the file, all of which its server maps.
    pub file_bytes: u64,
}

impl Spec {
    /// What a new segment of this specification takes.
    ///
    /// # Errors
    /// [`ShmError::Spec`] when there can be none.
    pub fn sizes(&self) -> Result<Sizes, ShmError> {
        self.check()?;
        let regions = self.regions();
        Ok(Sizes { start_bytes: regions.shadow_offset, cut_bytes: regions.k_bytes, file_bytes: regions.file_bytes })
    }

    /// Where everything lies in a new segment of this specification, which was checked.
    pub(crate) fn regions(&self) -> Regions {
        let slot_bytes = if self.registers { SLOT_BYTES_WITH_REGISTER } else { BLOCK_BYTES as u32 };
        Regions::new(self.k_bytes, SLOT_COUNT, slot_bytes)
            .unwrap_or_else(|| unreachable!("the specification was checked: k = {}", self.k_bytes))
    }

    /// Refuses what no segment can be.
    pub(crate) fn check(&self) -> Result<(), ShmError> {
        check_cluster(&self.cluster)?;
        if self.id >= self.n {
            return Err(ShmError::Spec(format!("server {} of {}: ids run from 0 to n - 1", self.id, self.n)));
        }
        if self.k_bytes == 0 || self.k_bytes > K_MAX_BYTES || !self.k_bytes.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(ShmError::Spec(format!(
                "k = {} bytes: choose a multiple of {BLOCK_BYTES} from {BLOCK_BYTES} to {K_MAX_BYTES}",
                self.k_bytes
            )));
        }
        Ok(())
    }
}

/// Refuses a cluster name that could not stand in a file name, or would make two names ambiguous.
pub(crate) fn check_cluster(cluster: &str) -> Result<(), ShmError> {
    let fits = (1..=CLUSTER_NAME_MAX_BYTES).contains(&cluster.len());
    let plain = cluster.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if fits && plain {
        return Ok(());
    }
    Err(ShmError::Spec(format!(
        "cluster name {cluster:?}: use 1 to {CLUSTER_NAME_MAX_BYTES} ASCII letters, digits, - and _"
    )))
}

/// Where each region lies in a segment of k bytes. In file order: header, table, data, slots, registers if the blocks
/// are replicated, shadow.
///
/// * Every offset and length is a multiple of the page size.
/// * Regions touch and do not overlap; the shadow is the last and ends the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Regions {
    pub(crate) k_bytes: u64,
    pub(crate) table_offset: u64,
    pub(crate) table_bytes: u64,
    pub(crate) data_offset: u64,
    pub(crate) slots_offset: u64,
    pub(crate) slots_bytes: u64,
    /// The slots' pages; their records come before them, from `slots_offset` on.
    pub(crate) slot_pages_offset: u64,
    pub(crate) slot_count: u32,
    pub(crate) slot_bytes: u32,
    /// What stands beside the slots' pages, if the blocks are replicated.
    pub(crate) slot_registers_offset: u64,
    /// Empty if they are not.
    pub(crate) registers_offset: u64,
    pub(crate) shadow_offset: u64,
    pub(crate) file_bytes: u64,
}

impl Regions {
    /// The regions of a segment, or `None` when k or the slots are out of bounds.
    pub(crate) fn new(k_bytes: u64, slot_count: u32, slot_bytes: u32) -> Option<Regions> {
        let page = BLOCK_BYTES as u64;
        if k_bytes == 0 || k_bytes > K_MAX_BYTES || !k_bytes.is_multiple_of(page) {
            return None;
        }
        let has_registers = slot_bytes == SLOT_BYTES_WITH_REGISTER;
        if !(1..=SLOT_COUNT_MAX).contains(&slot_count) || !has_registers && u64::from(slot_bytes) != page {
            return None;
        }
        let registers = |count: u64| match has_registers {
            true => (count * REGISTER_BYTES as u64).next_multiple_of(page),
            false => 0,
        };
        let slot_pages_offset = (u64::from(slot_count) * SLOT_RECORD_BYTES as u64).next_multiple_of(page);
        let slot_registers_offset = slot_pages_offset + u64::from(slot_count) * page;
        let slots_bytes = slot_registers_offset + registers(u64::from(slot_count));
        let table_bytes = (k_bytes / page * ENTRY_BYTES as u64).next_multiple_of(page);
        let data_offset = HEADER_BYTES as u64 + table_bytes;
        let slots_offset = data_offset + k_bytes;
        let registers_offset = slots_offset + slots_bytes;
        let shadow_offset = registers_offset + registers(k_bytes / page);
        Some(Regions {
            k_bytes,
            table_offset: HEADER_BYTES as u64,
            table_bytes,
            data_offset,
            slots_offset,
            slots_bytes,
            slot_pages_offset: slots_offset + slot_pages_offset,
            slot_count,
            slot_bytes,
            slot_registers_offset: slots_offset + slot_registers_offset,
            registers_offset,
            shadow_offset,
            file_bytes: shadow_offset + k_bytes,
        })
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> u64 {
        self.k_bytes / BLOCK_BYTES as u64
    }

    /// Whether the blocks are replicated.
    pub(crate) fn has_registers(&self) -> bool {
        self.slot_bytes == SLOT_BYTES_WITH_REGISTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offsets of docs/segment.md, by hand: a change of one must break this test.
    #[test]
    fn header_offsets_are_the_documented_ones() {
        let offsets = [
            (offset_of!(Header, magic), 0),
            (offset_of!(Header, layout), 8),
            (offset_of!(Header, state), 12),
            (offset_of!(Header, gate), 16),
            (offset_of!(Header, block_bytes), 20),
            (offset_of!(Header, k_bytes), 24),
            (offset_of!(Header, id), 32),
            (offset_of!(Header, n), 36),
            (offset_of!(Header, cluster), 40),
            (offset_of!(Header, boot_id), 104),
            (offset_of!(Header, segment_id), 120),
            (offset_of!(Header, incarnation), 136),
            (offset_of!(Header, config_epoch), 144),
            (offset_of!(Header, agreed_log), 168),
            (offset_of!(Header, agreed_index), 176),
            (offset_of!(Header, pid), 152),
            (offset_of!(Header, created_unix_ms), 160),
            (offset_of!(Header, cut), 192),
            (offset_of!(Header, hold), 200),
            (offset_of!(Header, directory) + offset_of!(Directory, table_offset), 256),
            (offset_of!(Header, directory) + offset_of!(Directory, table_bytes), 264),
            (offset_of!(Header, directory) + offset_of!(Directory, data_offset), 272),
            (offset_of!(Header, directory) + offset_of!(Directory, data_bytes), 280),
            (offset_of!(Header, directory) + offset_of!(Directory, slots_offset), 288),
            (offset_of!(Header, directory) + offset_of!(Directory, slots_bytes), 296),
            (offset_of!(Header, directory) + offset_of!(Directory, slot_count), 304),
            (offset_of!(Header, directory) + offset_of!(Directory, slot_bytes), 308),
            (offset_of!(Header, directory) + offset_of!(Directory, shadow_offset), 312),
            (offset_of!(Header, directory) + offset_of!(Directory, shadow_bytes), 320),
            (offset_of!(Header, directory) + offset_of!(Directory, file_bytes), 328),
        ];
        for (is, documented) in offsets {
            assert_eq!(is, documented);
        }
    }

    #[test]
    fn entry_offsets_are_the_documented_ones() {
        let offsets = [
            (offset_of!(Entry, sem), 0),
            (offset_of!(Entry, writer), 4),
            (offset_of!(Entry, seq), 8),
            (offset_of!(Entry, shadow_epoch), 16),
            (offset_of!(Entry, change_epoch), 24),
            (offset_of!(Entry, shadow_change), 32),
            (offset_of!(Entry, promised), 40),
            (offset_of!(Entry, accepted), 48),
            (offset_of!(Entry, flags), 56),
            (offset_of!(Entry, reserved), 60),
        ];
        for (is, documented) in offsets {
            assert_eq!(is, documented);
        }
    }

    #[test]
    fn slot_record_offsets_are_the_documented_ones() {
        let offsets = [
            (offset_of!(SlotRecord, sem), 0),
            (offset_of!(SlotRecord, kind), 4),
            (offset_of!(SlotRecord, block), 8),
            (offset_of!(SlotRecord, within), 16),
            (offset_of!(SlotRecord, len_bytes), 20),
            (offset_of!(SlotRecord, byte), 24),
            (offset_of!(SlotRecord, reserved), 28),
        ];
        for (is, documented) in offsets {
            assert_eq!(is, documented);
        }
    }

    #[test]
    fn regions_of_64_mib_are_the_documented_ones() {
        let regions = Regions::new(64 << 20, 128, 4096).unwrap();
        assert_eq!(regions.table_offset, 0x1000);
        assert_eq!(regions.table_bytes, 1 << 20);
        assert_eq!(regions.data_offset, 0x101000);
        assert_eq!(regions.slots_offset, 0x4101000);
        assert_eq!(regions.slot_pages_offset, 0x4103000);
        assert_eq!(regions.shadow_offset, 0x4183000);
        assert_eq!(regions.file_bytes, 0x8183000);
    }

    #[test]
    fn receive_slots_move_only_the_shadow() {
        let one = Regions::new(1 << 20, 1, 4096).unwrap();
        let more = Regions::new(1 << 20, 65, 4096).unwrap();
        assert_eq!(more.data_offset, one.data_offset);
        assert_eq!(more.shadow_offset, one.shadow_offset + 4096 + 64 * 4096);
    }

    #[test]
    fn impossible_regions_are_refused() {
        for k in [0, 1, 4095, 4097, K_MAX_BYTES + 4096, u64::MAX - 4095] {
            assert_eq!(Regions::new(k, 1, 4096), None, "k = {k}");
        }
        for (slot_count, slot_bytes) in [(0, 4096), (1, 0), (1, 8192), (u32::MAX, 4096), (u32::MAX, u32::MAX)] {
            assert_eq!(Regions::new(4096, slot_count, slot_bytes), None, "{slot_count} slots of {slot_bytes}");
        }
        assert!(Regions::new(K_MAX_BYTES, SLOT_COUNT_MAX, 4096).is_some());
    }

    #[test]
    fn impossible_specs_are_refused() {
        let spec = |cluster: &str, id, n, k_bytes| {
            Spec { cluster: cluster.into(), id, n, k_bytes, registers: false }.check().is_ok()
        };
        assert!(spec("demo-1_x", 2, 3, 4096));
        assert!(spec(&"x".repeat(63), 0, 1, 4096));
        assert!(!spec(&"x".repeat(64), 0, 1, 4096));
        for cluster in ["", "a.b", "a/b", "ação", " "] {
            assert!(!spec(cluster, 0, 1, 4096), "{cluster:?}");
        }
        assert!(!spec("demo", 3, 3, 4096));
        assert!(!spec("demo", 0, 1, 4097));
        assert!(!spec("demo", 0, 1, 0));
    }
}
