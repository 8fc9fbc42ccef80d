//! `mcomp doctor` in real situations: it finds what will fail, says what mends it, and changes nothing.
//!
//! What the machine of the tests is like decides on warnings that are none of a test's business, so each test looks
//! at the findings of its own situation; that nothing fails on a healthy machine is asked once.

/// Room for segments, and segments that are in the way.
mod memory;

/// The folder of the metadata's log.
mod metadata;

/// Addresses, limits and logs.
mod processes;

/// The secret, and processes that have another.
mod secret;

/// The folder of the snapshots and what lies in it.
mod snapshots;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mcomp_snapshot::create;
use serde_json::Value;

use crate::harness::{Cluster, MCOMP, Setup, under};

/// For questions to what never answers, where nobody else is asked: a loaded machine may need longer.
const BRIEFLY: [&str; 2] = ["--timeout", "300ms"];

fn setup() -> Setup {
    Setup::new(2, "64KiB").with("[snapshot]\nevery = \"off\"\n")
}

/// The report of a command that ended with `code`.
fn report(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((report["outcome"].as_str(), report["ok"].as_bool()), (Some("ok"), Some(code == 0)), "{report}");
    report
}

fn doctor(cluster: &Cluster, code: i32) -> Value {
    report(&cluster.run(&["doctor", "--json"]), code)
}

/// The same where strangers hold addresses, and no process of the cluster runs.
fn doctor_among_strangers(cluster: &Cluster) -> Value {
    report(&cluster.run(&[&["doctor", "--json"], &BRIEFLY[..]].concat()), 1)
}

/// The same behind the words of `wrapper`.
fn doctor_under(cluster: &Cluster, wrapper: &[&str], code: i32) -> Value {
    let command = cluster.command(&["doctor", "--json"]);
    report(&under(wrapper, command).output().expect("it runs"), code)
}

/// A finding of this check, this level, and about a subject that contains `subject`.
fn find<'a>(report: &'a Value, check: &str, level: &str, subject: &str) -> &'a Value {
    let found = report["findings"].as_array().expect("findings").iter().find(|finding| {
        finding["check"] == check
            && finding["level"] == level
            && finding["subject"].as_str().is_some_and(|one| one.contains(subject))
    });
    found.unwrap_or_else(|| panic!("no {level} of {check} about {subject}: {report:#}"))
}

fn fix(finding: &Value) -> &str {
    finding["fix"].as_str().unwrap_or_else(|| panic!("no fix: {finding}"))
}

/// Does what a fix says, as a person would who copies it into a shell.
fn apply(cluster: &Cluster, fix: &str) {
    let bin = Path::new(MCOMP).parent().expect("a folder").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.args(["-c", fix]).current_dir(cluster.dir.path()).env("PATH", format!("{bin}:{path}"));
    let output = command.output().expect("bash runs");
    assert!(output.status.success(), "{fix}: {output:?}");
}

/// All that the doctor could have changed: files, segments, and their times.
fn traces(cluster: &Cluster) -> BTreeSet<(String, u32, u64, i64, i64)> {
    let prefix = format!("mcomp.{}.", cluster.name);
    let folders = [cluster.dir.path().to_owned(), cluster.snapshot_dir(), "/dev/shm".into()];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let ours = entries.map(|entry| entry.path()).filter(|path| {
        !path.starts_with("/dev/shm")
            || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    });
    let trace = |path: PathBuf| {
        let facts = path.symlink_metadata().expect("a file of this test");
        (path.display().to_string(), facts.mode(), facts.len(), facts.mtime_nsec(), facts.ctime_nsec())
    };
    ours.map(trace).collect()
}

