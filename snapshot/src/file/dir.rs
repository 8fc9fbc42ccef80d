//! An open folder: files in it are reached by name, never by path.
//!
//! The folder is opened once, and every file is opened, renamed and removed relative to it, without
//! following a link. Renaming the folder or swapping a part of its path does not redirect a write.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use super::error::io_error;
use super::{FileError, Part, calls};

/// An open folder. Clones share it.
#[derive(Debug, Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl Dir {
    /// Opens a folder that exists.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] when it does not exist, is no folder, or may not be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Dir, FileError> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = calls::open(CWD, path, flags).map_err(io_error("open the folder", path))?;
        Ok(Dir { fd: Arc::new(fd), path: path.to_owned() })
    }

    /// Opens a folder; creates it first, for its owner alone, when it is missing.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] when it can be neither opened nor created.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Dir, FileError> {
        let path = path.as_ref();
        if !path.is_dir() {
            calls::create_folders(path).map_err(io_error("create the folder", path))?;
            Dir::open(parent_of(path))?.sync()?;
        }
        Dir::open(path)
    }

    /// The path by which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it, to be shown.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file for reading. Does not wait for the other end of a pipe, whose kind the reader refuses.
    pub(super) fn open_file(&self, name: &str) -> Result<File, FileError> {
        self.open_with(name, OFlags::RDONLY | OFlags::NONBLOCK, "open")
    }

    /// Creates a file that did not exist, readable and writable by its owner alone.
    pub(super) fn create_file(&self, name: &str) -> Result<File, FileError> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, "create")
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), FileError> {
        calls::remove(self.fd.as_fd(), name).map_err(io_error("remove", &self.path_of(name)))
    }

    /// Renames a file; one that has the new name is replaced.
    pub(super) fn rename_over(&self, from: &str, to: &str) -> Result<(), FileError> {
        let renamed = calls::rename_over(self.fd.as_fd(), from, to);
        renamed.map_err(io_error("rename a finished file to", &self.path_of(to)))
    }

    /// Renames a file; fails when there is one of the new name.
    pub(super) fn rename_new(&self, from: &str, to: &str) -> Result<(), FileError> {
        let renamed = calls::rename_new(self.fd.as_fd(), from, to);
        renamed.map_err(io_error("rename a finished file to", &self.path_of(to)))
    }

    /// Makes what was created, renamed and removed survive a power cut.
    pub(super) fn sync(&self) -> Result<(), FileError> {
        calls::sync(&self.fd).map_err(io_error("sync the folder", &self.path))
    }

    /// The names of what is in it, in order. Names that are not UTF-8 are none of ours and left out.
    pub(super) fn names(&self) -> Result<Vec<String>, FileError> {
        let entries = calls::list(self.fd.as_fd()).map_err(io_error("list", &self.path))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("list", &self.path))?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open_with(&self, name: &str, flags: OFlags, doing: &'static str) -> Result<File, FileError> {
        let path = self.path_of(name);
        if name.contains('/') || matches!(name, "" | "." | "..") {
            return Err(io_error(doing, &path)(io::Error::from(io::ErrorKind::InvalidFilename)));
        }
        match calls::open(self.fd.as_fd(), name, flags | OFlags::NOFOLLOW) {
            Ok(fd) => Ok(File::from(fd)),
            Err(Errno::LOOP) => Err(not_a_file(&path, A_LINK)),
            Err(Errno::NXIO) => Err(not_a_file(&path, NO_FILE)),
            Err(errno) => Err(io_error(doing, &path)(errno)),
        }
    }
}

/// Why a link in a folder of snapshots is none of them.
pub(super) const A_LINK: &str = "it is a link, and none is followed here; use the path that it leads to";

/// Why what cannot even be opened is none.
pub(super) const NO_FILE: &str = "it is a socket or a device";

/// What stands at `path` can be no snapshot, whatever the disk does.
pub(super) fn not_a_file(path: &Path, why: &str) -> FileError {
    FileError::Bad { path: path.to_owned(), part: Part::File, why: why.to_owned() }
}

/// The folder in which a path stands.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}
