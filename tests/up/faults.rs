//! Processes that are killed, frozen, thawed and revived by command: real signals to real processes, what clients see
//! meanwhile, and that nothing of the memory is lost.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::deaths::ByHand;
use super::{NOBODY, Up, pids, processes, setup, signal_pid};
use crate::harness::{Cluster, Setup, wait_until};

/// Runs one of the four commands with `--json`, which must end with this code.
fn told(cluster: &Cluster, code: i32, line: &str) -> Value {
    let words: Vec<&str> = line.split(' ').chain(["--json"]).collect();
    serde_json::from_slice(&cluster.exits(code, &words).stdout).expect("one line of JSON")
}

/// Runs one that succeeds: the process, and whether it had to do something.
fn done(cluster: &Cluster, line: &str, state: &str) -> (u32, bool) {
    let answer = told(cluster, 0, line);
    let keys = ["changed", "id", "outcome", "pid", "role", "state"];
    assert_eq!(answer.as_object().expect("an object").keys().collect::<Vec<_>>(), keys, "{line}");
    assert_eq!((&answer["outcome"], &answer["state"]), (&json!("ok"), &json!(state)), "{line}: {answer}");
    let pid = answer["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
    (pid, answer["changed"].as_bool().expect("yes or no"))
}

/// Runs one that is refused, and returns the sentence.
fn refused(cluster: &Cluster, code: i32, kind: &str, line: &str) -> String {
    let answer = told(cluster, code, line);
    assert_eq!(answer["kind"], json!(kind), "{line}: {answer}");
    answer["error"].as_str().expect("a sentence").to_owned()
}

/// The states of all threads of a process, as the kernel has them.
fn threads(pid: u32) -> Vec<char> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stat = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("stat")).ok();
    threads.filter_map(stat).filter_map(|stat| stat.rsplit(')').next()?.trim().chars().next()).collect()
}

fn silence(cluster: &Cluster, server: usize) -> Value {
    let status: Value =
        serde_json::from_slice(&cluster.exits(69, &["status", "--json", "--timeout", "300ms"]).stdout).expect("JSON");
    assert_eq!(status["servers"][server]["state"], "unreachable", "{status}");
    status["servers"][server]["kind"].clone()
}

#[test]
fn a_killed_server_stays_dead_and_comes_back_with_its_memory() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "65534", "kept"]);
    let pid = pids(&ready, "servers")[1];
    assert_eq!(done(&cluster, "kill 1", "dead"), (pid, true));
    assert_eq!(threads(pid), [], "it is reaped when the answer comes");
    assert_eq!(done(&cluster, "kill 1", "dead"), (pid, false));
    cluster.ok(&["write", "0", "alive"]);
    cluster.exits(69, &["read", "65536", "1"]);
    assert_eq!(silence(&cluster, 1), "unavailable");
    for line in ["freeze 1", "thaw 1"] {
        let said = refused(&cluster, 69, "unavailable", line);
        assert!(said.contains("server 1 is dead: `mcomp revive 1 --config /"), "{said}");
    }
    assert_eq!(processes(cluster.dir.path()).len(), 4, "nobody has started it again");
    let log = up.log();
    assert!(log.contains(&format!("server 1 (pid {pid}) was killed on request")), "{log}");
    assert!(!log.contains("SIGKILL"), "what was asked for is no accident: {log}");

    let (new, changed) = done(&cluster, "revive 1", "running");
    assert!(changed && new != pid);
    assert_eq!(done(&cluster, "revive 1", "running"), (new, false));
    assert_eq!(cluster.ok(&["read", "65534", "4"]), b"kept");
    cluster.ok(&["snapshot", "create"]);
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
    assert_eq!(processes(cluster.dir.path()), NOBODY);
}

#[test]
fn a_frozen_server_answers_nobody_until_it_is_thawed() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "65534", "kept"]);
    let pid = pids(&ready, "servers")[1];
    assert_eq!(done(&cluster, "thaw 1", "running"), (pid, false));
    assert_eq!(done(&cluster, "freeze 1", "frozen"), (pid, true));
    assert!(threads(pid).iter().all(|state| *state == 'T'), "every thread stands still: {:?}", threads(pid));
    assert_eq!(done(&cluster, "freeze 1", "frozen"), (pid, false));
    let read = ["read", "65536", "2", "--timeout", "300ms"];
    cluster.exits(124, &read);
    assert_eq!(silence(&cluster, 1), "timeout");
    let said = refused(&cluster, 75, "busy", "revive 1");
    assert!(said.contains("is frozen") && said.contains("`mcomp thaw 1 --config /"), "{said}");
    assert_eq!(done(&cluster, "thaw 1", "running"), (pid, true));
    assert_eq!(cluster.ok(&read), b"pt");

    // Whoever has frozen it: the kernel is asked, not remembered.
    signal_pid(pid, Signal::STOP);
    wait_until("every thread stands still", || threads(pid).iter().all(|state| *state == 'T'));
    assert_eq!(done(&cluster, "freeze 1", "frozen"), (pid, false));
    assert_eq!(done(&cluster, "kill 1", "dead"), (pid, true), "a frozen one can be killed");
    done(&cluster, "revive 1", "running");
    assert_eq!(cluster.ok(&["read", "65534", "4"]), b"kept");
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
}

