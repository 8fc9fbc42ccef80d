//! What must be true of all servers and clients together, whatever happens.

use std::collections::{BTreeMap, HashMap, HashSet};

use mcomp_consensus::Node;
use mcomp_meta::{Effect, Refusal, Ticket};
use mcomp_wire::Status;
use mcomp_wire::meta::{Answer, Found, Lease, Owner, Query, Region, Told};
use uuid::Uuid;

/// Clocks go at most this much too fast or too slow.
pub(crate) const CLOCK_ERROR: f64 = 0.1;

/// Knows everything that anybody was told.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The state at an index, in short: every server that comes there must find the same.
    digests: BTreeMap<u64, (u64, u64, u64, u64, u64)>,
    /// What a command was told, wherever.
    told: HashMap<Ticket, Told>,
    fences: HashSet<u64>,
    /// The highest index that a client has an answer of.
    pub(crate) acknowledged: u64,
    /// Leases by address: who has it since which entry, and its end at the earliest, in true time.
    leases: BTreeMap<u64, (Uuid, u64, f64)>,
    /// The page tables that clients have brought, by the command that puts them in force.
    tables: HashMap<Ticket, Vec<Region>>,
    /// The newest one that is in force, and since which entry.
    restored: (u64, Vec<Region>),
    pub(crate) resets: u64,
}

impl Oracle {
    /// Looks at a server that has come to another entry.
    pub(crate) fn look_at(&mut self, node: &Node) -> Result<(), String> {
        let state = node.state();
        let Found::Space(space) = state.query(&Query::Space) else { unreachable!("the space was asked for") };
        let digest = (state.serial(), state.now_ms(), space.asked, space.sessions, space.leases);
        let known = *self.digests.entry(state.index()).or_insert(digest);
        ensure(known == digest, || format!("at {} one server has {known:?}, another {digest:?}", state.index()))
    }

    /// A server applied a command.
    pub(crate) fn told(&mut self, ticket: Ticket, told: &Result<Told, Refusal>) -> Result<(), String> {
        let Ok(told) = told else { return Ok(()) };
        if ticket.number == 0 {
            // A wish to open a session opens another one each time, and a sign of life is none the less for another.
            return Ok(());
        }
        if let Some(first) = self.told.get(&ticket) {
            // The answers of what has ended its session went with it: asked again, it is only said that it was done.
            if self.tables.contains_key(&ticket) {
                return ensure(told.index >= first.index, || format!("{ticket:?} was done at {first:?} and {told:?}"));
            }
            return ensure(first == told, || format!("{ticket:?} was told {first:?}, and then {told:?}"));
        }
        if let Answer::Locked { fence, .. } = told.answer {
            ensure(self.fences.insert(fence), || format!("the fence {fence} was given out twice"))?;
        }
        if let Some(regions) = self.tables.get(&ticket) {
            self.resets += 1;
            self.restored = (told.index, regions.clone());
            // Every lease ends here.
            self.leases.clear();
        }
        self.told.insert(ticket, told.clone());
        Ok(())
    }

    /// Up to where a server must have come that knows all that was said to be done.
    pub(crate) fn certain(&self) -> u64 {
        self.acknowledged.max(self.restored.0)
    }

    /// A client has sent the last part of a page table, which is this one.
    pub(crate) fn may_reset(&mut self, ticket: Ticket, regions: Vec<Region>) {
        self.tables.insert(ticket, regions);
    }

    /// Whether all that belongs to nobody in particular is what a restore brought last: the clients leave nothing so.
    pub(crate) fn found<'a>(&self, regions: impl Iterator<Item = &'a Region>) -> Result<(), String> {
        type Part<'a> = (u64, u64, &'a Option<String>);
        let part = |region: &'a Region| -> Part<'a> { (region.addr, region.size, &region.name) };
        let mut found: Vec<Part<'_>> = regions.filter(|region| region.owner == Owner::Cluster).map(part).collect();
        let (index, restored) = &self.restored;
        let mut wanted: Vec<Part<'_>> = restored.iter().map(|r| (r.addr, r.size, &r.name)).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        ensure(found == wanted, || format!("restored at {index} was {wanted:?}, and there is {found:?}"))
    }

    /// A client has its answer.
    pub(crate) fn acknowledged(&mut self, told: &Told) {
        self.acknowledged = self.acknowledged.max(told.index);
    }

    /// A lease was granted or renewed by the entry at `index` for so long, to who asked at `asked_ms`.
    pub(crate) fn leased(&mut self, addr: u64, lease: &Lease, lease_ms: u64, index: u64, asked_ms: u64) {
        let ends_ms = asked_ms as f64 + lease_ms as f64 / (1.0 + CLOCK_ERROR);
        // An answer may come late, when the memory has another holder already, or was restored.
        let is_known = self.leases.get(&addr).is_some_and(|(_, known, _)| *known >= index);
        if !is_known && index > self.restored.0 {
            self.leases.insert(addr, (lease.id, index, ends_ms));
        }
    }

    /// A client has sent a renewal, which may also end the lease sooner.
    pub(crate) fn may_become(&mut self, lease: Uuid, lease_ms: u64, asked_ms: u64) {
        let sooner_ms = asked_ms as f64 + lease_ms as f64 / (1.0 + CLOCK_ERROR);
        for (_, _, ends_ms) in self.leases.values_mut().filter(|(id, ..)| *id == lease) {
            *ends_ms = ends_ms.min(sooner_ms);
        }
    }

    /// A client has sent the release of a lease, so it may end from now on.
    pub(crate) fn may_end(&mut self, lease: Uuid) {
        self.leases.retain(|_, (id, ..)| *id != lease);
    }

    /// A server was told by the entry at `index` to take a guard away.
    pub(crate) fn effect(&mut self, index: u64, effect: &Effect, now_ms: u64) -> Result<(), String> {
        let Effect::Unguard { addr } = effect else { return Ok(()) };
        match self.leases.get(addr) {
            Some((id, granted, ends_ms)) if index > *granted => {
                ensure(now_ms as f64 >= ends_ms - 1.0, || format!("lease {id} ended at {now_ms}, and not at {ends_ms}"))
            }
            _ => Ok(()),
        }
    }

    /// A client was told no.
    pub(crate) fn refused(&self, refusal: &Refusal) -> Result<(), String> {
        let weather = [Status::Busy, Status::NoSession, Status::Full, Status::Locked, Status::ResultLost];
        let late = [Status::NoLease, Status::NotFound, Status::Fenced, Status::Exists];
        let is_expected = weather.contains(&refusal.status) || late.contains(&refusal.status);
        ensure(is_expected, || format!("a client was told {:?}: {refusal}", refusal.status))
    }
}

pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
