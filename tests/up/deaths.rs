//! Children that die, and children that never start.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{NOBODY, Up, pids, processes, segments_of, setup, signal_pid, wait_for_no_process};
use crate::harness::{Cluster, MCOMP, PATIENCE, Setup, lines_of, mcomp, wait_until};

/// A child that was started by hand. It dies with this test at the latest.
pub(super) struct ByHand(Child);

impl ByHand {
    /// Types a command into a shell, and returns the process with its ready line.
    pub(super) fn start(command: &str) -> (ByHand, String) {
        let folder = Path::new(MCOMP).parent().expect("a folder").display().to_string();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        let line = format!("exec {command} --die-with {}", std::process::id());
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).env("PATH", path).current_dir("/").stdin(Stdio::null());
        let mut child = shell.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sh runs");
        let lines = lines_of(child.stdout.take().expect("piped"));
        let child = ByHand(child);
        let ready = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{line} is not ready"));
        (child, ready)
    }
}

impl ByHand {
    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `up` reports the death of `who`, and returns the command that would start it again.
pub(super) fn reported(up: &Up, who: &str) -> String {
    let report = || up.log().lines().find(|line| line.contains(who) && line.contains("mcomp up: ")).map(str::to_owned);
    wait_until("the death is reported", || report().is_some_and(|line| line.ends_with('`')));
    let line = report().expect("that was waited for");
    let (_, command) = line.trim_end_matches('`').rsplit_once('`').expect("a command");
    command.to_owned()
}

#[test]
fn a_killed_server_is_reported_and_can_be_started_by_hand() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "65534", "kept"]);
    let pid = pids(&ready, "servers")[1];
    signal_pid(pid, Signal::KILL);
    let command = reported(&up, &format!("server 1 (pid {pid}) was killed by SIGKILL (9); its memory stays"));
    assert_eq!(command, format!("mcomp up --restart 1 --config {}", cluster.config_path().display()));
    // The others go on, and nobody has started it again.
    cluster.ok(&["write", "0", "alive"]);
    cluster.exits(69, &["read", "65536", "1"]);
    cluster.exits(69, &["status"]);
    assert_eq!(processes(cluster.dir.path()).len(), 4);
    let (by_hand, line) = ByHand::start(&format!("mcomp server --id 1 --config {}", cluster.config_path().display()));
    assert!(line.contains("mcomp server 1 ready") && line.contains("taken over"), "{line}");
    assert_eq!(cluster.ok(&["read", "65534", "4"]), b"kept");
    cluster.ok(&["status"]);
    cluster.ok(&["snapshot", "create"]);
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0), "a death that was reported is no failure");
    assert_eq!(processes(cluster.dir.path()), [by_hand.pid()], "it stops its own children only");
    assert_eq!(cluster.ok(&["read", "65536", "2"]), b"pt");
}

#[test]
fn a_killed_snapshot_process_is_reported_and_can_be_started_again() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    let pid = pids(&ready, "snapshotters")[0];
    signal_pid(pid, Signal::KILL);
    let command = reported(&up, &format!("snapshotter 0 (pid {pid}) was killed by SIGKILL (9); until it runs again"));
    cluster.ok(&["write", "0", "alive"]);
    cluster.ok(&["status"]);
    cluster.exits(69, &["snapshot", "create"]);
    assert_eq!(command, format!("mcomp revive 0 --snapshotter --config {}", cluster.config_path().display()));
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let said = String::from_utf8(mcomp(&words).output().expect("mcomp runs").stdout).expect("text");
    assert!(said.starts_with("snapshotter 0 (pid ") && said.ends_with(") runs again\n"), "{said}");
    cluster.ok(&["snapshot", "create"]);
    up.signal(Signal::TERM);
    assert_eq!(up.ended().code(), Some(0));
}

