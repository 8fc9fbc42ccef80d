//! `mcomp up`, `mcomp demo` and `mcomp purge`: processes that start together, end together, and leave
//! what they promise to leave: the memory after `up`, and nothing after a demo or a purge.
//!
//! What runs is seen by the command lines of all processes of this machine, which name the scratch
//! folder of the test, so that nobody is missed and no stranger is counted. Left out is the memory of
//! killed servers, byte by byte, which the tests of deaths look at.

/// Children that die, and children that never start.
mod deaths;

/// The demo, alone, twice at once, and interrupted.
mod demo;

/// Processes that are killed, frozen, thawed and revived by command.
mod faults;

/// The log of operations: one line for each.
mod oplog;

/// Servers that a running `up` restarts, and those that it does not.
mod restart;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Cluster, PATIENCE, Setup, lines_of, wait_until};

/// No processes.
const NOBODY: [u32; 0] = [];

fn setup() -> Setup {
    Setup::new(2, "64KiB")
}

/// A running `mcomp up`. It is killed when it is dropped, and its children with it.
#[derive(Debug)]
pub(crate) struct Up {
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Up {
    /// Starts it and does not wait.
    fn spawn(cluster: &Cluster, flags: &[&str]) -> Up {
        Up::run(cluster, cluster.command(&[&["up"], flags].concat()))
    }

    fn run(cluster: &Cluster, mut command: Command) -> Up {
        let log = cluster.dir.path().join("up.log");
        let stderr = File::options().create(true).append(true).open(&log).expect("a log");
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("up starts");
        let lines = lines_of(child.stdout.take().expect("piped"));
        Up { child, lines, log }
    }

    /// Starts it, and returns it with the JSON that it prints when it is ready.
    pub(crate) fn start(cluster: &Cluster) -> (Up, Value) {
        let up = Up::spawn(cluster, &["--json"]);
        let ready = serde_json::from_str(&up.line()).expect("JSON");
        (up, ready)
    }

    /// The next line of stdout.
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line\n{}", self.log()))
    }

    /// What it has said on stderr so far.
    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_pid(self.child.id(), signal);
    }

    /// Waits until it has ended; it has printed no other line.
    pub(crate) fn ended(mut self) -> ExitStatus {
        let mut status = None;
        wait_until("up ends", || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        let left: Vec<String> = self.lines.iter().collect();
        assert!(left.is_empty(), "more than a ready line: {left:?}");
        status.expect("that was waited for")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that is known to live.
fn signal_pid(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), signal).expect("it runs");
}

/// All processes whose command line names something in this folder. A zombie has none.
fn processes(folder: &Path) -> Vec<u32> {
    let folder = folder.to_str().expect("a plain path");
    let entries = fs::read_dir("/proc").expect("every Linux has it").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(folder)
    })
    .collect()
}

fn wait_for_no_process(folder: &Path) {
    wait_until("no process is left", || processes(folder).is_empty());
}

/// Files in /dev/shm whose name begins like this.
fn segments(prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev/shm").expect("every Linux has it").flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    ours.map(|entry| entry.path()).collect()
}

fn segments_of(cluster: &Cluster) -> usize {
    segments(&format!("mcomp.{}.", cluster.name)).len()
}

/// The pids of a ready line.
fn pids(ready: &Value, role: &str) -> Vec<u32> {
    let processes = ready[role].as_array().expect("a list").iter();
    processes.map(|process| process["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")).collect()
}

#[test]
fn the_ready_line_comes_when_everything_serves() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "65533", "hello"]);
    assert_eq!(cluster.ok(&["read", "65533", "5"]), b"hello");
    cluster.ok(&["snapshot", "create"]);
    let expected: Vec<&str> = "cluster k n outcome servers snapshotters".split(' ').collect();
    assert_eq!(ready.as_object().expect("an object").keys().collect::<Vec<_>>(), expected);
    assert_eq!((&ready["outcome"], &ready["cluster"]), (&json!("ok"), &json!(cluster.name)), "{ready}");
    assert_eq!((&ready["n"], &ready["k"]), (&json!(2), &json!(65_536)), "{ready}");
    for id in 0..2 {
        let (server, snapshotter) = (&ready["servers"][id as usize], &ready["snapshotters"][id as usize]);
        assert_eq!((&server["id"], &server["address"]), (&json!(id), &json!(cluster.address(id))), "{ready}");
        assert_eq!(snapshotter["address"], json!(cluster.snapshot_address(id)), "{ready}");
    }
    let status: Value = serde_json::from_slice(&cluster.ok(&["status", "--json"])).expect("JSON");
    for role in ["servers", "snapshotters"] {
        assert_eq!(pids(&status, role), pids(&ready, role), "the pids are those that serve");
    }
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));

    let up = Up::spawn(&cluster, &["--quiet"]);
    let line = format!("mcomp up: ready: 2 servers (128 KiB) and 2 snapshot processes of cluster {}\n", cluster.name);
    assert_eq!(up.line(), line);
    fs::write(&up.log, "").expect("what the first one said is forgotten");
    up.signal(Signal::INT);
    let log = up.log.clone();
    assert_eq!(up.ended().code(), Some(0));
    assert_eq!(fs::read_to_string(log).expect("a log"), "", "--quiet says errors only");
}

