//! The segments of this cluster in /dev/shm: which are served, which wait for their server, and which are in the
//! way of it.

use mcomp_shm::{Found, Listed, ShmError, list};
use rustix::process::geteuid;

use super::finding::{Finding, about, quoted};
use super::scene::{Local, Scene};

const SEGMENT: &str = "segment";

pub(super) fn check(scene: &Scene) -> Vec<Finding> {
    let segments = match &scene.segments {
        Ok(segments) => segments,
        Err(error) => return vec![Finding::fail(SEGMENT, "/dev/shm", error, "ls -ld /dev/shm")],
    };
    let mut findings: Vec<Finding> = segments.iter().map(|listed| judge(scene, listed)).collect();
    if findings.is_empty() {
        let what = format!("it holds no segment of cluster {} yet", scene.config.name());
        findings.push(Finding::ok(SEGMENT, "/dev/shm", what));
    }
    if scene.verbose {
        findings.extend(others(scene));
    }
    findings
}

fn judge(scene: &Scene, listed: &Listed) -> Finding {
    let path = listed.path.display();
    let purge = purge(scene, listed);
    let Some(local) = scene.local(listed.id) else {
        let whose = match listed.id < scene.config.n() {
            true => "whose server lives on another machine",
            false => "which is no server of the file any more",
        };
        let what = format!("{} are kept for server {}, {whose}", about(listed.allocated_bytes), listed.id);
        return Finding::warn(SEGMENT, path, what, purge);
    };
    let size = about(listed.allocated_bytes);
    match &local.found {
        Ok(Found::Served { pid }) => Finding::ok(SEGMENT, path, format!("{size}, served by process {pid}")),
        Ok(Found::Left { clean: true }) => {
            let what = format!("{size}, kept from a server that was stopped; the next start takes it over");
            Finding::ok(SEGMENT, path, what)
        }
        Ok(Found::Left { clean: false }) => {
            let what = format!("{size} of a server that died, and nobody serves it");
            let fix = format!("{} takes it over with every byte; `{purge}` drops it", start(scene, local));
            Finding::warn(SEGMENT, path, what, fix)
        }
        Ok(Found::Unfinished) => {
            let what = "its making or its removal was cut short, and the next start makes it anew";
            Finding::warn(SEGMENT, path, what, purge)
        }
        Err(ShmError::Foreign { owner, .. }) if local.server_pid.is_some() => {
            Finding::ok(SEGMENT, path, format!("{size}, served by a process of user {owner}"))
        }
        Err(error) => Finding::fail(SEGMENT, path, error, mend(scene, error, purge)),
    }
}

/// The way out of what a starting server would refuse.
fn mend(scene: &Scene, error: &ShmError, purge: String) -> String {
    match error {
        ShmError::NotAFile { path } => format!("rm -r {}", quoted(path)),
        // Not an error of the memory: the wrong user asks.
        ShmError::Foreign { owner, .. } => {
            format!("sudo -u '#{owner}' mcomp doctor {}", scene.flags)
        }
        _ => purge,
    }
}

fn start(scene: &Scene, local: &Local) -> String {
    format!("`mcomp server --id {} {}`", local.id, scene.flags)
}

/// The purge of this cluster, as the user who may do it.
fn purge(scene: &Scene, listed: &Listed) -> String {
    let command = format!("mcomp purge {}", scene.flags);
    match listed.owner == geteuid().as_raw() {
        true => command,
        false => format!("sudo -u '#{}' {command}", listed.owner),
    }
}

/// The segments of other clusters: nobody's concern but for the memory that they take.
fn others(scene: &Scene) -> Vec<Finding> {
    let clusters = mcomp_shm::clusters().unwrap_or_default();
    let others = clusters.iter().filter(|cluster| *cluster != scene.config.name());
    let segments = others.flat_map(|cluster| list(cluster).unwrap_or_default());
    let finding = |listed: Listed| {
        let served = match listed.served_by {
            Some(pid) => format!("served by process {pid}"),
            None => "which nobody is seen to serve".to_owned(),
        };
        let what = format!("{} of another cluster, of user {}, {served}", about(listed.allocated_bytes), listed.owner);
        Finding::ok(SEGMENT, listed.path.display(), what)
    };
    segments.map(finding).collect()
}
