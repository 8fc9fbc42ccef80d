//! Shared memory segments: the k bytes that one server lends, and everything needed to share them safely.
//!
//! A segment is a POSIX shared memory object with a header, a table of blocks, the data and an area of
//! shadow pages; `docs/segment.md` draws its bytes. Three kinds of process meet in it:
//!
//! * one server, which owns it ([`Segment`]): it alone writes, from many threads;
//! * the snapshot process of the machine ([`Reader`]): it maps the segment read-only and copies the memory as it
//!   was at one instant, while the server goes on writing;
//! * clients of the same machine ([`Reader`] as well), which read without asking the server.
//!
//! What it promises:
//!
//! * an operation inside one 4 KiB block is atomic: no reader, on either side, sees half of a write;
//! * a request that spans blocks is a sequence of such pieces, one per block, in ascending order unless said;
//! * the data outlive the server: a new server takes the segment over with every byte of it, and finishes the
//!   writes that its predecessor's death left half done;
//! * nothing that a read-only process does, or fails to do, can make a writer wait;
//! * no memory of the segment is touched that has not been allocated, so a full machine is an error with
//!   numbers ([`ShmError::Full`]) and not a SIGBUS;
//! * after a segment has been opened, its operations allocate nothing.
//!
//! What it leaves out: sockets, other servers, the order of cuts across servers, and protection from a process
//! of the same user that writes into the object on purpose.
#![expect(unsafe_code)]
// UNSAFETY: memory that other processes map cannot be reached through Rust references, so this crate copies
// through raw pointers, with inline assembly where the language has no racing copy. It is kept in `map` (the
// mapping and the typed words in it) and `copy` (bytes in and out); all other modules state only, at each call,
// why the range lies inside the mapping.

#[cfg(target_endian = "big")]
compile_error!("the segment's layout is little-endian, and a big-endian machine would need conversions everywhere");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("a segment is mapped whole, which needs a 64-bit address space");
#[cfg(not(target_os = "linux"))]
compile_error!("segments use futexes, hole punching and /dev/shm of Linux");

mod agreed;
mod background;
mod block;
mod change;
mod client_read;
mod copy;
mod cut;
mod cut_read;
mod error;
mod gate;
mod identity;
mod image;
mod layout;
mod look;
mod map;
pub mod mutant;
mod object;
mod open;
mod preflight;
mod purge;
mod reader;
mod register;
mod segment;
mod semaphore;
mod settle;
mod shadow;
mod slot;
mod span;
mod sync;

#[cfg(test)]
mod tests;

pub use background::step_back;
pub use cut_read::BlockMeta;
pub use error::{CutError, ReadError, ShmError, Torn};
pub use layout::{
    BLOCK_BYTES, CLUSTER_NAME_MAX_BYTES, K_MAX_BYTES, LAYOUT_VERSION, REGISTER_BYTES, Sizes, Spec, State,
};
pub use look::{Found, clusters, look};
pub use mutant::Mutant;
pub use preflight::{Limiter, Room, cgroups, rooms};
pub use purge::{Listed, PurgeOutcome, Purged, list, purge, purge_those};
pub use reader::Reader;
pub use register::{Arrangement, Life};
pub use segment::{Opened, Segment};
pub use span::{Span, Word8, Word16};
