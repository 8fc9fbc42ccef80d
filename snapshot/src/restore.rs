//! Bringing a snapshot back, onto any N and k that hold it.
//!
//! First the whole chain is validated and the fit is checked; nothing has been touched until then.
//! Then every server closes its memory to everyone else, takes the snapshot's page table without putting
//! it in force, all of the memory is written (what the snapshot does not hold becomes zero), the page table
//! takes the place of the old one, and the servers open again under a new config epoch, which fences
//! clients of the old memory. If it is cut off in between, the memory stays closed: nobody ever reads a
//! mixture, and running the restore again mends it. If a server cannot be closed, nothing was written
//! yet, and those that were closed open again as they were.

use std::path::Path;
use std::time::Instant;

use mcomp_client::{Cluster, Dedicated, Error, Options};
use mcomp_config::Config;
use mcomp_wire::control::{RestoreAbort, RestoreBegin, RestoreEnd};
use mcomp_wire::meta::Region;
use mcomp_wire::{Kind, Role, Space};
use uuid::Uuid;

use crate::SnapshotError;
use crate::cut::{file_keys, next_epoch};
use crate::file::{Chain, Contents, Mac, Unsigned};

/// A validated snapshot and the cluster that it fits into.
#[derive(Debug)]
pub struct Restore {
    chain: Chain,
    plan: RestorePlan,
    config: Config,
}

/// What a restore would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// The cluster whose memory the snapshot holds.
    pub cluster: String,
    /// The cut.
    pub cut: Uuid,
    /// When it was made, in microseconds since 1970.
    pub created_us: i64,
    /// Files of the chain.
    pub files: usize,
    /// Bytes of memory that the newest file records.
    pub memory_bytes: u64,
    /// Bytes of the address space that was saved.
    pub space_bytes: u64,
    /// One past the last byte that is not zero.
    pub non_zero_end: u64,
    /// Allocations of the newest file; none when it has no page table, and nothing is allocated afterwards.
    pub allocations: Option<u64>,
    /// One past the last byte that is allocated.
    pub allocations_end: u64,
    /// Bytes of the address space to restore onto.
    pub target_bytes: u64,
    /// What is known of the origin of each file, the newest first.
    pub macs: Vec<Mac>,
}

/// A restore that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Bytes of memory set, zeros included.
    pub memory_bytes: u64,
    /// The new config epoch.
    pub config_epoch: u64,
    /// Microseconds from the first message to the last.
    pub took_us: u64,
}

