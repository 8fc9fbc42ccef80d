//! This server's copy of one block, in its segment.

use std::sync::Arc;

use mcomp_quorum::{Ballot, Register, Replica};
use mcomp_shm::{Life, REGISTER_BYTES, Segment};
use mcomp_wire::replica::PAGE;

use super::page::{self, Page};

/// A copy, while nobody else of this server is at it.
pub(super) struct Held<'a> {
    pub(super) segment: &'a Segment,
    /// Counted over the segment.
    pub(super) block: u64,
    /// Whether this server may vote at all.
    pub(super) is_member: bool,
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
        let (mut contents, mut register) = (Arc::new([0; PAGE]), [0; REGISTER_BYTES]);
        self.segment.register(self.block, Arc::make_mut(&mut contents), &mut register);
        page::from_segment(contents, &register)
    }

    fn promise(&mut self, ballot: Ballot) {
        self.segment.promise(self.block, ballot.to_bits());
    }

    fn fill(&mut self, promised: Ballot, accepted: Ballot, value: Register<Page>) {
        if accepted > Ballot::ZERO || promised > Ballot::ZERO {
            self.accept(accepted, promised, value);
        }
        self.segment.set_filled(self.block);
    }

    fn accept(&mut self, ballot: Ballot, promised: Ballot, value: Register<Page>) {
        let register = page::to_segment(promised, ballot, &value);
        self.segment.set_register(self.block, &value.object().bytes, &register);
    }
}
