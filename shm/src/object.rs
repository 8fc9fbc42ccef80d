//! The file behind a segment: its name, its owner, its lock.
//!
//! A segment is the POSIX shared memory object `/mcomp.<cluster>.<id>`, which Linux keeps as a file in /dev/shm.
//!
//! One server per segment is ensured by an exclusive flock(2). Of the locks that Linux offers it is the one that
//! fits: it belongs to the open file description and not to the process, so a second open in the same process is
//! refused too and closing another descriptor of the file does not drop it (as POSIX record locks would); and it
//! disappears with its last holder, however that died, so no stale lock is ever to be broken.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::ShmError;
use crate::identity;

/// Where Linux keeps POSIX shared memory objects.
pub(crate) const FOLDER: &str = "/dev/shm";

/// An open segment file that belongs to this user and to nobody else.
///
/// * It is a regular file, its owner is our effective user, and no other user may read or write it.
pub(crate) struct Object {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

/// How to open an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// An existing one, to look at.
    ReadOnly,
    /// An existing one, to serve or to remove.
    ReadWrite,
    /// One that must not exist yet.
    New,
}

/// The path of a segment.
pub(crate) fn path(cluster: &str, id: u32) -> PathBuf {
    Path::new(FOLDER).join(format!("mcomp.{cluster}.{id}"))
}

/// The server id in a file name of this cluster, `None` for any other name. There is one name per id: no leading
/// zeros, no sign.
pub(crate) fn parse_id(name: &str, cluster: &str) -> Option<u32> {
    let digits = name.strip_prefix("mcomp.")?.strip_prefix(cluster)?.strip_prefix('.')?;
    let id: u32 = digits.parse().ok()?;
    (id.to_string() == digits).then_some(id)
}

impl Object {
    /// Opens a segment's file and checks whose it is. The symbolic links that a stranger could place in
    /// /dev/shm are not followed.
    pub(crate) fn open(cluster: &str, id: u32, how: Open) -> Result<Object, ShmError> {
        let path = path(cluster, id);
        let flags = match how {
            Open::ReadOnly => OFlags::RDONLY,
            Open::ReadWrite => OFlags::RDWR,
            Open::New => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        let name = format!("/mcomp.{cluster}.{id}");
        // NONBLOCK: if somebody placed a pipe there, opening it must not hang.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = rustix::shm::OFlags::from_bits_retain(flags.bits());
        match rustix::shm::open(name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => {
                let object = Object { file: fd.into(), path };
                object.check_owner()?;
                Ok(object)
            }
            Err(Errno::NOENT) => Err(ShmError::Missing { path }),
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => Err(ShmError::NotAFile { path }),
            Err(Errno::ACCESS) => Err(foreign(path)),
            Err(errno) => Err(ShmError::io("open", path, errno)),
        }
    }

    fn check_owner(&self) -> Result<(), ShmError> {
        let stat = self.stat()?;
        let path = || self.path.clone();
        if !stat.is_file() {
            return Err(ShmError::NotAFile { path: path() });
        }
        if stat.uid() != identity::user_id() {
            return Err(ShmError::Foreign { path: path(), owner: stat.uid(), ours: identity::user_id() });
        }
        if stat.mode() & 0o077 != 0 {
            return Err(ShmError::Exposed { path: path(), mode: stat.mode() & 0o7777 });
        }
        Ok(())
    }

    fn stat(&self) -> Result<std::fs::Metadata, ShmError> {
        self.file.metadata().map_err(|source| ShmError::Io { action: "stat", path: self.path.clone(), source })
    }

    /// Size of the file.
    pub(crate) fn file_bytes(&self) -> Result<u64, ShmError> {
        Ok(self.stat()?.len())
    }

    /// Takes the server's lock; `false` when another holds it.
    pub(crate) fn lock(&self) -> Result<bool, ShmError> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(ShmError::io("lock", &self.path, errno)),
        }
    }

    /// Whether the name still leads to this file. Between opening a file and locking it, another may have removed
    /// it and made a new one.
    pub(crate) fn is_current(&self) -> Result<bool, ShmError> {
        let mine = self.stat()?;
        match std::fs::symlink_metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (mine.dev(), mine.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(ShmError::Io { action: "stat", path: self.path.clone(), source }),
        }
    }

    /// Removes the name; who has the file open keeps it. Call it with the lock held, and only on the current file.
    pub(crate) fn unlink(&self) -> Result<(), ShmError> {
        match rustix::fs::unlink(&self.path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(ShmError::io("remove", &self.path, errno)),
        }
    }
}

/// Another user's file cannot be opened, but its owner can be named.
fn foreign(path: PathBuf) -> ShmError {
    match std::fs::symlink_metadata(&path) {
        Ok(stat) => ShmError::Foreign { owner: stat.uid(), ours: identity::user_id(), path },
        Err(source) => ShmError::Io { action: "open", path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_strictly() {
        assert_eq!(parse_id("mcomp.demo.0", "demo"), Some(0));
        assert_eq!(parse_id("mcomp.demo.4294967295", "demo"), Some(u32::MAX));
        for name in [
            "mcomp.demo.",
            "mcomp.demo.00",
            "mcomp.demo.+1",
            "mcomp.demo.-1",
            "mcomp.demo.1 ",
            "mcomp.demo.1.2",
            "mcomp.demo.4294967296",
            "mcomp.demo2.1",
            "mcomp.dem.1",
            "xmcomp.demo.1",
            "mcomp.demo",
            "demo.1",
        ] {
            assert_eq!(parse_id(name, "demo"), None, "{name}");
        }
        assert_eq!(path("demo", 3), Path::new("/dev/shm/mcomp.demo.3"));
    }
}
