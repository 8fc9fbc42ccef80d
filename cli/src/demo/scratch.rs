//! A cluster of the demo's own: a folder, a name, free ports, and a configuration. All of it goes
//! away when the [`Scratch`] is dropped, however the demo ends.

use std::fmt::Write;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mcomp_config::{Config, Overrides};
use mcomp_shm::Purged;

use crate::exit::Failure;

/// What the name of the folder begins with, before the name of the cluster.
pub(super) const FOLDER_PREFIX: &str = "mcomp-";
/// Where the metadata is in it, as mcomp.cfg says by itself.
const METADATA: &str = "metadata";

/// The folder and the cluster's name. No other process uses either.
#[derive(Debug)]
pub(super) struct Scratch {
    folder: PathBuf,
    cluster: String,
}

impl Scratch {
    /// Makes the folder, for its owner alone.
    pub(super) fn create() -> Result<Scratch, Failure> {
        let cluster = format!("demo-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let folder = std::env::temp_dir().join(format!("{FOLDER_PREFIX}{cluster}"));
        // It must be new: `create` fails on what is there already, a link of somebody else included.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| Failure::io(format_args!("make the folder {}", folder.display()), &error))?;
        Ok(Scratch { folder, cluster })
    }

    /// Writes the configuration of `n` servers on ports that are free at this moment.
    pub(super) fn configure(&self, n: u32, k_bytes: u64) -> Result<Config, Failure> {
        let ports = free_ports(2 * n as usize).map_err(|error| Failure::io("find free ports on 127.0.0.1", &error))?;
        let text = configuration(&self.cluster, k_bytes, &ports);
        let path = self.folder.join("mcomp.cfg");
        fs::write(&path, &text).map_err(|error| Failure::io(format_args!("write {}", path.display()), &error))?;
        // Without the environment: its MCOMP_* variables are meant for a real cluster.
        Ok(Config::parse(&text, &path, &Overrides::default()).expect("the configuration of the demo is valid"))
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the memory of this cluster, and what was agreed on about it.
    pub(super) fn purge(&self) -> anyhow::Result<Vec<Purged>> {
        let metadata = self.folder.join(METADATA);
        if metadata.exists() {
            fs::remove_dir_all(&metadata).map_err(|error| Failure::io("remove the metadata", &error))?;
        }
        Ok(mcomp_shm::purge(&self.cluster)?)
    }

    /// How many segments there are.
    pub(super) fn segments(&self) -> anyhow::Result<usize> {
        Ok(mcomp_shm::list(&self.cluster)?.len())
    }

    /// Removes the folder with all that is in it.
    pub(super) fn remove_folder(&self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.folder)
            .map_err(|error| Failure::io(format_args!("remove {}", self.folder.display()), &error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After a story that went well there is nothing to remove, and after another one its own
        // error matters more.
        let _ = mcomp_shm::purge(&self.cluster);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Different ports that nothing listens on. They are free again when this returns, so another
/// process may take one; the child that meets it says so, and the demo tries others.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held: Vec<TcpListener> = (0..count).map(bind).collect::<io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

fn configuration(cluster: &str, k_bytes: u64, ports: &[u16]) -> String {
    let n = ports.len() / 2;
    let mut text = format!("[cluster]\nname = \"{cluster}\"\nk = {k_bytes}\nn = {n}\n");
    for pair in ports.chunks_exact(2) {
        let (server, snapshot) = (pair[0], pair[1]);
        let _ = write!(text, "\n[[server]]\naddress = \"127.0.0.1:{server}\"\nsnapshot = \"127.0.0.1:{snapshot}\"\n");
    }
    text + "\n[snapshot]\nmaster = 0\nevery = \"off\"\ndir = \"snapshots\"\n"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn two_clusters_share_nothing_and_leave_nothing() {
        let (one, other) = (Scratch::create().unwrap(), Scratch::create().unwrap());
        assert_ne!((&one.folder, &one.cluster), (&other.folder, &other.cluster));
        assert_eq!(one.folder().metadata().unwrap().mode() & 0o777, 0o700);
        let config = one.configure(3, 1 << 20).unwrap();
        assert_eq!((config.n(), config.k(), config.name()), (3, 1 << 20, one.cluster.as_str()));
        assert_eq!(config.snapshot().dir, one.folder().join("snapshots"));
        let folders = [one.folder.clone(), other.folder.clone()];
        drop((one, other));
        assert!(folders.iter().all(|folder| !folder.exists()));
    }

    #[test]
    fn ports_differ() {
        let mut ports = free_ports(6).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }
}
