//! Questions that change nothing.

use mcomp_wire::limits;
use mcomp_wire::meta::{ConsensusReport, Found, LockReport, Query, Region, SpaceReport};

use crate::State;

/// What a list in one answer may take: a control body holds it, whatever the last item adds.
const LIST_BYTES: usize = limits::MAX_CONTROL - 16 * limits::MAX_NOTE - 1024;
/// What a region takes at most, beside its name and notes.
const REGION_BYTES: usize = 160;
/// What one holder of a lock takes at most.
const HOLDER_BYTES: usize = 28;

impl State {
    /// Answers a question; about the consensus this state knows only its own part.
    pub fn query(&self, query: &Query) -> Found {
        let one = |addr: Option<u64>| Found::Region(addr.map(|addr| Box::new(self.region(addr))));
        match query {
            Query::Regions { from } => self.regions(*from),
            Query::At { addr } => one(self.holding(*addr)),
            Query::Named { name } => one(self.names.get(name).copied()),
            Query::Leased { lease } => one(self.leases.get(lease).map(|lease| lease.addr)),
            Query::Space => Found::Space(self.space_report()),
            Query::Locks { from } => self.lock_reports(from),
            Query::Members | Query::MembersHere => Found::Members(self.members.clone()),
            Query::Consensus => {
                let report = ConsensusReport { applied: self.index, now_ms: self.now_ms, ..ConsensusReport::default() };
                Found::Consensus(report)
            }
        }
    }

    /// Every allocation, in address order: what a snapshot keeps.
    pub fn all_regions(&self) -> impl Iterator<Item = Region> + '_ {
        self.allocations.keys().map(|addr| self.region(*addr))
    }

    fn regions(&self, from: u64) -> Found {
        let (mut regions, mut bytes) = (Vec::new(), 0);
        for addr in self.allocations.range(from..).map(|(addr, _)| *addr) {
            if bytes > LIST_BYTES {
                return Found::Regions { regions, next: Some(addr) };
            }
            let region = self.region(addr);
            let notes: usize = region.notes.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
            bytes += REGION_BYTES + region.name.as_ref().map_or(0, String::len) + notes;
            regions.push(region);
        }
        Found::Regions { regions, next: None }
    }

    fn space_report(&self) -> SpaceReport {
        let stats = self.allocator.stats();
        let quarantined: u64 = self.quarantine.values().map(|(capacity, _)| *capacity).sum();
        SpaceReport {
            size: self.space.size(),
            asked: self.asked_bytes,
            taken: self.space.size() - stats.free_bytes - quarantined,
            quarantined,
            largest_free: stats.largest_free_run,
            regions: self.allocations.len() as u64,
            leases: self.leases.len() as u64,
            sessions: self.sessions.len() as u64,
            servers: stats.servers.iter().map(|server| (server.free_bytes, server.largest_free_run)).collect(),
        }
    }

    fn lock_reports(&self, from: &str) -> Found {
        let locks = self.locks.range(from.to_owned()..).map(|(name, lock)| LockReport {
            name: name.clone(),
            permits: lock.permits,
            barrier: false,
            holders: lock.holders.iter().map(|(session, fence)| (*session, *fence)).collect(),
            waiting: lock.waiting.len() as u64,
        });
        let barriers = self.barriers.range(from.to_owned()..).map(|(name, barrier)| LockReport {
            name: name.clone(),
            permits: barrier.parties,
            barrier: true,
            holders: barrier.arrived.iter().map(|waiter| (waiter.session, 0)).collect(),
            waiting: barrier.arrived.len() as u64,
        });
        let (mut reports, mut bytes) = (Vec::new(), 0);
        for report in merged(locks, barriers) {
            bytes += report.name.len() + report.holders.len() * HOLDER_BYTES + 32;
            if bytes > LIST_BYTES && !reports.is_empty() {
                return Found::Locks { locks: reports, next: Some(report.name) };
            }
            reports.push(cut(report));
        }
        Found::Locks { locks: reports, next: None }
    }
}

/// As many holders as one answer has room for.
fn cut(mut report: LockReport) -> LockReport {
    report.holders.truncate(LIST_BYTES / HOLDER_BYTES);
    report
}

/// Two lists in the order of names, as one. No name is in both.
fn merged(
    left: impl Iterator<Item = LockReport>,
    right: impl Iterator<Item = LockReport>,
) -> impl Iterator<Item = LockReport> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(l), Some(r)) if l.name > r.name => right.next(),
        (Some(_), _) => left.next(),
        (None, _) => right.next(),
    })
}
