//! The resource limits of processes, as the kernel tells them, and the commands that raise them.

use std::fs;

use super::finding::{as_root, servers};
use super::scene::{Local, Scene};

/// The most that the limit on open files can be raised to.
const NR_OPEN: &str = "/proc/sys/fs/nr_open";

/// One limit: what is in force, and up to where anybody may raise it. None is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) soft: Option<u64>,
    pub(super) hard: Option<u64>,
}

/// The limits of a process that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) open_files: Bound,
    pub(super) file_bytes: Bound,
    pub(super) address_bytes: Bound,
    pub(super) processes: Bound,
}

/// Processes of one kind with the same limits.
pub(super) struct Group {
    pub(super) ids: Vec<u32>,
    /// Those that run; empty when none of the group does.
    pub(super) pids: Vec<u32>,
    pub(super) bounds: Bounds,
}

/// The processes of this machine, by their limits. `pid` is none for a server without such a process, and an inner
/// none for one that does not run.
pub(super) fn groups(scene: &Scene, pid: impl Fn(&Local) -> Option<Option<u32>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (id, pid) in scene.locals.iter().filter_map(|local| Some((local.id, pid(local)?))) {
        let Some((pid, bounds)) = bounds_of(pid) else { continue };
        match groups.iter_mut().find(|group| group.bounds == bounds && group.pids.is_empty() == pid.is_none()) {
            Some(group) => {
                group.ids.push(id);
                group.pids.extend(pid);
            }
            None => groups.push(Group { ids: vec![id], pids: pid.into_iter().collect(), bounds }),
        }
    }
    groups
}

/// The limits of a process; those of this one when it does not run, or has ended meanwhile.
fn bounds_of(pid: Option<u32>) -> Option<(Option<u32>, Bounds)> {
    let read = |name: String| parse(&fs::read_to_string(format!("/proc/{name}/limits")).ok()?);
    let running = pid.and_then(|pid| Some((Some(pid), read(pid.to_string())?)));
    running.or_else(|| Some((None, read("self".to_owned())?)))
}

/// Takes the text of /proc/PID/limits apart.
fn parse(text: &str) -> Option<Bounds> {
    let bound = |name: &str| {
        let mut fields = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        let mut limit = || match fields.next()? {
            "unlimited" => Some(None),
            number => number.parse().ok().map(Some),
        };
        Some(Bound { soft: limit()?, hard: limit()? })
    };
    Some(Bounds {
        open_files: bound("Max open files")?,
        file_bytes: bound("Max file size")?,
        address_bytes: bound("Max address space")?,
        processes: bound("Max processes")?,
    })
}

impl Group {
    /// Who they are, and whether they run.
    pub(super) fn who(&self) -> String {
        self.named(&servers(&self.ids))
    }

    pub(super) fn named(&self, names: &str) -> String {
        match self.pids.is_empty() {
            true => format!("{names}, started from here"),
            false => format!("{names}, running"),
        }
    }

    /// The limit on open files has one of its own, which root has to raise first.
    pub(super) fn raise_open_files(&self, bound: Bound, wanted: u64) -> String {
        let raise = self.raise("nofile", bound, wanted);
        let most: Option<u64> = fs::read_to_string(NR_OPEN).ok().and_then(|text| text.trim().parse().ok());
        match most.is_some_and(|most| most < wanted) {
            true => format!("{} && {raise}", as_root(format_args!("sysctl -w fs.nr_open={wanted}"))),
            false => raise,
        }
    }

    /// The commands that raise the limit `--flag` of all of them, or of this shell.
    pub(super) fn raise(&self, flag: &str, bound: Bound, wanted: u64) -> String {
        let may = bound.hard.is_none_or(|hard| hard >= wanted);
        let raise = |whose: &str| match may {
            true => format!("prlimit --pid {whose} --{flag}={wanted}:"),
            false => as_root(format_args!("prlimit --pid {whose} --{flag}={wanted}:{wanted}")),
        };
        match self.pids.is_empty() {
            true => raise("$$"),
            false => self.pids.iter().map(|pid| raise(&pid.to_string())).collect::<Vec<_>>().join(" && "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max file size             unlimited            1024                 bytes
Max processes             5                    unlimited            processes
Max open files            64                   128                  files
Max address space         unlimited            unlimited            bytes
";

    fn group(pids: &[u32]) -> Group {
        Group { ids: vec![0, 1], pids: pids.into(), bounds: parse(TEXT).unwrap() }
    }

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let bounds = parse(TEXT).unwrap();
        assert_eq!(bounds.open_files, Bound { soft: Some(64), hard: Some(128) });
        assert_eq!(bounds.file_bytes, Bound { soft: None, hard: Some(1024) });
        assert_eq!(bounds.processes, Bound { soft: Some(5), hard: None });
        assert_eq!(parse("Max open files lots many"), None);
        assert!(bounds_of(None).is_some(), "those of this process");
    }

    #[test]
    fn what_the_hard_limit_allows_needs_no_root() {
        let bound = parse(TEXT).unwrap().open_files;
        assert_eq!(group(&[]).raise("nofile", bound, 100), "prlimit --pid $$ --nofile=100:");
        let both = group(&[7, 8]).raise("nofile", bound, 100);
        assert_eq!(both, "prlimit --pid 7 --nofile=100: && prlimit --pid 8 --nofile=100:");
        assert!(group(&[]).raise("nofile", bound, 500).ends_with("prlimit --pid $$ --nofile=500:500"));
        assert_eq!(
            (group(&[]).who(), group(&[7]).who()),
            ("servers 0, 1, started from here".into(), "servers 0, 1, running".into())
        );
    }
}
