//! The fixed structures of the file, exactly as they lie on the disk.
//!
//! Every field is little-endian and unaligned, so a structure is its bytes on any machine. The sizes
//! and the offsets that `docs/snapshot.md` draws are asserted here at compile time. What the fields
//! may hold is checked where they are parsed: `header`, `chunk` and `footer`.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::meta::MAX_CLUSTER_BYTES;

/// The first eight bytes of every snapshot file.
pub(super) const MAGIC: [u8; 8] = *b"MCOMPSNP";
/// The first four bytes of every chunk.
pub(super) const CHUNK_MARKER: [u8; 4] = *b"CHNK";
/// The first eight bytes of the trailer.
pub(super) const TRAILER_MAGIC: [u8; 8] = *b"MCOMPEND";
/// The version of a file without a MAC.
pub(super) const VERSION: u32 = 1;
/// The version of a file with a MAC, which an mcomp that cannot check it must not read.
pub(super) const VERSION_SIGNED: u32 = 2;
/// The version of a file with a page table, with or without a MAC.
pub(super) const VERSION_PAGES: u32 = 3;
/// The flag that says that there is a MAC.
pub(super) const FLAG_SIGNED: u32 = 1;
/// The flag that says that there is a page table.
pub(super) const FLAG_PAGES: u32 = 2;
/// Bytes of the id that names the key of the MAC.
pub(super) const KEY_ID_BYTES: usize = 16;

pub(super) const HEADER_BYTES: usize = size_of::<HeaderBytes>();
pub(super) const SERVER_BYTES: usize = size_of::<ServerBytes>();
pub(super) const CHUNK_HEADER_BYTES: usize = size_of::<ChunkBytes>();
/// Bytes of the record of an allocation, without its name and notes.
pub(super) const REGION_BYTES: usize = size_of::<RegionBytes>();
const ENTRY_BYTES: usize = size_of::<EntryBytes>();
/// Bytes of the hash of a chunk, which stands behind its entry in a signed file.
pub(super) const DIGEST_BYTES: usize = blake3::OUT_LEN;
pub(super) const TOTALS_BYTES: usize = size_of::<TotalsBytes>();
pub(super) const TRAILER_BYTES: usize = size_of::<TrailerBytes>();

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct HeaderBytes {
    pub(super) magic: [u8; 8],
    pub(super) version: U32,
    pub(super) header_bytes: U32,
    pub(super) block_bytes: U32,
    pub(super) flags: U32,
    pub(super) k_bytes: U64,
    pub(super) n: U32,
    pub(super) server_bytes: U32,
    pub(super) cut: [u8; 16],
    pub(super) parent: [u8; 16],
    pub(super) cut_epoch: U64,
    pub(super) parent_epoch: U64,
    pub(super) config_epoch: U64,
    pub(super) created_us: I64,
    pub(super) cluster_bytes: u8,
    pub(super) cluster: [u8; MAX_CLUSTER_BYTES],
    pub(super) key: [u8; KEY_ID_BYTES],
    pub(super) pages_bytes: U64,
    pub(super) reserved: [u8; 331],
    pub(super) crc: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ServerBytes {
    pub(super) segment: [u8; 16],
    pub(super) change_from_epoch: U64,
    pub(super) cut_epoch: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RegionBytes {
    pub(super) addr: U64,
    pub(super) size: U64,
    pub(super) capacity: U64,
    pub(super) created_ms: U64,
    pub(super) name_bytes: U16,
    pub(super) notes: U16,
    pub(super) rest_bytes: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct ChunkBytes {
    pub(super) marker: [u8; 4],
    pub(super) codec: u8,
    pub(super) reserved: [u8; 3],
    pub(super) address: U64,
    pub(super) length: U32,
    pub(super) stored: U32,
    pub(super) crc: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct EntryBytes {
    pub(super) address: U64,
    pub(super) length: U32,
    pub(super) stored: U32,
    pub(super) offset: U64,
    pub(super) codec: u8,
    pub(super) reserved: [u8; 3],
    pub(super) crc: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct TotalsBytes {
    pub(super) count: U64,
    pub(super) memory_bytes: U64,
    pub(super) stored_bytes: U64,
    pub(super) mac: [u8; 32],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct TrailerBytes {
    pub(super) magic: [u8; 8],
    pub(super) footer_offset: U64,
    pub(super) footer_bytes: U64,
    pub(super) hash: [u8; 32],
}

/// Bytes of one entry of the chunk table.
pub(super) const fn entry_bytes(is_signed: bool) -> usize {
    if is_signed { ENTRY_BYTES + DIGEST_BYTES } else { ENTRY_BYTES }
}

const _: () = {
    assert!(HEADER_BYTES == 512);
    assert!(offset_of!(HeaderBytes, k_bytes) == 24);
    assert!(offset_of!(HeaderBytes, cut) == 40);
    assert!(offset_of!(HeaderBytes, cut_epoch) == 72);
    assert!(offset_of!(HeaderBytes, created_us) == 96);
    assert!(offset_of!(HeaderBytes, cluster) == 105);
    assert!(offset_of!(HeaderBytes, key) == 153);
    assert!(offset_of!(HeaderBytes, pages_bytes) == 169);
    assert!(offset_of!(HeaderBytes, reserved) == 177);
    assert!(offset_of!(HeaderBytes, crc) == 508);
    assert!(SERVER_BYTES == 32);
    assert!(REGION_BYTES == 40);
    assert!(offset_of!(RegionBytes, name_bytes) == 32);
    assert!(CHUNK_HEADER_BYTES == 28);
    assert!(offset_of!(ChunkBytes, address) == 8);
    assert!(ENTRY_BYTES == 32);
    assert!(DIGEST_BYTES == 32);
    assert!(offset_of!(EntryBytes, codec) == 24);
    assert!(TOTALS_BYTES == 56);
    assert!(offset_of!(TotalsBytes, mac) == 24);
    assert!(TRAILER_BYTES == 56);
};
