//! Is there memory for the segments of this machine, and for the shadow pages of a snapshot?
//!
//! What is needed is counted for all servers of this machine together, because `mcomp up` starts them together. What
//! can be had is read where a starting server reads it: /dev/shm, the machine, and the memory cgroups, which are
//! those of this process and may be others for a service.

use std::path::Path;

use mcomp_shm::{Limiter, Room, rooms};
use rustix::fs::{Access, AtFlags, CWD, accessat, statfs};

use super::finding::{Finding, about, as_root, servers, set_kernel_file};
use super::scene::{Local, Scene};

const SHM: &str = "shm";
const MEMORY: &str = "memory";
const FOLDER: &str = "/dev/shm";

/// `f_type` of a tmpfs, from the kernel's magic.h.
pub(super) const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Sizes in fixes are rounded up to this.
const MIB: u64 = 1 << 20;

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let need = Need::of(scene);
    let mut findings: Vec<Finding> = folder().into_iter().collect();
    let rooms = rooms();
    if !rooms.iter().any(|room| room.limiter == Limiter::Shm) && findings.is_empty() {
        findings.push(Finding::ok(SHM, FOLDER, "it has no size limit of its own"));
    }
    findings.extend(rooms.iter().map(|room| need.judge(room)));
    findings
}

/// What is wrong with /dev/shm itself.
fn folder() -> Option<Finding> {
    let mount = as_root("mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm");
    let stat = match statfs(FOLDER) {
        Err(error) => {
            return Some(Finding::fail(
                SHM,
                FOLDER,
                format!("it cannot be used: {error}"),
                format!("{} && {mount}", as_root("mkdir -p /dev/shm")),
            ));
        }
        Ok(stat) => stat,
    };
    if let Err(error) = accessat(CWD, FOLDER, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        return Some(Finding::fail(
            SHM,
            FOLDER,
            format!("no segment can be made in it: {error}"),
            as_root("chmod 1777 /dev/shm"),
        ));
    }
    let is_memory = u64::try_from(stat.f_type) == Ok(TMPFS_MAGIC);
    (!is_memory).then(|| Finding::warn(SHM, FOLDER, "it is no tmpfs: segments would lie on a disk", mount))
}

/// What the servers of this machine want.
struct Need {
    /// The servers that have no segment yet.
    starting: Vec<u32>,
    /// Bytes that they take.
    start_bytes: u64,
    /// Bytes that a snapshot takes besides.
    cut_bytes: u64,
    /// Whether snapshots are made without being asked for, so that one will fail without these.
    is_scheduled: bool,
    /// How many servers the machine holds.
    locals: u64,
}

impl Need {
    fn of(scene: &Scene) -> Need {
        let (starting, kept): (Vec<&Local>, Vec<&Local>) = scene.locals.iter().partition(|local| !local.has_memory());
        // What is in the way of a new segment is given back before that is made.
        let start = starting.iter().map(|local| local.sizes.start_bytes.saturating_sub(local.allocated_bytes));
        let cut = |local: &Local, prepared: u64| match local.entry.snapshot {
            Some(_) => local.sizes.cut_bytes.saturating_sub(prepared),
            None => 0,
        };
        let shadow = |local: &Local| local.allocated_bytes.saturating_sub(local.sizes.start_bytes);
        let cut_bytes = starting.iter().map(|local| cut(local, 0)).sum::<u64>()
            + kept.iter().map(|local| cut(local, shadow(local))).sum::<u64>();
        Need {
            start_bytes: start.sum(),
            starting: starting.iter().map(|local| local.id).collect(),
            cut_bytes,
            is_scheduled: scene.is_scheduled(),
            locals: scene.locals.len() as u64,
        }
    }

    fn judge(&self, room: &Room) -> Finding {
        let check = if room.limiter == Limiter::Shm { SHM } else { MEMORY };
        let what = format!("{} free of {}; {}", about(room.free_bytes), about(room.total_bytes), self.words());
        let all = self.start_bytes.saturating_add(self.cut_bytes);
        match () {
            () if room.free_bytes >= all => Finding::ok(check, &room.limiter, what),
            () if room.free_bytes < self.start_bytes || self.is_scheduled => {
                Finding::fail(check, &room.limiter, what, self.fix(room))
            }
            () => Finding::warn(check, &room.limiter, what, self.fix(room)),
        }
    }

    fn words(&self) -> String {
        let start = match self.starting[..] {
            [] => "what runs here has its memory".to_owned(),
            ref ids => format!("{} {} it to start", servers(ids), takes(ids.len(), self.start_bytes)),
        };
        match (self.locals, self.cut_bytes) {
            (0, _) => "no server of the file is on this machine".to_owned(),
            (_, 0) => start,
            (_, cut_bytes) => format!("{start}, and a snapshot takes {} more", about(cut_bytes)),
        }
    }