#[test]
fn a_healthy_cluster_has_nothing_that_will_fail_before_and_while_it_runs() {
    let mut cluster = setup().prepare();
    let before = traces(&cluster);
    let found = doctor(&cluster, 0);
    assert_eq!(traces(&cluster), before, "nothing was made");
    for id in 0..2 {
        find(&found, "address", "ok", &cluster.address(id));
        find(&found, "address", "ok", &cluster.snapshot_address(id));
    }
    assert!(find(&found, "shm", "ok", "/dev/shm")["what"].as_str().unwrap().contains("servers 0, 1 take"));
    (0..2).for_each(|id| cluster.start_server(id));
    (0..2).for_each(|id| cluster.start_snapshotter(id));
    create(&cluster.config(), false, &mut |_| {}).expect("a snapshot");
    let before = traces(&cluster);
    let found = doctor(&cluster, 0);
    assert_eq!(traces(&cluster), before, "nothing was changed");
    let told = |check: &str, subject: &str, pid: u32| {
        let what = find(&found, check, "ok", subject)["what"].as_str().expect("a sentence");
        assert!(what.contains(&format!("process {pid}")), "{what}");
    };
    for id in 0..2 {
        told("address", &cluster.address(id), cluster.server_pid(id));
        told("address", &cluster.snapshot_address(id), cluster.snapshotter_pid(id));
        told("segment", &format!("/dev/shm/mcomp.{}.{id}", cluster.name), cluster.server_pid(id));
    }
    find(&found, "snapshots", "ok", "snapshots");
}

/// Words that scripts look for. One that goes, or gets another name, breaks them.
#[test]
fn the_names_in_json_are_a_contract() {
    let cluster = setup().prepare();
    let found = doctor(&cluster, 0);
    let findings = found["findings"].as_array().expect("findings");
    let mut checks: Vec<&str> = findings.iter().map(|finding| finding["check"].as_str().expect("a word")).collect();
    checks.dedup();
    let golden = [
        "config",
        "servers",
        "secret",
        "shm",
        "memory",
        "segment",
        "remove_ipc",
        "open_files",
        "file_size",
        "address_space",
        "threads",
        "address",
        "unix_socket",
        "reach",
        "clock",
        "metadata",
        "snapshot_dir",
    ];
    assert_eq!(checks, golden);
    for finding in findings {
        let fields: Vec<&String> = finding.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["check", "fix", "level", "subject", "what"]);
        let level = finding["level"].as_str().expect("a word");
        assert!(["ok", "warn", "fail", "skipped"].contains(&level), "{finding}");
        assert_eq!(finding["fix"].is_string(), ["warn", "fail"].contains(&level), "{finding}");
    }
}

#[test]
fn people_get_a_line_for_each_finding_and_the_sum() {
    let cluster = setup().prepare();
    let _taken = TcpListener::bind(cluster.address(1)).expect("a free address");
    let output = cluster.exits(1, &["doctor", BRIEFLY[0], BRIEFLY[1]]);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("ok       config"), "{text}");
    let at = lines.iter().position(|line| line.starts_with("fail     address")).expect("a failure");
    assert!(lines[at].contains(&cluster.address(1)), "{text}");
    assert!(lines[at + 1].starts_with("         fix: kill "), "{text}");
    assert!(lines.last().is_some_and(|line| line.starts_with("1 thing will fail: ")), "{text}");
    let quiet = cluster.exits(1, &["doctor", "-q", BRIEFLY[0], BRIEFLY[1]]);
    let quiet = String::from_utf8(quiet.stdout).expect("text");
    assert!(!quiet.lines().any(|line| line.starts_with("ok ") || line.starts_with("skipped ")), "{quiet}");
}

#[test]
fn a_wrong_configuration_is_78_as_everywhere() {
    let cluster = setup().prepare();
    fs::write(cluster.config_path(), "[cluster]\nname = \"x\"\nk = 1\nn = 1\n").expect("a file");
    let output = cluster.exits(78, &["doctor", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((answer["outcome"].as_str(), answer["kind"].as_str()), (Some("fail"), Some("config")));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cluster.k"), "{output:?}");
}
