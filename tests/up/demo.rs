//! The demo, alone, twice at once, and interrupted: it proves what it tells, and leaves no process, no
//! segment and no file.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{NOBODY, processes, segments, signal_pid, wait_for_no_process};
use crate::harness::{PATIENCE, lines_of, mcomp, wait_until};

/// The steps of the story.
const STEPS: [&str; 8] = ["start", "store", "read", "snapshot", "stop", "restore", "compare", "clean up"];

/// A demo with a temporary folder of its own. It is killed when it is dropped, and what it may leave
/// then is removed.
#[derive(Debug)]
struct Demo {
    child: Child,
    lines: Receiver<String>,
    /// Taken when another demo is to find what this one has left.
    dir: Option<TempDir>,
}

impl Demo {
    fn start(flags: &[&str]) -> Demo {
        Demo::start_in(tempfile::Builder::new().prefix("mcomp-test-").tempdir().expect("a scratch folder"), flags)
    }

    fn start_in(dir: TempDir, flags: &[&str]) -> Demo {
        let mut command = mcomp(&[&["demo"], flags].concat());
        // What is set for a real cluster is not looked at.
        command.env("TMPDIR", dir.path()).env("MCOMP_CONFIG", "/no/such/mcomp.cfg").env("MCOMP_CLUSTER_K", "nonsense");
        command.current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the demo starts");
        let lines = lines_of(child.stdout.take().expect("piped"));
        Demo { child, lines, dir: Some(dir) }
    }

    /// The next line of stdout.
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the demo goes on")
    }

    /// Its temporary folder.
    fn dir(&self) -> &Path {
        self.dir.as_ref().expect("it has not been taken").path()
    }

    /// What its segments are called.
    fn segments_prefix(&self) -> String {
        format!("mcomp.demo-{}-", self.child.id())
    }

    /// Waits until it has ended.
    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the demo ends", || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("that was waited for")
    }

    /// What it has said on stderr, once it has ended.
    fn said(&mut self) -> String {
        let stderr = self.child.stderr.take().expect("piped");
        std::io::read_to_string(stderr).expect("messages are UTF-8")
    }

    fn has_left_nothing(&self) {
        assert_eq!(processes(self.dir()), NOBODY, "processes");
        assert!(segments(&self.segments_prefix()).is_empty(), "segments");
        assert_eq!(fs::read_dir(self.dir()).expect("the scratch folder").count(), 0, "files");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        segments(&self.segments_prefix()).iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

#[test]
fn two_at_once_tell_the_whole_story_and_leave_nothing() {
    let [mut people, mut machines] = [Demo::start(&[]), Demo::start(&["--json"])];
    for (number, step) in (1..).zip(STEPS) {
        let head = format!("✓ {number} {step}");
        // Details of the step before begin with blanks.
        let line = (0..20).map(|_| people.line()).find(|line| !line.starts_with(' ')).expect("a step");
        assert!(line.starts_with(&head), "{line} is not {head}");
    }
    let told: Value = serde_json::from_str(&machines.line()).expect("JSON");
    let names: Vec<&str> =
        told["steps"].as_array().expect("steps").iter().flat_map(|step| step["name"].as_str()).collect();
    assert_eq!((&told["outcome"], names), (&json!("ok"), STEPS.to_vec()), "{told}");
    for demo in [&mut people, &mut machines] {
        assert_eq!((demo.wait().code(), demo.said()), (Some(0), String::new()), "no messages");
    }
    let last = people.lines.iter().last().expect("a last line");
    assert!(last.starts_with("everything was as claimed"), "{last}");
    assert_eq!(machines.lines.iter().count(), 0, "one JSON object and nothing else");
    people.has_left_nothing();
    machines.has_left_nothing();
}

/// Waits until the demo has told `steps` of its steps; before the first, until a process runs.
fn wait_for_steps(demo: &Demo, steps: usize) {
    if steps == 0 {
        wait_until("a server is being started", || !processes(demo.dir()).is_empty());
    }
    (0..steps).for_each(|_| while !demo.line().starts_with('✓') {});
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    for (steps, signal) in
        [(0, Signal::INT), (1, Signal::TERM), (2, Signal::HUP), (3, Signal::INT), (4, Signal::INT), (5, Signal::INT)]
    {
        let mut demo = Demo::start(&[]);
        wait_for_steps(&demo, steps);
        signal_pid(demo.child.id(), signal);
        let status = demo.wait();
        let said = demo.said();
        assert_eq!(status.signal(), Some(signal.as_raw()), "after {steps} steps: {status} {said}");
        assert!(said.starts_with("mcomp demo: stopped by SIG") && said.ends_with("was removed\n"), "{said}");
        demo.has_left_nothing();
    }
}

#[test]
fn a_demo_that_is_killed_takes_its_processes_along_and_the_next_one_removes_the_rest() {
    let mut demo = Demo::start(&[]);
    wait_for_steps(&demo, 1);
    assert!(!processes(demo.dir()).is_empty(), "the processes are seen while they run");
    assert_eq!(segments(&demo.segments_prefix()).len(), 3, "the segments are seen while they are there");
    signal_pid(demo.child.id(), Signal::KILL);
    assert_eq!(demo.wait().signal(), Some(9));
    wait_for_no_process(demo.dir());
    let dir = demo.dir.take().expect("the first one had it");
    assert_eq!(fs::read_dir(dir.path()).expect("the scratch folder").count(), 1, "its folder is left");
    let mut next = Demo::start_in(dir, &[]);
    assert_eq!((next.wait().code(), next.said()), (Some(0), String::new()), "no messages");
    next.has_left_nothing();
    assert!(segments(&demo.segments_prefix()).is_empty(), "the memory of the killed one is left");
}
