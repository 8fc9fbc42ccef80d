//! A file that is being written: invisible until it is whole.
//!
//! It has a temporary name in the folder of its final one, is locked by its writer, and is removed
//! when it is dropped. Publishing syncs it, renames it and syncs the folder; when any of that fails
//! the file is dropped and never tried again, because a failed fsync leaves the kernel's pages clean
//! and their bytes lost. A killed writer leaves the file behind, but not the lock: [`sweep`] removes
//! temporary files that nobody has locked.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use uuid::Uuid;

use super::error::io_error;
use super::{Dir, FileError, calls};

/// How often a name is tried anew when a sweep takes the file between its creation and its lock.
const CREATE_TRIES: usize = 16;

/// What happens to a file that already has the final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    /// It stays, and publishing fails.
    New,
    /// It is replaced.
    Replace,
}

/// A file under a temporary name.
///
/// - While it lives it is locked, and [`sweep`] leaves it alone.
/// - Dropped without [`TempFile::publish`], it is gone.
#[derive(Debug)]
pub(super) struct TempFile {
    dir: Dir,
    /// The name it has now; none once it is published or removed.
    name: Option<String>,
    file: File,
}

impl TempFile {
    pub(super) fn create(dir: &Dir) -> Result<TempFile, FileError> {
        for _ in 0..CREATE_TRIES {
            let random = Uuid::new_v4().simple().to_string();
            let name = format!(".mcs-{}-{}.tmp", std::process::id(), &random[..16]);
            let file = dir.create_file(&name)?;
            let temp = TempFile { dir: dir.clone(), name: Some(name), file };
            if temp.lock()? {
                return Ok(temp);
            }
        }
        Err(io_error("lock a temporary file in", dir.path())(Errno::BUSY))
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Its path at the moment, for messages.
    pub(super) fn path(&self) -> std::path::PathBuf {
        self.dir.path_of(self.name.as_deref().unwrap_or_default())
    }

    /// Gives the file its final name, for good.
    pub(super) fn publish(mut self, name: &str, how: Publish) -> Result<(), FileError> {
        calls::sync(&self.file).map_err(io_error("sync", &self.path()))?;
        let temporary = self.name.as_deref().expect("a file is published once");
        match how {
            Publish::New => {
                self.dir.rename_new(temporary, name)?;
                // From here a failure removes the file under its final name.
                self.name = Some(name.to_owned());
            }
            Publish::Replace => {
                self.dir.rename_over(temporary, name)?;
                // What it replaced is gone, so it stays: it is whole, and without it there would be neither.
                self.name = None;
            }
        }
        self.dir.sync()?;
        self.name = None;
        Ok(())
    }

    /// Locks the file, and says whether it still has its name: a sweep may have been faster.
    fn lock(&self) -> Result<bool, FileError> {
        match calls::lock(&self.file) {
            Err(Errno::WOULDBLOCK) => return Ok(false),
            // A file system without locks has no sweep either, which needs the lock to remove.
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(true),
            result => result.map_err(io_error("lock", &self.path()))?,
        }
        let stat = rustix::fs::fstat(self.file.as_fd()).map_err(io_error("look at", &self.path()))?;
        Ok(stat.st_nlink > 0)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // Nobody is left to tell; a file that stays behind is swept later.
            let _ = self.dir.remove(&name);
        }
    }
}

/// Removes the temporary files whose writers are gone; returns their names.
pub(super) fn sweep(dir: &Dir) -> Result<Vec<String>, FileError> {
    let orphans = orphans(dir, FlockOperation::NonBlockingLockExclusive)?;
    // A writer that published in the meantime took the name away: nothing to remove.
    Ok(orphans.filter(|(name, _locked)| dir.remove(name).is_ok()).map(|(name, _)| name).collect())
}

/// The temporary files whose writers are gone: what a sweep would remove. The question takes each one's lock in
/// shared mode for a moment; a writer that meets that takes another name.
pub(super) fn leftovers(dir: &Dir) -> Result<Vec<String>, FileError> {
    Ok(orphans(dir, FlockOperation::NonBlockingLockShared)?.map(|(name, _)| name).collect())
}

/// The temporary files whose lock can be had, each with the open file that holds it.
fn orphans(dir: &Dir, lock: FlockOperation) -> Result<impl Iterator<Item = (String, File)>, FileError> {
    let names = dir.names()?.into_iter().filter(|name| is_temporary(name));
    // What cannot be opened belongs to someone else, or is gone by now.
    let opened = names.filter_map(|name| dir.open_file(&name).ok().map(|file| (name, file)));
    Ok(opened.filter(move |(_, file)| calls::lock_as(file, lock).is_ok()))
}

fn is_temporary(name: &str) -> bool {
    let inner = name.strip_prefix(".mcs-").and_then(|rest| rest.strip_suffix(".tmp"));
    let Some((pid, random)) = inner.and_then(|inner| inner.split_once('-')) else { return false };
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) && random.len() == 16 && random.bytes().all(hex)
}
