//! Exact snapshots of an mcomp cluster, and restore.
//!
//! One snapshot process runs on each machine ([`Snapshotter`]). It maps the segment of its server
//! read-only and holds nothing that a server could wait for: kill or freeze it at any moment, and
//! writers do not notice. The one named master in mcomp.cfg also makes snapshots, on demand
//! ([`create`]) and by schedule: it cuts all servers at one instant, has every snapshot process copy
//! its segment, and writes one file. [`Restore`] brings a file back through the network.
//!
//! A snapshot that cannot be exact and whole is given up with its reason, is counted, and leaves no
//! file; the next one starts afresh.
//!
//! What it leaves out: deciding when a snapshot is wanted beyond a fixed schedule, and replicas.
//!
//! # Locks
//!
//! | lock | guards | held across |
//! |---|---|---|
//! | `Turn::line` | whose turn it is to make a snapshot | nothing (it is a flag with a condition variable) |
//! | `Tally::inner` | counts and the last result | a string copy |
//! | `Places::taken` (of `net`) | how many connections are open, and whose | a map operation |
//! | `Shared::pause` | nothing: it is where threads wait for their time or for the end | nothing |
//!
//! None is taken while another is held, and none is held across socket or file IO.

mod accept;
mod ask;
mod collect;
mod cut;
mod error;
pub mod file;
#[cfg(test)]
mod fixture;
mod gather;
mod limit;
mod master;
mod page_table;
mod restore;
mod service;
mod snapshotter;
mod tally;

pub use accept::MOST_CONNECTIONS;
pub use ask::{create, snapshotter_status};
pub use cut::file_keys;
pub use error::SnapshotError;
pub use restore::{Restore, RestorePlan, Restored};
pub use snapshotter::Snapshotter;