#[test]
fn ctrl_c_and_sigterm_end_everything_but_the_memory_until_a_purge() {
    let cluster = setup().prepare();
    let folder = cluster.dir.path();
    for (round, signal) in [Signal::INT, Signal::TERM, Signal::INT].into_iter().enumerate() {
        let (up, ready) = Up::start(&cluster);
        assert_eq!(processes(folder).len(), 5, "two servers, two snapshot processes, and their parent");
        if round > 0 {
            assert_eq!(cluster.ok(&["read", "65534", "4"]), b"kept", "after {round} rounds");
        }
        cluster.ok(&["write", "65534", "kept"]);
        up.signal(signal);
        let log = up.log.clone();
        assert_eq!(up.ended().code(), Some(0), "{signal:?}");
        assert_eq!(processes(folder), NOBODY, "{signal:?}: {ready}");
        assert_eq!(segments_of(&cluster), 2, "the memory stays");
        let log = fs::read_to_string(log).expect("a log");
        let name = if signal == Signal::INT { "SIGINT (2)" } else { "SIGTERM (15)" };
        assert!(log.contains(&format!("stopped by {name}")) && log.contains("`mcomp purge --config /"), "{log}");
    }
    let purged: Value = serde_json::from_slice(&cluster.ok(&["purge", "--json"])).expect("JSON");
    let removed = purged["removed"].as_array().expect("a list");
    for (id, segment) in (0..).zip(removed) {
        let path = format!("/dev/shm/mcomp.{}.{id}", cluster.name);
        assert_eq!((&segment["id"], &segment["path"]), (&json!(id), &json!(path)), "{purged}");
        assert!(segment["bytes"].as_u64().expect("a size") > 0, "{purged}");
    }
    assert_eq!((removed.len(), segments_of(&cluster)), (2, 0), "{purged}");
    let metadata: Vec<_> = purged["metadata"].as_array().expect("a list").iter().map(|log| &log["path"]).collect();
    let config = cluster.config();
    assert_eq!(metadata, [0, 1].map(|id| json!(config.metadata_file(id))).iter().collect::<Vec<_>>(), "{purged}");
    assert!((0..2).all(|id| !config.metadata_file(id).exists()));
    let again = cluster.exits(0, &["purge"]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.stdout.is_empty() && said.contains("no segment"), "{again:?}");
    let (up, _) = Up::start(&cluster);
    assert_eq!(cluster.ok(&["read", "65534", "4"]), [0; 4], "a purge is the end of the memory");
    drop(up);
    wait_for_no_process(folder);
}

#[test]
fn children_die_with_a_parent_that_is_killed() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "65534", "kept"]);
    assert_eq!(processes(cluster.dir.path()).len(), 5, "{ready}");
    up.signal(Signal::KILL);
    wait_for_no_process(cluster.dir.path());
    assert_eq!(up.ended().code(), None);
    // Its addresses and its segments are free: the next one finds everything as it was.
    let (up, _) = Up::start(&cluster);
    assert_eq!(cluster.ok(&["read", "65534", "4"]), b"kept");
    up.signal(Signal::INT);
    assert_eq!(up.ended().code(), Some(0));
    assert_eq!(processes(cluster.dir.path()), NOBODY);
}

#[test]
fn a_second_one_is_refused_and_the_first_goes_on() {
    let cluster = setup().prepare();
    let (up, ready) = Up::start(&cluster);
    cluster.ok(&["write", "0", "mine"]);
    for _ in 0..2 {
        let second = cluster.exits(75, &["up", "--json"]);
        let answer: Value = serde_json::from_slice(&second.stdout).expect("JSON");
        assert_eq!((&answer["outcome"], &answer["kind"]), (&json!("fail"), &json!("start")), "{answer}");
        let said = String::from_utf8_lossy(&second.stderr);
        let holder = pids(&ready, "servers").into_iter().any(|pid| said.contains(&pid.to_string()));
        assert!(holder, "who holds the memory is not named: {said}");
        assert!(cluster.exits(75, &["up"]).stdout.is_empty(), "it was never ready");
    }
    assert_eq!(processes(cluster.dir.path()).len(), 5, "the second ones have left somebody");
    let status: Value = serde_json::from_slice(&cluster.ok(&["status", "--json"])).expect("JSON");
    assert_eq!(pids(&status, "servers"), pids(&ready, "servers"));
    assert_eq!(cluster.ok(&["read", "0", "4"]), b"mine");
    cluster.ok(&["snapshot", "create"]);
    up.signal(Signal::TERM);
    assert_eq!(up.ended().code(), Some(0));
}

#[test]
fn the_folder_of_the_data_is_made_and_filled() {
    let cluster = setup().prepare();
    let folder = cluster.dir.path().join("new/data");
    let up = Up::spawn(&cluster, &["--data", folder.to_str().expect("a plain path")]);
    up.line();
    cluster.ok(&["--data", folder.to_str().expect("a plain path"), "snapshot", "create"]);
    assert_eq!(fs::read_dir(folder.join("snapshots")).expect("snapshots").count(), 1);
    up.signal(Signal::TERM);
    assert_eq!(up.ended().code(), Some(0));
}
