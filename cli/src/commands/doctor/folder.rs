//! Can the master write snapshots, and will there be room for as many as are to be kept?
//!
//! Only the machine of the master is asked. What a snapshot will take is guessed: as much as the largest one that is
//! there, and before there is one, as much as the memory, which compression makes less.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mcomp_snapshot::file::{Entry, Folder, State};
use rustix::fs::{Access, AtFlags, CWD, accessat, statfs, statvfs};
use rustix::process::geteuid;

use super::finding::{Finding, about, as_root, quoted};
use super::room::TMPFS_MAGIC;
use super::scene::Scene;

const SNAPSHOT_DIR: &str = "snapshot_dir";
const SNAPSHOTS: &str = "snapshots";

/// Bits of a mode that let other users change what is in a folder.
pub(super) const OTHERS_WRITE: u32 = 0o002;

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let (dir, master) = (&scene.config.snapshot().dir, scene.config.snapshot().master);
    let reason = match scene.local(master) {
        None => format!("snapshots are written by the machine of server {master}"),
        Some(local) if local.entry.snapshot.is_none() => {
            format!("server {master}, the master, has no snapshot process in the file")
        }
        Some(_) if dir.symlink_metadata().is_ok() => return existing(scene, dir),
        Some(_) => return missing(scene, dir),
    };
    [SNAPSHOT_DIR, SNAPSHOTS].map(|check| Finding::skipped(check, dir.display(), &reason)).into()
}

/// A folder that the first snapshot has to make.
fn missing(scene: &Scene, dir: &Path) -> Vec<Finding> {
    let above = dir.ancestors().skip(1).find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let can = match () {
        () if above.is_dir() => may_write(above),
        () => Err(rustix::io::Errno::NOTDIR),
    };
    match can {
        Ok(()) => {
            let what = "it is not there yet, and the first snapshot makes it";
            vec![Finding::ok(SNAPSHOT_DIR, dir.display(), what), room(scene, above, &[])]
        }
        Err(error) => {
            let what = format!("it is not there and cannot be made in {}: {error}", above.display());
            vec![Finding::fail(SNAPSHOT_DIR, dir.display(), what, make(dir))]
        }
    }
}

fn existing(scene: &Scene, dir: &Path) -> Vec<Finding> {
    if let Err(error) = may_write(dir) {
        let what = format!("snapshots cannot be written there: {error}");
        return vec![Finding::fail(SNAPSHOT_DIR, dir.display(), what, unblock(dir, error))];
    }
    let (folder, entries) = match &scene.snapshots {
        Ok(found) => found,
        Err(error) => return vec![Finding::fail(SNAPSHOT_DIR, dir.display(), error, make(dir))],
    };
    let ours: Vec<&Entry> = entries.iter().filter(|entry| is_of(entry, scene.config.name())).collect();
    let mut findings = permissions(dir);
    findings.push(room(scene, dir, &ours));
    findings.extend(contents(scene, folder, &ours));
    findings
}

/// A broken file may not even say whose it is; it is told all the same.
fn is_of(entry: &Entry, cluster: &str) -> bool {
    entry.meta.as_ref().is_none_or(|meta| meta.cluster == cluster)
}

/// Whether this user may make, rename and remove files in a folder.
pub(super) fn may_write(folder: &Path) -> rustix::io::Result<()> {
    if !folder.is_dir() {
        return Err(rustix::io::Errno::NOTDIR);
    }
    accessat(CWD, folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
}

/// The command that makes a folder for this user.
pub(super) fn make(dir: &Path) -> String {
    let (dir, user) = (quoted(dir), geteuid().as_raw());
    as_root(format_args!("install -d -m 700 -o {user} {dir}"))
}

pub(super) fn unblock(dir: &Path, error: rustix::io::Errno) -> String {
    match error {
        rustix::io::Errno::NOTDIR => format!("mv {0} {0}.old", quoted(dir)),
        rustix::io::Errno::ROFS => as_root(format_args!("mount -o remount,rw \"$(stat -c %m {})\"", quoted(dir))),
        _ => make(dir),
    }
}

/// Who can write the folder can take snapshots away, and without a secret also write one that a restore believes.
fn permissions(dir: &Path) -> Vec<Finding> {
    let facts = match dir.metadata() {
        Ok(facts) => facts,
        Err(error) => return vec![Finding::fail(SNAPSHOT_DIR, dir.display(), error, make(dir))],
    };
    let (mode, owner, user) = (facts.mode() & 0o7777, facts.uid(), geteuid().as_raw());
    let mut findings = Vec::new();
    if mode & OTHERS_WRITE != 0 {
        let what = format!("its mode is {mode:04o}: any user can put snapshots there or take them away");
        findings.push(Finding::warn(SNAPSHOT_DIR, dir.display(), what, format!("chmod 700 {}", quoted(dir))));
    }
    if owner != user && user != 0 {
        let what = format!("it belongs to user {owner}, who can put snapshots there or take them away");
        let fix = as_root(format_args!("chown {user} {}", quoted(dir)));
        findings.push(Finding::warn(SNAPSHOT_DIR, dir.display(), what, fix));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            SNAPSHOT_DIR,
            dir.display(),
            format!("it can be written; mode {mode:04o}, user {owner}"),
        ));
    }
    findings
}

