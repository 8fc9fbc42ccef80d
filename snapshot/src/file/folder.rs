//! The snapshot folder: what is in it, what a name means there, and what may be thrown away.
//!
//! Retention counts whole chains only. It removes a file when all of this is true: it bears the name
//! that its own header gives it, it is of the cluster in question, it is complete, and no snapshot
//! that is kept builds on it. So a broken file, a file that a person renamed, and the last chain that
//! can be restored always stay. While a file cannot be read at all, nothing is removed. A file with an impossible date
//! counts as broken: it is neither the newest, nor built on.
//!
//! Leaves out: reading chunks. A file with damaged chunks counts as complete until it is verified.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::chain::is_snapshot_name;
use super::dir::{A_LINK, not_a_file};
use super::reader::peek;
use super::{Dir, FileError, MAX_CHAIN_FILES, Meta, Snapshot, temp};

/// How far ahead of the clock of this machine a snapshot may be dated. A clock may have been set back by decades, as one
/// that has lost its battery; it is not a thousand years slow. The limit moves on with the clock, and the time of a
/// snapshot by a microsecond beyond that of the newest, so nobody's file keeps the next one from having a date.
const FAR_AHEAD_US: i64 = 1000 * 365 * 24 * 3600 * 1_000_000;

/// A folder of snapshots.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: Dir,
}

/// One snapshot file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of the file.
    pub name: String,
    /// Its path.
    pub path: PathBuf,
    /// What it says about itself; none when not even that can be read. The servers of a broken
    /// file are blank.
    pub meta: Option<Meta>,
    /// The size of the file.
    pub size_bytes: u64,
    /// Whether it can be restored.
    pub state: State,
}

/// Whether a snapshot can be restored, as far as can be told without reading chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The file is sound outside its chunks, and so is every file that it builds on.
    Complete,
    /// It is not, for this reason.
    Broken(String),
}

/// What [`Folder::prune`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The snapshots that are gone.
    pub removed: Vec<Entry>,
    /// The broken files that were left, for a person to look at.
    pub broken: Vec<Entry>,
}

impl Folder {
    /// Opens a folder that exists.
    ///
    /// # Errors
    ///
    /// As [`Dir::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Folder, FileError> {
        Ok(Folder { dir: Dir::open(path)? })
    }

    /// Opens a folder, created for its owner alone when it is missing.
    ///
    /// # Errors
    ///
    /// As [`Dir::open_or_create`].
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Folder, FileError> {
        Ok(Folder { dir: Dir::open_or_create(path)? })
    }

    /// The folder itself, for a [`Writer`](super::Writer).
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The snapshots in it, of every cluster, the oldest cut first.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] when the folder cannot be read; a file that cannot be is listed as broken.
    pub fn list(&self) -> Result<Vec<Entry>, FileError> {
        Ok(self.look()?.0)
    }

    /// The file that a person means: a name in this folder, or else a path.
    ///
    /// # Errors
    ///
    /// [`FileError::NotFound`] when there is neither, [`FileError::Bad`] when the name is that of a link.
    pub fn resolve(&self, name_or_path: &str) -> Result<PathBuf, FileError> {
        if !name_or_path.contains('/') && is_snapshot_name(name_or_path) {
            let in_folder = self.dir.path_of(name_or_path);
            match in_folder.symlink_metadata() {
                Ok(facts) if facts.is_symlink() => return Err(not_a_file(&in_folder, A_LINK)),
                Ok(_) => return Ok(in_folder),
                Err(_) => {}
            }
        }
        if Path::new(name_or_path).exists() {
            return Ok(PathBuf::from(name_or_path));
        }
        Err(FileError::NotFound { name: name_or_path.to_owned(), folder: self.dir.path().to_owned() })
    }

    /// Removes old snapshots of a cluster: keeps the newest `keep` complete ones, at least one, and
    /// all that they build on. Broken files are reported and stay.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] when the folder cannot be read or a file cannot be removed. Children go
    /// before their parents, so what is left is as complete as it was. Also when a file cannot be
    /// read: it may build on any other, so nothing is removed.
    pub fn prune(&self, cluster: &str, keep: usize) -> Result<Pruned, FileError> {
        let of_cluster = |entry: &Entry| entry.meta.as_ref().is_none_or(|meta| meta.cluster == cluster);
        let (entries, unread) = self.look()?;
        unread.map_or(Ok(()), Err)?;
        let entries = entries.into_iter().filter(of_cluster);
        let (complete, broken): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.state == State::Complete);
        let kept = cuts_to_keep(&complete, keep.max(1));
        let mut pruned = Pruned { removed: Vec::new(), broken };
        for entry in complete.into_iter().rev().filter(|entry| is_spent(entry, &kept)) {
            self.dir.remove(&entry.name)?;
            pruned.removed.push(entry);
        }
        self.dir.sync()?;
        Ok(pruned)
    }

    /// Removes the temporary files of writers that were killed; returns their names. Those of writers
    /// that live, in any process, stay.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] when the folder cannot be read.
    pub fn sweep(&self) -> Result<Vec<String>, FileError> {
        temp::sweep(&self.dir)
    }

    /// The names of the files that [`Folder::sweep`] would remove.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] when the folder cannot be read.
    pub fn leftovers(&self) -> Result<Vec<String>, FileError> {
        temp::leftovers(&self.dir)
    }

    /// The snapshots, the oldest cut first, and why one of them could not be read, if that is so.
    fn look(&self) -> Result<(Vec<Entry>, Option<FileError>), FileError> {
        let names = self.dir.names()?.into_iter().filter(|name| is_snapshot_name(name));
        let (mut entries, mut unread) = (Vec::new(), None);
        for name in names {
            let opened = Snapshot::open_in(&self.dir, &name);
            // Somebody was faster, and removed it since its name was read.
            if matches!(&opened, Err(FileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound) {
                continue;
            }
            entries.push(self.entry(name, &opened));
            unread = unread.or(opened.err().filter(|error| matches!(error, FileError::Io { .. })));
        }
        break_undated(&mut entries, Timestamp::now().as_microsecond());
        break_orphans(&mut entries);
        entries.sort_by_key(|entry| (entry.meta.as_ref().map(|m| (m.created_us, m.cut_epoch)), entry.name.clone()));
        Ok((entries, unread))
    }

    fn entry(&self, name: String, opened: &Result<Snapshot, FileError>) -> Entry {
        let path = self.dir.path_of(&name);
        let (meta, size_bytes, state) = match opened {
            Ok(snapshot) => (Some(snapshot.meta().clone()), snapshot.file_bytes(), State::Complete),
            Err(error) => {
                let size_bytes = path.symlink_metadata().map_or(0, |facts| facts.len());
                (peek(&self.dir, &name).ok(), size_bytes, State::Broken(error.to_string()))
            }
        };
        Entry { name, path, meta, size_bytes, state }
    }
}

