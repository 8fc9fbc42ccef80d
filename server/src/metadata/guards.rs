//! Which bytes are written only by who shows a fence, asked by every write.
//!
//! Memory without guards costs one load. A check takes the read lock for a few map operations and gives it back before
//! the memory is touched; whoever changes the guards waits afterwards until every request that was checked before has
//! ended (`hands.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mcomp_meta::Effect;
use mcomp_wire::meta::Fence;
use mcomp_wire::{Request, Status};
use parking_lot::{Condvar, Mutex, RwLock};
use uuid::Uuid;

use crate::memory::Refusal;

/// The guards of a server.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    /// How many guarded regions there are. SeqCst: a request announces itself and then asks this; who changes it looks
    /// for announced requests afterwards. One of both sees the other.
    regions: AtomicUsize,
    /// Guards the table. Taken alone.
    table: RwLock<Table>,
    /// Up to which fence this server obeys. Release, after the table; Acquire, before it.
    serial: AtomicU64,
    /// Up to which entry the memory is what the log says, and whether it will go on. Taken alone.
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    regions: BTreeMap<u64, Region>,
    /// The fence of each lease.
    leases: HashMap<Uuid, u64>,
    /// The fences of locks that are held.
    locks: HashSet<Fence>,
}

#[derive(Clone, Copy, Debug)]
struct Region {
    len: u64,
    fence: Fence,
    shared: bool,
}

#[derive(Debug, Default)]
struct Progress {
    index: u64,
    closed: bool,
}

impl Guards {
    /// Whether a request may change what it wants to change. To be asked after the request has announced itself.
    #[inline]
    pub(crate) fn check(&self, request: &Request<'_>, fence: Option<Fence>) -> Result<(), Refusal> {
        if fence.is_none() && self.regions.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        self.check_table(request, fence)
    }

    #[cold]
    fn check_table(&self, request: &Request<'_>, fence: Option<Fence>) -> Result<(), Refusal> {
        if let Some(fence) = fence
            && fence.number > self.serial.load(Ordering::Acquire)
        {
            return Err(Refusal::new(Status::Busy, "this server has not heard of that fence yet: try again"));
        }
        let table = self.table.read();
        if let Some(fence) = fence
            && !table.knows(fence)
        {
            let message = format!("fence {} of {} holds no more: the lease or lock has ended", fence.number, fence.id);
            return Err(Refusal::new(Status::Guarded, message));
        }
        let mut refused = None;
        for_each_written(request, &mut |addr, len| {
            refused = refused.take().or_else(|| table.closed_to(addr, len, fence));
        });
        match refused {
            None => Ok(()),
            Some((addr, region)) => {
                let message = format!(
                    "the {} bytes at {addr} are under lease {}: write with its fence, or wait until it has ended",
                    region.len, region.fence.id
                );
                Err(Refusal::new(Status::Guarded, message))
            }
        }
    }

    /// Waits until this server knows of a fence of this number, but not for long.
    pub(crate) fn wait_for_fence(&self, number: u64, patience: Duration) {
        if number > self.serial.load(Ordering::Acquire) {
            let deadline = Instant::now() + patience;
            let mut progress = self.progress.lock();
            while number > self.serial.load(Ordering::Acquire) && !progress.closed {
                if self.moved.wait_until(&mut progress, deadline).timed_out() {
                    return;
                }
            }
        }
    }

    /// Waits until the memory is what the log says at `index`; false when it takes too long.
    pub(crate) fn wait_for_index(&self, index: u64, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut progress = self.progress.lock();
        while progress.index < index && !progress.closed {
            if self.moved.wait_until(&mut progress, deadline).timed_out() {
                break;
            }
        }
        progress.index >= index
    }

    /// Takes the guards of some entries. Whoever has lost his is refused from now on; whoever has got one is not obeyed
    /// before [`Guards::know`].
    pub(super) fn learn<'a>(&self, effects: impl Iterator<Item = &'a Effect>) {
        let mut effects = effects.peekable();
        if effects.peek().is_some() {
            let mut table = self.table.write();
            effects.for_each(|effect| table.take(effect));
            self.regions.store(table.regions.len(), Ordering::SeqCst);
        }
    }

    /// Fences up to `serial` may be shown: every request of an earlier holder has ended or will be refused.
    pub(super) fn know(&self, serial: u64) {
        self.serial.store(serial, Ordering::Release);
    }

    /// The memory is what the log says at `index`.
    pub(super) fn publish(&self, index: u64) {
        self.progress.lock().index = index;
        self.moved.notify_all();
    }

    /// It will not go on.
    pub(super) fn close(&self) {
        self.progress.lock().closed = true;
        self.moved.notify_all();
    }
}

