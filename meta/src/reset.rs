//! The page table of a snapshot: it comes in parts, and takes the place of the one that is there all at once.
//!
//! From the first part on nothing is allocated, so that no server zeroes bytes that a restore writes at the same time.
//! Each part is checked when it comes, so that the last one, which comes when the memory is written, finds nothing wrong.
//! Parts belong to a session and go with it; with the last one every session ends, that one too, so nothing that was
//! asked before can be done after it.

use std::collections::BTreeMap;

use mcomp_wire::meta::{Answer, Ask, Command, Owner, Region};
use mcomp_wire::{Space, Status, limits};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::allocator::Run;
use crate::state::Step;
use crate::table::{Allocation, check_name, check_notes};
use crate::{Effect, Refusal, State};

/// A page table of which parts have come.
#[derive(Clone, Debug)]
pub(crate) struct Coming {
    /// Who brings it.
    pub(crate) session: Uuid,
    /// How many parts have come.
    pub(crate) parts: u32,
    /// What has come, as a state with nothing but a page table; generations are given at the end.
    pub(crate) table: State,
}

/// The same as it stands in an image.
#[derive(Serialize, Deserialize)]
pub(crate) struct Parts {
    session: Uuid,
    parts: u32,
    allocations: BTreeMap<u64, Allocation>,
}

impl State {
    /// Takes a part; with the last one all of them take effect.
    pub(crate) fn reset(
        &mut self,
        session: Uuid,
        part: u32,
        last: bool,
        regions: Vec<Region>,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        if part == 0 {
            self.coming = Some(Box::new(Coming { session, parts: 0, table: State::new(self.space) }));
        }
        let Some(coming) = self.coming.as_mut().filter(|coming| coming.session == session && coming.parts == part)
        else {
            let message = format!("part {part} of a page table does not follow what has come: begin with part 0");
            return Err(Refusal::new(Status::Invalid, message));
        };
        coming.parts = coming.parts.saturating_add(1);
        if let Err(refusal) = coming.take(regions) {
            self.coming = None;
            return Err(refusal);
        }
        if last {
            let coming = self.coming.take().expect("a part of it has come");
            self.become_table(coming.table, session);
            step.effect(Effect::Clear);
        }
        Ok(Answer::Done)
    }

    /// The memory of these allocations was written by the restore, so it is not zeroed.
    fn become_table(&mut self, mut table: State, session: Uuid) {
        (table.log_id, table.index, table.now_ms, table.serial) = (self.log_id, self.index, self.now_ms, self.serial);
        for allocation in table.allocations.values_mut() {
            table.serial += 1;
            allocation.generation = table.serial;
            // The time of another cluster may be later than ours.
            allocation.created_ms = allocation.created_ms.min(table.now_ms);
        }
        table.reset_by = Some(session);
        // Memory is kept by whom it was kept before.
        (table.members, table.last_incarnation) = (std::mem::take(&mut self.members), self.last_incarnation);
        *self = table;
    }

    /// Whether this is a second try of what has ended its session: the last part of a page table.
    pub(crate) fn has_reset(&self, ask: &Ask) -> bool {
        matches!(ask.command, Command::Reset { last: true, .. }) && self.reset_by == Some(ask.session)
    }

    /// Refuses what gives bytes a new owner while a page table comes.
    pub(crate) fn check_not_resetting(&self, command: &Command) -> Result<(), Refusal> {
        let zeroes = matches!(command, Command::Allocate(_) | Command::Resize { .. } | Command::Replace { .. });
        if zeroes && self.coming.is_some() {
            let message = "a restore is under way: nothing is allocated until it is done";
            return Err(Refusal::new(Status::Restoring, message));
        }
        Ok(())
    }

    /// The session has ended, and what it has brought of a page table goes with it.
    pub(crate) fn forget_coming(&mut self, session: Uuid) {
        self.coming.take_if(|coming| coming.session == session);
    }

    fn take_in(&mut self, region: Region) -> Result<(), Refusal> {
        let Region { addr, size, capacity, name, notes, created_ms, .. } = region;
        let bad = |why: &str| Refusal::new(Status::BadData, format!("the allocation at {addr}, {size} bytes, {why}"));
        if size == 0 || size > capacity {
            return Err(bad("has a size that makes no sense"));
        }
        check_notes(&notes)?;
        self.allocator.reserve(Run { addr, capacity }).map_err(|_| bad("does not fit, or overlaps another one"))?;
        if let Some(name) = &name {
            check_name(name)?;
            if self.names.insert(name.clone(), addr).is_some() {
                return Err(bad("has a name that another one has"));
            }
        }
        self.asked_bytes += size;
        let (owner, lease, zeroed) = (Owner::Cluster, None, vec![(addr, 0)]);
        let allocation = Allocation { size, capacity, generation: 0, name, owner, lease, notes, created_ms, zeroed };
        self.allocations.insert(addr, allocation);
        Ok(())
    }
}

impl Coming {
    fn take(&mut self, regions: Vec<Region>) -> Result<(), Refusal> {
        if self.table.allocations.len() + regions.len() > limits::MAX_REGIONS {
            let message = format!("more than {} allocations, and no more are allowed", limits::MAX_REGIONS);
            return Err(Refusal::new(Status::Full, message));
        }
        regions.into_iter().try_for_each(|region| self.table.take_in(region))
    }

    pub(crate) fn into_parts(self) -> Parts {
        Parts { session: self.session, parts: self.parts, allocations: self.table.allocations }
    }

    /// What an image says has come. That it holds together is checked with the rest.
    pub(crate) fn of_parts(parts: Parts, space: Space) -> Result<Coming, String> {
        let mut table = State { allocations: parts.allocations, ..State::new(space) };
        table.derive()?;
        Ok(Coming { session: parts.session, parts: parts.parts, table })
    }
}