impl Restore {
    /// Opens the snapshot at `path` with all that it builds on, validates every byte, and checks that
    /// it fits into the cluster of `config`. Where that has a secret, each file must be signed with it. Needs no
    /// running server. `progress` gets bytes of files read, and in all.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::File`] when a file is not valid, or not signed; [`SnapshotError::DoesNotFit`] when a byte
    /// that is not zero, or an allocation, has no address in the cluster.
    pub fn prepare(config: &Config, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Restore, SnapshotError> {
        Restore::prepare_with(config, path, Unsigned::Refuse, progress)
    }

    /// As [`Restore::prepare`], where files that are not signed with the secret may be accepted.
    ///
    /// # Errors
    ///
    /// As [`Restore::prepare`].
    pub fn prepare_with(
        config: &Config,
        path: &Path,
        unsigned: Unsigned,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Restore, SnapshotError> {
        let keys = file_keys(config)?;
        let chain = Chain::open(path)?;
        let macs = chain.authenticate(keys.as_ref(), unsigned)?;
        chain.verify(progress)?;
        let meta = chain.meta();
        let plan = RestorePlan {
            cluster: meta.cluster.clone(),
            cut: meta.cut,
            created_us: meta.created_us,
            files: chain.files().len(),
            memory_bytes: chain.newest().memory_bytes(),
            space_bytes: meta.space_bytes(),
            non_zero_end: chain.non_zero_end()?,
            allocations: chain.newest().allocations(),
            allocations_end: chain.newest().allocations_end(),
            target_bytes: config.space(),
            macs,
        };
        if plan.non_zero_end > plan.target_bytes {
            return Err(SnapshotError::DoesNotFit { end: plan.non_zero_end, space: plan.target_bytes });
        }
        if plan.allocations_end > plan.target_bytes {
            return Err(SnapshotError::NoRoom { end: plan.allocations_end, space: plan.target_bytes });
        }
        Ok(Restore { chain, plan, config: config.clone() })
    }

    /// What [`Restore::run`] would do.
    pub fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    /// Restores. `progress` gets bytes of memory set, and in all.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::CutOff`] when the memory was closed and could not be opened again; every
    /// other error means that nothing was changed.
    pub fn run(self, progress: &mut dyn FnMut(u64, u64)) -> Result<Restored, SnapshotError> {
        let began = Instant::now();
        let mut options = Options::from_config(&self.config);
        options.role = Role::Admin;
        let cluster = Cluster::with_options(options)?;
        let regions = self.chain.newest().page_table()?.unwrap_or_default().into_iter().map(Region::from).collect();
        let restore = RestoreBegin { restore: Uuid::new_v4() };
        // All connections first: a server that is down is known before any memory is closed.
        let links: Vec<Dedicated> = (0..self.config.n()).map(|id| cluster.dedicated(id)).collect::<Result<_, _>>()?;
        // Whether most servers are there to agree on another page table is known then, too.
        cluster.space_report().map_err(nobody_agrees)?;
        let mut target = Target { space: cluster.space(), links, done: 0 };
        target.begin(&restore)?;
        let reset = match cluster.begin_reset(regions) {
            Ok(reset) => reset,
            Err(error) => return Err(target.open_again(target.links.len(), &restore, error.into())),
        };
        let cut_off = |reason: SnapshotError| SnapshotError::CutOff { reason: reason.to_string() };
        match target.write_all(&self.chain, progress) {
            // The file could be read a moment ago, and nothing of it was sent yet.
            Err(error @ SnapshotError::File(_)) if target.done == 0 => {
                return Err(target.open_again(target.links.len(), &restore, error));
            }
            written => written.map_err(cut_off)?,
        }
        reset.commit().map_err(|error| cut_off(error.into()))?;
        let config_epoch = target.end(&restore).map_err(|error| cut_off(error.into()))?;
        let took_us = began.elapsed().as_micros() as u64;
        Ok(Restored { memory_bytes: target.done, config_epoch, took_us })
    }
}

/// Why there is no page table to replace: too few servers are there to agree on anything.
fn nobody_agrees(error: Error) -> SnapshotError {
    match error {
        Error::Unavailable { .. } | Error::Timeout { .. } => {
            let reason = format!(
                "most servers have to agree on the allocations, and {error}; nothing was changed. If most have lost \
                 their metadata for good: stop all servers, run `mcomp purge` on each machine, start them, and restore"
            );
            SnapshotError::Unavailable { who: "the metadata".to_owned(), reason }
        }
        error => error.into(),
    }
}

/// The servers that are being restored.
struct Target {
    space: Space,
    links: Vec<Dedicated>,
    /// Bytes set so far; also the next address, since they are set in order.
    done: u64,
}

impl Target {
    /// Closes all servers, or none.
    fn begin(&mut self, restore: &RestoreBegin) -> Result<(), SnapshotError> {
        for closed in 0..self.links.len() {
            if let Err(error) = self.links[closed].call::<_, ()>(Kind::RestoreBegin, restore) {
                return Err(self.open_again(closed, restore, error.into()));
            }
        }
        Ok(())
    }

    /// Takes the restore back at the first `closed` servers, because of `error`. At a server behind them the end of
    /// the connection takes it back if it has begun there.
    fn open_again(&mut self, closed: usize, restore: &RestoreBegin, error: SnapshotError) -> SnapshotError {
        let abort = RestoreAbort { restore: restore.restore };
        let mut left_closed = None;
        for link in &mut self.links[..closed] {
            if let Err(failure) = link.call::<_, ()>(Kind::RestoreAbort, &abort) {
                left_closed.get_or_insert(failure);
            }
        }
        match left_closed {
            None => error,
            Some(failure) => SnapshotError::CutOff { reason: format!("{error}; and {failure}") },
        }
    }

    fn write_all(&mut self, chain: &Chain, progress: &mut dyn FnMut(u64, u64)) -> Result<(), SnapshotError> {
        let total = self.space.size();
        let mut runs = chain.runs();
        while let Some(run) = runs.next_run()? {
            self.zero_until(run.address.min(total))?;
            match run.contents {
                Contents::Zero(_) => {}
                Contents::Data(bytes) => {
                    // What lies beyond the space is zero: that was checked.
                    let fitting = bytes.len().min((total - self.done) as usize);
                    self.write(&bytes[..fitting])?;
                }
            }
            progress(self.done, total);
        }
        self.zero_until(total)?;
        for link in &mut self.links {
            link.finish()?;
        }
        progress(total, total);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let start = self.done;
        for piece in self.space.check(start, bytes.len() as u64)?.pieces(self.space.k()) {
            let from = (piece.addr - start) as usize;
            self.links[piece.server as usize].write(piece.addr, &bytes[from..from + piece.len as usize])?;
        }
        self.done += bytes.len() as u64;
        Ok(())
    }

    fn zero_until(&mut self, end: u64) -> Result<(), Error> {
        let len = end.saturating_sub(self.done);
        for piece in self.space.check(self.done, len)?.pieces(self.space.k()) {
            self.links[piece.server as usize].fill(piece.addr, piece.len, 0)?;
        }
        self.done += len;
        Ok(())
    }

    /// Opens all servers again under one new epoch, and returns it.
    fn end(&mut self, restore: &RestoreBegin) -> Result<u64, Error> {
        let config_epoch = next_epoch(self.links.iter().map(|link| link.welcome().config_epoch));
        let request = RestoreEnd { restore: restore.restore, config_epoch };
        for link in &mut self.links {
            link.call::<_, ()>(Kind::RestoreEnd, &request)?;
        }
        Ok(config_epoch)
    }
}
