//! The snapshot file: one instant of an mcomp memory, as bytes on a disk.
//!
//! A file holds the blocks of one cut in chunks of at most 1 MiB. A full file stands alone; an
//! incremental one holds the blocks that changed since its parent and finds that parent by cut id
//! among the files of its own folder. Each may hold the page table of its cut, which says whose memory was whose.
//! `docs/snapshot.md` draws every byte.
//!
//! Promises:
//! - A file appears under its final name whole and synced, or not at all.
//! - Every byte is covered by a checksum or has one allowed value: [`Snapshot::verify`] refuses a
//!   file in which any byte was flipped, cut off or added.
//! - Nothing that a file claims is allocated or followed before it is checked: not a length, not a
//!   count, not a name.
//! - A file that is signed with a key is changed unnoticed only by who knows that key.
//! - Memory is bounded by the chunk table (64 bytes a chunk, and no two chunks stand closer than
//!   [`GAP_BLOCKS`] blocks unless they are full), by the names of allocations, and by 1 MiB for each file of a chain.
//!
//! Leaves out: sockets, shared memory, how long an allocation lives, and where keys come from. Who can write the folder can write a
//! valid file without a MAC, and put an old file in the place of a new one.

mod bytes;
mod calls;
mod chain;
mod chunk;
mod cut;
mod dir;
mod error;
mod export;
mod fault;
mod folder;
mod footer;
mod header;
mod mac;
mod meta;
mod name;
mod out;
mod pages;
mod reader;
mod runs;
mod temp;
mod writer;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod folder_tests;
#[cfg(test)]
mod mac_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod pages_tests;

pub use chain::{Chain, MAX_CHAIN_FILES};
pub use chunk::{Codec, EncodedChunk, MAX_CHUNK_BYTES};
pub use cut::{BlockRange, Cutter, GAP_BLOCKS, MAX_CHUNK_BLOCKS, cut_runs};
pub use dir::Dir;
pub use error::{FileError, Part};
pub use folder::{Entry, Folder, Pruned, State};
pub use footer::ChunkEntry;
pub use mac::{FileKeys, Mac, Unsigned};
pub use meta::{MAX_CLUSTER_BYTES, MAX_SERVERS, Meta, Parent, ServerRecord};
pub use name::Name;
pub use pages::SavedRegion;
pub use reader::Snapshot;
pub use runs::{Contents, Run, Runs};
pub use writer::{Finished, Writer};

/// The unit of memory that a snapshot records, in bytes.
pub const BLOCK_BYTES: u64 = 4096;

/// Told how far a long piece of work has come: bytes done, bytes in total.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);
