//! The metadata files of a cluster on this machine: which there are, and getting rid of those that no server has open.
//!
//! Names are matched strictly, so a purge of `demo` never touches the files of `demo2` in the same folder. A server
//! holds a lock on its file as long as it runs, and the purge takes it before it removes the file.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

use mcomp_config::Config;
use serde::Serialize;

use crate::exit::{Exit, Failure, Verdict};

/// A file of a purge.
#[derive(Debug, Serialize)]
pub(super) struct Log {
    /// Its server.
    pub(super) id: u32,
    pub(super) path: PathBuf,
    /// What it took on disk.
    pub(super) bytes: u64,
}

/// The logs that are gone, and those that are not, with the reasons.
type Purged = (Vec<Log>, Vec<(Log, Verdict)>);

/// Removes the files of this cluster, but for those of the servers in `kept`. Says what is gone, and what is not.
pub(super) fn purge(config: &Config, kept: &[u32]) -> Result<Purged, Failure> {
    let (mut removed, mut refused) = (Vec::new(), Vec::new());
    for log in list(config)?.into_iter().filter(|log| !kept.contains(&log.id)) {
        match remove(&log) {
            Ok(()) => removed.push(log),
            Err(failure) => refused.push((log, Verdict::of(&failure.into()))),
        }
    }
    Ok((removed, refused))
}

fn list(config: &Config) -> Result<Vec<Log>, Failure> {
    let dir = &config.metadata().dir;
    let unreadable = |error| Failure::io(format_args!("list {}", dir.display()), &error);
    let entries = match dir.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let id = path.file_name().and_then(|name| id_of(name.to_str()?, config.name()));
        // A link is not followed: what it names is not ours.
        if let (Some(id), Ok(facts)) = (id, path.symlink_metadata())
            && facts.is_file()
        {
            found.push(Log { id, path, bytes: facts.len() });
        }
    }
    found.sort_by_key(|log| log.id);
    Ok(found)
}

/// The server of a file's name, also one that mcomp.cfg no longer has.
fn id_of(name: &str, cluster: &str) -> Option<u32> {
    let id = name.strip_prefix(cluster)?.strip_prefix('.')?.strip_suffix(".redb")?;
    id.parse().ok().filter(|number: &u32| number.to_string() == id)
}

fn remove(log: &Log) -> Result<(), Failure> {
    let path = log.path.display();
    let failed = |error| Failure::io(format_args!("remove {path}"), &error);
    let file = File::options().read(true).write(true).open(&log.path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => std::fs::remove_file(&log.path).map_err(failed),
        Err(TryLockError::WouldBlock) => {
            let text = format!("{path} is open in server {}: stop that server first", log.id);
            Err(Failure::new(Exit::TRY_AGAIN, "busy", text))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use mcomp_config::Overrides;

    use super::*;

    #[test]
    fn only_files_of_this_cluster_that_nobody_has_open_go() {
        let folder = tempfile::tempdir().unwrap();
        let text = "cluster = { name = 'demo', k = '4KiB', n = 1 }\n[[server]]\naddress = '127.0.0.1:1'\n";
        let config = Config::parse(text, &folder.path().join("mcomp.cfg"), &Overrides::default()).unwrap();
        assert!(purge(&config, &[]).unwrap().0.is_empty(), "there is no folder");
        let dir = &config.metadata().dir;
        std::fs::create_dir(dir).unwrap();
        let names = ["demo.0.redb", "demo.1.redb", "demo.2.redb", "demo.01.redb", "demo2.0.redb", "demo.0.redb.old"];
        names.iter().for_each(|name| std::fs::write(dir.join(name), "bytes").unwrap());
        std::os::unix::fs::symlink(dir.join("demo2.0.redb"), dir.join("demo.7.redb")).unwrap();
        let served = File::open(dir.join("demo.1.redb")).unwrap();
        served.lock().unwrap();
        let (removed, refused) = purge(&config, &[2]).unwrap();
        let of = |logs: &[&Log]| logs.iter().map(|log| (log.id, log.bytes)).collect::<Vec<_>>();
        assert_eq!(of(&removed.iter().collect::<Vec<_>>()), [(0, 5)]);
        assert_eq!(of(&refused.iter().map(|(log, _)| log).collect::<Vec<_>>()), [(1, 5)]);
        assert_eq!(refused[0].1.exit, Exit::TRY_AGAIN);
        assert!(!dir.join("demo.0.redb").exists());
        assert!(names[1..].iter().all(|name| dir.join(name).exists()));
    }
}
