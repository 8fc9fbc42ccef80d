//! Allocations.

use std::time::{Duration, Instant};

use mcomp_wire::control::Await;
use mcomp_wire::meta::{Allocate, Command, Fence, Region};
use mcomp_wire::{Kind, Status, control};

use super::{Failed, PATIENCE, Session};
use crate::{Cluster, Error};

impl Session {
    /// Allocates memory, which reads as zeros. It lives until it is freed, by whoever, or until its lease has run out.
    ///
    /// A server of it that cannot be reached is [`Error::Unavailable`], and nothing is allocated then.
    pub fn allocate(&self, wish: Allocate) -> Result<Region, Error> {
        let (index, region) = self.region_of(Command::Allocate(wish))?;
        if let Err(error) = self.cluster().await_memory(&region, index) {
            let undone = match &region.lease {
                Some(lease) => self.release(lease.id).map(drop),
                None => self.free(region.addr, Some(region.generation)).map(drop),
            };
            return Err(if undone.is_ok() { error } else { self.cluster().pool(0).peer().in_part(error) });
        }
        Ok(region)
    }

    /// Gives the allocation at `addr` back; only that of `generation`, if one is named. Returns how many bytes were
    /// asked for.
    pub fn free(&self, addr: u64, generation: Option<u64>) -> Result<u64, Error> {
        self.freed(Command::Free { addr, generation }).map(|(_, bytes)| bytes)
    }

    /// Makes the allocation at `addr` longer or shorter: where it is when that can be, and otherwise elsewhere, with
    /// its bytes, name and lease. What others write to it while it moves may be lost. New bytes read as zeros as far as
    /// nobody has written to memory that was not his.
    pub fn resize(&self, addr: u64, size: u64, generation: Option<u64>) -> Result<Region, Error> {
        match self.region_of(Command::Resize { addr, size, generation }) {
            Ok((index, region)) => {
                self.cluster().await_memory(&region, index)?;
                Ok(region)
            }
            Err(Error::Agreed { status: Status::Full, .. }) => self.relocate(addr, size),
            Err(error) => Err(error),
        }
    }

    fn relocate(&self, addr: u64, size: u64) -> Result<Region, Error> {
        let cluster = self.cluster();
        let gone = || Error::Agreed { status: Status::NotFound, message: format!("nothing is allocated at {addr}") };
        let old = cluster.region_at(addr)?.filter(|region| region.addr == addr).ok_or_else(gone)?;
        let new = self.allocate(Allocate { size, ..Allocate::default() })?;
        let moved = cluster.copy(addr, new.addr, old.size.min(size));
        let replaced = moved.and_then(|()| self.region_of(Command::Replace { from: addr, to: new.addr }));
        if replaced.is_err() {
            // It is found by `gc` if this does not work either.
            let _ = self.free(new.addr, Some(new.generation));
        }
        replaced.map(|(_, region)| region)
    }
}

impl Cluster {
    /// A handle whose calls show `fence`: they change nothing when the lease or lock that it is of has ended.
    pub fn fenced(&self, fence: Fence) -> Cluster {
        self.with_fence(Some(fence))
    }

    /// Waits until every server of a region has made its memory what the entry at `index` says.
    fn await_memory(&self, region: &Region, index: u64) -> Result<(), Error> {
        let body = control::encode(&Await { index });
        let k = self.space().k();
        let deadline = Instant::now() + self.pool(0).timeout();
        for server in region.addr / k..=(region.addr + region.capacity - 1) / k {
            loop {
                let patience = PATIENCE.min(deadline.saturating_duration_since(Instant::now()));
                match self.ask_door::<()>(server as u32, Kind::Await, &body, patience) {
                    Ok(()) => break,
                    Err(Failed::Silence(error @ Error::Unavailable { .. })) if Instant::now() >= deadline => {
                        return Err(error);
                    }
                    Err(Failed::Silence(Error::Unavailable { .. })) => {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    Err(Failed::Silence(error)) => return Err(error),
                    Err(Failed::Refused(status, message)) => return Err(Error::Agreed { status, message }),
                }
            }
        }
        Ok(())
    }
}
