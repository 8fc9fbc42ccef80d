//! What demos that were killed on the spot have left: segments, and a folder. The next demo of the same
//! user removes it.
//!
//! Nothing of a living demo is touched. The name of all that a demo makes has its process id, and a
//! process of that id must be gone; a segment that is served is left by the purge itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mcomp_shm::PurgeOutcome;
use rustix::process::{Pid, geteuid, test_kill_process};

/// Where segments are, and what their names begin with.
const SEGMENTS: &str = "/dev/shm";
const SEGMENT_PREFIX: &str = "mcomp.";

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) segments: usize,
    pub(super) folders: Vec<PathBuf>,
}

/// Removes it. What cannot be removed is left: it is no business of this demo.
pub(super) fn remove(temporary: &Path) -> Removed {
    let mut removed = Removed::default();
    for cluster in dead_clusters() {
        let purged = mcomp_shm::purge(&cluster).unwrap_or_default();
        removed.segments += purged.iter().filter(|one| matches!(one.outcome, PurgeOutcome::Removed)).count();
    }
    for name in names(temporary) {
        let path = temporary.join(&name);
        let is_dead = name.strip_prefix(super::scratch::FOLDER_PREFIX).is_some_and(is_dead_demo);
        if is_dead && is_own_folder(&path) && fs::remove_dir_all(&path).is_ok() {
            removed.folders.push(path);
        }
    }
    removed
}

/// The clusters of dead demos that have segments.
fn dead_clusters() -> BTreeSet<String> {
    let cluster = |name: &String| {
        let (cluster, _id) = name.strip_prefix(SEGMENT_PREFIX)?.rsplit_once('.')?;
        is_dead_demo(cluster).then(|| cluster.to_owned())
    };
    names(Path::new(SEGMENTS)).iter().filter_map(cluster).collect()
}

/// Whether `cluster` is called like one of a demo, `demo-<process id>-<8 digits>`, whose process is gone.
fn is_dead_demo(cluster: &str) -> bool {
    let parts = cluster.strip_prefix("demo-").and_then(|rest| rest.split_once('-'));
    let Some((pid, random)) = parts else { return false };
    let is_random = random.len() == 8 && random.chars().all(|c| c.is_ascii_hexdigit());
    // A number with a sign or a zero before it is none that a demo has written.
    let pid = pid.parse().ok().filter(|number: &i32| number.to_string() == pid).and_then(Pid::from_raw);
    is_random && pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// Whether it is a folder, and no link to one, of this user.
fn is_own_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|facts| facts.is_dir() && facts.uid() == geteuid().as_raw())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The id of a process that has ended and was waited for.
    fn dead_pid() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn only_names_of_dead_demos_count() {
        let (dead, alive) = (dead_pid(), std::process::id());
        assert!(is_dead_demo(&format!("demo-{dead}-0123abcd")));
        for name in [
            format!("demo-{alive}-0123abcd"),
            format!("demo-{dead}-0123abcde"),
            format!("demo-{dead}-mine"),
            format!("demo-0{dead}-0123abcd"),
            format!("demo-+{dead}-0123abcd"),
            format!("demo-{dead}"),
            format!("mydemo-{dead}-0123abcd"),
            "demo".into(),
        ] {
            assert!(!is_dead_demo(&name), "{name}");
        }
    }

    #[test]
    fn links_and_strangers_stay() {
        let temporary = tempfile::tempdir().unwrap();
        let dead = dead_pid();
        let at = |name: String| temporary.path().join(name);
        let (left, link) = (at(format!("mcomp-demo-{dead}-00000001")), at(format!("mcomp-demo-{dead}-00000002")));
        let (living, other) = (at(format!("mcomp-demo-{}-00000001", std::process::id())), at("mcomp-demo".into()));
        for folder in [&left, &living, &other] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(left.join("mcomp.cfg"), "").unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        assert_eq!(remove(temporary.path()).folders, std::slice::from_ref(&left));
        assert!(!left.exists() && living.exists() && other.exists() && link.is_symlink());
    }
}
