//! One replicated block in one thread, from one seed.
//!
//! Real coordinators and acceptors of crate `quorum` on three or five servers; messages are lost, late, doubled and
//! overtake each other; servers crash and come back with their memory or without it, are cut off in one direction or
//! both, and suspect each other without reason; clients ask, give up waiting and ask the next replica for the same.
//!
//! What it promises ([`run`]): the history of every client is linearizable; what was lost is filled again; at the end a
//! healed majority serves, whatever the rest does.
//!
//! What it leaves out: how servers agree on who they are. An oracle tells them of a new epoch, each at its own time.

mod client;
mod faults;
mod history;
mod object;
mod world;

pub use world::run;

/// What has happened, so that a run can show that it was no idle one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Operations that were answered.
    pub answers: u64,
    /// Operations of which nobody knows whether they were done.
    pub unknown: u64,
    /// Rounds that were lost to somebody else.
    pub lost_rounds: u64,
    /// Requests that were sent again, to another replica.
    pub retries: u64,
    /// Servers that crashed.
    pub crashes: u64,
    /// Servers that came back without their memory, and were filled.
    pub refills: u64,
    /// Servers that were cut off.
    pub cuts: u64,
    /// Servers whose place another one took.
    pub moves: u64,
}
