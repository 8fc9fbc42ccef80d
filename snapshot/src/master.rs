//! The master: makes snapshots, one at a time, and keeps the folder in order.
//!
//! A cut is tried again at once, a few times, when servers were too slow to release their hold in
//! time. Everything else that goes wrong gives it up with its reason; the file that was begun is
//! removed, the servers are told, and the next snapshot starts afresh.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use mcomp_config::Config;
use mcomp_wire::control::{SnapshotCollect, SnapshotCreated, SnapshotProgress};
use uuid::Uuid;

use crate::SnapshotError;
use crate::cut::{Cut, Source, file_keys, is_worth_retrying};
use crate::file::{
    Chain, Entry, FileKeys, Finished, Folder, MAX_CHAIN_FILES, Mac, Meta, Parent, SavedRegion, ServerRecord, State,
    Writer,
};
use crate::gather::{Copier, gather};
use crate::limit::Limit;
use crate::page_table;
use crate::tally::{Tally, Turn};

/// Cuts that are tried before a snapshot is given up because servers were too slow.
const MOST_CUTS: u32 = 4;

/// What a snapshot is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All blocks.
    Full,
    /// The blocks changed since the newest snapshot, if one is there to build on.
    Incremental,
    /// Full or incremental, by `full_every` of mcomp.cfg.
    Scheduled,
}

/// The master of a cluster's snapshots.
#[derive(Debug)]
pub(crate) struct Master {
    config: Config,
    turn: Turn,
    stopping: AtomicBool,
}

impl Master {
    pub(crate) fn new(config: Config) -> Master {
        Master { config, turn: Turn::default(), stopping: AtomicBool::new(false) }
    }

    /// Has a snapshot in progress given up.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Makes a snapshot, waiting for its turn, and counts it. One for which there is no room in the line is refused
    /// and not counted: nothing was tried.
    pub(crate) fn create(
        &self,
        wanted: Wanted,
        tally: &Tally,
        progress: &mut dyn FnMut(SnapshotProgress),
    ) -> Result<SnapshotCreated, SnapshotError> {
        let _turn = self.turn.take().ok_or_else(SnapshotError::long_line)?;
        let created = self.try_once(wanted, progress);
        match &created {
            Ok(created) => {
                tally.published(&created.name);
                tracing::info!(name = created.name, hold_us = created.hold_us, took_us = created.took_us, "snapshot");
            }
            Err(error) => {
                tally.given_up(&error.to_string());
                tracing::warn!(%error, "snapshot given up");
            }
        }
        created
    }

    fn try_once(
        &self,
        wanted: Wanted,
        progress: &mut dyn FnMut(SnapshotProgress),
    ) -> Result<SnapshotCreated, SnapshotError> {
        let limit = Limit::new(&self.stopping, self.config.snapshot().time_limit);
        limit.check()?;
        let folder = Folder::open_or_create(&self.config.snapshot().dir)?;
        folder.sweep()?;
        let copiers = Copier::connect_all(&self.config)?;
        let cut = self.cut(&limit, &copiers)?;
        let (cut_id, hold_us) = (cut.id(), cut.hold().as_micros() as u64);
        match self.save(&cut, copiers, &folder, wanted, &limit, progress) {
            Ok((finished, full)) => {
                cut.end(None);
                self.prune(&folder);
                Ok(SnapshotCreated {
                    cut: cut_id,
                    name: finished.name.to_string(),
                    path: finished.path.display().to_string(),
                    full,
                    memory_bytes: finished.memory_bytes,
                    file_bytes: finished.file_bytes,
                    hold_us,
                    took_us: limit.elapsed().as_micros() as u64,
                })
            }
            Err(error) => {
                cut.end(Some(&error.to_string()));
                Err(error)
            }
        }
    }

