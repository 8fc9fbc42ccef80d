//! The page table goes into the snapshot and comes out again.
//!
//! What was allocated at the cut is what is allocated after the restore, on the same servers and on others, and who held
//! leases, locks or sessions before is told that they are gone. Leaves out: what moves while the cut is made.

use std::fs;
use std::path::PathBuf;

use mcomp_client::meta::Allocate;
use mcomp_client::{Error, Status};
use serde_json::Value;

use crate::harness::{Cluster, Setup};

fn json(stdout: &[u8]) -> Value {
    serde_json::from_slice(stdout).expect("--json prints one JSON value")
}

/// Address, size, capacity, name and notes of every allocation: what a snapshot keeps.
fn listed(cluster: &Cluster) -> Vec<Value> {
    let regions = cluster.client().regions().expect("the allocations");
    let facts = |r: mcomp_client::meta::Region| serde_json::json!([r.addr, r.size, r.capacity, r.name, r.notes]);
    regions.into_iter().map(facts).collect()
}

fn snapshot(cluster: &Cluster) -> PathBuf {
    let created = json(&cluster.ok(&["snapshot", "create", "--json"]));
    PathBuf::from(created["path"].as_str().expect("a path"))
}

fn alloc(cluster: &Cluster, args: &[&str]) -> Value {
    json(&cluster.ok(&[&["alloc", "--json"], args].concat()))
}

/// Some allocations with contents, and what `ls` says of them.
fn furnished(n: u32, k: &str) -> (Cluster, Vec<Value>) {
    let cluster = Setup::new(n, k).start();
    alloc(&cluster, &["70000", "--name", "large", "--meta", "by=me", "--meta", "for=you"]);
    alloc(&cluster, &["100", "--name", "small"]);
    alloc(&cluster, &["5000"]);
    cluster.ok(&["write", "large", "contents"]);
    let before = listed(&cluster);
    (cluster, before)
}

#[test]
fn what_was_allocated_at_the_cut_is_allocated_after_the_restore() {
    let (cluster, _) = furnished(2, "64KiB");
    let lease = alloc(&cluster, &["4096", "--lease", "1h"]);
    let before = listed(&cluster);
    let client = cluster.client();
    let session = client.session().expect("a session");
    let path = snapshot(&cluster);
    let path = path.to_str().expect("a plain path");
    let shown = json(&cluster.ok(&["snapshot", "show", path, "--json"]));
    assert_eq!(shown["allocations"], before.len());

    cluster.ok(&["free", "large"]);
    cluster.ok(&["free", "small"]);
    alloc(&cluster, &["9000", "--name", "later"]);
    let planned = json(&cluster.ok(&["restore", path, "--dry-run", "--json"]));
    assert_eq!(planned["plan"]["allocations"], before.len());
    let newest = cluster.client().regions().expect("the allocations").iter().map(|r| r.generation).max();
    cluster.ok(&["restore", path]);
    assert_eq!(listed(&cluster), before);
    assert_eq!(cluster.ok(&["read", "large", "8"]), b"contents");
    let regions = cluster.client().regions().expect("the allocations");
    assert!(regions.iter().all(|region| region.lease.is_none() && Some(region.generation) > newest));

    let fence = format!("{}:{}", lease["lease"].as_str().expect("an id"), lease["fence"]);
    let addr = lease["addr"].to_string();
    cluster.exits(75, &["write", "--fence", &fence, &addr, "late"]);
    let refused = session.allocate(Allocate { size: 1, ..Allocate::default() });
    assert!(matches!(refused, Err(Error::Agreed { status: Status::NoSession, .. })), "{refused:?}");
    alloc(&cluster, &["10", "--name", "new"]);
    cluster.ok(&["free", "large"]);
}

#[test]
fn the_page_table_fits_other_servers_or_nothing_is_touched() {
    let (mut cluster, before) = furnished(3, "64KiB");
    // The memory behind is zero, and allocated all the same.
    let end = alloc(&cluster, &["90000", "--name", "empty"]);
    let path = snapshot(&cluster);
    let path = path.to_str().expect("a plain path");
    let all = listed(&cluster);
    assert!(before.iter().all(|region| all.contains(region)));
    assert!(end["addr"].as_u64().expect("an address") + 90_000 > 128 << 10);

    cluster.replace(Setup::new(2, "64KiB"));
    (0..2).for_each(|id| cluster.start_server(id));
    cluster.ok(&["fill", "0", "100", "7"]);
    alloc(&cluster, &["10", "--name", "untouched"]);
    let here = listed(&cluster);
    for dry_run in [&["--dry-run"][..], &[]] {
        let output = cluster.exits(73, &[&["restore", path], dry_run].concat());
        assert!(String::from_utf8_lossy(&output.stderr).contains("allocation"), "{output:?}");
    }
    assert_eq!((listed(&cluster), cluster.client().read_vec(99, 1).expect("a byte")), (here, vec![7]));

    cluster.replace(Setup::new(1, "1MiB"));
    cluster.start_server(0);
    cluster.ok(&["restore", path]);
    assert_eq!(listed(&cluster), all);
    assert_eq!(cluster.ok(&["read", "large", "8"]), b"contents");
}

/// Two servers of three have lost their logs: nobody can agree on anything, and the memory is still to be saved.
#[test]
fn the_memory_is_saved_when_nobody_can_tell_the_allocations() {
    let (mut cluster, allocated) = furnished(3, "64KiB");
    let whole = snapshot(&cluster);
    // All at once: a leader that lives would give the others its log.
    (0..3).for_each(|id| cluster.kill_server(id));
    for id in 1..3 {
        fs::remove_file(cluster.config().metadata_file(id)).expect("the log of a server");
    }
    (0..3).for_each(|id| cluster.start_server(id));
    let path = snapshot(&cluster);
    let shown = json(&cluster.ok(&["snapshot", "show", path.to_str().expect("a plain path"), "--json"]));
    assert_eq!((&shown["allocations"], &shown["state"]), (&Value::Null, &Value::from("complete")));
    assert!(cluster.log("snapshotter", 0).contains("without the allocations"));

    let before = cluster.client().read_vec(0, 1 << 10).expect("the memory is read");
    let whole = whole.to_str().expect("a plain path");
    let said = String::from_utf8(cluster.exits(69, &["restore", whole]).stderr).expect("text");
    assert_eq!(cluster.client().read_vec(0, 1 << 10).expect("it is open"), before);

    // The way out, as it is told.
    assert!(said.contains("`mcomp purge` on each machine"), "{said}");
    (0..3).for_each(|id| cluster.stop_server(id));
    cluster.ok(&["purge"]);
    (0..3).for_each(|id| cluster.start_server(id));
    cluster.ok(&["restore", whole]);
    assert_eq!(listed(&cluster), allocated);
    assert_eq!(cluster.client().read_vec(0, 1 << 10).expect("it is read"), before);
}