#[test]
fn without_any_server_there_is_nothing_to_wait_for() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "65534", "kept"]);
    pids(&ready, "servers").into_iter().for_each(|pid| signal_pid(pid, Signal::KILL));
    let log = up.log.clone();
    // The JSON of its error is the second line.
    let answer: Value = serde_json::from_str(&up.line()).expect("JSON");
    assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!("unavailable")), "{answer}");
    assert_eq!(up.ended().code(), Some(69));
    let log = fs::read_to_string(log).expect("a log");
    assert!(log.contains("no server is left") && log.contains("`mcomp up --config /"), "{log}");
    assert_eq!((processes(cluster.dir.path()).len(), segments_of(&cluster)), (0, 2));
    let (_up, _) = Up::start(&cluster);
    assert_eq!(cluster.ok(&["read", "65534", "4"]), b"kept");
}

/// Starts `up`, which must fail with this code and this in its messages, and leave no process.
fn never_starts(cluster: &Cluster, code: i32, named: &str) {
    let output = cluster.exits(code, &["up"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.stdout.is_empty() && said.contains(named), "{named:?} is not in {said}");
    assert!(said.contains("everything was stopped"), "{said}");
    assert_eq!(processes(cluster.dir.path()), NOBODY, "{said}");
}

#[test]
fn all_start_or_none_and_the_code_is_that_of_the_first_to_fail() {
    let mut cluster = setup().prepare();
    for address in [cluster.address(1), cluster.snapshot_address(1)] {
        let _stranger = TcpListener::bind(&address).expect("the test's own address is free");
        never_starts(&cluster, 75, &address);
        assert_eq!(segments_of(&cluster), 0, "what the failed start had made is left");
    }
    cluster.replace(Setup::new(2, "65536GiB"));
    never_starts(&cluster, 73, "bytes are needed");
    assert_eq!(segments_of(&cluster), 0);
    cluster.replace(setup());
    let (up, _) = Up::start(&cluster);
    drop(up);
    wait_for_no_process(cluster.dir.path());
}

/// A second try must not be hindered by the first, and old memory must not be touched by either.
#[test]
fn a_start_that_fails_removes_what_it_has_made_and_nothing_else() {
    let mut cluster = setup().prepare();
    cluster.start_server(0);
    cluster.ok(&["write", "0", "kept"]);
    cluster.stop_server(0);
    let stranger = TcpListener::bind(cluster.snapshot_address(1)).expect("the test's own address is free");
    let output = cluster.exits(75, &["up"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the memory segment that this start had made was removed again"), "{said}");
    assert_eq!(segments_of(&cluster), 1, "the old segment, and no other");
    drop(stranger);
    let (up, _) = Up::start(&cluster);
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"kept");
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
}

#[test]
fn one_that_does_not_stop_is_killed_and_named() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    let pid = pids(&ready, "servers")[1];
    signal_pid(pid, Signal::STOP);
    up.signal(Signal::INT);
    wait_until("the others have ended", || processes(cluster.dir.path()).len() == 2);
    // The second signal says that nobody wants to wait.
    up.signal(Signal::TERM);
    let log = up.log.clone();
    assert_eq!(up.ended().code(), Some(0));
    let said = fs::read_to_string(log).expect("a log");
    let killed = format!("mcomp up: server 1 (pid {pid}) did not stop when it was asked to, and was killed");
    assert!(said.contains(&killed), "{said}");
    assert_eq!(processes(cluster.dir.path()), NOBODY);
}

#[test]
fn a_signal_while_it_starts_leaves_no_process() {
    let cluster = Setup::new(8, "64KiB").prepare();
    for (children, signal) in [(1, Signal::INT), (3, Signal::TERM), (6, Signal::INT), (10, Signal::INT)] {
        let up = Up::spawn(&cluster, &[]);
        // Its parent counts too.
        wait_until("some children are there", || processes(cluster.dir.path()).len() > children);
        up.signal(signal);
        // The ready line may have been faster, and is taken.
        let _ = up.lines.recv_timeout(PATIENCE);
        assert_eq!(up.ended().code(), Some(0), "after {children} children");
        assert_eq!(processes(cluster.dir.path()), NOBODY, "after {children} children");
    }
}