    /// Cuts all servers. A cut that failed because servers were too slow has cost nothing but its hold, so it is
    /// tried again; a copy that failed would most likely fail again, and is not.
    fn cut(&self, limit: &Limit<'_>, copiers: &[Option<Copier>]) -> Result<Cut, SnapshotError> {
        let can_copy = |server: u32| copiers.get(server as usize).is_some_and(Option::is_some);
        let mut tries = 1;
        loop {
            match Cut::make(&self.config, Uuid::new_v4(), can_copy) {
                Err(error) if is_worth_retrying(&error) && tries < MOST_CUTS => tries += 1,
                made => return made,
            }
            limit.check()?;
        }
    }

    /// Copies and writes; the file is published when this returns `Ok`.
    fn save(
        &self,
        cut: &Cut,
        copiers: Vec<Option<Copier>>,
        folder: &Folder,
        wanted: Wanted,
        limit: &Limit<'_>,
        progress: &mut dyn FnMut(SnapshotProgress),
    ) -> Result<(Finished, bool), SnapshotError> {
        let entries = folder.list()?;
        let ours = |entry: &Entry| {
            let meta = entry.meta.clone().filter(|meta| meta.cluster == self.config.name());
            meta.filter(|_| entry.state == State::Complete).map(|meta| (entry.path.clone(), meta))
        };
        let newest = entries.iter().rev().find_map(ours);
        let keys = file_keys(&self.config)?;
        let parent = self.parent(cut, newest.as_ref().map(|(path, _)| path.as_path()), wanted, keys.as_ref())?;
        let created_us = created_after(newest.map(|(_, meta)| meta.created_us));
        let meta = self.meta(cut, created_us, parent.as_ref());
        let level = self.config.snapshot().level;
        let request = |(home, server): (u32, &ServerRecord)| SnapshotCollect {
            home,
            cut: cut.id(),
            epoch: server.cut_epoch,
            segment: server.segment,
            since: server.change_from_epoch,
            level,
        };
        let requests: Vec<SnapshotCollect> = (0..).zip(&meta.servers).map(request).collect();
        let copiers = Copier::for_sources(&self.config, copiers, cut.sources())?;
        let regions = self.regions();
        limit.check()?;
        let mut writer = Writer::begin(folder.dir(), meta, keys.as_ref(), regions.as_deref())?;
        drop(regions);
        gather(copiers, &requests, &mut writer, limit, progress)?;
        Ok((writer.finish()?, parent.is_none()))
    }

    /// The allocations, if anybody can tell: the memory is saved in any case.
    fn regions(&self) -> Option<Vec<SavedRegion>> {
        let asked = page_table::ask(&self.config);
        asked.inspect_err(|error| tracing::warn!(%error, "a snapshot without the allocations: nobody tells them")).ok()
    }

    fn meta(&self, cut: &Cut, created_us: i64, parent: Option<&Meta>) -> Meta {
        let record = |source: &Source| ServerRecord {
            segment: source.prepared.segment,
            change_from_epoch: parent.map_or(0, |parent| parent.cut_epoch),
            cut_epoch: cut.epoch(),
        };
        Meta {
            cluster: self.config.name().to_owned(),
            k_bytes: self.config.k(),
            servers: cut.sources().iter().map(record).collect(),
            cut: cut.id(),
            parent: parent.map(|parent| Parent { cut: parent.cut, epoch: parent.cut_epoch }),
            cut_epoch: cut.epoch(),
            config_epoch: cut.sources().iter().map(|source| source.prepared.config_epoch).max().unwrap_or(0),
            created_us,
        }
    }

    /// The snapshot to build on, if an incremental one is wanted and possible: the newest complete
    /// one of the same segments, whose chain has room for another link, and is signed if there is a secret.
    fn parent(
        &self,
        cut: &Cut,
        newest: Option<&Path>,
        wanted: Wanted,
        keys: Option<&FileKeys>,
    ) -> Result<Option<Meta>, SnapshotError> {
        let longest = match wanted {
            Wanted::Full => return Ok(None),
            Wanted::Incremental => MAX_CHAIN_FILES - 1,
            Wanted::Scheduled => (self.config.snapshot().full_every as usize - 1).min(MAX_CHAIN_FILES - 1),
        };
        let Some(newest) = newest.filter(|_| longest > 0) else { return Ok(None) };
        let chain = Chain::open(newest)?;
        let fits = self.is_parent(chain.meta(), cut) && chain.files().len() <= longest && is_proved(&chain, keys);
        Ok(fits.then(|| chain.meta().clone()))
    }