#[test]
fn snapshot_processes_are_meant_by_a_flag() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    let pid = pids(&ready, "snapshotters")[1];
    assert_eq!(done(&cluster, "kill 1 --snapshotter", "dead"), (pid, true));
    cluster.exits(69, &["snapshot", "create"]);
    cluster.ok(&["read", "65536", "1"]);
    let (pid, _) = done(&cluster, "revive 1 --snapshotter", "running");
    cluster.ok(&["snapshot", "create"]);
    assert_eq!(done(&cluster, "freeze 1 --snapshotter", "frozen"), (pid, true));
    cluster.ok(&["write", "65536", "writers do not wait for it"]);
    assert_eq!(done(&cluster, "thaw 1 --snapshotter", "running"), (pid, true));
    cluster.ok(&["snapshot", "create"]);
    up.signal(Signal::TERM);
    assert_eq!(up.ended().code(), Some(0));
}

#[test]
fn the_last_server_can_be_killed_and_revived() {
    let cluster = Setup::new(1, "64KiB").prepare();
    let (up, _) = Up::start(&cluster);
    cluster.ok(&["write", "0", "kept"]);
    done(&cluster, "kill 0", "dead");
    cluster.exits(69, &["read", "0", "4"]);
    let said = String::from_utf8(cluster.ok(&["revive", "0"])).expect("text");
    assert!(said.starts_with("server 0 (pid ") && said.ends_with(") runs again\n"), "{said}");
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"kept");
    done(&cluster, "kill 0", "dead");
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0), "a death on request is no failure");
}

#[test]
fn what_is_not_there_is_named() {
    let cluster = setup().prepare();
    for line in ["kill 0", "freeze 0", "thaw 0 --snapshotter", "revive 0"] {
        let said = refused(&cluster, 69, "unavailable", line);
        assert!(said.contains("no `mcomp up`") && said.contains("`mcomp up --config /"), "{line}: {said}");
    }
    let (_up, ready) = Up::start(&cluster);
    for verb in ["kill", "freeze", "thaw", "revive"] {
        let said = refused(&cluster, 64, "usage", &format!("{verb} 2"));
        assert!(said.contains("server 2") && said.contains("servers 0, 1"), "{said}");
        let said = refused(&cluster, 64, "usage", &format!("{verb} 7 --snapshotter"));
        assert!(said.contains("snapshotter 7") && said.contains("snapshot processes 0, 1"), "{said}");
        for wrong in [&[verb][..], &[verb, "-1"], &[verb, "all"], &[verb, "0", "1"]] {
            cluster.exits(64, wrong);
        }
    }
    let status: Value = serde_json::from_slice(&cluster.ok(&["status", "--json"])).expect("JSON");
    assert_eq!(pids(&status, "servers"), pids(&ready, "servers"), "nobody was touched");
}

#[test]
fn a_server_that_another_process_runs_is_left_alone() {
    let cluster = Setup::new(1, "64KiB").prepare();
    let (up, _) = Up::start(&cluster);
    let (by_hand, _) = ByHand::start(&format!("mcomp server --id 0 --config {}", cluster.config_path().display()));
    wait_until("it is told", || up.log().contains("has handed over"));
    for line in ["kill 0", "freeze 0", "thaw 0"] {
        let said = refused(&cluster, 69, "unavailable", line);
        let named = format!("server 0 has handed over to process {}", by_hand.pid());
        assert!(said.contains(&named) && said.contains("`mcomp revive 0 --config /"), "{said}");
    }
    let (pid, changed) = done(&cluster, "revive 0", "running");
    assert!(changed && pid != by_hand.pid());
    assert_eq!(done(&cluster, "freeze 0", "frozen"), (pid, true), "it is ours again");
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
}

#[test]
fn a_frozen_process_ends_with_the_others_in_good_order() {
    let cluster = setup().prepare();
    for signal in [Signal::INT, Signal::TERM] {
        let (up, _) = Up::start(&cluster);
        for line in ["freeze 0", "freeze 1", "freeze 1 --snapshotter"] {
            done(&cluster, line, "frozen");
        }
        up.signal(signal);
        let log = up.log.clone();
        assert_eq!(up.ended().code(), Some(0));
        let said = fs::read_to_string(&log).expect("a log");
        assert!(!said.contains("was killed"), "it was thawed to hear the request: {said}");
        assert_eq!(processes(cluster.dir.path()), NOBODY);
        fs::write(log, "").expect("what this one said is forgotten");
    }
}
