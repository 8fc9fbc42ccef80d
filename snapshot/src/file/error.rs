//! What goes wrong with snapshot files, sorted by what the caller does next.
//!
//! [`FileError::Io`] is the machine's fault: look at the disk. [`FileError::Bad`] and
//! [`FileError::Chain`] are the file's: use another snapshot. [`FileError::Unproved`] asks for a word of
//! the caller: is the file to be believed? [`FileError::NotFound`] and
//! [`FileError::Refused`] are the caller's: mend the request. Each names the path and the value.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A failure of an operation on snapshot files.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system said no; nothing is known about the content.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was attempted, as a verb: "open", "sync".
        doing: &'static str,
        /// The file or folder it was attempted on.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is not a whole, undamaged snapshot of this format.
    #[error("{path} is not a valid snapshot: {part}: {why}")]
    Bad {
        /// The file.
        path: PathBuf,
        /// The part of it that is wrong.
        part: Part,
        /// What is wrong, with the values.
        why: String,
    },
    /// The file is sound by itself, but the files it builds on are missing or do not fit.
    #[error("{path} cannot be restored: {why}")]
    Chain {
        /// The file whose parent is at fault.
        path: PathBuf,
        /// What is wrong, with the values and the way out.
        why: String,
    },
    /// The file may be sound, and nothing proves that it is of this cluster, which has a secret.
    #[error("{path} is not accepted: {why}; if you know where it comes from, say --unsigned")]
    Unproved {
        /// The file.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// No file answers to this name.
    #[error("there is no snapshot {name} in {folder}; `mcomp snapshot ls` lists those there are")]
    NotFound {
        /// The name as it was given.
        name: String,
        /// The folder that was searched.
        folder: PathBuf,
    },
    /// What the caller brought, a name or something to be written, cannot be a snapshot's; nothing
    /// was kept.
    #[error("refused: {part}: {why}")]
    Refused {
        /// What it would have been.
        part: Part,
        /// What is wrong, with the values.
        why: String,
    },
}

/// A region of a snapshot file, to say where it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The file as a whole: its kind or its size.
    File,
    /// The fixed header.
    Header,
    /// The per-server records.
    Servers,
    /// The page table: the allocations.
    Pages,
    /// The chunk that records memory from this address on.
    Chunk(u64),
    /// The chunk table.
    Table,
    /// The totals, the MAC and the trailer.
    Footer,
    /// The file's name.
    Name,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::File => f.write_str("file"),
            Part::Header => f.write_str("header"),
            Part::Servers => f.write_str("server section"),
            Part::Pages => f.write_str("page table"),
            Part::Chunk(address) => write!(f, "chunk at address {address:#x}"),
            Part::Table => f.write_str("chunk table"),
            Part::Footer => f.write_str("footer"),
            Part::Name => f.write_str("name"),
        }
    }
}

/// A fault found in bytes, before it is known whose bytes they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) part: Part,
    pub(super) why: String,
}

impl Fault {
    pub(super) fn new(part: Part, why: impl Into<String>) -> Fault {
        Fault { part, why: why.into() }
    }

    /// The bytes were read from `path`.
    pub(super) fn read_from(self, path: &Path) -> FileError {
        FileError::Bad { path: path.to_owned(), part: self.part, why: self.why }
    }

    /// The bytes, or what they would be made of, came from the caller.
    pub(super) fn given(self) -> FileError {
        FileError::Refused { part: self.part, why: self.why }
    }
}

/// Turns a failed system call into an error that names its path.
pub(super) fn io_error<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { doing, path, source: source.into() }
}

/// `Ok` when `condition` holds; otherwise the fault, whose text is only built then.
pub(super) fn ensure(condition: bool, part: Part, why: impl FnOnce() -> String) -> Result<(), Fault> {
    if condition { Ok(()) } else { Err(Fault::new(part, why())) }
}
