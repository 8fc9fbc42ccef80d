//! What all servers of a cluster agree on: who has which memory, under what name, until when, and who holds which lock.
//!
//! [`State`] is a state machine: entries of a log go in, in order, and answers and effects come out as values. Two
//! machines that were given the same entries are equal, and give the same answers. Time and randomness come with the
//! entries ([`Stamp`]), from whoever leads.
//!
//! What it promises: no two allocations overlap; every allocation, lease and lock has an end that needs nobody's help
//! but time's; a command that comes twice is done once; fences only grow.
//!
//! What it leaves out: how the log is agreed on and kept (crate `consensus`), and the memory itself: a server that
//! applies an entry does its [`Effect`]s on its own part of it.

pub mod allocator;
mod entry;
mod growth;
mod image;
mod invariants;
mod leases;
mod locks;
mod members;
pub mod mutant;
mod query;
mod reset;
mod sessions;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub use entry::{Effect, Entry, Outcome, Refusal, Stamp, Ticket};
pub use image::Corrupt;
pub use state::State;
