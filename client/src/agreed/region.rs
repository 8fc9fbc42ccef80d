//! Allocations.

use std::time::{Duration, Instant};

use mcomp_wire::control::Await;
use mcomp_wire::meta::{Allocate, Command, Fence, Region};
use mcomp_wire::{Kind, Status, control};

use super::{Failed, PATIENCE, Session};
use crate::{Cluster, Error};

/// How long a server of an allocation may take to make its memory ready, before the allocation goes elsewhere.
const SERVER_PATIENCE: Duration = Duration::from_secs(1);

impl Session {
    /// Allocates memory, which reads as zeros. It lives until it is freed, by whoever, or until its lease has run out.
    ///
    /// Servers that do not answer are avoided where others have room. Otherwise it is [`Error::Unavailable`] or
    /// [`Error::Timeout`], and nothing is allocated.
    pub fn allocate(&self, mut wish: Allocate) -> Result<Region, Error> {
        loop {
            let (index, region) = match (self.region_of(Command::Allocate(wish.clone())), wish.avoid.last()) {
                (Err(Error::Agreed { status: Status::Full, .. }), Some(last)) => {
                    let reason = "it does not answer, and no other server has room for the allocation";
                    return Err(self.cluster().pool(*last).peer().refused(Status::Unavailable, reason.to_owned()));
                }
                (told, _) => told?,
            };
            let Err((server, error)) = self.cluster().await_memory(&region, index) else { return Ok(region) };
            let undone = match &region.lease {
                Some(lease) => self.release(lease.id).map(drop),
                None => self.free(region.addr, Some(region.generation)).map(drop),
            };
            if undone.is_err()
                && let Ok(pool) = self.cluster().pool_of(server)
            {
                return Err(pool.peer().in_part(error));
            }
            match error {
                Error::Unavailable { .. } | Error::Timeout { .. } if !wish.avoid.contains(&server) => {
                    wish.avoid.push(server);
                }
                error => return Err(error),
            }
        }
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
                self.cluster().await_memory(&region, index).map_err(|(_, error)| error)?;
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
    /// A handle whose calls show `fence`: they change nothing when the lease or lock that it is of has ended. What they
    /// read is not changed any more by who held the lock before, however late his writes arrive; so they all go to the
    /// servers, also on the same machine.
    pub fn fenced(&self, fence: Fence) -> Cluster {
        self.with_fence(Some(fence))
    }

    /// Waits until every server of a region has made its memory what the entry at `index` says; or says which one does
    /// not answer.
    fn await_memory(&self, region: &Region, index: u64) -> Result<(), (u32, Error)> {
        let k = self.space().k();
        let (first, last) = (region.addr / k, (region.addr + region.capacity - 1) / k);
        (first..=last).map(|server| server as u32).try_for_each(|server| {
            self.check_listed(server, region.addr)?;
            self.await_server(server, index, SERVER_PATIENCE).map_err(|error| (server, error))
        })
    }

    /// Refuses memory of a server that was added since mcomp.cfg was written.
    fn check_listed(&self, server: u32, addr: u64) -> Result<(), (u32, Error)> {
        let n = self.space().n();
        if server < n {
            return Ok(());
        }
        let message = format!(
            "the allocation at {addr} is in the memory of server {server}, which was added to the cluster, and mcomp.cfg \
             lists {n} servers here: put the others into it"
        );
        Err((server, Error::Options(message)))
    }

    /// Waits until a server has made its memory what the entry at `index` says, for so long or the timeout of a request.
    pub(super) fn await_server(&self, server: u32, index: u64, most: Duration) -> Result<(), Error> {
        let body = control::encode(&Await { index });
        let deadline = Instant::now() + self.pool(server).timeout().min(most);
        loop {
            let patience = PATIENCE.min(deadline.saturating_duration_since(Instant::now()));
            match self.ask_door::<()>(server, Kind::Await, &body, patience) {
                Ok(()) => return Ok(()),
                Err(Failed::Silence(Error::Unavailable { .. })) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(Failed::Silence(error)) => return Err(error),
                Err(Failed::Refused(status, message)) => return Err(Error::Agreed { status, message }),
            }
        }
    }
}
