//! This server's copy of one block, in its segment.

use mcomp_quorum::{Ballot, Register, Replica};
use mcomp_shm::{Life, Segment};
use mcomp_wire::replica::{PAGE, Value};

use super::page::{self, Page};

/// A copy, while nobody else of this server is at it.
pub(super) struct Held<'a> {
    pub(super) segment: &'a Segment,
    /// Counted over the segment.
    pub(super) block: u64,
    /// Whether this server may vote at all.
    pub(super) is_member: bool,
}

impl Held<'_> {
    /// Holds a value as a frame has it: see [`Replica::accept`].
    pub(super) fn hold(&mut self, ballot: Ballot, promised: Ballot, value: &Value<'_>) {
        let register = page::to_segment(promised, ballot, value);
        self.segment.set_register(self.block, value.page.unwrap_or(&[0; PAGE]), &register);
    }
}

impl Replica for Held<'_> {
    type Value = Register<Page>;

    fn votes(&self) -> bool {
        self.is_member
            && match self.segment.life() {
                Life::Whole => true,
                Life::Filling => self.segment.is_filled(self.block),
                Life::Unknown => false,
            }
    }

    fn promised(&self) -> Ballot {
        Ballot::from_bits(self.segment.ballots(self.block).0)
    }

    fn accepted(&self) -> Ballot {
        Ballot::from_bits(self.segment.ballots(self.block).1)
    }

    fn value(&self) -> Register<Page> {
        let (contents, register) = self.segment.register(self.block);
        page::from_segment(contents, &register)
    }

    fn promise(&mut self, ballot: Ballot) {
        self.segment.promise(self.block, ballot.to_bits());
    }

    fn fill(&mut self, promised: Ballot, accepted: Ballot, value: Register<Page>) {
        if accepted > Ballot::ZERO || promised > Ballot::ZERO {
            self.accept(accepted, promised, &value);
        }
        self.segment.set_filled(self.block);
    }

    fn accept(&mut self, ballot: Ballot, promised: Ballot, value: &Register<Page>) {
        page::with_value(value, |value| self.hold(ballot, promised, &value));
    }
}
