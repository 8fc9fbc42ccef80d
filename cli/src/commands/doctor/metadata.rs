//! Can the servers of this machine keep their part of the metadata's log, and will it be there after a reboot?
//!
//! A server that cannot open its log does not start; one that has lost it has no say until the others have given it a
//! new one, and when most have lost theirs nothing is agreed on any more.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat, statfs, statvfs};

use super::finding::{Finding, about, quoted};
use super::folder::{OTHERS_WRITE, make, may_write, unblock};
use super::room::TMPFS_MAGIC;
use super::scene::Scene;

const METADATA: &str = "metadata";

/// Room for a log and its image, of an ordinary cluster.
const ROOM_BYTES: u64 = 64 << 20;

/// Bits of a mode that let others read a file: the ids of leases stand in it, and whoever knows one holds the lease.
const OTHERS_READ: u32 = 0o077;

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let dir = &scene.config.metadata().dir;
    if scene.locals.is_empty() {
        return vec![Finding::skipped(METADATA, dir.display(), "no server of the file belongs to this machine")];
    }
    let elsewhere = format!("dir = \"...\" in [metadata] of {}, on another disk", quoted(scene.config.path()));
    let mut findings = match dir.symlink_metadata() {
        Ok(_) => existing(dir, &elsewhere),
        Err(_) => missing(dir, &elsewhere),
    };
    let logs = scene.locals.iter().map(|local| scene.config.metadata_file(local.id));
    findings.extend(logs.filter_map(|path| judge_log(&path)));
    findings
}

/// A folder that the first server to start has to make.
fn missing(dir: &Path, elsewhere: &str) -> Vec<Finding> {
    let above = dir.ancestors().skip(1).find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    match may_write(above) {
        Ok(()) => judge_disk(dir, above, "it is not there yet, and the first server to start makes it", elsewhere),
        Err(error) => {
            let what =
                format!("it is not there and cannot be made in {}, so servers do not start: {error}", above.display());
            vec![Finding::fail(METADATA, dir.display(), what, make(dir))]
        }
    }
}

fn existing(dir: &Path, elsewhere: &str) -> Vec<Finding> {
    let facts = match may_write(dir).and_then(|()| rustix::fs::stat(dir)) {
        Ok(facts) => facts,
        Err(error) => {
            let what = format!("the log cannot be written there, so servers do not start: {error}");
            return vec![Finding::fail(METADATA, dir.display(), what, unblock(dir, error))];
        }
    };
    let mode = facts.st_mode & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        let what = format!("its mode is {mode:04o}: any user can take the log away");
        return vec![Finding::warn(METADATA, dir.display(), what, format!("chmod 700 {}", quoted(dir)))];
    }
    judge_disk(dir, dir, &format!("it can be written; mode {mode:04o}"), elsewhere)
}

/// The disk below `folder`, where `dir` is or will be.
fn judge_disk(dir: &Path, folder: &Path, well: &str, elsewhere: &str) -> Vec<Finding> {
    let (free_bytes, is_memory) = match (statvfs(folder), statfs(folder)) {
        (Ok(room), Ok(disk)) => {
            (room.f_bavail.saturating_mul(room.f_frsize), u64::try_from(disk.f_type) == Ok(TMPFS_MAGIC))
        }
        (Err(error), _) | (_, Err(error)) => return vec![Finding::fail(METADATA, dir.display(), error, make(dir))],
    };
    let free = format!("{} free", about(free_bytes));
    let finding = match () {
        () if free_bytes == 0 => Finding::fail(METADATA, dir.display(), "nothing is free for the log", elsewhere),
        () if free_bytes < ROOM_BYTES => {
            let what = format!("{free}; a log may take {}", about(ROOM_BYTES));
            Finding::warn(METADATA, dir.display(), what, elsewhere)
        }
        () if is_memory => {
            let what = format!("it lies on a tmpfs, in memory: a reboot loses the log; {free}");
            Finding::warn(METADATA, dir.display(), what, elsewhere)
        }
        () => Finding::ok(METADATA, dir.display(), format!("{well}; {free}")),
    };
    vec![finding]
}

/// What is wrong with a log that is there, if anything is.
fn judge_log(path: &Path) -> Option<Finding> {
    let facts = path.symlink_metadata().ok()?;
    if let Err(error) = accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
        let what = format!("it cannot be written, so its server does not start: {error}");
        return Some(Finding::fail(METADATA, path.display(), what, format!("ls -l {}", quoted(path))));
    }
    let mode = facts.mode() & 0o7777;
    (mode & OTHERS_READ != 0).then(|| {
        let what = format!("its mode is {mode:04o}: other users can read the ids of leases, and use them");
        Finding::warn(METADATA, path.display(), what, format!("chmod 600 {}", quoted(path)))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn the_folder_is_made_or_must_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("deep/metadata");
        assert_ne!(missing(&dir, "elsewhere")[0].level, Level::Fail);
        assert!(!dir.exists() && !folder.path().join("deep").exists(), "nothing is made");
        write(folder.path().join("file"), "").unwrap();
        assert_eq!(existing(&folder.path().join("file"), "elsewhere")[0].level, Level::Fail);
        let below = missing(&folder.path().join("file/metadata"), "elsewhere");
        assert_eq!(below[0].level, Level::Fail, "{below:?}");
        create_dir(folder.path().join("deep")).unwrap();
        set_permissions(folder.path().join("deep"), Permissions::from_mode(0o777)).unwrap();
        let open = existing(&folder.path().join("deep"), "elsewhere");
        assert_eq!(open[0].level, Level::Warn);
        assert!(open[0].fix.as_deref().unwrap().starts_with("chmod 700 "), "{open:?}");
    }

    #[test]
    fn a_log_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.0.redb");
        assert_eq!(judge_log(&path), None);
        write(&path, "").unwrap();
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(judge_log(&path), None);
        set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(judge_log(&path).unwrap().level, Level::Warn);
    }

    #[test]
    fn a_log_in_memory_is_warned_of() {
        let finding = &judge_disk(Path::new("/x"), Path::new("/dev/shm"), "it is there", "elsewhere")[0];
        // Where /dev/shm is full or small it is that which is told.
        assert_ne!(finding.level, Level::Ok, "{finding:?}");
    }
}
