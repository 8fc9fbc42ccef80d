//! Servers that a running `up` restarts: living and dead ones, with the executable that stands there now. What cannot
//! be restarted is named and left as it is.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use super::deaths::{ByHand, reported};
use super::{NOBODY, Up, pids, processes, setup, signal_pid};
use crate::harness::{Cluster, MCOMP, Setup, mcomp, wait_until};

/// Restarts one server, and returns what is said about it.
fn restarted(cluster: &Cluster, id: &str) -> Value {
    serde_json::from_slice(&cluster.ok(&["up", "--restart", id, "--json"])).expect("one line of JSON")
}

/// Restarts a server, which must fail with this code. Returns the sentence.
fn refused(cluster: &Cluster, code: i32, kind: &str, id: &str) -> String {
    let output = cluster.exits(code, &["up", "--restart", id, "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(answer["kind"], json!(kind), "{answer}");
    answer["error"].as_str().expect("a sentence").to_owned()
}

fn serving(cluster: &Cluster) -> Vec<u32> {
    let status: Value = serde_json::from_slice(&cluster.ok(&["status", "--json"])).expect("JSON");
    pids(&status, "servers")
}

#[test]
fn a_living_server_is_restarted_and_keeps_its_memory() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "65534", "kept"]);
    let before = pids(&ready, "servers");
    let answer = restarted(&cluster, "1");
    let keys: Vec<&str> = "down_ms id outcome pid was".split(' ').collect();
    assert_eq!(answer.as_object().expect("an object").keys().collect::<Vec<_>>(), keys);
    assert_eq!((&answer["id"], &answer["was"]), (&json!(1), &json!(before[1])), "{answer}");
    assert_eq!(json!(serving(&cluster)), json!([before[0], answer["pid"]]));
    assert_eq!(cluster.ok(&["read", "65534", "4"]), b"kept");
    cluster.ok(&["snapshot", "create"]);

    let said = String::from_utf8(cluster.ok(&["up", "--restart", "all", "--restart", "0"])).expect("text");
    let lines: Vec<&str> = said.lines().collect();
    let starts = [0, 1, 0].map(|id| format!("mcomp up: server {id} restarted in "));
    assert!(lines.len() == 3 && lines.iter().zip(&starts).all(|(line, start)| line.starts_with(start)), "{said}");
    assert!(serving(&cluster).iter().all(|pid| !before.contains(pid)), "{said}");
    assert_eq!(cluster.ok(&["read", "65534", "4"]), b"kept");
    assert_eq!(processes(cluster.dir.path()).len(), 5, "nobody is left over");
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
    assert_eq!(processes(cluster.dir.path()), NOBODY);
}

#[test]
fn a_dead_server_is_started_by_the_command_that_its_death_names() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "65534", "kept"]);
    let pid = pids(&ready, "servers")[1];
    signal_pid(pid, Signal::KILL);
    let command = reported(&up, &format!("server 1 (pid {pid})"));
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let output = mcomp(&words).output().expect("mcomp runs");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.starts_with("mcomp up: server 1 started in ") && said.lines().count() == 1, "{said}");
    assert_eq!(cluster.ok(&["read", "65534", "4"]), b"kept");
    assert_eq!(processes(cluster.dir.path()).len(), 5);
    up.signal(Signal::TERM);
    assert_eq!(up.ended().code(), Some(0));
}

#[test]
fn a_server_that_was_taken_over_by_hand_can_be_taken_back() {
    let cluster = Setup::new(1, "64KiB").prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "0", "kept"]);
    let (by_hand, line) = ByHand::start(&format!("mcomp server --id 0 --config {}", cluster.config_path().display()));
    assert!(line.contains("taken over"), "{line}");
    let named = format!("server 0 (pid {}) has handed over to process {}", pids(&ready, "servers")[0], by_hand.pid());
    let command = reported(&up, &named);
    assert!(command.starts_with("mcomp up --restart 0 "), "{command}");
    assert_eq!(serving(&cluster), [by_hand.pid()], "the last server has left, and is not lost");
    let answer = restarted(&cluster, "0");
    assert_eq!(answer["was"], Value::Null, "{answer}");
    assert_eq!(json!(serving(&cluster)), json!([answer["pid"]]));
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"kept");
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
    drop(by_hand);
    assert_eq!(processes(cluster.dir.path()), NOBODY);
}

#[test]
fn what_cannot_be_restarted_is_named_and_left_alone() {
    let cluster = setup().prepare();
    let said = refused(&cluster, 69, "unavailable", "0");
    assert!(said.contains(&format!("cluster {}", cluster.name)) && said.contains("`mcomp up --config /"), "{said}");
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "65534", "kept"]);
    let said = refused(&cluster, 64, "usage", "2");
    assert!(said.contains("server 2") && said.contains("servers 0, 1"), "{said}");
    cluster.exits(64, &["up", "--restart", "-1"]);
    cluster.exits(64, &["up", "--restart", "every"]);
    cluster.exits(64, &["up", "--restart"]);
    let pid = pids(&ready, "servers")[1];
    signal_pid(pid, Signal::STOP);
    wait_until("the kernel has stopped it", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives").contains(") T ")
    });
    let said = refused(&cluster, 75, "busy", "1");
    assert!(said.contains("`mcomp thaw 1 --config /"), "{said}");
    cluster.ok(&["thaw", "1"]);
    assert_eq!(serving(&cluster), pids(&ready, "servers"), "nobody was stopped");
    assert_eq!(cluster.ok(&["read", "65534", "4", "--remote"]), b"kept");
    assert!(up.log().contains(&said), "who watches `up` sees it too");
}

