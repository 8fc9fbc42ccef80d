//! The client library: one address space over all servers of an mcomp cluster.
//!
//! A [`Cluster`] reads and writes any byte of the space, from any number of threads. It splits by
//! address, sends to all servers involved before it waits for any, pipelines long transfers in
//! bounded memory, and connects when it first needs a server, so that a dead one does not make the
//! memory of the others unreachable.
//!
//! ```no_run
//! use mcomp_client::{Cluster, Options, Space};
//! # fn main() -> Result<(), mcomp_client::Error> {
//! let space = Space::new(64 << 20, 2).expect("the space fits into 64 bits");
//! let cluster = Cluster::with_options(Options::new("demo", space, ["10.0.0.1:7401", "10.0.0.2:7401"]))?;
//! cluster.write_at(0, b"hello")?;
//! assert_eq!(cluster.read_vec(0, 5)?, b"hello");
//! let before = cluster.fetch_add(64, 1)?;
//! # let _ = before; Ok(()) }
//! ```
//!
//! What it promises
//! - A read, write or patch inside one 4 KiB block is linearizable, and so is every atomic. A call
//!   that spans blocks is a sequence of independent pieces.
//! - A call ends: with success, with an error that certainly had no effect ([`Outcome::Fail`]), or
//!   with one that may have had one ([`Outcome::Unknown`]). Never with a success that was none.
//! - Nothing is sent for a range that is not inside the space.
//! - A request that is sent again after a broken connection is done at most once.
//! - Every wait for a server ends after the timeout of the options.
//!
//! Locks: threads that share a cluster meet on none while each finds its connection again.
//!
//! | lock | guards | rule |
//! |---|---|---|
//! | `Pool::state`, one for each server | which links are idle and how many exist, what the first handshake of an era said, changes of the era and of who waits | a leaf: nobody holds two or takes another lock under one, and none is held across IO. Taken to open, to wait, to give to those who wait, and to give up |
//! | `Pool::slots` | links at rest | no lock: each is a pointer that is swapped. A thread takes from its own and puts there |
//! | `Pool::local` | the mapped segment | no lock: a pointer that is swapped when it is mapped or left |
//! | `Doors::idle` | links for commands and questions about what the servers agree on | a leaf, not held across IO |
//! | `Session`'s numbers, and its end | which commands are under way; whether it ends | leaves, not held across IO |
//! | `Cluster`'s era | which reconnect calls live after | no lock: one word |
//!
//! What it leaves out: caching, locks across calls, and retries that a caller has to decide (after a
//! busy server, a restore, or an unknown outcome).

mod added;
mod agreed;
mod ask;
mod atomics;
mod batch;
mod clock;
mod cluster;
mod copy;
mod dedicated;
mod era;
mod error;
mod lane;
mod link;
mod local;
mod moved;
mod names;
mod options;
mod peer;
mod pool;
mod range_io;
mod read;
mod replicated;
mod sink;
mod status;
mod stream;
mod transfer;
mod vectored;
mod window;

pub use agreed::{Lock, Reset, Session};
pub use atomics::{Exchanged, Exchanged16};
pub use batch::{Batch, BatchOutcome};
pub use cluster::Cluster;
pub use dedicated::Dedicated;
pub use error::{Error, Outcome};
pub use mcomp_wire::control::{ServerStatus, Welcome};
pub use mcomp_wire::{AtomicOp, Kind, Role, Space};
pub use mcomp_wire::{Shape, Status, meta};
pub use options::{Checksum, Options, TlsFiles};
pub use range_io::RangeIo;
pub use stream::Chunks;
