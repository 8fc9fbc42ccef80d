//! The processes of a cluster on this machine, as children: start, wait until they are ready, watch,
//! stop.
//!
//! Promises
//! - All or nothing: if one child does not become ready, none of them is left.
//! - Whatever way a [`Supervisor`] is dropped, panics included, its children are gone.
//! - Servers start before the snapshot processes that map their memory, and stop after them.
//!
//! Leaves out restarting what died by itself. A server that died keeps its memory, and why it died is for a
//! person to see first, who can have it started again (`restart.rs`, `faults.rs`).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::child::{Child, Messages, Role};
use super::control::Call;
use super::death::{Death, LaunchError};
use super::events::{Event, Events};

/// What snapshot processes get to stop, and what servers get after them, before they are killed.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How the children are started.
#[derive(Debug)]
pub(crate) struct Launch {
    /// This executable.
    pub(crate) program: PathBuf,
    /// What follows the subcommand and the id: the flags that all children share.
    pub(crate) flags: Vec<OsString>,
    /// Variables of the environment that are not for the children.
    pub(crate) hidden_variables: Vec<OsString>,
    /// What becomes of their stderr.
    pub(crate) messages: Messages,
}

impl Launch {
    /// A child of the first start. A server that finds another one in its place is refused: it is that of another
    /// `mcomp up`, or somebody's own.
    fn first_command(&self, role: Role) -> Command {
        let mut command = self.command(role);
        if role.is_server() {
            command.arg("--no-takeover");
        }
        command
    }

    fn command(&self, role: Role) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(role.subcommand()).args(["--id", &role.id().to_string()]).args(&self.flags);
        command.args(["--die-with", &std::process::id().to_string()]);
        for name in &self.hidden_variables {
            command.env_remove(name);
        }
        command
    }
}

/// The children of this process.
///
/// - `Gone` is the last state of a child: it is dead and reaped then.
/// - A role has at most one child that is not `Gone`.
/// - A child is here from its start on, so that nothing runs that is not stopped.
#[derive(Debug)]
pub(crate) struct Supervisor<'e> {
    pub(super) events: &'e Events,
    pub(super) launch: Launch,
    pub(super) children: Vec<(Child, State)>,
    /// What children said when they were ready.
    pub(super) ready_lines: Vec<(Role, String)>,
    /// What happened during a restart and is still to be acted on.
    pub(super) pending: VecDeque<Change>,
    /// Those that had to be killed, with their process ids.
    killed: Vec<(Role, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Ready,
    /// Stopped by a signal of ours (`faults.rs`).
    Frozen,
    Gone,
}

/// What a watching parent acts on.
#[derive(Debug)]
pub(crate) enum Change {
    /// A child is gone.
    Died(Death),
    /// This process was asked to stop.
    Asked {
        /// By which signal.
        signal: i32,
    },
    /// Somebody asks for something over the control socket, and waits.
    Called(Call),
}

