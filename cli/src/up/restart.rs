//! One server stopped in good order and started again, while the other children run.
//!
//! Promises
//! - A server is asked to stop only if its successor can be run, and only if it can hear the request: a frozen one
//!   stays as it is. It is never killed: what does not stop keeps its memory and its place.
//! - Whatever else happens meanwhile is told afterwards, in order.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::child::{Child, Role};
use super::control::Restarted;
use super::death::{Death, LaunchError};
use super::program;
use super::refusal::Refusal;
use super::supervisor::{Change, STOP_PATIENCE, State, Supervisor};

impl Supervisor<'_> {
    /// Restarts server `id`, or starts it if it is dead; the new one may take `patience` to become ready. Call it from
    /// the main thread.
    pub(super) fn restart(&mut self, id: u32, patience: Duration) -> Result<Restarted, Refusal> {
        let role = Role::Server(id);
        let (pid, state) = self.last_of(role)?;
        self.check_program()?;
        let since = Instant::now();
        let was = (state != State::Gone).then_some(pid);
        if was.is_some() {
            self.retire(pid)?;
        }
        let pid = self.start_again(role, patience)?;
        Ok(Restarted { id, pid, was, down_ms: since.elapsed().as_millis() as u64 })
    }

    /// The last process that had this role, and how far it has come.
    pub(super) fn last_of(&self, role: Role) -> Result<(u32, State), Refusal> {
        let found = self.children.iter().find(|(child, _)| child.role() == role);
        found.map(|(child, state)| (child.pid(), *state)).ok_or_else(|| {
            let known = self.children.iter().map(|(child, _)| child.role());
            Refusal::NotHere {
                ids: known.filter(|known| known.is_server() == role.is_server()).map(Role::id).collect(),
            }
        })
    }

    /// Fails if there is nothing to start a child with.
    pub(super) fn check_program(&self) -> Result<(), Refusal> {
        let path = &self.launch.program;
        program::check(path).map_err(|source| Refusal::Program { path: path.clone(), source })
    }

    /// Starts a child in place of one that is gone, and waits until it is ready.
    pub(super) fn start_again(&mut self, role: Role, patience: Duration) -> Result<u32, Refusal> {
        let pid = self.spawn_again(role).map_err(Refusal::Launch)?;
        // Of what is gone, nothing is asked any more.
        self.children.retain(|(child, _)| child.role() != role || child.pid() == pid);
        self.ready_lines.retain(|(said_by, _)| *said_by != role);
        self.await_ready(role, pid, patience)?;
        Ok(pid)
    }

    /// Has a child stop, and waits until it is gone.
    fn retire(&mut self, pid: u32) -> Result<(), Refusal> {
        if self.is_frozen(pid) {
            return Err(Refusal::Frozen { pid });
        }
        self.end(pid, Signal::TERM)
    }

    /// Ends a child by a signal, and waits until it is gone.
    pub(super) fn end(&mut self, pid: u32, signal: Signal) -> Result<(), Refusal> {
        self.send(pid, signal);
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.state_of(pid) != Some(State::Gone) {
            self.step(pid, deadline)?.ok_or(Refusal::Stubborn { pid, signal })?;
        }
        Ok(())
    }

    /// Waits until a new child is ready. One that is late is killed: it is not known what it would do.
    fn await_ready(&mut self, role: Role, pid: u32, patience: Duration) -> Result<(), Refusal> {
        let deadline = Instant::now() + patience;
        while self.state_of(pid) == Some(State::Starting) {
            match self.step(pid, deadline)? {
                Some(Some(death)) => return Err(Refusal::Launch(LaunchError::Died(death))),
                Some(None) => {}
                None => {
                    // If the kernel keeps it, there is nothing left to try, and that it is late is said anyway.
                    let _ = self.end(pid, Signal::KILL);
                    return Err(Refusal::Launch(LaunchError::Late { role, pid, after: patience }));
                }
            }
        }
        Ok(())
    }

    /// Whether a signal has stopped a child.
    pub(super) fn is_frozen(&self, pid: u32) -> bool {
        self.child_of(pid).is_some_and(Child::is_frozen)
    }

    /// Sends a signal to a child, unless it is gone.
    pub(super) fn send(&self, pid: u32, signal: Signal) {
        if let Some(child) = self.child_of(pid) {
            child.signal(signal);
        }
    }

    fn child_of(&self, pid: u32) -> Option<&Child> {
        self.children.iter().find(|(child, _)| child.pid() == pid).map(|(child, _)| child)
    }

    /// Takes note of one event, if one comes before `deadline`. The death of `pid` is for the caller; what is about
    /// others is kept for [`Supervisor::next`].
    pub(super) fn step(&mut self, pid: u32, deadline: Instant) -> Result<Option<Option<Death>>, Refusal> {
        let Some(event) = self.events.next_before(deadline) else { return Ok(None) };
        match self.apply(event) {
            Some(Change::Died(death)) if death.pid == pid => return Ok(Some(Some(death))),
            Some(change) => {
                let was_asked = matches!(change, Change::Asked { .. });
                self.pending.push_back(change);
                if was_asked {
                    return Err(Refusal::Asked);
                }
            }
            None => {}
        }
        Ok(Some(None))
    }
}
