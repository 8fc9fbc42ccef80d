//! An acceptor: one replica's word on one block.
//!
//! It promises to obey no ballot below the greatest that it has heard, and keeps the value of the greatest that it has
//! accepted. Both must survive whatever the replica survives: a replica that forgot either may not vote
//! ([`Replica::votes`]).

use std::fmt::Debug;
use std::hash::Hash;

use crate::Ballot;
use crate::mutant::{self, Mutant};

/// One replica's copy of one block. What is set is kept before an answer goes out.
pub trait Replica {
    /// What the block holds.
    type Value: Clone + Debug + Eq + Hash;

    /// Whether this copy is proven whole since the replica first voted. One that is not answers nothing.
    fn votes(&self) -> bool;
    /// The least ballot that is obeyed.
    fn promised(&self) -> Ballot;
    /// The ballot of the value.
    fn accepted(&self) -> Ballot;
    /// The value.
    fn value(&self) -> Self::Value;
    /// Obeys nothing below `ballot` from now on.
    fn promise(&mut self, ballot: Ballot);
    /// Takes what [`crate::Refill`] has found. From now on it votes.
    fn fill(&mut self, promised: Ballot, accepted: Ballot, value: Self::Value);
    /// Takes a value, and obeys nothing below `promised` from now on.
    fn accept(&mut self, ballot: Ballot, promised: Ballot, value: &Self::Value);
}

/// What a coordinator asks a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask<V> {
    /// Under which ballot was your value accepted?
    Report,
    /// Obey nothing below this ballot, and say what you hold.
    Prepare(Ballot),
    /// Hold this, and obey nothing below the proposer's next ballot.
    Accept(Ballot, V),
    /// Show everything that you keep, to a replica that lost it.
    Show,
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply<V> {
    /// The ballot of its value.
    Reported(Ballot),
    /// It obeys nothing lower from now on, and holds this.
    Promised(Ballot, V),
    /// It holds what was proposed.
    Accepted,
    /// It has promised this, and holds what was accepted under that.
    Shown(Ballot, Ballot, V),
    /// It obeys nothing below this ballot.
    Refused(Ballot),
}

/// A replica's answer; none from one that does not vote.
pub fn answer<R: Replica>(replica: &mut R, ask: Ask<R::Value>) -> Option<Reply<R::Value>> {
    if !replica.votes() && mutant::active() != Mutant::AmnesiacVoter {
        return None;
    }
    Some(match ask {
        Ask::Report => Reply::Reported(replica.accepted()),
        Ask::Prepare(ballot) if ballot >= replica.promised() => {
            if mutant::active() != Mutant::PatchByAbd {
                replica.promise(ballot);
            }
            Reply::Promised(replica.accepted(), replica.value())
        }
        Ask::Accept(ballot, value) => {
            return accept(replica, ballot, |replica, promised| replica.accept(ballot, promised, &value));
        }
        Ask::Show => Reply::Shown(replica.promised(), replica.accepted(), replica.value()),
        Ask::Prepare(_) => Reply::Refused(replica.promised()),
    })
}

/// A replica's answer to [`Ask::Accept`], where the value is something that it can hold as it is: `hold` takes it under
/// this ballot, and obeys nothing below the one that it is given.
pub fn accept<R: Replica>(
    replica: &mut R,
    ballot: Ballot,
    hold: impl FnOnce(&mut R, Ballot),
) -> Option<Reply<R::Value>> {
    if !replica.votes() && mutant::active() != Mutant::AmnesiacVoter {
        return None;
    }
    // It came before, and the answer may have been lost. That it holds this was true then, whatever it promised since.
    if ballot == replica.accepted() {
        return Some(Reply::Accepted);
    }
    if ballot >= replica.promised() {
        hold(replica, ballot.next(ballot.incarnation()));
        return Some(Reply::Accepted);
    }
    match mutant::active() {
        Mutant::PatchByAbd => Some(Reply::Accepted),
        _ => Some(Reply::Refused(replica.promised())),
    }
}

/// A copy in plain memory: what simulators and tests vote with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Copy<V> {
    votes: bool,
    promised: Ballot,
    accepted: Ballot,
    value: V,
}

impl<V> Copy<V> {
    /// A block of a new cluster. Every replica has the same.
    pub fn new(value: V) -> Copy<V> {
        Copy { votes: true, promised: Ballot::ZERO, accepted: Ballot::ZERO, value }
    }

    /// A copy that was lost: it does not vote.
    pub fn lost(value: V) -> Copy<V> {
        Copy { votes: false, ..Copy::new(value) }
    }
}

impl<V: Clone + Debug + Eq + Hash> Replica for Copy<V> {
    type Value = V;

    fn votes(&self) -> bool {
        self.votes
    }

    fn promised(&self) -> Ballot {
        self.promised
    }

    fn accepted(&self) -> Ballot {
        self.accepted
    }

    fn value(&self) -> V {
        self.value.clone()
    }

    fn promise(&mut self, ballot: Ballot) {
        self.promised = ballot;
    }

    fn fill(&mut self, promised: Ballot, accepted: Ballot, value: V) {
        *self = Copy { votes: true, promised, accepted, value };
    }

    fn accept(&mut self, ballot: Ballot, promised: Ballot, value: &V) {
        (self.accepted, self.promised, self.value) = (ballot, promised, value.clone());
    }
}
