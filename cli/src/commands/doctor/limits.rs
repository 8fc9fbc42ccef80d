//! Resource limits (`ulimit`) against what mcomp.cfg asks for.
//!
//! Processes that run are judged by their own limits, and those that do not by the limits of this shell, which they
//! would get when they were started from it. Left out are limits that nothing of ours meets: memory is not locked,
//! and no process asks for another priority than a lower one.

use mcomp_server::{CONNECTION_FILES, OTHER_FILES, STACK_BYTES};
use mcomp_snapshot::MOST_CONNECTIONS;
use mcomp_snapshot::file::MAX_CHAIN_FILES;

use super::bounds::{Group, groups};
use super::finding::{Finding, about};
use super::scene::Scene;

const OPEN_FILES: &str = "open_files";
const FILE_SIZE: &str = "file_size";
const ADDRESS_SPACE: &str = "address_space";

/// Address space that a server takes besides its segment: the program and the stacks of its first threads.
const OTHER_ADDRESSES_BYTES: u64 = 16 << 20;

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    if scene.locals.is_empty() {
        let skipped = |check| Finding::skipped(check, "limits", "no server of the file is on this machine");
        return [OPEN_FILES, FILE_SIZE, ADDRESS_SPACE].map(skipped).into();
    }
    let of_servers = groups(scene, |local| Some(local.server_pid));
    let of_snapshotters = groups(scene, |local| local.entry.snapshot.as_ref().map(|_| local.snapshotter_pid));
    let mut findings: Vec<Finding> = of_servers.iter().map(|group| open_files(scene, group)).collect();
    findings.extend(of_snapshotters.iter().map(|group| open_files_of_snapshotter(scene, group)));
    findings.extend(of_servers.iter().map(|group| file_size(scene, group)));
    findings.extend(of_snapshotters.iter().filter_map(|group| file_size_of_master(scene, group)));
    findings.extend(of_servers.iter().map(|group| address_space(scene, group)));
    findings
}

/// A server raises its soft limit by itself, so the hard one counts.
fn open_files(scene: &Scene, group: &Group) -> Finding {
    let (most, one_client) = connections(scene);
    let wanted = most * CONNECTION_FILES + OTHER_FILES;
    let bound = group.bounds.open_files;
    let Some(limit) = bound.hard.filter(|limit| *limit < wanted) else {
        let what = format!("{most} connections take {wanted} open files, and the hard limit allows them");
        return Finding::ok(OPEN_FILES, group.who(), what);
    };
    let served = limit.saturating_sub(OTHER_FILES) / CONNECTION_FILES;
    let what = format!(
        "{most} connections (max_connections in [limits]) take {wanted} open files, and the hard limit is {limit}: from \
         about the {served}th connection on, clients are turned away"
    );
    let fix = group.raise_open_files(bound, wanted);
    match served < one_client {
        true => Finding::fail(OPEN_FILES, group.who(), what, fix),
        false => Finding::warn(OPEN_FILES, group.who(), what, fix),
    }
}

/// The most connections that a server allows, and those that a single client makes.
pub(super) fn connections(scene: &Scene) -> (u64, u64) {
    let most = u64::from(scene.config.limits().max_connections);
    (most, most.min(u64::from(scene.config.client().max_connections)))
}

/// A snapshot process leaves its limit as it is. The master talks to every server and every other snapshot process,
/// and has the files of a chain open.
fn open_files_of_snapshotter(scene: &Scene, group: &Group) -> Finding {
    let who = group.named(&snapshotters(&group.ids));
    let master = scene.config.snapshot().master;
    let of_master = match group.ids.contains(&master) {
        true => {
            2 * u64::from(scene.config.n()) + u64::from(scene.config.snapshot().full_every).min(MAX_CHAIN_FILES as u64)
        }
        false => 0,
    };
    let wanted = MOST_CONNECTIONS as u64 * CONNECTION_FILES + of_master + OTHER_FILES;
    let bound = group.bounds.open_files;
    match bound.soft.filter(|limit| *limit < wanted) {
        None => {
            Finding::ok(OPEN_FILES, who, format!("each takes up to {wanted} open files, and the limit allows them"))
        }
        Some(limit) => {
            let what = format!("each takes up to {wanted} open files, and the limit is {limit}");
            let fix = group.raise_open_files(bound, wanted);
            match limit < of_master + OTHER_FILES {
                true => Finding::fail(OPEN_FILES, who, what, fix),
                false => Finding::warn(OPEN_FILES, who, what, fix),
            }
        }
    }
}

