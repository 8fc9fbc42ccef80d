//! The memory server: lends one segment to the cluster.
//!
//! One thread accepts on each listening socket, and every connection has a thread of its own that
//! receives a burst of requests, does them on the segment, and sends the answers in one write. A few more
//! answer monitors over HTTP, where the configuration says so.
//!
//! What it promises: an operation inside one block is atomic; a request outside this server's range
//! is refused whole; a modifying request that is sent again in the same session is not done again; no
//! peer can make it allocate more than its budget, wait for longer than a deadline, or hold a lock;
//! a server that stops answers what it has received, and says of the rest that it was not done;
//! during a cut no answer leaves before every server has switched, and never for longer than the cap.
//!
//! What it leaves out: the memory of other servers (clients split by address) but for replicated blocks (`replica`), snapshots beyond its
//! part of the cut (the snapshot process reads the segment by itself), and what the metadata means (`meta`).
//!
//! # Locks
//!
//! | lock | guards | taken before | held across |
//! |---|---|---|---|
//! | `Cuts::control` | the cut in progress | `Cuts::hold` | allocation and release of the shadow area |
//! | `Cuts::hold` | since when answers are held | nothing | nothing |
//! | `Restores::current` | who restores | nothing | nothing |
//! | `Sessions::table` | answers kept for broken connections | nothing | nothing |
//! | `Guards::table` | which memory is guarded by which fence | nothing | nothing |
//! | `Guards::progress` | up to which entry of the metadata the memory is what it says | nothing | nothing |
//! | `Metadata::current` | the newest connection of each other server | nothing | nothing |
//! | `Metadata::threads` | the threads of the metadata, while they start and end | nothing | their start, their end |
//! | `Links::state` | which links there are for the metadata | `Link::queue` | the start of a thread |
//! | `Link::queue` | what waits to be sent to another server | nothing | nothing |
//! | `Replicas::view`, shards and what is taken under them | replicated blocks; the table stands in `replica/mod.rs` | see there | nothing |
//! | `Connections::open` | the set of open connections | nothing | nothing |
//! | `Places::taken` (of `net`) | how many places are taken, and by whom | nothing | nothing |
//! | a block's semaphore (in the segment) | that block | nothing | a copy of at most 4 KiB |
//!
//! No lock is held across socket or file IO.

mod accept;
mod budget;
mod connection;
mod connections;
mod counters;
mod cut;
#[cfg(test)]
mod fixture;
mod grown;
mod handover;
mod histogram;
mod http;
mod memory;
mod metadata;
mod metrics;
mod moved;
mod oplog;
mod outbox;
mod preflight;
mod reach;
mod replica;
mod restore;
mod server;
mod session;
mod shared;
mod start_error;
mod successor;

pub use grown::OnGrown;
pub use handover::OnHandover;
pub use mcomp_meta::Corrupt;
pub use metadata::MetadataError;
pub use moved::OnMoved;
pub use preflight::{CONNECTION_FILES, OTHER_FILES};
pub use server::{Options, STACK_BYTES, Server};
pub use start_error::StartError;
