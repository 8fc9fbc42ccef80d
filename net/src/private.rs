//! Files that nobody else may know: read only if they are a regular file of this user and closed to all others.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// What keeps a file from being believed.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// It cannot be read.
    Io(io::Error),
    /// It is a folder, a pipe or the like.
    NotAFile,
    /// It belongs to somebody else.
    Foreign {
        /// Whose it is.
        owner: u32,
        /// Who asks.
        ours: u32,
    },
    /// Others may have read or written it.
    Exposed {
        /// Its permission bits.
        mode: u32,
    },
    /// It has more bytes than any such file needs.
    TooLong,
}

/// The bytes of the file, at most `most_bytes`. A link is not followed.
pub(crate) fn read(path: &Path, most_bytes: u64) -> Result<Vec<u8>, Unfit> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    let file = File::from(opened.map_err(|errno| Unfit::Io(errno.into()))?);
    let found = file.metadata().map_err(Unfit::Io)?;
    let (owner, ours) = (found.uid(), rustix::process::geteuid().as_raw());
    if !found.is_file() {
        return Err(Unfit::NotAFile);
    }
    if owner != ours {
        return Err(Unfit::Foreign { owner, ours });
    }
    if found.mode() & 0o077 != 0 {
        return Err(Unfit::Exposed { mode: found.mode() & 0o7777 });
    }
    let mut bytes = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut bytes).map_err(Unfit::Io)?;
    if bytes.len() as u64 > most_bytes { Err(Unfit::TooLong) } else { Ok(bytes) }
}