fn snapshotters(ids: &[u32]) -> String {
    let list: Vec<String> = ids.iter().map(u32::to_string).collect();
    format!("snapshot process{} {}", if ids.len() == 1 { "" } else { "es" }, list.join(", "))
}

/// A limit on file sizes holds for /dev/shm too: a new segment cannot be made beyond it.
fn file_size(scene: &Scene, group: &Group) -> Finding {
    let locals = group.ids.iter().filter_map(|id| scene.local(*id));
    let bytes = locals.filter(|local| !local.has_memory()).map(|local| local.sizes.file_bytes).max();
    let bound = group.bounds.file_bytes;
    match (bound.soft, bytes) {
        (None, _) => Finding::ok(FILE_SIZE, group.who(), "file sizes are not limited"),
        (Some(limit), None) => {
            let what = format!("the limit on file sizes is {}, and the segments are made already", about(limit));
            Finding::ok(FILE_SIZE, group.who(), what)
        }
        (Some(limit), Some(bytes)) => {
            let what =
                format!("a segment is a file of {}, and the limit on file sizes is {}", about(bytes), about(limit));
            match limit < bytes {
                true => Finding::fail(FILE_SIZE, group.who(), what, group.raise("fsize", bound, bytes)),
                false => Finding::ok(FILE_SIZE, group.who(), what),
            }
        }
    }
}

/// A snapshot can be as large as the memory; compression makes most of them smaller.
fn file_size_of_master(scene: &Scene, group: &Group) -> Option<Finding> {
    let master = scene.config.snapshot().master;
    let limit = group.bounds.file_bytes.soft.filter(|_| group.ids.contains(&master))?;
    let space = scene.config.space();
    let who = group.named(&snapshotters(&[master]));
    Some(match limit < space {
        true => {
            let what =
                format!("a snapshot takes up to {}, and the limit on file sizes is {}", about(space), about(limit));
            Finding::warn(FILE_SIZE, who, what, group.raise("fsize", group.bounds.file_bytes, space))
        }
        false => Finding::ok(FILE_SIZE, who, format!("a snapshot of up to {} fits into the limit", about(space))),
    })
}

/// A segment is mapped whole, and each connection has a stack.
fn address_space(scene: &Scene, group: &Group) -> Finding {
    let locals = group.ids.iter().filter_map(|id| scene.local(*id));
    let segment = locals.map(|local| local.sizes.file_bytes).max().unwrap_or(0);
    let few = segment.saturating_add(OTHER_ADDRESSES_BYTES);
    let wanted = few.saturating_add(connections(scene).0 * STACK_BYTES as u64);
    let bound = group.bounds.address_bytes;
    let Some(limit) = bound.soft else {
        return Finding::ok(ADDRESS_SPACE, group.who(), "address space is not limited");
    };
    let what = format!(
        "a segment takes {} of address space, with the stacks of max_connections {}, and the limit is {}",
        about(segment),
        about(wanted),
        about(limit)
    );
    match () {
        // One that runs has its segment.
        () if limit < few && group.pids.is_empty() => {
            Finding::fail(ADDRESS_SPACE, group.who(), what, group.raise("as", bound, wanted))
        }
        () if limit < wanted => Finding::warn(ADDRESS_SPACE, group.who(), what, group.raise("as", bound, wanted)),
        () => Finding::ok(ADDRESS_SPACE, group.who(), what),
    }
}
