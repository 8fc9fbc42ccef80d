//! One server stopped in good order and started again, while the other children run.
//!
//! Promises
//! - A server is asked to stop only if its successor can be run, and only if it can hear the request: a frozen one
//!   stays as it is. It is never killed: what does not stop keeps its memory and its place.
//! - Whatever else happens meanwhile is told afterwards, in order.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::child::Role;
use super::control::Restarted;
use super::death::{Death, LaunchError};
use super::program;
use super::supervisor::{Change, STOP_PATIENCE, State, Supervisor};

/// Why a server was not restarted.
#[derive(Debug)]
pub(super) enum RestartError {
    /// There is no such server here.
    NotHere {
        /// Those that there are.
        ids: Vec<u32>,
    },
    /// There is nothing to start it with. It was not stopped.
    Program {
        /// Where the executable was.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is stopped by a signal, and cannot hear. It was not asked.
    Frozen {
        /// Its process.
        pid: u32,
    },
    /// It did not stop in time, and may do so yet.
    Stubborn {
        /// Its process.
        pid: u32,
    },
    /// It has stopped, and the new one did not become ready.
    Launch(LaunchError),
    /// This process was asked to stop meanwhile.
    Asked,
}

impl Supervisor<'_> {
    /// Restarts server `id`, or starts it if it is dead; the new one may take `patience` to become ready. Call it from
    /// the main thread.
    pub(super) fn restart(&mut self, id: u32, patience: Duration) -> Result<Restarted, RestartError> {
        let role = Role::Server(id);
        let known = self.children.iter().map(|(child, _)| child.role());
        if !known.clone().any(|known| known == role) {
            return Err(RestartError::NotHere { ids: known.filter(|role| role.is_server()).map(Role::id).collect() });
        }
        let path = &self.launch.program;
        program::check(path).map_err(|source| RestartError::Program { path: path.clone(), source })?;
        let since = Instant::now();
        let was = self.running().find(|(running, _)| *running == role).map(|(_, pid)| pid);
        if let Some(pid) = was {
            self.retire(role, pid)?;
        }
        // Of what is gone, nothing is asked any more.
        self.children.retain(|(child, _)| child.role() != role);
        self.ready_lines.retain(|(said_by, _)| *said_by != role);
        let pid = self.spawn_again(role).map_err(RestartError::Launch)?;
        self.await_ready(role, pid, patience)?;
        Ok(Restarted { id, pid, was, down_ms: since.elapsed().as_millis() as u64 })
    }

    /// Has a child stop, and waits until it is gone.
    fn retire(&mut self, role: Role, pid: u32) -> Result<(), RestartError> {
        if is_frozen(pid) {
            return Err(RestartError::Frozen { pid });
        }
        let (child, _) = self.children.iter().find(|(child, _)| child.role() == role).expect("it runs");
        child.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.state_of(pid) != Some(State::Gone) {
            self.step(pid, deadline)?.ok_or(RestartError::Stubborn { pid })?;
        }
        Ok(())
    }

    /// Waits until a new child is ready. One that is late is killed: it is not known what it would do.
    fn await_ready(&mut self, role: Role, pid: u32, patience: Duration) -> Result<(), RestartError> {
        let deadline = Instant::now() + patience;
        while self.state_of(pid) == Some(State::Starting) {
            match self.step(pid, deadline)? {
                Some(Some(death)) => return Err(RestartError::Launch(LaunchError::Died(death))),
                Some(None) => {}
                None => {
                    self.kill(pid);
                    return Err(RestartError::Launch(LaunchError::Late { role, pid, after: patience }));
                }
            }
        }
        Ok(())
    }

    fn kill(&mut self, pid: u32) {
        if let Some((child, _)) = self.children.iter().find(|(child, _)| child.pid() == pid) {
            child.signal(Signal::KILL);
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.state_of(pid) != Some(State::Gone) && matches!(self.step(pid, deadline), Ok(Some(_))) {}
    }

    /// Takes note of one event, if one comes before `deadline`. The death of `pid` is for the caller; what is about
    /// others is kept for [`Supervisor::next`].
    fn step(&mut self, pid: u32, deadline: Instant) -> Result<Option<Option<Death>>, RestartError> {
        let Some(event) = self.events.next_before(deadline) else { return Ok(None) };
        match self.apply(event) {
            Some(Change::Died(death)) if death.pid == pid => return Ok(Some(Some(death))),
            Some(change) => {
                let was_asked = matches!(change, Change::Asked { .. });
                self.pending.push_back(change);
                if was_asked {
                    return Err(RestartError::Asked);
                }
            }
            None => {}
        }
        Ok(Some(None))
    }
}

/// Whether a signal has stopped a process, so that it hears no other.
fn is_frozen(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may have blanks, and ends with the last bracket.
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}
