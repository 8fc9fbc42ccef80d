//! A server process: started, awaited, ended by its pid.
//!
//! Promises
//! - It stands in a process group of its own: Ctrl-C reaches `mcomp-bench` alone, which then ends it.
//! - It is ended when its [`Process`] is dropped, and dies with `mcomp-bench` even if that is killed.
//!
//! Start processes from the main thread only: the kernel's parent-death signal comes when the thread
//! that made the child ends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use crate::scratch::Scratch;
use crate::socket::{Address, Socket};

/// Enough to populate a large segment on a slow machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at whether it has started or ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What a stopping server may take before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program, without waiting until it serves.
    pub(crate) fn start(scratch: &Scratch, name: &str, program: &Path, args: &[String]) -> anyhow::Result<Process> {
        let log = scratch.path(&format!("{}.log", scratch.unique(name)));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = tethered(program, args)?;
        command.stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Process { child, name: name.to_owned(), log })
    }

    /// Starts a program, and waits for the line on its stdout that says that it is ready.
    pub(crate) fn start_until_ready(
        scratch: &Scratch,
        name: &str,
        program: &Path,
        args: &[String],
    ) -> anyhow::Result<Process> {
        let log = scratch.path(&format!("{}.log", scratch.unique(name)));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = tethered(program, args)?;
        command.stdout(Stdio::piped()).stderr(out);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let process = Process { child, name: name.to_owned(), log };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if !line.contains("ready") {
            bail!("{name} did not start; it said:\n{line}{}", process.said());
        }
        Ok(process)
    }

    /// Runs a program to its end, and gives what it wrote to stdout. An error of `check`, which is asked
    /// all the time, ends it before.
    pub(crate) fn run(
        scratch: &Scratch,
        name: &str,
        program: &Path,
        args: &[String],
        check: impl Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<String> {
        let name = scratch.unique(name);
        let (log, answer) = (scratch.path(&format!("{name}.log")), scratch.path(&format!("{name}.out")));
        let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        let mut command = tethered(program, args)?;
        command.stdout(create(&answer)?).stderr(create(&log)?);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut process = Process { child, name, log };
        let status = loop {
            if let Some(status) = process.child.try_wait()? {
                break status;
            }
            check()?;
            thread::sleep(LOOK_EVERY);
        };
        if !status.success() {
            bail!("`{} {}` failed ({status}); it said:\n{}", program.display(), args.join(" "), process.said());
        }
        std::fs::read_to_string(&answer).with_context(|| format!("cannot read {}", answer.display()))
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it takes connections.
    pub(crate) fn await_connection(&self, address: &Address) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let Err(error) = Socket::connect(address, None) else { return Ok(()) };
            let is_gone = !Path::new(&format!("/proc/{}/exe", self.pid())).exists();
            if is_gone || Instant::now() > deadline {
                bail!("{} does not answer at {address}: {error}; it said:\n{}", self.name, self.said());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What was waited for has no pid any more that a signal could go to.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs `program` so that it dies with this process; see [`tether`].
fn tethered(program: &Path, args: &[String]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this executable")?);
    command.arg("tether").arg(std::process::id().to_string()).arg("--").arg(program).args(args);
    // A variable that is meant for a real cluster must not reach ours.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MCOMP_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).process_group(0);
    Ok(command)
}

/// Becomes `program`, which the kernel then ends together with its parent. The signal survives the
/// change of program, so this works for programs that know nothing of it.
pub(crate) fn tether(parent: u32, program: &Path, args: &[String]) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // A parent that ended before the call above will never be told of.
    let is_parent = getppid().is_some_and(|pid| pid.as_raw_nonzero().get().cast_unsigned() == parent);
    if !is_parent {
        bail!("process {parent} is not the parent of this process, or has ended: nothing was started");
    }
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Where a program is, if it is on the PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