impl<'e> Supervisor<'e> {
    /// Without children yet.
    pub(crate) fn new(events: &'e Events, launch: Launch) -> Supervisor<'e> {
        Supervisor {
            events,
            launch,
            children: Vec::new(),
            ready_lines: Vec::new(),
            pending: VecDeque::new(),
            killed: Vec::new(),
        }
    }

    /// Starts `roles`, servers first, and waits until they are ready. Call it from the main thread.
    pub(crate) fn start(&mut self, roles: &[Role], patience: Duration) -> Result<(), LaunchError> {
        let (servers, snapshotters): (Vec<Role>, Vec<Role>) = roles.iter().partition(|role| role.is_server());
        let started = [servers, snapshotters].iter().try_for_each(|roles| {
            roles.iter().try_for_each(|role| self.spawn(*role))?;
            self.wait_ready(patience)
        });
        // Told to stop, not killed: a server in good order marks its memory as clean.
        started.inspect_err(|_| self.stop())
    }

    /// What runs, with process ids.
    pub(crate) fn running(&self) -> impl Iterator<Item = (Role, u32)> {
        let running = self.children.iter().filter(|(_, state)| *state != State::Gone);
        running.map(|(child, _)| (child.role(), child.pid()))
    }

    /// What a child said when it was ready, if it was.
    pub(crate) fn ready_line(&self, role: Role) -> Option<&str> {
        self.ready_lines.iter().find(|(said_by, _)| *said_by == role).map(|(_, line)| line.as_str())
    }

    /// Those that [`Supervisor::stop`] had to kill, with their process ids.
    pub(crate) fn killed(&self) -> &[(Role, u32)] {
        &self.killed
    }

    /// Waits for something to act on.
    pub(crate) fn next(&mut self) -> Change {
        if let Some(change) = self.pending.pop_front() {
            return change;
        }
        loop {
            let event = self.events.next();
            if let Some(change) = self.apply(event) {
                return change;
            }
        }
    }

    /// Waits for something to act on until `deadline`.
    pub(crate) fn next_before(&mut self, deadline: Instant) -> Option<Change> {
        if let Some(change) = self.pending.pop_front() {
            return Some(change);
        }
        loop {
            let event = self.events.next_before(deadline)?;
            if let Some(change) = self.apply(event) {
                return Some(change);
            }
        }
    }

    /// Asks all children to stop, snapshot processes first, and kills those that do not, at once if
    /// this process is asked to stop meanwhile. After it no child is left.
    pub(crate) fn stop(&mut self) {
        for is_server in [false, true] {
            self.signal(is_server, Signal::TERM);
            self.thaw_all(is_server);
            if !self.wait_gone(is_server) {
                let left = self.running().filter(|(role, _)| role.is_server() == is_server);
                let left: Vec<(Role, u32)> = left.collect();
                self.killed.extend(left);
                self.signal(is_server, Signal::KILL);
                self.wait_killed(is_server);
            }
        }
    }

    fn spawn(&mut self, role: Role) -> Result<(), LaunchError> {
        self.spawn_as(role, self.launch.first_command(role)).map(drop)
    }

    /// Starts a child in place of one that is gone. A server takes over from whoever has its place now.
    pub(super) fn spawn_again(&mut self, role: Role) -> Result<u32, LaunchError> {
        self.spawn_as(role, self.launch.command(role))
    }

    fn spawn_as(&mut self, role: Role, command: Command) -> Result<u32, LaunchError> {
        let child = Child::spawn(role, command, self.launch.messages.clone(), self.events.sender());
        let program = || self.launch.program.clone();
        let child = child.map_err(|source| LaunchError::Spawn { role, program: program(), source })?;
        let pid = child.pid();
        self.children.push((child, State::Starting));
        Ok(pid)
    }

    /// How far a child has come.
    pub(super) fn state_of(&self, pid: u32) -> Option<State> {
        self.children.iter().find(|(child, _)| child.pid() == pid).map(|(_, state)| *state)
    }

    fn wait_ready(&mut self, patience: Duration) -> Result<(), LaunchError> {
        let deadline = Instant::now() + patience;
        while let Some((child, _)) = self.children.iter().find(|(_, state)| *state == State::Starting) {
            let late = LaunchError::Late { role: child.role(), pid: child.pid(), after: patience };
            let event = self.events.next_before(deadline).ok_or(late)?;
            match self.apply(event) {
                Some(Change::Died(death)) => return Err(LaunchError::Died(death)),
                Some(Change::Asked { signal }) => return Err(LaunchError::Asked { signal }),
                Some(Change::Called(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Takes note of an event. Those of children that are not ours, of an earlier supervisor, are
    /// nothing to act on.
    pub(super) fn apply(&mut self, event: Event) -> Option<Change> {
        match event {
            Event::Called(call) => Some(Change::Called(call)),
            Event::Asked { signal } => Some(Change::Asked { signal }),
            Event::Ready { pid, line } => {
                let (child, state) = self.living(pid)?;
                *state = State::Ready;
                let role = child.role();
                self.ready_lines.push((role, line));
                None
            }
            Event::Exited { pid, status, successor } => {
                let (child, state) = self.living(pid)?;
                *state = State::Gone;
                Some(Change::Died(Death { role: child.role(), pid, status, successor }))
            }
        }
    }

    pub(super) fn living(&mut self, pid: u32) -> Option<&mut (Child, State)> {
        self.children.iter_mut().find(|(child, state)| child.pid() == pid && *state != State::Gone)
    }

    fn signal(&self, is_server: bool, signal: Signal) {
        let meant = self.children.iter().filter(|(child, _)| child.role().is_server() == is_server);
        meant.for_each(|(child, _)| child.signal(signal));
    }

    /// Lets those go on that were frozen here, so that they hear the request to stop. Whom somebody else has stopped
    /// is left to him until the patience is over.
    fn thaw_all(&self, is_server: bool) {
        let frozen = self.children.iter().filter(|(_, state)| *state == State::Frozen).map(|(child, _)| child);
        frozen.filter(|child| child.role().is_server() == is_server).for_each(|child| child.signal(Signal::CONT));
    }

    fn is_left(&self, is_server: bool) -> bool {
        self.running().any(|(role, _)| role.is_server() == is_server)
    }

    /// Whether they went within the patience that is due to them.
    fn wait_gone(&mut self, is_server: bool) -> bool {
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.is_left(is_server) {
            match self.next_before(deadline) {
                // Who calls now is told that this process is stopping.
                Some(Change::Died(_) | Change::Called(_)) => {}
                Some(Change::Asked { .. }) | None => return false,
            }
        }
        true
    }

    /// Waits for what was killed, which the kernel does not put off for long.
    fn wait_killed(&mut self, is_server: bool) {
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.is_left(is_server) && self.next_before(deadline).is_some() {}
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        for is_server in [false, true] {
            self.signal(is_server, Signal::KILL);
            self.wait_killed(is_server);
        }
    }
}

#[cfg(test)]
mod tests;
