//! The folder of the snapshots and what lies in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use mcomp_snapshot::create;
use mcomp_snapshot::file::{Folder, Meta, ServerRecord, Writer};
use rustix::process::geteuid;
use uuid::Uuid;

use super::{apply, doctor, doctor_under, find, fix, setup};
use crate::full::private_mounts;

#[test]
fn a_snapshot_folder_that_others_may_write_is_told_and_mended() {
    let cluster = setup().prepare();
    let dir = cluster.snapshot_dir();
    fs::create_dir(&dir).expect("a folder");
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("our own");
    let found = doctor(&cluster, 0);
    let finding = find(&found, "snapshot_dir", "warn", dir.to_str().expect("a plain path"));
    assert!(finding["what"].as_str().unwrap().contains("0777"), "{finding}");
    apply(&cluster, fix(finding));
    assert_eq!(dir.metadata().expect("the folder").mode() & 0o7777, 0o700);
    find(&doctor(&cluster, 0), "snapshot_dir", "ok", dir.to_str().expect("a plain path"));
}

#[test]
fn a_snapshot_folder_that_cannot_be_written_will_fail() {
    let cluster = setup().prepare();
    let dir = cluster.snapshot_dir();
    let told = dir.to_str().expect("a plain path").to_owned();
    fs::write(&dir, "not a folder").expect("a file");
    apply(&cluster, fix(find(&doctor(&cluster, 1), "snapshot_dir", "fail", &told)));
    fs::create_dir(&dir).expect("a folder");
    if !geteuid().is_root() {
        fs::set_permissions(&dir, Permissions::from_mode(0o500)).expect("our own");
        find(&doctor(&cluster, 1), "snapshot_dir", "fail", &told);
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).expect("our own");
        fs::remove_dir(&dir).expect("our own");
        fs::set_permissions(cluster.dir.path(), Permissions::from_mode(0o500)).expect("our own");
        find(&doctor(&cluster, 1), "snapshot_dir", "fail", &told);
        fs::set_permissions(cluster.dir.path(), Permissions::from_mode(0o700)).expect("our own");
        fs::create_dir(&dir).expect("a folder");
    }
    // Root may write everywhere but there.
    let Some(way) = private_mounts() else { return };
    let script = format!("mount -t tmpfs -o ro,mode=700 tmpfs '{told}' && exec \"$@\"");
    let found = doctor_under(&cluster, &[&way[..], &["sh", "-c", &script, "sh"]].concat(), 1);
    let finding = find(&found, "snapshot_dir", "fail", &told);
    assert!(finding["what"].as_str().unwrap().contains("Read-only"), "{finding}");
}

#[test]
fn what_dead_writers_left_and_what_is_broken_is_told_and_left() {
    let cluster = setup().start();
    let created = create(&cluster.config(), false, &mut |_| {}).expect("a snapshot");
    let dir = cluster.snapshot_dir();
    let (left, broken) = (dir.join(".mcs-4242-0123456789abcdef.tmp"), dir.join("broken.mcs"));
    fs::write(&left, "half a file").expect("a file");
    fs::write(&broken, "no snapshot").expect("a file");
    let found = doctor(&cluster, 0);
    assert!(left.exists() && broken.exists(), "nothing is removed");
    find(&found, "snapshots", "warn", "broken.mcs");
    fs::remove_file(&broken).expect("our own");
    let found = doctor(&cluster, 0);
    let fix = fix(find(&found, "snapshots", "warn", "snapshots"));
    apply(&cluster, fix.strip_suffix(" removes them").expect("a command"));
    assert!(!left.exists() && dir.join(&created.name).exists());
    find(&doctor(&cluster, 0), "snapshots", "ok", "snapshots");
}

#[test]
fn a_clock_before_the_newest_snapshot_is_told() {
    let cluster = setup().prepare();
    let folder = Folder::open_or_create(cluster.snapshot_dir()).expect("a folder");
    let server = |byte| ServerRecord { segment: Uuid::from_bytes([byte; 16]), change_from_epoch: 0, cut_epoch: 2 };
    let meta = Meta {
        cluster: cluster.name.clone(),
        k_bytes: 65536,
        servers: vec![server(1), server(2)],
        cut: Uuid::from_bytes([3; 16]),
        parent: None,
        cut_epoch: 2,
        config_epoch: 1,
        // The year 2999.
        created_us: 32_500_000_000_000_000,
    };
    Writer::create(folder.dir(), meta).and_then(Writer::finish).expect("an empty snapshot");
    let found = doctor(&cluster, 0);
    assert!(find(&found, "clock", "warn", "wall clock")["what"].as_str().unwrap().contains("2999-"));
}
