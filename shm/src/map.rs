//! The mapping of a segment, and the typed words in it.
//!
//! A `Map` is the only thing that knows the address. It hands out references to the header and to entries of the
//! block table, which consist of atomics only, and raw pointers to the bytes of blocks, which `block` and `cut`
//! give to `copy` and to nobody else.
//!
//! A file that shrinks under its mapping means SIGBUS at the next touch. Segments therefore never shrink, in any
//! version, and a process maps one only after it has checked its size against its header.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use crate::layout::{BLOCK_BYTES, ENTRY_BYTES, Entry, Header, REGISTER_BYTES, Regions, SLOT_RECORD_BYTES, SlotRecord};

/// Whether a process may write through its mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

/// A mapped segment.
///
/// * `base` is page-aligned and mapped for `regions.file_bytes` until drop.
/// * Through a read-only map only relaxed loads are made: they are the only atomics that the language allows on
///   read-only memory, and fences give them their order.
pub(crate) struct Map {
    base: NonNull<u8>,
    access: Access,
    regions: Regions,
}

// SAFETY: the mapping belongs to the process and not to a thread, and all that is handed out is atomic or a raw
// pointer whose users state their own reasons.
unsafe impl Send for Map {}
// SAFETY: as for Send.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the whole file, whose size the caller has checked to be `regions.file_bytes`.
    pub(crate) fn new(file: &File, regions: Regions, access: Access) -> io::Result<Map> {
        let protection = match access {
            Access::ReadOnly => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        let len_bytes = regions.file_bytes as usize;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe { mm::mmap(std::ptr::null_mut(), len_bytes, protection, MapFlags::SHARED, file, 0)? };
        let base = NonNull::new(base.cast()).ok_or(Errno::FAULT)?;
        Ok(Map { base, access, regions })
    }

    /// Where the regions lie.
    #[inline]
    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The header page.
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: the header is the first page of the mapping; `Header` is 4096 bytes of atomics, valid for any
        // bytes and under any concurrent change.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// The table entry of a block.
    #[inline]
    pub(crate) fn entry(&self, block: u64) -> &Entry {
        let offset = self.regions.table_offset + self.checked(block) * ENTRY_BYTES as u64;
        // SAFETY: the table has an entry for each block and lies inside the mapping; entries are 64-byte aligned
        // because the table is page-aligned; `Entry` is atomics only.
        unsafe { self.base.add(offset as usize).cast::<Entry>().as_ref() }
    }

    /// First byte of a block; valid for reads of `BLOCK_BYTES`, and for writes when the map is writable.
    #[inline]
    pub(crate) fn block(&self, block: u64) -> *mut u8 {
        let offset = self.regions.data_offset + self.checked(block) * BLOCK_BYTES as u64;
        // SAFETY: the data region has k bytes for k / 4096 blocks and lies inside the mapping.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    /// First byte of a block's shadow page. Only a writer in an active cut may touch it, because only then is it
    /// certainly allocated.
    #[inline]
    pub(crate) fn shadow(&self, block: u64) -> *mut u8 {
        debug_assert_eq!(self.access, Access::ReadWrite);
        // SAFETY: the shadow region has k bytes as well and ends the mapping.
        unsafe { self.base.as_ptr().add(self.shadow_offset(block) as usize) }
    }

    /// Where a block's shadow page stands in the file.
    pub(crate) fn shadow_offset(&self, block: u64) -> u64 {
        self.regions.shadow_offset + self.checked(block) * BLOCK_BYTES as u64
    }

    /// The record of a receive slot.
    #[inline]
    pub(crate) fn slot(&self, slot: u32) -> &SlotRecord {
        let offset = self.regions.slots_offset + self.checked_slot(slot) * SLOT_RECORD_BYTES as u64;
        // SAFETY: the region begins with a record for each slot and lies inside the mapping; records are 64-byte
        // aligned because the region is page-aligned; `SlotRecord` is atomics only.
        unsafe { self.base.add(offset as usize).cast::<SlotRecord>().as_ref() }
    }

    /// First byte of a receive slot's page; valid for `BLOCK_BYTES`, and private to the slot's holder while it lives.
    #[inline]
    pub(crate) fn slot_page(&self, slot: u32) -> *mut u8 {
        let offset = self.regions.slot_pages_offset + self.checked_slot(slot) * BLOCK_BYTES as u64;
        // SAFETY: a page for each slot follows the records and lies inside the mapping.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    /// What a replicated block has beside its contents; valid for `REGISTER_BYTES`, and for writes when the map is
    /// writable.
    #[inline]
    pub(crate) fn register(&self, block: u64) -> *mut u8 {
        assert!(self.regions.has_registers(), "blocks that are not replicated have no register");
        let offset = self.regions.registers_offset + self.checked(block) * REGISTER_BYTES as u64;
        // SAFETY: with registers the region has one for each block, and lies inside the mapping.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    /// What a slot has beside its page, if the blocks are replicated; as [`Map::slot_page`].
    #[inline]
    pub(crate) fn slot_register(&self, slot: u32) -> *mut u8 {
        assert!(self.regions.has_registers(), "slots for blocks that are not replicated have no register");
        let offset = self.regions.slot_registers_offset + self.checked_slot(slot) * REGISTER_BYTES as u64;
        // SAFETY: with registers there is one for each slot behind the pages, inside the mapping.
        unsafe { self.base.as_ptr().add(offset as usize) }
    }

    /// The slot index, asserted, as `checked` does it for blocks.
    #[inline]
    fn checked_slot(&self, slot: u32) -> u64 {
        assert!(slot < self.regions.slot_count, "slot {slot} of {}", self.regions.slot_count);
        u64::from(slot)
    }

    /// The aligned word at `within` of a block.
    #[inline]
    pub(crate) fn word(&self, block: u64, within: usize) -> &AtomicU64 {
        assert!(within.is_multiple_of(8) && within < BLOCK_BYTES, "word at {within} of a block");
        // SAFETY: the word lies inside the block by the assertion, is aligned because blocks are, and is atomic.
        unsafe { AtomicU64::from_ptr(self.block(block).add(within).cast()) }
    }

    /// The block index, asserted: every pointer of this module goes through here.
    #[inline]
    fn checked(&self, block: u64) -> u64 {
        assert!(block < self.regions.blocks(), "block {block} of a segment of {} blocks", self.regions.blocks());
        block
    }

    /// Puts a range of allocated pages into this process's page tables, so that no write pays for it later.
    pub(crate) fn populate(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        let end = offset.checked_add(len_bytes).filter(|&end| end <= self.regions.file_bytes);
        assert!(self.access == Access::ReadWrite && end.is_some(), "populate {offset}+{len_bytes}");
        // SAFETY: the range lies inside the mapping by the assertion; populating changes no byte.
        let populated = unsafe {
            let start = self.base.as_ptr().add(offset as usize);
            mm::madvise(start.cast(), len_bytes as usize, Advice::LinuxPopulateWrite)
        };
        match populated {
            // Kernels before 5.14 do not know the advice.
            Err(Errno::INVAL) => self.touch(offset, len_bytes),
            other => return Ok(other?),
        }
        Ok(())
    }

    /// Writes to each page of a range without changing it.
    fn touch(&self, offset: u64, len_bytes: u64) {
        for page in (offset..offset + len_bytes).step_by(BLOCK_BYTES) {
            // SAFETY: `populate` checked the range; pages are aligned, and the access is atomic.
            unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(page as usize).cast()) }.fetch_or(0, Relaxed);
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and every reference into it borrows from `self`.
        let unmapped = unsafe { mm::munmap(self.base.as_ptr().cast(), self.regions.file_bytes as usize) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping");
    }
}
