//! Errors, sorted by what the caller does next.
//!
//! [`ShmError`] is about a segment as a whole: mend the configuration, free memory, wait for a server, or purge.
//! [`Torn`], [`ReadError`] and [`CutError`] are about one block, in the middle of work.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// Why a segment could not be opened, created, prepared or listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShmError {
    /// The specification describes no possible segment: mend the configuration.
    #[error("impossible segment: {0}")]
    Spec(String),

    /// The segment is somebody else's: it is neither read nor removed.
    #[error("{path} belongs to user {owner}, and this process runs as user {ours}: run as that user, or choose another cluster name", path = .path.display())]
    Foreign {
        /// The segment's file.
        path: PathBuf,
        /// User id that owns it.
        owner: u32,
        /// Effective user id of this process.
        ours: u32,
    },

    /// Others than the owner could read or write it, so its bytes prove nothing.
    #[error("{path} has mode {mode:04o}, which opens it to other users; a segment has 0600: find out who changed it, then run `mcomp purge`", path = .path.display())]
    Exposed {
        /// The segment's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// Something else than a regular file stands at the segment's path.
    #[error("{path} is not a regular file: remove it", path = .path.display())]
    NotAFile {
        /// The segment's file.
        path: PathBuf,
    },

    /// A live server serves this segment.
    #[error("{path} is being served by process {pid}: stop that server first", path = .path.display())]
    Busy {
        /// The segment's file.
        path: PathBuf,
        /// Process id in the header.
        pid: u32,
    },

    /// The segment was made by an mcomp whose layout this one does not know: nothing of it was changed.
    #[error("{path} has layout version {found}, and this mcomp knows version {ours}: start the version of mcomp that made it, save the memory with `mcomp snapshot create`, stop that one, run `mcomp purge`, start this version and `mcomp restore` the snapshot", path = .path.display())]
    Layout {
        /// The segment's file.
        path: PathBuf,
        /// The version in the segment.
        found: u32,
        /// The version of this crate.
        ours: u32,
    },

    /// The segment is of another cluster, size or boot.
    #[error("{path} has {what} {found}, and {expected} is expected: run `mcomp purge` to drop the old memory, or go back to the configuration that made it", path = .path.display())]
    Mismatch {
        /// The segment's file.
        path: PathBuf,
        /// Which field.
        what: &'static str,
        /// Its value in the segment.
        found: String,
        /// The value that the configuration or this machine asks for.
        expected: String,
    },

    /// There is not enough memory, and nothing was allocated.
    #[error("{needed_bytes} bytes are needed, and {what} has {free_bytes} free of {total_bytes}: {remedy}")]
    Full {
        /// Bytes that were to be allocated.
        needed_bytes: u64,
        /// Bytes that could be had.
        free_bytes: u64,
        /// The size of what ran out.
        total_bytes: u64,
        /// What ran out.
        what: String,
        /// The way out.
        remedy: &'static str,
    },

    /// There is no such segment on this machine: no server has created it since the last boot.
    #[error("{path} does not exist: start its server on this machine", path = .path.display())]
    Missing {
        /// The segment's file.
        path: PathBuf,
    },

    /// Its creation is going on, or was cut short: try again once its server runs.
    #[error("{path} is not ready: wait until its server has started", path = .path.display())]
    Unfinished {
        /// The segment's file.
        path: PathBuf,
    },

    /// It was purged or replaced while it was being opened: open it again.
    #[error("{path} is retired: open the segment again", path = .path.display())]
    Retired {
        /// The segment's file.
        path: PathBuf,
    },

    /// A cut was asked for with an epoch that is not newer than the segment's, or absurdly far ahead of it.
    #[error("cut epoch {asked} cannot follow the segment's epoch {current}: ask again with the next one")]
    EpochNotNewer {
        /// Epoch asked for.
        asked: u64,
        /// Epoch of the segment.
        current: u64,
    },

    /// A cut was asked for before its shadow area was prepared.
    #[error("cut epoch {asked} was asked for without a prepared shadow area: prepare it first")]
    ShadowNotPrepared {
        /// Epoch asked for.
        asked: u64,
    },

    /// The operating system refused.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ShmError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, errno: Errno) -> ShmError {
        ShmError::Io { action, path: path.into(), source: errno.into() }
    }
}

/// A block whose last write was cut off by the death of a server, so that its bytes prove nothing.
///
/// An operation that returns this had no effect. The block heals when all of it is written or filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {block} (bytes {first} to {last} of the segment) was left half written by a server's death: write the whole block to heal it, or restore a snapshot", first = block * 4096, last = block * 4096 + 4095)]
pub struct Torn {
    /// Index of the block in the segment.
    pub block: u64,
}

/// Why a process that only maps the segment could not read a block. Each sends it to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The block is torn; the server says the same.
    #[error(transparent)]
    Torn(#[from] Torn),
    /// Writers were faster than all tries, or one stopped half-way: ask the server.
    #[error("block {block} kept changing while it was read: ask the server")]
    Contended {
        /// Index of the block in the segment.
        block: u64,
    },
    /// The segment was purged or replaced: leave it and ask the server.
    #[error("the segment is retired: open it again")]
    Retired,
    /// A cut is held: the server knows when the answer may be known.
    #[error("a cut is held: ask the server")]
    Held,
    /// A restore has begun, or has ended: the memory is not the one that was asked about.
    #[error("the memory was restored or is being restored: ask the server")]
    Restored,
}

/// Why a block of a cut could not be had. None of them is cured by asking the same again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CutError {
    /// The cut is over, or a newer one has begun: give the snapshot up.
    #[error("the cut of epoch {asked} is over: the segment is at epoch {current}, {}", if *.active { "in another cut" } else { "in no cut" })]
    Superseded {
        /// Epoch of the cut asked for.
        asked: u64,
        /// Epoch of the segment.
        current: u64,
        /// Whether a cut is active now.
        active: bool,
    },
    /// At the instant of the cut the block was torn: the memory had no value there.
    #[error(transparent)]
    Torn(#[from] Torn),
    /// The block stayed half written until the deadline: its server is frozen or dead.
    #[error("block {block} stayed half written until the deadline: its server is frozen or dead")]
    Contended {
        /// Index of the block in the segment.
        block: u64,
    },
    /// The segment was purged or replaced: give the snapshot up.
    #[error("the segment is retired: the snapshot has no memory to save")]
    Retired,
    /// The shadow page could not be read.
    #[error("cannot read the shadow page of block {block}: {source}")]
    Shadow {
        /// Index of the block in the segment.
        block: u64,
        /// What the system said.
        source: io::Error,
    },
}