/// Marks as broken what is dated so far ahead that all later snapshots would look older.
fn break_undated(entries: &mut [Entry], now_us: i64) {
    let latest_us = now_us.saturating_add(FAR_AHEAD_US);
    let is_undated = |entry: &&mut Entry| entry.meta.as_ref().is_some_and(|meta| meta.created_us > latest_us);
    for entry in entries.iter_mut().filter(|entry| entry.state == State::Complete).filter(is_undated) {
        let why = "it is dated more than a thousand years ahead, and no clock is that wrong: move it elsewhere";
        entry.state = State::Broken(why.to_owned());
    }
}

/// Marks as broken what builds on a file that is missing, broken, or does not fit.
fn break_orphans(entries: &mut [Entry]) {
    let sound = by_cut(entries);
    let reasons: Vec<Option<String>> =
        entries.iter().map(|entry| entry.meta.as_ref().and_then(|meta| missing_ancestor(meta, &sound))).collect();
    for (entry, reason) in entries.iter_mut().zip(reasons) {
        if let (State::Complete, Some(why)) = (&entry.state, reason) {
            entry.state = State::Broken(why);
        }
    }
}

/// Why the chain of a snapshot does not reach a full one, if it does not.
fn missing_ancestor(meta: &Meta, sound: &HashMap<Uuid, Meta>) -> Option<String> {
    let mut child = meta;
    // Epochs fall along a chain, so this ends; the limit is that of opening one.
    for _ in 0..MAX_CHAIN_FILES {
        let parent = child.parent?;
        let Some(found) = sound.get(&parent.cut) else {
            return Some(format!("it builds on cut {}, of which there is no sound file in this folder", parent.cut));
        };
        if let Err(why) = child.check_parent(found) {
            return Some(why);
        }
        child = found;
    }
    Some(format!("its chain has more than {MAX_CHAIN_FILES} files"))
}

/// The facts of the sound files by their cut.
fn by_cut(entries: &[Entry]) -> HashMap<Uuid, Meta> {
    let sound = entries.iter().filter(|entry| entry.state == State::Complete);
    sound.filter_map(|entry| entry.meta.clone()).map(|meta| (meta.cut, meta)).collect()
}

/// The newest `keep` cuts, those that a person renamed, and all their ancestors. Copies of one cut
/// count once, and what a person renamed does not count.
fn cuts_to_keep(complete: &[Entry], keep: usize) -> HashSet<Uuid> {
    let metas = by_cut(complete);
    let (managed, renamed): (Vec<_>, Vec<_>) = complete.iter().rev().partition(|entry| is_named_by_header(entry));
    let mut tips: Vec<Uuid> = Vec::new();
    for cut in cuts(&managed) {
        if !tips.contains(&cut) && tips.len() < keep {
            tips.push(cut);
        }
    }
    tips.extend(cuts(&renamed));
    let mut kept = HashSet::new();
    for tip in tips {
        let mut next = Some(tip);
        while let Some(meta) = next.filter(|cut| kept.insert(*cut)).and_then(|cut| metas.get(&cut)) {
            next = meta.parent.map(|parent| parent.cut);
        }
    }
    kept
}

fn cuts(entries: &[&Entry]) -> impl Iterator<Item = Uuid> {
    entries.iter().filter_map(|entry| entry.meta.as_ref().map(|meta| meta.cut))
}

fn is_spent(entry: &Entry, kept: &HashSet<Uuid>) -> bool {
    is_named_by_header(entry) && entry.meta.as_ref().is_some_and(|meta| !kept.contains(&meta.cut))
}

fn is_named_by_header(entry: &Entry) -> bool {
    entry.meta.as_ref().is_some_and(|meta| meta.name().as_str() == entry.name)
}
