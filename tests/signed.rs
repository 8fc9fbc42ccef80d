//! Snapshot files of a cluster with a secret, on real processes: signed when they are made, and refused by all that
//! reads them when no key of the secret has signed them.

use std::process::Output;

use mcomp_net::auth::Keyring;
use mcomp_wire::Role;
use serde_json::{Value, json};

use crate::harness::{Cluster, Setup};

/// A cluster with a secret, five bytes in its memory.
fn cluster() -> Cluster {
    let cluster = Setup::new(2, "64KiB").secret(&Keyring::random().unwrap()).start();
    cluster.ok(&["write", "100", "hello"]);
    cluster
}

fn create(cluster: &Cluster, more: &[&str]) -> String {
    let created = cluster.ok(&[&["snapshot", "create"], more].concat());
    String::from_utf8(created).unwrap().trim().to_owned()
}

fn json_of(cluster: &Cluster, args: &[&str]) -> Value {
    serde_json::from_slice(&cluster.ok(&[args, &["--json"]].concat())).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The three commands that believe a file.
fn believers(file: &str) -> [Vec<&str>; 3] {
    [
        vec!["snapshot", "verify", file],
        vec!["restore", file],
        vec!["snapshot", "export", file, "-o", "memory.img", "--force"],
    ]
}

fn refused(cluster: &Cluster, file: &str, code: i32, words: &[&str], more: &[&str]) {
    for command in believers(file) {
        let err = said(&cluster.exits(code, &[&command, more].concat()));
        for word in words.iter().chain(&[file]) {
            assert!(err.contains(word), "{command:?}: {word} is missing: {err}");
        }
    }
    assert!(!cluster.dir.path().join("memory.img").exists(), "nothing was exported");
}

fn accepted(cluster: &Cluster, file: &str, words: &[&str], more: &[&str]) {
    for command in believers(file) {
        let err = said(&cluster.exits(0, &[&command, more].concat()));
        assert!(words.iter().all(|word| err.contains(word)), "{command:?}: {err}");
    }
    std::fs::remove_file(cluster.dir.path().join("memory.img")).unwrap();
}

/// Gives the cluster's commands another secret.
fn use_secret(cluster: &Cluster, keyring: &Keyring) {
    keyring.store(&cluster.secret_path(), "", true).unwrap();
}

/// The line of mcomp.cfg that names the secret, away and back.
fn without_secret(cluster: &Cluster, work: impl FnOnce()) {
    let text = std::fs::read_to_string(cluster.config_path()).unwrap();
    std::fs::write(cluster.config_path(), text.replace("secret_file = \"mcomp.secret\"", "")).unwrap();
    work();
    std::fs::write(cluster.config_path(), text).unwrap();
}

#[test]
fn a_file_is_signed_and_believed() {
    let cluster = cluster();
    let file = create(&cluster, &[]);
    cluster.ok(&["write", "200", "world"]);
    let child = create(&cluster, &["--incremental"]);
    assert!(child.contains("-incr-"), "{child}");
    let verified = json_of(&cluster, &["snapshot", "verify", &child]);
    assert_eq!((&verified["files"], &verified["signed"], &verified["mac"]), (&json!(2), &json!(true), &json!("fits")));
    let shown = json_of(&cluster, &["snapshot", "show", &file]);
    assert_eq!((&shown["signed"], &shown["mac"]), (&json!(true), &json!("fits")));
    let listed = json_of(&cluster, &["snapshot", "ls"]);
    assert!(listed["snapshots"].as_array().unwrap().iter().all(|entry| entry["mac"] == "fits"), "{listed}");
    accepted(&cluster, &child, &[], &[]);
    assert_eq!(cluster.ok(&["read", "200", "5"]), b"world");
    without_secret(&cluster, || {
        let verified = cluster.exits(0, &["snapshot", "verify", &child]);
        assert!(said(&verified).contains("signed, not checked: no secret here"), "{verified:?}");
        assert_eq!(json_of(&cluster, &["snapshot", "verify", &child])["mac"], "not_checked");
    });
}

#[test]
fn a_file_of_a_stranger_is_refused() {
    let cluster = cluster();
    let file = create(&cluster, &[]);
    let keys = Keyring::load(&cluster.secret_path()).unwrap();
    cluster.ok(&["write", "100", "later"]);
    // Who has all but the node key can use the cluster, and cannot say whose a file is.
    use_secret(&cluster, &keys.only(&[Role::Client, Role::Admin]).unwrap());
    refused(&cluster, &file, 77, &["the secret here has none", "--unsigned"], &[]);
    use_secret(&cluster, &Keyring::random().unwrap());
    assert_eq!(json_of(&cluster, &["snapshot", "show", &file])["mac"], "unknown_key");
    let verified = cluster.exits(77, &["snapshot", "verify", &file]);
    assert!(said(&verified).contains("the secret here does not have"), "{verified:?}");
    use_secret(&cluster, &keys);

    // A zero MAC: with the flag too, since nobody makes such a file by accident.
    let mut bytes = std::fs::read(&file).unwrap();
    let mac = bytes.len() - 56 - 32;
    bytes[mac..mac + 32].fill(0);
    std::fs::write(&file, bytes).unwrap();
    refused(&cluster, &file, 65, &["MAC is wrong"], &[]);
    refused(&cluster, &file, 65, &["MAC is wrong"], &["--unsigned"]);
    assert_eq!(json_of(&cluster, &["snapshot", "show", &file])["mac"], "wrong");
    assert_eq!(cluster.ok(&["read", "100", "5"]), b"later", "something was restored");
}

/// A secret that comes later: what was made before needs somebody's word, and nothing is built on it.
#[test]
fn what_was_made_before_the_secret_takes_a_word() {
    let mut cluster = Setup::new(2, "64KiB").start();
    cluster.ok(&["write", "100", "hello"]);
    let old = create(&cluster, &[]);
    assert_eq!(json_of(&cluster, &["snapshot", "verify", &old])["mac"], "none");
    use_secret(&cluster, &Keyring::random().unwrap());
    let text = std::fs::read_to_string(cluster.config_path()).unwrap();
    std::fs::write(cluster.config_path(), text + "[security]\nsecret_file = \"mcomp.secret\"\n").unwrap();
    for id in 0..2 {
        cluster.stop_server(id);
        cluster.stop_snapshotter(id);
        cluster.start_server(id);
        cluster.start_snapshotter(id);
    }
    refused(&cluster, &old, 77, &["not signed", "--unsigned"], &[]);
    accepted(&cluster, &old, &["WARNING", "not signed"], &["--unsigned"]);
    let next = create(&cluster, &["--incremental"]);
    assert!(next.contains("-full-"), "it builds on a file that nobody signed: {next}");
    let log = cluster.log("snapshotter", 0);
    assert!(log.contains("a full snapshot instead of an incremental one") && log.contains(&old), "{log}");
    assert!(create(&cluster, &["--incremental"]).contains("-incr-"));
}

#[test]
fn a_file_outlives_one_change_of_the_secret() {
    let cluster = cluster();
    let file = create(&cluster, &[]);
    cluster.ok(&["secret", "rotate"]);
    assert_eq!(json_of(&cluster, &["snapshot", "verify", &file])["mac"], "fits");
    let child = create(&cluster, &["--incremental"]);
    assert!(child.contains("-incr-"), "the old key is still known: {child}");
    cluster.ok(&["secret", "retire"]);
    let verified = cluster.exits(77, &["snapshot", "verify", &child]);
    assert!(said(&verified).contains(&file), "the parent is named, which has the old key: {verified:?}");
    let verified = cluster.exits(0, &["snapshot", "verify", &child, "--unsigned"]);
    assert!(said(&verified).contains("WARNING: 1 of 2 files"), "{verified:?}");
}
