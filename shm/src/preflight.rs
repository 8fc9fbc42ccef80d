//! Is there room? Asked before memory is allocated, because the answers that come later are worse.
//!
//! A full /dev/shm makes `posix_fallocate` fail, after it has filled what was left; a memory cgroup past its limit
//! and a machine without memory kill a process. So all three are read first. What is read may change before the
//! allocation: this makes a clear error likely, and the allocation itself makes it certain for /dev/shm.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::ShmError;

/// One thing that can run out, and how much of it is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// What it is.
    pub limiter: Limiter,
    /// Bytes that could be had now.
    pub free_bytes: u64,
    /// Its size.
    pub total_bytes: u64,
}

/// What limits the memory that segments can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limiter {
    /// The size of /dev/shm.
    Shm,
    /// The memory and the swap of the machine.
    Machine,
    /// A memory cgroup of this process, or one above it: this folder.
    Cgroup(PathBuf),
}

impl Limiter {
    /// The way out, when it is too small.
    fn remedy(&self) -> &'static str {
        match self {
            Limiter::Shm => "`mount -o remount,size=... /dev/shm`, purge unused segments, or choose a smaller k",
            Limiter::Machine => "stop other programs, or choose a smaller k",
            Limiter::Cgroup(_) => "raise the memory limit of the service or container, or choose a smaller k",
        }
    }
}

impl fmt::Display for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limiter::Shm => f.write_str("/dev/shm"),
            Limiter::Machine => f.write_str("this machine's memory"),
            Limiter::Cgroup(folder) => write!(f, "memory cgroup {}", folder.display()),
        }
    }
}

/// Refuses an allocation of `needed_bytes` that does not fit, with the numbers of what is shortest.
pub(crate) fn check(needed_bytes: u64) -> Result<(), ShmError> {
    decide(needed_bytes, &rooms())
}

/// The error of an allocation that failed although the preflight had let it pass.
pub(crate) fn full(needed_bytes: u64) -> ShmError {
    decide(needed_bytes, &rooms()).err().unwrap_or_else(|| ShmError::Full {
        needed_bytes,
        free_bytes: 0,
        total_bytes: 0,
        what: "/dev/shm (filled by another program meanwhile)".into(),
        remedy: Limiter::Shm.remedy(),
    })
}

/// The arithmetic, apart from the reading.
fn decide(needed_bytes: u64, rooms: &[Room]) -> Result<(), ShmError> {
    match rooms.iter().min_by_key(|room| room.free_bytes) {
        Some(room) if room.free_bytes < needed_bytes => Err(ShmError::Full {
            needed_bytes,
            free_bytes: room.free_bytes,
            total_bytes: room.total_bytes,
            what: room.limiter.to_string(),
            remedy: room.limiter.remedy(),
        }),
        _ => Ok(()),
    }
}

/// All that limits an allocation on this machine. What cannot be read is not a limit that we can name.
pub fn rooms() -> Vec<Room> {
    let mut rooms: Vec<Room> = shm_room().into_iter().chain(machine_room()).collect();
    rooms.extend(cgroups("memory").iter().filter_map(|folder| cgroup_room(folder)));
    rooms
}

