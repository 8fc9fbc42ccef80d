//! A snapshot together with all that it builds on.
//!
//! A full snapshot is a chain of one. The parent of an incremental one is the file with the parent's
//! cut id in the same folder, whatever it is called. Every link is checked: same cluster, N and k,
//! the same segments, no gap between the parent's epochs and the child's. A chain that opens is
//! complete; that its chunks are sound is for [`Chain::verify`] to say.
//!
//! Leaves out: waiting for files that are being written, and following parents to other folders.

use std::path::Path;

use uuid::Uuid;

use super::dir::parent_of;
use super::error::{Fault, Part, io_error};
use super::name::SUFFIX;
use super::reader::peek;
use super::runs::{Runs, non_zero_end};
use super::{Dir, FileError, FileKeys, Mac, Meta, Progress, Snapshot, Unsigned};

/// The most files of a chain. Each costs an open file and up to 1 MiB while it is read, so whoever
/// writes incremental snapshots makes a full one long before.
pub const MAX_CHAIN_FILES: usize = 256;

/// A snapshot and its ancestors, all open.
///
/// - At least one file, the newest first; the last is full.
/// - Each file but the last has the next as its checked parent, of an earlier epoch.
#[derive(Debug)]
pub struct Chain {
    files: Vec<Snapshot>,
}

impl Chain {
    /// Opens the snapshot at `path` and its ancestors in the same folder.
    ///
    /// # Errors
    ///
    /// [`FileError::Chain`] when an ancestor is missing, broken, or does not fit; otherwise as
    /// [`Snapshot::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Chain, FileError> {
        Chain::of(Snapshot::open(path)?)
    }

    /// The chain of a snapshot that is open.
    ///
    /// # Errors
    ///
    /// As [`Chain::open`].
    pub fn of(snapshot: Snapshot) -> Result<Chain, FileError> {
        if snapshot.meta().is_full() {
            return Ok(Chain { files: vec![snapshot] });
        }
        // The ancestors stand beside the file, not beside a link that leads to it.
        let path = snapshot.path().canonicalize().map_err(io_error("resolve", snapshot.path()))?;
        let mut relatives = Relatives::scan(&Dir::open(parent_of(&path))?)?;
        let mut files = vec![snapshot];
        while let Some(parent) = relatives.parent_of(&files)? {
            files.push(parent);
        }
        Ok(Chain { files })
    }

    /// The snapshot that was asked for.
    pub fn newest(&self) -> &Snapshot {
        &self.files[0]
    }

    /// What the newest snapshot says about itself; cluster, N and k are the same in all.
    pub fn meta(&self) -> &Meta {
        self.newest().meta()
    }

    /// All files, the newest first.
    pub fn files(&self) -> &[Snapshot] {
        &self.files
    }

    /// Bytes of all files together.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(Snapshot::file_bytes).sum()
    }

    /// Checks the MAC of every file against the keys that there are here, if any, and returns what was seen, the
    /// newest file first. Without keys no file is refused.
    ///
    /// # Errors
    ///
    /// [`FileError::Bad`] when a MAC is wrong; [`FileError::Unproved`] when there is none, or its key is not known,
    /// unless `unsigned` accepts that.
    pub fn authenticate(&self, keys: Option<&FileKeys>, unsigned: Unsigned) -> Result<Vec<Mac>, FileError> {
        let judged = |file: &Snapshot| match file.mac(keys) {
            Mac::Wrong => Err(Fault::new(Part::Footer, Mac::Wrong.to_string()).read_from(file.path())),
            mac if mac == Mac::Fits || keys.is_none() || unsigned == Unsigned::Accept => Ok(mac),
            mac => Err(FileError::Unproved { path: file.path().to_owned(), why: unproved(mac, keys).to_owned() }),
        };
        self.files.iter().map(judged).collect()
    }

    /// Reads and proves every chunk of every file. Progress is in bytes of files.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::verify`].
    pub fn verify(&self, progress: Progress<'_>) -> Result<(), FileError> {
        let total = self.file_bytes();
        let mut before = 0;
        for file in &self.files {
            file.verify(&mut |done, _| progress(before + done, total))?;
            before += file.file_bytes();
        }
        Ok(())
    }

    /// The recorded memory in ascending order; where two files record a byte, the newer one is right.
    /// What is not recorded is zero. Holds at most 1 MiB for each file.
    pub fn runs(&self) -> Runs<'_> {
        Runs::of(&self.files)
    }

    /// The address just past the last byte that is not zero; 0 when all are. A memory of that many
    /// bytes holds the snapshot.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::read_chunk`], for the chunks that had to be read.
    pub fn non_zero_end(&self) -> Result<u64, FileError> {
        non_zero_end(&self.files)
    }
}

