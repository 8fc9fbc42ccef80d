//! The folder of one run, and names and addresses that nobody else has. The folder goes when the run
//! ends, however it ends.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

/// The folder and the loopback address of this run.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: TempDir,
    ip: Ipv4Addr,
    next: Cell<u32>,
}

impl Scratch {
    /// Makes the folder.
    pub(crate) fn create() -> anyhow::Result<Scratch> {
        let dir = tempfile::Builder::new().prefix("mcomp-bench-").tempdir().context("cannot make a scratch folder")?;
        let pid = std::process::id();
        // Two runs on one machine differ in pid, so they do not meet at an address either.
        let ip = Ipv4Addr::new(127, 1 + ((pid >> 8) % 254) as u8, (pid % 256) as u8, 251);
        Ok(Scratch { dir, ip, next: Cell::new(0) })
    }

    /// A file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// A folder for files that belong on a disk, which goes when it is dropped. /tmp is memory on many
    /// machines; TMPDIR wins over /var/tmp.
    pub(crate) fn disk_folder() -> anyhow::Result<TempDir> {
        let disk = Path::new("/var/tmp");
        let parent = match std::env::var_os("TMPDIR") {
            None if disk.is_dir() => disk.to_owned(),
            _ => std::env::temp_dir(),
        };
        let made = tempfile::Builder::new().prefix("mcomp-bench-").tempdir_in(&parent);
        made.with_context(|| format!("cannot make a folder in {}", parent.display()))
    }

    /// A folder for files that belong into memory, which goes when it is dropped.
    pub(crate) fn memory_folder() -> anyhow::Result<TempDir> {
        let made = tempfile::Builder::new().prefix("mcomp-bench-").tempdir_in("/dev/shm");
        made.context("cannot make a folder in /dev/shm")
    }

    /// A name for a cluster, a socket or a log.
    pub(crate) fn unique(&self, what: &str) -> String {
        let number = self.next.replace(self.next.get() + 1);
        format!("bench-{}-{number}-{}", std::process::id(), what.to_lowercase())
    }

    /// A port that nobody listens on now, on an address of this run's own.
    pub(crate) fn free_address(&self) -> anyhow::Result<SocketAddr> {
        let held = TcpListener::bind((self.ip, 0)).with_context(|| format!("no free port on {}", self.ip))?;
        Ok(held.local_addr()?)
    }
}