fn shm_room() -> Option<Room> {
    let stat = rustix::fs::statvfs("/dev/shm").ok()?;
    // A tmpfs mounted with size=0 has no limit, and says so with a total of zero blocks.
    (stat.f_blocks > 0).then(|| Room {
        limiter: Limiter::Shm,
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

fn machine_room() -> Option<Room> {
    parse_machine(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// What the machine could still give: memory that is free or can be made so, and swap.
fn parse_machine(meminfo: &str) -> Option<Room> {
    let bytes = |key| number_after(meminfo, key).map(|kib| kib.saturating_mul(1024));
    Some(Room {
        limiter: Limiter::Machine,
        free_bytes: bytes("MemAvailable:")?.saturating_add(bytes("SwapFree:").unwrap_or(0)),
        total_bytes: bytes("MemTotal:")?.saturating_add(bytes("SwapTotal:").unwrap_or(0)),
    })
}

/// The first number after `key`, which stands first on its line.
fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The folders whose limits of `controller`, such as "memory", may hold for this process: its own group and every
/// one above, in version 2 and in version 1.
pub fn cgroups(controller: &str) -> Vec<PathBuf> {
    cgroups_of(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default(), controller)
}

/// The same for a process of this membership, the text of /proc/self/cgroup.
fn cgroups_of(membership: &str, controller: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let root = match controllers {
            "" => PathBuf::from("/sys/fs/cgroup"),
            list if list.split(',').any(|one| one == controller) => Path::new("/sys/fs/cgroup").join(controller),
            _ => continue,
        };
        let own = root.join(group.trim_start_matches('/'));
        folders.extend(own.ancestors().take_while(|folder| folder.starts_with(&root)).map(Path::to_path_buf));
    }
    folders
}

/// The room in one memory cgroup, of either version; `None` where it sets no limit.
fn cgroup_room(folder: &Path) -> Option<Room> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let limit = text("memory.max").or_else(|| text("memory.limit_in_bytes"))?;
    let usage = text("memory.current").or_else(|| text("memory.usage_in_bytes"))?;
    parse_cgroup(folder, &limit, &usage, &text("memory.stat").unwrap_or_default())
}

/// Cached file pages count as used, but the kernel drops them before it kills anybody. (Pages of /dev/shm stand on
/// other lists, so they are not among them.)
fn parse_cgroup(folder: &Path, limit: &str, usage: &str, stat: &str) -> Option<Room> {
    // "max" in version 2; in version 1 an unset limit is a number near 2^63.
    let total_bytes: u64 = limit.trim().parse().ok().filter(|&bytes| bytes < 1 << 62)?;
    let used_bytes: u64 = usage.trim().parse().ok()?;
    let lists = if stat.contains("total_inactive_file ") {
        ["total_inactive_file ", "total_active_file "]
    } else {
        ["inactive_file ", "active_file "]
    };
    let cached_bytes: u64 = lists.iter().filter_map(|key| number_after(stat, key)).sum();
    Some(Room {
        limiter: Limiter::Cgroup(folder.into()),
        free_bytes: total_bytes.saturating_sub(used_bytes.saturating_sub(cached_bytes)),
        total_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(limiter: Limiter, free_bytes: u64) -> Room {
        Room { limiter, free_bytes, total_bytes: 1000 }
    }

    #[test]
    fn the_shortest_room_decides_and_is_named() {
        let rooms = [room(Limiter::Shm, 500), room(Limiter::Cgroup("/g".into()), 300), room(Limiter::Machine, 400)];
        assert!(decide(300, &rooms).is_ok());
        let message = decide(301, &rooms).unwrap_err().to_string();
        assert!(
            message.starts_with("301 bytes are needed, and memory cgroup /g has 300 free of 1000: raise "),
            "{message}"
        );
        assert!(decide(u64::MAX, &[]).is_ok());
    }

    #[test]
    fn membership_names_every_group_above() {
        let folders = |text: &str| -> Vec<String> {
            cgroups_of(text, "memory").iter().map(|folder| folder.display().to_string()).collect()
        };
        assert_eq!(
            folders("0::/user.slice/session\n"),
            ["/sys/fs/cgroup/user.slice/session", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"]
        );
        assert_eq!(folders("9:cpu,memory:/a\n3:cpuset:/b\n"), ["/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"]);
        assert_eq!(cgroups_of("9:cpu,memory:/a\n3:pids:/b\n", "pids")[0], Path::new("/sys/fs/cgroup/pids/b"));
        assert!(folders("nonsense\n\n").is_empty());
    }

    #[test]
    fn a_cgroup_s_cache_counts_as_free() {
        let folder = Path::new("/g");
        let free = |limit, usage, stat| parse_cgroup(folder, limit, usage, stat).map(|room| room.free_bytes);
        assert_eq!(free("1000\n", "700\n", "anon 500\ninactive_file 150\nactive_file 50\n"), Some(500));
        assert_eq!(free("1000\n", "700\n", "inactive_file 1\ntotal_inactive_file 100\n"), Some(400));
        assert_eq!(free("1000\n", "1200\n", ""), Some(0));
        assert_eq!(free("max\n", "700\n", ""), None);
        assert_eq!(free("9223372036854771712\n", "700\n", ""), None);
    }

    #[test]
    fn the_machine_s_memory_includes_swap() {
        let text = "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 60 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\n";
        let room = parse_machine(text).unwrap();
        assert_eq!((room.free_bytes, room.total_bytes), (80 * 1024, 150 * 1024));
        assert_eq!(parse_machine("MemTotal: 100 kB\n"), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        assert!(shm_room().is_some() && machine_room().is_some());
        assert!(check(u64::MAX).is_err());
        assert!(check(0).is_ok());
    }
}