    /// Makes the room as large as it has to be, or the need as small.
    fn fix(&self, room: &Room) -> String {
        let missing = self.start_bytes.saturating_add(self.cut_bytes).saturating_sub(room.free_bytes);
        let wanted = room.total_bytes.saturating_add(missing).checked_next_multiple_of(MIB).unwrap_or(u64::MAX);
        match &room.limiter {
            Limiter::Shm => as_root(format_args!("mount -o remount,size={}M /dev/shm", wanted / MIB)),
            Limiter::Cgroup(folder) => set_kernel_file(&limit_file(folder), wanted),
            Limiter::Machine => self
                .smaller_k(room.free_bytes)
                .unwrap_or_else(|| "ps -eo rss,pid,args --sort=-rss | head; then stop what is not needed".to_owned()),
        }
    }

    /// The k with which all servers of this machine start and take part in a snapshot: k bytes, a table of k / 64
    /// and a shadow of k bytes each. None when they have their memory already, or there is next to none.
    fn smaller_k(&self, free_bytes: u64) -> Option<String> {
        let each = free_bytes / self.locals.max(1);
        let k_mib = (u128::from(each) * 64 / 129 / u128::from(MIB)) as u64;
        let all_start = self.starting.len() as u64 == self.locals;
        (all_start && k_mib > 0).then(|| format!("in [cluster] of mcomp.cfg, on every machine: k = \"{k_mib}MiB\""))
    }
}

/// "takes 5 MiB of", or "take 5 MiB of".
fn takes(count: usize, bytes: u64) -> String {
    format!("{} {} of", if count == 1 { "takes" } else { "take" }, about(bytes))
}

/// The file that holds the limit of a memory cgroup, of either version.
fn limit_file(folder: &Path) -> std::path::PathBuf {
    let of_version_2 = folder.join("memory.max");
    if of_version_2.exists() { of_version_2 } else { folder.join("memory.limit_in_bytes") }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn need(start_mib: u64, cut_mib: u64, is_scheduled: bool) -> Need {
        let starting = if start_mib > 0 { vec![0, 1] } else { Vec::new() };
        Need { starting, start_bytes: start_mib * MIB, cut_bytes: cut_mib * MIB, is_scheduled, locals: 2 }
    }

    fn room(limiter: Limiter, free_mib: u64) -> Room {
        Room { limiter, free_bytes: free_mib * MIB, total_bytes: 100 * MIB }
    }

    #[test]
    fn a_start_without_room_fails_and_a_snapshot_only_when_it_will_be_made() {
        let level = |need: Need, free_mib| need.judge(&room(Limiter::Shm, free_mib)).level;
        assert_eq!(level(need(10, 10, false), 20), Level::Ok);
        assert_eq!(level(need(10, 10, false), 19), Level::Warn);
        assert_eq!(level(need(10, 10, true), 19), Level::Fail);
        assert_eq!(level(need(10, 10, false), 9), Level::Fail);
        assert_eq!(level(need(0, 10, true), 9), Level::Fail);
        assert_eq!(level(need(0, 0, true), 0), Level::Ok);
    }

    #[test]
    fn fixes_are_as_large_as_needed() {
        let fix = |limiter, free_mib| need(65, 64, true).judge(&room(limiter, free_mib)).fix.unwrap();
        assert!(fix(Limiter::Shm, 29).ends_with("mount -o remount,size=200M /dev/shm"));
        let folder = std::path::PathBuf::from("/sys/fs/cgroup/there is none");
        let told = fix(Limiter::Cgroup(folder), 29);
        assert!(told.contains("209715200 |") && told.contains("'/sys/fs/cgroup/there is none/memory.limit"), "{told}");
        // 129 MiB for two servers: 32 MiB each, their tables of half a MiB, and the shadow of 32 MiB.
        assert!(need(1000, 1000, true).judge(&room(Limiter::Machine, 129)).fix.unwrap().ends_with("k = \"32MiB\""));
        assert!(need(0, 64, true).judge(&room(Limiter::Machine, 29)).fix.unwrap().starts_with("ps "));
    }

    #[test]
    fn words_say_who_takes_what() {
        assert_eq!(
            need(65, 64, true).words(),
            "servers 0, 1 take 65 MiB of it to start, and a snapshot takes 64 MiB more"
        );
        assert_eq!(need(0, 0, true).words(), "what runs here has its memory");
    }
}