/// The room on the disk below `folder` against the next snapshot, and against as many as are to be kept.
fn room(scene: &Scene, folder: &Path, ours: &[&Entry]) -> Finding {
    let (dir, keep) = (&scene.config.snapshot().dir, u64::from(scene.config.snapshot().keep));
    let (free_bytes, is_memory) = match (statvfs(folder), statfs(folder)) {
        (Ok(room), Ok(disk)) => {
            (room.f_bavail.saturating_mul(room.f_frsize), u64::try_from(disk.f_type) == Ok(TMPFS_MAGIC))
        }
        (Err(error), _) | (_, Err(error)) => return Finding::fail(SNAPSHOT_DIR, dir.display(), error, make(dir)),
    };
    let complete: Vec<&&Entry> = ours.iter().filter(|entry| entry.state == State::Complete).collect();
    let largest = complete.iter().map(|entry| entry.size_bytes).max();
    let guess = Guess { free_bytes, keep, have: complete.len() as u64, largest, space: scene.config.space() };
    let what = guess.words();
    let move_it = format!("dir = \"...\" in [snapshot] of {}, on a larger disk", quoted(scene.config.path()));
    match () {
        () if guess.next_fails() => Finding::fail(SNAPSHOT_DIR, dir.display(), what, move_it),
        () if !guess.next_fits() => Finding::warn(SNAPSHOT_DIR, dir.display(), what, move_it),
        () if !guess.all_fit() => {
            let fix = format!("keep = {} in [snapshot] of {}", guess.keep_fitting(), quoted(scene.config.path()));
            Finding::warn(SNAPSHOT_DIR, dir.display(), what, fix)
        }
        () if is_memory => {
            let what = format!("it lies on a tmpfs, in memory: its snapshots end with the machine; {what}");
            Finding::warn(SNAPSHOT_DIR, dir.display(), what, move_it)
        }
        () => Finding::ok(SNAPSHOT_DIR, dir.display(), what),
    }
}

/// What snapshots will take.
struct Guess {
    free_bytes: u64,
    /// How many are to be kept, and how many complete ones there are.
    keep: u64,
    have: u64,
    /// The largest that is there.
    largest: Option<u64>,
    /// The size of the memory.
    space: u64,
}

impl Guess {
    fn each(&self) -> u64 {
        self.largest.unwrap_or(self.space).max(1)
    }

    /// The next one is as large as one that is there, so it will not fit.
    fn next_fails(&self) -> bool {
        self.free_bytes == 0 || self.largest.is_some_and(|largest| self.free_bytes < largest)
    }

    fn next_fits(&self) -> bool {
        self.free_bytes >= self.each()
    }

    /// The next one is written before the oldest goes.
    fn all_fit(&self) -> bool {
        let more = (self.keep + 1).saturating_sub(self.have);
        self.free_bytes / self.each() >= more
    }

    /// The largest `keep` for which all fit.
    fn keep_fitting(&self) -> u64 {
        (self.have + self.free_bytes / self.each()).saturating_sub(1).max(1)
    }

    fn words(&self) -> String {
        let Guess { free_bytes, keep, have, .. } = self;
        let each = match self.largest {
            Some(largest) => format!("about {} each, like the largest there", about(largest)),
            None => format!("up to {} each", about(self.space)),
        };
        format!("{} free; {have} of {keep} snapshots to keep are there, {each}", about(*free_bytes))
    }
}

/// What lies in the folder and should not.
fn contents(scene: &Scene, folder: &Folder, ours: &[&Entry]) -> Vec<Finding> {
    let (dir, flags) = (folder.dir().path(), &scene.flags);
    let mut findings: Vec<Finding> = Vec::new();
    for entry in ours {
        if let State::Broken(why) = &entry.state {
            let fix = format!("mcomp snapshot verify {} {flags}; then remove it", quoted(Path::new(&entry.name)));
            findings.push(Finding::warn(SNAPSHOTS, entry.path.display(), format!("it cannot be restored: {why}"), fix));
        }
    }
    match folder.leftovers() {
        Ok(left) if left.is_empty() => {}
        Ok(left) => {
            let sizes = left.iter().filter_map(|name| dir.join(name).symlink_metadata().ok());
            let bytes = sizes.map(|facts| facts.len()).sum();
            let what = format!("{} of {} unfinished files, whose writers died", about(bytes), left.len());
            let fix = format!("mcomp snapshot create {flags} removes them");
            findings.push(Finding::warn(SNAPSHOTS, dir.display(), what, fix));
        }
        Err(error) => findings.push(Finding::fail(SNAPSHOTS, dir.display(), error, make(dir))),
    }
    if findings.is_empty() {
        let what = format!("{} of this cluster, none broken, none unfinished", ours.len());
        findings.push(Finding::ok(SNAPSHOTS, dir.display(), what));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(free_bytes: u64, have: u64, largest: Option<u64>) -> Guess {
        Guess { free_bytes, keep: 3, have, largest, space: 100 }
    }

    #[test]
    fn what_was_written_once_must_fit_again() {
        let verdict = |guess: Guess| (guess.next_fails(), guess.next_fits(), guess.all_fit());
        assert_eq!(verdict(guess(400, 0, None)), (false, true, true));
        assert_eq!(verdict(guess(399, 0, None)), (false, true, false));
        assert_eq!(verdict(guess(99, 0, None)), (false, false, false), "it may be compressed");
        assert_eq!(verdict(guess(0, 0, None)), (true, false, false));
        assert_eq!(verdict(guess(49, 1, Some(50))), (true, false, false));
        assert_eq!(verdict(guess(50, 3, Some(50))), (false, true, true), "the oldest goes when the next is there");
        assert_eq!(verdict(guess(50, 9, Some(50))), (false, true, true));
    }

    #[test]
    fn the_keep_that_is_proposed_fits() {
        for (free_bytes, have) in [(100, 0), (399, 0), (100, 1), (250, 2)] {
            let guess = guess(free_bytes, have, None);
            let keep = guess.keep_fitting();
            assert!(keep == 1 || Guess { keep, ..guess }.all_fit(), "{free_bytes} {have}");
        }
    }
}
