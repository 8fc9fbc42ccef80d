//! The segments of a cluster on this machine: which there are, and getting rid of them.
//!
//! Names are matched strictly, so a purge of `demo` never touches `demo2`. A segment that a live server holds and
//! one of another user are reported and left alone.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use crate::error::ShmError;
use crate::identity;
use crate::image::Image;
use crate::layout::{self, State};
use crate::object::{self, Object, Open};

/// A segment of a cluster, as found in /dev/shm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Index of its server.
    pub id: u32,
    /// Its file.
    pub path: PathBuf,
    /// User id that owns it.
    pub owner: u32,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of memory that it really takes: less than the file while no cut is prepared.
    pub allocated_bytes: u64,
    /// The process that serves it, `Some(0)` when that has not written its id yet. `None` also for the segments of
    /// other users, which cannot be asked.
    pub served_by: Option<u32>,
}

/// All segments of a cluster on this machine, by id; those of other users too.
pub fn list(cluster: &str) -> Result<Vec<Listed>, ShmError> {
    layout::check_cluster(cluster)?;
    let unreadable = |source| ShmError::Io { action: "list", path: object::FOLDER.into(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(object::FOLDER).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let id = entry.file_name().to_str().and_then(|name| object::parse_id(name, cluster));
        // A file that disappears between the listing and the look was removed: that is not an error.
        if let (Some(id), Ok(stat)) = (id, std::fs::symlink_metadata(entry.path())) {
            found.push(Listed {
                id,
                path: entry.path(),
                owner: stat.uid(),
                file_bytes: stat.len(),
                allocated_bytes: stat.blocks() * 512,
                served_by: if stat.uid() == identity::user_id() { server_of(cluster, id) } else { None },
            });
        }
    }
    found.sort_by_key(|listed| listed.id);
    Ok(found)
}

/// The process that holds a segment's lock. The question takes the lock in shared mode for a moment, which a
/// starting server outwaits.
fn server_of(cluster: &str, id: u32) -> Option<u32> {
    let object = Object::open(cluster, id, Open::ReadOnly).ok()?;
    holder_of(&object)
}

/// The same for an object that is open.
pub(crate) fn holder_of(object: &Object) -> Option<u32> {
    let free = rustix::fs::flock(&object.file, FlockOperation::NonBlockingLockShared).is_ok();
    (!free).then(|| pid_of(object))
}

/// The process id in the header, 0 when it cannot be read.
pub(crate) fn pid_of(object: &Object) -> u32 {
    Image::read(&object.file).map_or(0, |image| image.pid())
}

/// What became of one segment of a purge.
#[derive(Debug)]
pub struct Purged {
    /// Index of its server.
    pub id: u32,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of memory that it took.
    pub allocated_bytes: u64,
    /// Removed, or why not.
    pub outcome: PurgeOutcome,
}

/// Removed, or why not.
#[derive(Debug)]
pub enum PurgeOutcome {
    /// It is gone; processes that still map it are told so by its header.
    Removed,
    /// A live server holds it: stop that first.
    Busy {
        /// Its process id.
        pid: u32,
    },
    /// Another user's: it was not touched.
    Foreign {
        /// User id that owns it.
        owner: u32,
    },
    /// The operating system refused.
    Failed(ShmError),
}

/// Removes all segments of a cluster from this machine, except those that are served or not ours.
///
/// The memory of the cluster on this machine is lost; there is no way back but a snapshot.
pub fn purge(cluster: &str) -> Result<Vec<Purged>, ShmError> {
    purge_those(cluster, |_| true)
}

/// As [`purge`], of those segments only that `is_meant` chooses.
pub fn purge_those(cluster: &str, is_meant: impl Fn(&Listed) -> bool) -> Result<Vec<Purged>, ShmError> {
    let purged = list(cluster)?.into_iter().filter(is_meant).map(|listed| Purged {
        outcome: purge_one(cluster, &listed),
        id: listed.id,
        path: listed.path,
        allocated_bytes: listed.allocated_bytes,
    });
    Ok(purged.collect())
}

fn purge_one(cluster: &str, listed: &Listed) -> PurgeOutcome {
    if listed.owner != identity::user_id() {
        return PurgeOutcome::Foreign { owner: listed.owner };
    }
    match try_remove(cluster, listed.id) {
        Ok(()) | Err(ShmError::Missing { .. }) => PurgeOutcome::Removed,
        Err(ShmError::Busy { pid, .. }) => PurgeOutcome::Busy { pid },
        Err(ShmError::Foreign { owner, .. }) => PurgeOutcome::Foreign { owner },
        Err(error) => PurgeOutcome::Failed(error),
    }
}

fn try_remove(cluster: &str, id: u32) -> Result<(), ShmError> {
    let object = match Object::open(cluster, id, Open::ReadWrite) {
        // Its bytes prove nothing any more, but it is ours, and to remove it is the way out.
        Err(ShmError::Exposed { path, .. }) => {
            return std::fs::remove_file(&path).map_err(|source| ShmError::Io { action: "remove", path, source });
        }
        opened => opened?,
    };
    if !object.lock()? {
        return Err(ShmError::Busy { pid: pid_of(&object), path: object.path });
    }
    if object.is_current()? {
        retire(&object)?;
        object.unlink()?;
    }
    Ok(())
}

/// Tells processes that map the file to leave it. Written with `pwrite`: a file of any size and content can be
/// purged, also one that must not be mapped.
fn retire(object: &Object) -> Result<(), ShmError> {
    use std::os::unix::fs::FileExt;
    let word = State::RETIRED.to_le_bytes();
    let at = std::mem::offset_of!(layout::Header, state) as u64;
    let wrote = if object.file_bytes()? == 0 { Ok(()) } else { object.file.write_all_at(&word, at) };
    wrote.map_err(|source| ShmError::Io { action: "retire", path: object.path.clone(), source })
}
