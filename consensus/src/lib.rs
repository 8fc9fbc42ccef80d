//! One server's part in the agreement on the cluster's metadata.
//!
//! A [`Node`] wires the Raft engine to the state machine of crate `meta`, without IO, clock, thread or randomness:
//! time, messages, commands and reads go in, and what is to be made durable, sent, answered and done comes out as
//! values. The one thread that owns it does those in the order that [`Node::ready`] says.
//!
//! What it promises: an answer means that the command is in the log of a majority and was applied; reads that come
//! back saw every command that was answered before them; time goes on only while somebody leads, so no lease ends
//! early because a leader died; a server that has lost its log does not vote until it has a log again ([`Node`]).
//!
//! What it leaves out: sockets, disks and threads (`server`), and what commands mean (`meta`).

mod clock;
mod log;
mod message;
mod node;
mod persist;
mod seating;
#[cfg(test)]
mod tests;
mod voters;

pub use message::{Garbled, PeerMessage};
pub use node::{Advanced, Compaction, Node, Random, Ready, Settings, TICK_MS};
pub use persist::{HardState, Image, LogEntry, Persist, Recovered};
pub use voters::{Peer, Turn, VoterChange, Voters};
