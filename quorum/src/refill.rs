//! A replica that lost its memory gets it back from the others.
//!
//! It votes only after that, and in a new epoch: whoever answers it refuses messages of the old one. It asks so many that
//! every majority which its former life was part of has another member among them. So it promises at least what that
//! life had promised to anybody who can still make use of it, and holds at least what that life helped to choose.

use crate::Ballot;
use crate::acceptor::{Replica, Reply};
use crate::group::{Place, Votes};
use crate::mutant::{self, Mutant};

/// What the others have shown of one block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refill<V> {
    place: Place,
    shown: Votes,
    promised: Ballot,
    newest: Option<(Ballot, V)>,
}

impl<V> Refill<V> {
    /// Nothing yet. [`crate::Ask::Show`] is to be sent to all others.
    pub fn new(place: Place) -> Refill<V> {
        Refill { place, shown: Votes::default(), promised: Ballot::ZERO, newest: None }
    }

    /// Takes an answer of this epoch. Whether the replica is filled now.
    pub fn heard(&mut self, local: &mut impl Replica<Value = V>, from: u8, reply: Reply<V>) -> bool {
        let Reply::Shown(promised, accepted, value) = reply else { return local.votes() };
        self.shown.add(from);
        self.promised = self.promised.max(promised);
        if self.newest.as_ref().is_none_or(|(ballot, _)| accepted > *ballot) {
            self.newest = Some((accepted, value));
        }
        let enough = match mutant::active() {
            Mutant::FillFromOne => 1,
            _ => u32::from(self.place.replicas) - self.place.majority() + 1,
        };
        if !local.votes()
            && self.shown.count() >= enough
            && let Some((accepted, value)) = self.newest.take()
        {
            local.fill(self.promised, accepted, value);
        }
        local.votes()
    }
}