    /// Whether every block that changed since `meta`'s cut is known by its change epoch.
    fn is_parent(&self, meta: &Meta, cut: &Cut) -> bool {
        let ours = cut.sources().iter().map(|source| source.prepared.segment);
        let theirs = meta.servers.iter().map(|server| server.segment);
        meta.k_bytes == self.config.k() && meta.cut_epoch < cut.epoch() && ours.eq(theirs)
    }

    fn prune(&self, folder: &Folder) {
        // The snapshot is safe; a folder that cannot be tidied is worth a word and no failure.
        match folder.prune(self.config.name(), self.config.snapshot().keep as usize) {
            Ok(pruned) => {
                for broken in pruned.broken {
                    tracing::warn!(name = broken.name, state = ?broken.state, "a snapshot in the folder is broken");
                }
            }
            Err(error) => tracing::warn!(%error, "old snapshots could not be removed"),
        }
    }
}

/// Whether what is built on a chain can be restored without further ado where there is a secret: if not, says why.
fn is_proved(chain: &Chain, keys: Option<&FileKeys>) -> bool {
    let unproved = chain.files().iter().find(|file| keys.is_some() && file.mac(keys) != Mac::Fits);
    if let Some(file) = unproved {
        let (path, mac) = (file.path().display(), file.mac(keys));
        tracing::warn!(%path, %mac, "a full snapshot instead of an incremental one: no key of the secret proves the parent");
    }
    unproved.is_none()
}

/// The time of a cut that is made now. Retention and incremental snapshots go by the order in time, so a clock that
/// was set back does not make the newest snapshot an old one.
fn created_after(newest_us: Option<i64>) -> i64 {
    Timestamp::now().as_microsecond().max(newest_us.map_or(i64::MIN, |newest| newest + 1))
}

#[cfg(test)]
mod tests {
    use mcomp_config::Overrides;

    use super::*;
    use crate::tally::MOST_WAITING;

    /// A master in `dir`. Nothing listens at its servers' addresses.
    fn master(dir: &Path) -> Master {
        let server = "[[server]]\naddress = \"127.0.0.1:1\"\nsnapshot = \"127.0.0.1:2\"\n";
        let text = format!("[cluster]\nname = \"stopped\"\nk = 4096\nn = 1\n{server}");
        let config = Config::parse(&text, &dir.join("mcomp.cfg"), &Overrides::default()).unwrap();
        Master::new(config)
    }

    /// A master that asks its servers first fails with another reason.
    #[test]
    fn a_stopped_master_begins_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let master = master(dir.path());
        master.stop();
        let refused = master.create(Wanted::Full, &Tally::default(), &mut |_| {}).unwrap_err();
        assert!(refused.to_string().contains("it was stopped"), "{refused}");
        assert!(!dir.path().join("snapshots").exists());
    }

    /// Each of those who wait holds a connection to this process, which needs one to itself.
    #[test]
    fn a_long_line_is_told_to_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let (master, tally) = (master(dir.path()), Tally::default());
        let create = || master.create(Wanted::Full, &tally, &mut |_| {}).unwrap_err().kind();
        let first = master.turn.take().expect("nobody waits");
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..MOST_WAITING).map(|_| scope.spawn(create)).collect();
            while master.turn.waiting() < MOST_WAITING {
                std::thread::yield_now();
            }
            assert_eq!((create(), tally.counts().aborted), ("busy", 0), "nothing was tried");
            drop(first);
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == "unavailable"), "no server listens");
        });
        assert_eq!(tally.counts().aborted, MOST_WAITING as u64);
    }
}
