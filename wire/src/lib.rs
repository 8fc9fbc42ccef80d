//! Every message that crosses an mcomp socket.
//!
//! A frame is a fixed 48-byte [`Header`] and a body. Bodies of data requests are raw bytes in a
//! fixed layout ([`Request`]); bodies of control requests are postcard ([`control`]). Numbers are
//! little-endian. `docs/protocol.md` describes the same bytes in prose, and changes with them.
//!
//! What this crate promises: parsing never panics, never allocates a size that the peer chose, and
//! returns a typed [`Malformed`] that says what was wrong. What it leaves out: sockets, threads,
//! deadlines (crate `net`), and what a request does (crate `server`).

mod batch;
mod chunk;
pub mod control;
mod header;
mod kind;
pub mod limits;
pub mod meta;
mod placement;
mod ranges;
pub mod replica;
mod request;
mod space;
mod status;

pub use batch::{Batch, BatchItem, emit_answer_item, emit_item};
pub use chunk::Chunk;
pub use header::{FrameError, HEADER_LEN, Header, MAGIC, VERSION, body_checksum, flags};
pub use kind::{AtomicOp, Kind, Role};
pub use placement::{Placement, Shape};
pub use ranges::Ranges;
pub use request::{AtomicAnswer, Cas16Answer, Malformed, Request};
pub use space::{OutOfRange, Piece, Pieces, Range, Space};
pub use status::Status;

/// Bytes in one block: the unit of atomicity, locking and snapshots.
pub const BLOCK_SIZE: u64 = 4096;
