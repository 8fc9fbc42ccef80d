//! Every system call of the snapshot file that reads or changes a disk, one function each.
//!
//! They stand together so that a test can make any one of them fail, come short, or be the last thing
//! that its process does: see [`fault`](super::fault). Without the feature `faults` nothing stands
//! between these functions and the system.
//!
//! Leaves out: looking at a path that a person gave, which changes nothing and is judged by what is
//! opened afterwards, and streams, which are the caller's.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use rustix::fs::{Advice, AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::path::Arg;

use super::fault::{self, Call};

/// Opens what stands at `path`, seen from `dir`. What is created is its owner's alone.
pub(super) fn open(dir: BorrowedFd<'_>, path: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd, Errno> {
    fault::meet(Call::Open)?;
    retry_on_intr(|| rustix::fs::openat(dir, path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR))
}

/// Creates a folder and those above it that are missing, for their owner alone.
pub(super) fn create_folders(path: &Path) -> io::Result<()> {
    fault::meet(Call::Mkdir)?;
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What is in a folder.
pub(super) fn list(dir: BorrowedFd<'_>) -> Result<rustix::fs::Dir, Errno> {
    fault::meet(Call::List)?;
    rustix::fs::Dir::read_from(dir)
}

pub(super) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    fault::meet(Call::Read)?;
    file.read_exact_at(buffer, offset)
}

/// Writes all of it where the file stands.
pub(super) fn write_all(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    in_pieces(bytes, |rest, _| file.write(rest))
}

/// Writes all of it at `offset`.
pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    in_pieces(bytes, |rest, done| file.write_at(rest, offset + done as u64))
}

/// Makes the length of a file `bytes`, with a hole where there was nothing.
pub(super) fn set_len(file: &File, bytes: u64) -> io::Result<()> {
    fault::meet(Call::Truncate)?;
    file.set_len(bytes)
}

/// Makes a file, or the names in a folder, survive a power cut.
pub(super) fn sync(file: impl AsFd) -> Result<(), Errno> {
    fault::meet(Call::Sync)?;
    retry_on_intr(|| rustix::fs::fsync(&file))
}

/// Brings what was written so far to the disk, and lets a part of it leave the cache.
pub(super) fn settle(file: &File, start: u64, end: u64) -> io::Result<()> {
    fault::meet(Call::Sync)?;
    file.sync_data()?;
    // Advice: a file system that does not take it keeps the pages.
    let _ = rustix::fs::fadvise(file, start, NonZeroU64::new(end - start), Advice::DontNeed);
    Ok(())
}

/// Renames within a folder; a file that has the new name is replaced.
pub(super) fn rename_over(dir: BorrowedFd<'_>, from: &str, to: &str) -> Result<(), Errno> {
    fault::meet(Call::Rename)?;
    rustix::fs::renameat(dir, from, dir, to)
}

/// Renames within a folder; fails when something has the new name.
pub(super) fn rename_new(dir: BorrowedFd<'_>, from: &str, to: &str) -> Result<(), Errno> {
    fault::meet(Call::Rename)?;
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // File systems that cannot do it (NFS among them) say so; a link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fault::meet(Call::Rename)?;
            rustix::fs::linkat(dir, from, dir, to, AtFlags::empty())?;
            // The old name is now a second one; should it stay, a sweep takes it.
            let _ = remove(dir, from);
            Ok(())
        }
        result => result,
    }
}

pub(super) fn remove(dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    fault::meet(Call::Unlink)?;
    rustix::fs::unlinkat(dir, name, AtFlags::empty())
}

/// Locks a file for its writer, without waiting for it.
pub(super) fn lock(file: &File) -> Result<(), Errno> {
    lock_as(file, FlockOperation::NonBlockingLockExclusive)
}

/// Locks a file in the way that is asked for, which must not be one that waits.
pub(super) fn lock_as(file: &File, how: FlockOperation) -> Result<(), Errno> {
    fault::meet(Call::Lock)?;
    rustix::fs::flock(file, how)
}

/// Calls `write` with what is left, and how much is done, until nothing is left.
fn in_pieces(bytes: &[u8], mut write: impl FnMut(&[u8], usize) -> io::Result<usize>) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let most = fault::meet_write(bytes.len() - done)?;
        match write(&bytes[done..done + most], done) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
