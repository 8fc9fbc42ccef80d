//! The replicated block: an atomic register on a majority of its replicas.
//!
//! It is CASPaxos with ballots that are kept from round to round, and reads of one round where a majority agrees. Any
//! write that is smaller than a block changes a value that was read, and two such must not lose one another: so storing
//! the newest under the next ballot, as registers do that are written whole, is not enough here.
//!
//! What it promises, whatever messages are lost, late, doubled or out of order, and whichever minority of replicas does
//! not answer: operations on a block are linearizable, and each is done at most once, also when it is sent again to
//! another replica.
//!
//! | rule | without it |
//! |---|---|
//! | a read is answered when a majority agrees on the ballot; otherwise the value is settled first | `Mutant::OneRoundRead` |
//! | suspicion changes whom to ask, never how many | `Mutant::ShrunkQuorum` |
//! | a replica that lost its memory does not vote | `Mutant::AmnesiacVoter` |
//! | a value is changed under a ballot that a majority obeys | `Mutant::PatchByAbd` |
//! | the result of an operation is part of the value | `Mutant::NoOpId` |
//! | an operation that may have been forgotten is not done | `Mutant::ShortMemory` |
//! | a refused proposal may be chosen yet | `Mutant::NackIsFail` |
//! | a replica counts once | `Mutant::CountTwice` |
//! | votes end with the epoch in which they were given | `Mutant::OldVotes` |
//! | a replica is filled from so many that every quorum is among them | `Mutant::FillFromOne` |
//! | a coordinator's own replica is the first to hear a ballot, so that no restart uses one twice | `Mutant::OthersFirst` |
//!
//! What it leaves out: who the replicas are, and how they come to that. Every message belongs to an epoch, in which each
//! replica lives one life; whoever drives this drops those of other epochs, before they come here.

mod acceptor;
mod ballot;
mod coordinator;
mod group;
pub mod mutant;
mod refill;
mod register;
mod round;

pub use acceptor::{Ask, Copy, Replica, Reply, accept, answer};
pub use ballot::{Ballot, Incarnation};
pub use coordinator::{Asked, Coordinator, Effect, Fate, Outcome, Replied, Ticket};
pub use group::{MAX_REPLICAS, Place, Set};
pub use refill::Refill;
pub use register::{Object, OpId, RESULTS, Register, Told};
