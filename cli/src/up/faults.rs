//! Faults on request: one child killed, frozen, thawed or started again, while the other children run.
//!
//! Promises
//! - They are real: SIGKILL, SIGSTOP, SIGCONT, and a new process. When the answer comes, what was asked for is so: who
//!   was killed is reaped, every thread of a frozen one stands still, who was revived is ready.
//! - What is so already is left as it is, and said to be so. What was killed stays dead until somebody asks for it.
//! - A child that is frozen here is thawed when this process stops, and ends in good order.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::child::Role;
use super::control::{Condition, Life};
use super::refusal::Refusal;
use super::supervisor::{Change, STOP_PATIENCE, State, Supervisor};

/// How often it is looked whether all threads stand still. The kernel tells nobody.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Supervisor<'_> {
    /// Kills a child, unless it is dead.
    pub(super) fn kill(&mut self, role: Role) -> Result<Condition, Refusal> {
        let (pid, state) = self.last_of(role)?;
        let changed = state != State::Gone;
        if changed {
            self.end(pid, Signal::KILL)?;
        }
        Ok(Condition { role, pid, state: Life::Dead, changed })
    }

    /// Has a child stand still, unless it does.
    pub(super) fn freeze(&mut self, role: Role) -> Result<Condition, Refusal> {
        let pid = self.living_of(role)?;
        let changed = !self.is_frozen(pid);
        if changed {
            self.send(pid, Signal::STOP);
            // From now on, or a stop in the middle of the wait would not thaw it.
            self.set_state(pid, State::Frozen);
            self.await_stillness(pid)?;
        }
        Ok(Condition { role, pid, state: Life::Frozen, changed })
    }

    /// Lets a child go on that stands still, whoever has stopped it.
    pub(super) fn thaw(&mut self, role: Role) -> Result<Condition, Refusal> {
        let pid = self.living_of(role)?;
        let changed = self.is_frozen(pid);
        self.send(pid, Signal::CONT);
        self.set_state(pid, State::Ready);
        Ok(Condition { role, pid, state: Life::Running, changed })
    }

    /// Starts a child that is dead; it may take `patience` to become ready. Call it from the main thread.
    pub(super) fn revive(&mut self, role: Role, patience: Duration) -> Result<Condition, Refusal> {
        let (pid, state) = self.last_of(role)?;
        if state != State::Gone {
            return match self.is_frozen(pid) {
                true => Err(Refusal::Frozen { pid }),
                false => Ok(Condition { role, pid, state: Life::Running, changed: false }),
            };
        }
        self.check_program()?;
        let pid = self.start_again(role, patience)?;
        Ok(Condition { role, pid, state: Life::Running, changed: true })
    }

    fn living_of(&self, role: Role) -> Result<u32, Refusal> {
        match self.last_of(role)? {
            (_, State::Gone) => Err(Refusal::Dead),
            (pid, _) => Ok(pid),
        }
    }

    /// Waits until all threads of a child stand still. If it dies meanwhile, that is told like any death.
    fn await_stillness(&mut self, pid: u32) -> Result<(), Refusal> {
        let deadline = Instant::now() + STOP_PATIENCE;
        while !self.is_frozen(pid) {
            if let Some(Some(death)) = self.step(pid, Instant::now() + LOOK_EVERY)? {
                self.pending.push_back(Change::Died(death));
                return Err(Refusal::Dead);
            }
            if Instant::now() >= deadline {
                return Err(Refusal::Stubborn { pid, signal: Signal::STOP });
            }
        }
        Ok(())
    }

    fn set_state(&mut self, pid: u32, new: State) {
        if let Some((_, state)) = self.living(pid) {
            *state = new;
        }
    }
}