impl Table {
    fn take(&mut self, effect: &Effect) {
        match *effect {
            Effect::Zero { .. } => {}
            Effect::Guard { addr, len, fence, shared, .. } => {
                self.leases.insert(fence.id, fence.number);
                self.regions.insert(addr, Region { len, fence, shared });
            }
            Effect::Unguard { addr } => {
                if let Some(region) = self.regions.remove(&addr) {
                    self.leases.remove(&region.fence.id);
                }
            }
            Effect::Hold(fence) => drop(self.locks.insert(fence)),
            Effect::LetGo(fence) => drop(self.locks.remove(&fence)),
            Effect::Clear => *self = Table::default(),
        }
    }

    fn knows(&self, fence: Fence) -> bool {
        self.leases.get(&fence.id) == Some(&fence.number) || self.locks.contains(&fence)
    }

    /// A region in the range that `fence` does not open.
    fn closed_to(&self, addr: u64, len: u64, fence: Option<Fence>) -> Option<(u64, Region)> {
        let end = addr.saturating_add(len);
        let before = self.regions.range(..addr).next_back();
        let touched = before.into_iter().chain(self.regions.range(addr..end));
        let is_closed = |(at, region): &(&u64, &Region)| {
            *at + region.len > addr && **at < end && !region.shared && fence != Some(region.fence)
        };
        let mut touched = touched.filter(is_closed);
        touched.next().map(|(at, region)| (*at, *region))
    }
}

/// Calls `what` for every range that the request writes.
fn for_each_written(request: &Request<'_>, what: &mut impl FnMut(u64, u64)) {
    match request {
        Request::Write { addr, data } => what(*addr, data.len() as u64),
        Request::Fill { addr, len, .. } => what(*addr, *len),
        Request::Copy { to, len, .. } => what(*to, *len),
        Request::Atomic { addr, .. } => what(*addr, 8),
        Request::Cas16 { addr, .. } => what(*addr, 16),
        Request::WriteV(ranges, _) => ranges.iter().for_each(|(addr, len)| what(addr, len)),
        Request::Batch(batch) => {
            for request in batch.requests() {
                for_each_written(&request, what);
            }
        }
        Request::Read { .. } | Request::Compare { .. } | Request::Checksum { .. } | Request::ReadV(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Fence = Fence { id: Uuid::from_u128(1), number: 5 };
    const LOCK: Fence = Fence { id: Uuid::from_u128(2), number: 6 };

    fn guards(shared: bool) -> Guards {
        let guards = Guards::default();
        let guard = Effect::Guard { addr: 100, len: 50, fence: LEASE, deadline_ms: 0, shared };
        guards.learn([guard, Effect::Hold(LOCK)].iter());
        guards.know(6);
        guards
    }

    fn write(guards: &Guards, addr: u64, len: usize, fence: Option<Fence>) -> Status {
        let data = vec![0; len];
        let checked = guards.check(&Request::Write { addr, data: &data }, fence);
        checked.map_or_else(|refusal| refusal.status, |()| Status::Ok)
    }

    #[test]
    fn only_the_fence_opens_guarded_memory() {
        let guards = guards(false);
        for (addr, len, touches) in [(0, 100, false), (50, 51, true), (149, 1, true), (150, 9, false), (120, 1, true)] {
            let expected = if touches { Status::Guarded } else { Status::Ok };
            assert_eq!(write(&guards, addr, len, None), expected, "{addr} {len}");
            assert_eq!(write(&guards, addr, len, Some(LOCK)), expected, "a lock opens no lease");
            assert_eq!(write(&guards, addr, len, Some(LEASE)), Status::Ok);
        }
        assert_eq!(write(&guards, 0, 1, Some(Fence { number: 4, ..LEASE })), Status::Guarded, "an older holder");
        assert_eq!(write(&guards, 0, 1, Some(Fence { number: 7, ..LEASE })), Status::Busy, "not heard of yet");
        let next = Fence { number: 7, ..LOCK };
        guards.learn([Effect::Hold(next)].iter());
        assert_eq!(write(&guards, 0, 1, Some(next)), Status::Busy, "an earlier holder's write may be under way");
        guards.learn([Effect::Unguard { addr: 100 }, Effect::LetGo(LOCK)].iter());
        assert_eq!(write(&guards, 100, 50, None), Status::Ok);
        assert_eq!(write(&guards, 0, 1, Some(LEASE)), Status::Guarded);
        assert_eq!(write(&guards, 0, 1, Some(LOCK)), Status::Guarded);
    }

    #[test]
    fn shared_leases_are_open_to_all() {
        assert_eq!(write(&guards(true), 100, 50, None), Status::Ok);
    }

    #[test]
    fn whoever_waits_is_told_when_it_goes_on_or_ends() {
        let guards = guards(false);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| guards.wait_for_index(3, Duration::from_secs(60)));
            guards.publish(2);
            guards.publish(3);
            assert!(waits.join().unwrap());
            let waits = scope.spawn(|| guards.wait_for_index(4, Duration::from_secs(60)));
            guards.close();
            assert!(!waits.join().unwrap());
        });
    }
}
