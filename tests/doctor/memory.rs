//! Room for segments, and segments that are in the way.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::geteuid;

use super::{apply, doctor, doctor_under, find, fix, setup, traces};
use crate::full::private_mounts;
use crate::harness::Setup;

#[test]
fn a_segment_that_a_dead_server_left_can_be_taken_over_or_purged() {
    let mut cluster = setup().servers();
    cluster.client().write_at(0, b"kept").expect("a write");
    cluster.kill_server(0);
    cluster.stop_server(1);
    let before = traces(&cluster);
    let found = doctor(&cluster, 0);
    assert_eq!(traces(&cluster), before);
    let fix = fix(find(&found, "segment", "warn", &format!("/dev/shm/mcomp.{}.0", cluster.name))).to_owned();
    let purge = fix.split('`').nth(3).expect("two commands");
    cluster.start_server(0);
    assert_eq!(cluster.client().read_vec(0, 4).expect("a read"), b"kept", "looking has cost nothing");
    cluster.kill_server(0);
    apply(&cluster, purge);
    find(&doctor(&cluster, 0), "segment", "ok", "/dev/shm");
}

#[test]
fn segments_that_no_server_can_use_are_in_the_way_until_they_are_purged() {
    let mut cluster = setup().servers();
    cluster.kill_server(0);
    cluster.stop_server(1);
    let path = |id: u32| format!("/dev/shm/mcomp.{}.{id}", cluster.name);
    fs::set_permissions(path(0), Permissions::from_mode(0o644)).expect("our own");
    // Of another boot.
    std::os::unix::fs::FileExt::write_all_at(&fs::File::options().write(true).open(path(1)).unwrap(), &[1; 16], 104)
        .expect("our own");
    // And one of a server that the file has no more.
    fs::copy(path(1), path(7)).expect("room");
    let found = doctor(&cluster, 1);
    assert!(find(&found, "segment", "fail", &path(0))["what"].as_str().unwrap().contains("mode 0644"));
    assert!(find(&found, "segment", "fail", &path(1))["what"].as_str().unwrap().contains("boot id"));
    let fix = fix(find(&found, "segment", "warn", &path(7))).to_owned();
    apply(&cluster, &fix);
    doctor(&cluster, 0);
    assert!(!Path::new(&path(0)).exists() && !Path::new(&path(7)).exists());
}

#[test]
fn the_segments_of_other_clusters_are_told_only_when_asked() {
    let (cluster, other) = (setup().prepare(), setup().servers());
    let told = |flags: &[&str]| {
        let output = cluster.exits(0, &[&["doctor"], flags].concat());
        String::from_utf8(output.stdout).expect("text").contains(&format!("/dev/shm/mcomp.{}.0: ", other.name))
    };
    assert!(!told(&[]));
    assert!(told(&["-v"]));
}

#[test]
fn more_than_this_machine_has_will_fail_and_says_what_would_do() {
    let cluster = Setup::new(2, "8TiB").prepare();
    let found = doctor(&cluster, 1);
    let finding = find(&found, "memory", "fail", "this machine");
    assert!(fix(finding).contains("k = \"") || fix(finding).starts_with("ps "), "{finding}");
    find(&found, "snapshot_dir", "warn", "snapshots");
}

/// In a /dev/shm of its own, that is too small for a start, for a snapshot, and large enough.
#[test]
fn the_size_of_dev_shm_is_held_against_start_and_snapshot() {
    let Some(way) = private_mounts() else { return };
    let cluster = Setup::new(2, "1MiB").with("[snapshot]\nevery = \"off\"\n").prepare();
    let with = |size: &str, before: &str, code| {
        let script = format!("mount -t tmpfs -o mode=1777,size={size} tmpfs /dev/shm && {before} && exec \"$@\"");
        doctor_under(&cluster, &[&way[..], &["sh", "-c", &script, "sh"]].concat(), code)
    };
    let found = with("2m", "true", 1);
    let wanted = fix(find(&found, "shm", "fail", "/dev/shm")).to_owned();
    assert!(wanted.ends_with("mount -o remount,size=6M /dev/shm"), "{wanted}");
    find(&with("4m", "true", 0), "shm", "warn", "/dev/shm");
    find(&with("6m", "true", 0), "shm", "ok", "/dev/shm");
    // A snapshot that will be made without being asked for will fail.
    let text = fs::read_to_string(cluster.config_path()).expect("the file");
    fs::write(cluster.config_path(), text.replace("\"off\"", "\"60s\"")).expect("the file");
    find(&with("4m", "true", 1), "shm", "fail", "/dev/shm");
    // The kernel lets only real root remount it.
    if geteuid().is_root() {
        find(&with("2m", &wanted, 0), "shm", "ok", "/dev/shm");
    }
}
