//! A connection is a thread, and threads can run out in five ways: by user, in the whole kernel, by the numbers that
//! they get, in a cgroup, and by the mappings that their stacks are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mcomp_shm::cgroups;
use mcomp_snapshot::MOST_CONNECTIONS;
use rustix::process::geteuid;

use super::bounds::groups;
use super::finding::{Finding, as_root, set_kernel_file};
use super::limits::connections;
use super::scene::Scene;

const THREADS: &str = "threads";
const SUBJECT: &str = "threads of all processes here";

/// Threads of a process besides those of its connections.
const OTHER_THREADS: u64 = 16;
/// A stack and the guard page below it.
const MAPPINGS_PER_THREAD: u64 = 2;
/// Mappings of a process besides its stacks.
const OTHER_MAPPINGS: u64 = 256;

/// Something that bounds the number of threads.
struct Ceiling {
    name: String,
    limit: u64,
    used: u64,
    wanted: u64,
    /// What one client takes: with less, not even that is served.
    few: u64,
    /// The command that raises it to a value.
    raise: Box<dyn Fn(u64) -> String>,
}

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    if scene.locals.is_empty() {
        return vec![Finding::skipped(THREADS, SUBJECT, "no server of the file is on this machine")];
    }
    judge(&ceilings(scene))
}

/// All that are too low, or else the lowest.
fn judge(ceilings: &[Ceiling]) -> Vec<Finding> {
    let bad: Vec<Finding> = ceilings.iter().filter_map(Ceiling::judge).collect();
    let lowest = ceilings.iter().min_by_key(|ceiling| ceiling.limit.saturating_sub(ceiling.used + ceiling.wanted));
    match lowest {
        _ if !bad.is_empty() => bad,
        Some(Ceiling { name, limit, used, wanted, .. }) => {
            let what =
                format!("up to {wanted} at max_connections, and {name} = {limit} with {used} in use allows them");
            vec![Finding::ok(THREADS, SUBJECT, what)]
        }
        None => vec![Finding::ok(THREADS, SUBJECT, "nothing limits their number")],
    }
}

impl Ceiling {
    fn judge(&self) -> Option<Finding> {
        let Ceiling { name, limit, used, wanted, few, .. } = self;
        let free = limit.saturating_sub(*used);
        let what = format!(
            "up to {wanted} at max_connections, and {name} = {limit} with {used} in use leaves {free}: clients beyond \
             them are turned away"
        );
        let fix = (self.raise)(used.saturating_add(*wanted));
        match () {
            () if free < *few => Some(Finding::fail(THREADS, SUBJECT, what, fix)),
            () if free < *wanted => Some(Finding::warn(THREADS, SUBJECT, what, fix)),
            () => None,
        }
    }
}

fn ceilings(scene: &Scene) -> Vec<Ceiling> {
    let (most, one_client) = connections(scene);
    let servers = scene.locals.len() as u64;
    let snapshotters = scene.locals.iter().filter(|local| local.entry.snapshot.is_some()).count() as u64;
    let wanted = servers * (most + OTHER_THREADS) + snapshotters * (MOST_CONNECTIONS as u64 + OTHER_THREADS);
    let few = servers * (one_client + OTHER_THREADS) + snapshotters * OTHER_THREADS;
    let threads = threads_of_all();
    let mut ceilings: Vec<Ceiling> = Vec::new();
    for name in ["kernel.threads-max", "kernel.pid_max"] {
        ceilings.extend(sysctl(name, threads, wanted, few));
    }
    let mappings = |threads: u64| threads * MAPPINGS_PER_THREAD + OTHER_MAPPINGS;
    ceilings.extend(sysctl(
        "vm.max_map_count",
        0,
        mappings(most + OTHER_THREADS),
        mappings(one_client + OTHER_THREADS),
    ));
    ceilings.extend(cgroups("pids").iter().filter_map(|folder| cgroup(folder, wanted, few)));
    ceilings.extend(by_user(scene, wanted, few));
    ceilings
}

fn sysctl(name: &str, used: u64, wanted: u64, few: u64) -> Option<Ceiling> {
    let limit = number(Path::new(&format!("/proc/sys/{}", name.replace('.', "/"))))?;
    let key = name.to_owned();
    let raise = Box::new(move |value| as_root(format_args!("sysctl -w {key}={value}")));
    Some(Ceiling { name: name.to_owned(), limit, used, wanted, few, raise })
}

/// A group without a limit says "max", which is no number.
fn cgroup(folder: &Path, wanted: u64, few: u64) -> Option<Ceiling> {
    let file = folder.join("pids.max");
    let (limit, used) = (number(&file)?, number(&folder.join("pids.current"))?);
    let name = file.display().to_string();
    let raise = Box::new(move |value| set_kernel_file(&file, value));
    Some(Ceiling { name, limit, used, wanted, few, raise })
}

/// The limit of a user counts the threads of all of the user's processes. Root has none.
fn by_user(scene: &Scene, wanted: u64, few: u64) -> Option<Ceiling> {
    let user = geteuid().as_raw();
    let groups = groups(scene, |local| Some(local.server_pid));
    let lowest = groups.into_iter().min_by_key(|group| group.bounds.processes.soft.unwrap_or(u64::MAX))?;
    let bound = lowest.bounds.processes;
    let limit = bound.soft.filter(|_| user != 0)?;
    let name = format!("the limit of user {user} (ulimit -u)");
    let raise = Box::new(move |value| lowest.raise("nproc", bound, value));
    Some(Ceiling { name, limit, used: threads_of_user(user), wanted, few, raise })
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The threads of the machine, as the fourth field of /proc/loadavg counts them: running/all.
fn threads_of_all() -> u64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let field = text.split_whitespace().nth(3).and_then(|field| field.split_once('/'));
    field.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

/// The threads of all processes of a user.
fn threads_of_user(user: u32) -> u64 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    let own = processes.filter(|entry| entry.metadata().is_ok_and(|facts| facts.uid() == user));
    let threads = own.filter_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse::<u64>().ok()
    });
    threads.sum()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn ceiling(limit: u64) -> Ceiling {
        let raise = Box::new(|value| format!("raise to {value}"));
        Ceiling { name: "x".into(), limit, used: 100, wanted: 1000, few: 50, raise }
    }

    #[test]
    fn too_few_for_one_client_fails_and_too_few_for_all_is_a_warning() {
        let level = |limit| judge(&[ceiling(9999), ceiling(limit)])[0].level;
        assert_eq!(
            [level(1100), level(1099), level(150), level(149)],
            [Level::Ok, Level::Warn, Level::Warn, Level::Fail]
        );
        let finding = ceiling(10).judge().unwrap();
        assert_eq!(finding.fix.as_deref(), Some("raise to 1100"));
        assert!(finding.what.contains("x = 10 with 100 in use leaves 0"), "{}", finding.what);
    }

    #[test]
    fn the_closest_ceiling_is_named() {
        let named = Ceiling { name: "closest".into(), ..ceiling(1200) };
        assert!(judge(&[ceiling(5000), named])[0].what.contains("closest = 1200"));
        assert_eq!(judge(&[])[0].level, Level::Ok);
    }

    #[test]
    fn this_machine_can_be_counted() {
        assert!(threads_of_all() > 0);
        assert!(threads_of_user(geteuid().as_raw()) > 0);
    }
}
