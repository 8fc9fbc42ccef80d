//! One child process: this executable as a memory server or as a snapshot process.
//!
//! Promises
//! - It dies with this process, however this process dies, and stands in a process group of its own:
//!   Ctrl-C in a terminal reaches the parent alone, which then stops its children in order.
//! - A signal never reaches a stranger that got the process id of a child that is gone: the id is
//!   given up and used under one lock.
//!
//! Start children from the main thread only. The kernel's parent-death signal comes when the thread
//! that made the child ends.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{self, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde::{Deserialize, Serialize};

use super::events::Event;
use crate::commands::server::HANDED_OVER;

/// The most lines of a child's stderr that are kept for later.
const KEPT_LINES_MAX: usize = 200;

/// What is read of a line at once.
const LINE_BYTES_MAX: u64 = 4096;

/// What a child is. In JSON it is two fields, as in `"role":"server","id":1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", content = "id", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Role {
    /// The memory server of this id.
    Server(u32),
    /// The snapshot process of this id.
    Snapshotter(u32),
}

impl Role {
    /// The subcommand that plays it.
    pub(crate) fn subcommand(self) -> &'static str {
        match self {
            Role::Server(_) => "server",
            Role::Snapshotter(_) => "snapshotter",
        }
    }

    /// Position in mcomp.cfg.
    pub(crate) fn id(self) -> u32 {
        match self {
            Role::Server(id) | Role::Snapshotter(id) => id,
        }
    }

    /// How it is named to the commands that take a process.
    pub(crate) fn argument(self) -> String {
        match self {
            Role::Server(id) => id.to_string(),
            Role::Snapshotter(id) => format!("{id} --snapshotter"),
        }
    }

    /// Whether it holds memory.
    pub(crate) fn is_server(self) -> bool {
        matches!(self, Role::Server(_))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subcommand(), self.id())
    }
}

/// What becomes of the lines that a child writes to stderr.
#[derive(Clone, Debug)]
pub(crate) enum Messages {
    /// They are passed on as they come, with the child's name before each.
    Shown,
    /// They are kept until somebody asks, the newest of them.
    Kept(Arc<Mutex<Vec<String>>>),
}

impl Messages {
    fn take(&self, role: Role, line: &[u8]) {
        let line = format!("[{role}] {}", String::from_utf8_lossy(line));
        match self {
            // A stderr that is gone is no reason to stop.
            Messages::Shown => drop(writeln!(io::stderr().lock(), "{line}")),
            Messages::Kept(lines) => {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == KEPT_LINES_MAX {
                    lines.remove(0);
                }
                lines.push(line);
            }
        }
    }
}

/// A child process. Whoever drops it has seen to its end.
#[derive(Debug)]
pub(crate) struct Child {
    role: Role,
    pid: u32,
    process: Process,
}

/// The process until it is reaped. The lock guards its id: it is reaped under the lock, and signals
/// are sent under it, so the id is a living or a dead child's and never a stranger's. Nothing else is
/// locked under it, and nobody waits under it.
type Process = Arc<Mutex<Option<process::Child>>>;

impl Child {
    /// Starts `command` as `role`. Its first line on stdout and its end become events.
    pub(crate) fn spawn(
        role: Role,
        mut command: Command,
        messages: Messages,
        events: Sender<Event>,
    ) -> io::Result<Child> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut process = command.spawn()?;
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let stderr = process.stderr.take().expect("stderr is a pipe");
        let pid = process.id();
        let process: Process = Arc::new(Mutex::new(Some(process)));
        let child = Child { role, pid, process: Arc::clone(&process) };
        let watch = move || {
            let reader = thread::Builder::new()
                .name(format!("stderr of {role}"))
                .spawn(move || pass_on(stderr, role, &messages));
            let successor = follow(stdout, pid, &events);
            // The last words are heard before the end is told.
            let _ = reader.map(thread::JoinHandle::join);
            let _ = events.send(Event::Exited { pid, status: reap(pid, &process), successor });
        };
        let watcher = thread::Builder::new().name(format!("watch {role}")).spawn(watch);
        watcher.inspect_err(|_| child.signal(Signal::KILL))?;
        Ok(child)
    }

    /// What it is.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Its process id, which may be given up already.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether a signal has stopped all its threads, so that it hears no other.
    pub(crate) fn is_frozen(&self) -> bool {
        let Ok(mut threads) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return false };
        threads.all(|thread| {
            let stat = thread.and_then(|thread| fs::read_to_string(thread.path().join("stat"))).unwrap_or_default();
            // The name before the state may have blanks, and ends with the last bracket.
            let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
            matches!(state, Some('T' | 't'))
        })
    }

    /// Sends a signal, unless the process is gone.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if process.is_some() {
            // The only error left is that it is a zombie, which needs no signal.
            let _ = kill_process(pid_of(self.pid), signal);
        }
    }
}

/// Reports the first line, and reads on so that the child never waits for a full pipe. The process to which a server
/// has handed over, if it says so.
fn follow(stdout: ChildStdout, pid: u32, events: &Sender<Event>) -> Option<u32> {
    let mut stdout = BufReader::new(stdout);
    let mut next_line = || {
        let mut line = Vec::new();
        let length = stdout.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).unwrap_or(0);
        (length > 0).then(|| String::from_utf8_lossy(&line).into_owned())
    };
    if let Some(line) = next_line() {
        let _ = events.send(Event::Ready { pid, line });
    }
    let mut successor = None;
    while let Some(line) = next_line() {
        successor = line.trim_end().split_once(HANDED_OVER).and_then(|(_, pid)| pid.parse().ok()).or(successor);
    }
    successor
}

fn pass_on(stderr: ChildStderr, role: Role, messages: &Messages) {
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { return };
        messages.take(role, &line);
    }
}

/// Waits until the process is dead, and only then takes the lock to give its id up.
fn reap(pid: u32, process: &Process) -> ExitStatus {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(waitid(WaitId::Pid(pid_of(pid)), options), Err(Errno::INTR)) {}
    let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
    let mut dead = process.take().expect("a child is reaped once");
    // Under a parent that ignores SIGCHLD the kernel has thrown the status away.
    dead.wait().unwrap_or_default()
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid as i32).expect("a child's process id is not zero")
}