/// The snapshot files of a folder by the cut they claim to be of.
struct Relatives {
    dir: Dir,
    claims: Vec<(Uuid, String)>,
    /// Why one of them could not be read: any missing parent may be that one.
    unread: Option<FileError>,
}

impl Relatives {
    fn scan(dir: &Dir) -> Result<Relatives, FileError> {
        let names = dir.names()?.into_iter().filter(|name| is_snapshot_name(name));
        let (mut claims, mut unread) = (Vec::new(), None);
        for name in names {
            match peek(dir, &name) {
                Ok(meta) => claims.push((meta.cut, name)),
                Err(error @ FileError::Io { .. }) => unread = Some(error),
                // What has no sound header is nobody's parent.
                Err(_) => {}
            }
        }
        Ok(Relatives { dir: dir.clone(), claims, unread })
    }

    /// The parent of the last file of `files`; none when that is full.
    fn parent_of(&mut self, files: &[Snapshot]) -> Result<Option<Snapshot>, FileError> {
        let child = files.last().expect("a chain has a file");
        let Some(parent) = child.meta().parent else { return Ok(None) };
        let fault = |why| FileError::Chain { path: child.path().to_owned(), why };
        if files.iter().any(|file| file.meta().cut == parent.cut) {
            return Err(fault(format!("its parent {} builds on it in turn", parent.cut)));
        }
        if files.len() >= MAX_CHAIN_FILES {
            return Err(fault(format!("its chain has more than {MAX_CHAIN_FILES} files")));
        }
        let snapshot = self.open(parent.cut, child.path())?;
        child.meta().check_parent(snapshot.meta()).map_err(fault)?;
        Ok(Some(snapshot))
    }

    /// Opens the parent of `child`, the snapshot of `cut`: of several copies, the first that is sound.
    fn open(&mut self, cut: Uuid, child: &Path) -> Result<Snapshot, FileError> {
        let mut why = format!("its parent, cut {cut}, is not in {}; put it there", self.dir.path().display());
        for (_, name) in self.claims.iter().filter(|(claimed, _)| *claimed == cut) {
            match Snapshot::open_in(&self.dir, name) {
                Ok(snapshot) if snapshot.meta().cut == cut => return Ok(snapshot),
                Ok(_) => continue,
                Err(error @ FileError::Io { .. }) => self.unread = Some(error),
                Err(error) => why = format!("its parent, cut {cut}, is broken: {error}"),
            }
        }
        Err(self.unread.take().unwrap_or_else(|| FileError::Chain { path: child.to_owned(), why }))
    }
}

/// Why a file is not accepted that has no MAC that could be checked, although there is a secret.
fn unproved(mac: Mac, keys: Option<&FileKeys>) -> &'static str {
    match mac {
        Mac::None => "it is not signed, and the cluster has a secret",
        _ if keys.is_some_and(FileKeys::is_empty) => {
            "it is signed with a node key, and the secret here has none: use one that has"
        }
        _ => "it is signed with a key that the secret here does not have",
    }
}

/// Whether a file of this name in the folder is to be looked at. A person may have renamed it, but not to
/// what would garble a listing.
pub(super) fn is_snapshot_name(name: &str) -> bool {
    name.ends_with(SUFFIX) && !name.starts_with('.') && !name.contains(char::is_control)
}
