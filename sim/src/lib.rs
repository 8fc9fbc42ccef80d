//! The metadata of a whole cluster in one thread, from one seed; and one replicated block ([`block`]).
//!
//! Real nodes of crate `consensus` with real states, a disk and a clock each, and links that delay, lose and break;
//! servers crash, come back with what their disk has, or without it; clients ask, wait, ask again elsewhere. Whatever
//! happens is drawn from the seed, so a history that fails is the same the next time.
//!
//! What it promises ([`run`]): after each event that what was agreed on is agreed on; at the end that the cluster,
//! healed as far as [`Mode`] says, serves, and that nothing has leaked.
//!
//! What it leaves out: sockets, threads and real disks, which the end-to-end tests have.

pub mod block;
mod client;
mod cluster;
mod disk;
mod network;
mod oracle;

pub use cluster::{Mode, Tally, run};