/// A copy of the command that is this test's own, so that it can be replaced.
fn install(path: &Path) -> u64 {
    let new = path.with_extension("new");
    fs::copy(MCOMP, &new).expect("a copy");
    fs::rename(&new, path).expect("in its place at once");
    fs::metadata(path).expect("it is there").ino()
}

fn executable_of(answer: &Value) -> u64 {
    fs::metadata(format!("/proc/{}/exe", answer["pid"])).expect("it runs").ino()
}

#[test]
fn a_restart_runs_the_executable_that_stands_there_now() {
    let cluster = setup().prepare();
    let (program, link) = (cluster.dir.path().join("installed"), cluster.dir.path().join("mcomp"));
    install(&program);
    std::os::unix::fs::symlink(&program, &link).expect("a link");
    let mut command = Command::new(&link);
    let plain = cluster.command(&["up"]);
    command.args(plain.get_args()).current_dir(cluster.dir.path());
    for (name, _) in plain.get_envs() {
        command.env_remove(name);
    }
    let up = Up::run(&cluster, command);
    up.line();
    cluster.ok(&["write", "0", "kept"]);

    let second = install(&program);
    assert_eq!(executable_of(&restarted(&cluster, "0")), second, "the file was replaced");
    let other = cluster.dir.path().join("next-version");
    let third = install(&other);
    fs::remove_file(&link).expect("the link");
    let said = refused(&cluster, 74, "io", "0");
    assert!(said.contains("it was left as it is") && said.contains(&link.display().to_string()), "{said}");
    cluster.ok(&["status"]);
    std::os::unix::fs::symlink(&other, &link).expect("a link");
    assert_eq!(executable_of(&restarted(&cluster, "0")), third, "the link was switched");

    // One that does not start: the memory waits for one that does.
    let broken = "#!/bin/sh\nexit 73\n";
    fs::remove_file(&link).expect("the link");
    fs::write(&link, broken).expect("a script");
    fs::set_permissions(&link, fs::Permissions::from_mode(0o700)).expect("it can be run");
    let said = refused(&cluster, 73, "start", "0");
    assert!(said.contains("exit code 73") && said.contains("the memory stays"), "{said}");
    install(&link);
    assert_eq!(restarted(&cluster, "0")["was"], Value::Null);
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"kept");
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
}

/// Lines to the socket of `up`, and its answers.
fn spoken(cluster: &Cluster, text: &[u8]) -> Vec<String> {
    let name = format!("mcomp.{}.up.{}", cluster.name, geteuid().as_raw());
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let mut stream = UnixStream::connect_addr(&address).expect("it listens");
    // It may have heard enough before the end.
    let _ = stream.write_all(text);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    BufReader::new(stream).lines().map_while(Result::ok).collect()
}

#[test]
fn nonsense_on_the_control_socket_is_answered_and_harms_nobody() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    let endless = [b"{\"op\":\"restart\",".to_vec(), vec![b' '; 1 << 20]].concat();
    for text in [
        &b"\n"[..],
        b"{}\n",
        b"{\"op\":\"kill\",\"id\":0}\n",
        b"{\"op\":\"stop\",\"id\":0}\n",
        b"\xff\xfe\n",
        b"[1,2]\n",
        &endless,
    ] {
        let answers = spoken(&cluster, text);
        let shown = String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
        assert!(answers.len() <= 1, "{shown}: {answers:?}");
        for answer in answers {
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            assert_eq!((&answer["outcome"], &answer["exit"]), (&json!("fail"), &json!(64)), "{shown}: {answer}");
        }
    }
    let answers = spoken(&cluster, b"nonsense\n{\"op\":\"restart\",\"id\":0}\n");
    let parsed: Vec<Value> = answers.iter().map(|answer| serde_json::from_str(answer).expect("JSON")).collect();
    assert_eq!(parsed.iter().map(|answer| &answer["outcome"]).collect::<Vec<_>>(), ["fail", "ok"], "{answers:?}");
    assert_eq!(serving(&cluster)[1], pids(&ready, "servers")[1]);
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
}

#[test]
fn a_signal_during_restarts_ends_everything() {
    let cluster = setup().prepare();
    for round in 0..5 {
        let (up, _) = Up::start(&cluster);
        let mut asking = cluster.command(&["up", "--restart", "all", "--restart", "all"]);
        let asking = asking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mcomp runs");
        if round > 0 {
            wait_until("a restart has begun", || up.log().contains("restarted in"));
        }
        up.signal(Signal::TERM);
        let log = up.log.clone();
        assert_eq!(up.ended().code(), Some(0), "round {round}");
        assert!(asking.wait_with_output().is_ok(), "who asked is not left waiting");
        fs::write(log, "").expect("what this one said is forgotten");
    }
    assert_eq!(processes(cluster.dir.path()), NOBODY);
}
