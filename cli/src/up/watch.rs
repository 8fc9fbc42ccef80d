//! What a running `mcomp up` does: it tells of deaths, restarts what it is asked to, and waits for its end.

use std::collections::BTreeSet;
use std::time::Duration;

use mcomp_config::Config;

use super::control::{Answer, Request};
use super::death::{Death, LaunchError};
use super::restart::RestartError;
use super::supervisor::{Change, Supervisor};
use super::{Role, again, tell};
use crate::exit::{Exit, Failure, Verdict};
use crate::globals::Globals;

/// The time from the ready line to the end.
pub(super) struct Watch<'a> {
    pub(super) globals: &'a Globals,
    pub(super) config: &'a Config,
    /// Whether somebody can ask for a restart.
    pub(super) has_desk: bool,
    /// What a server that is started gets to become ready.
    pub(super) patience: Duration,
}

impl Watch<'_> {
    /// Waits until a signal comes, which is the good end, or no server is left.
    pub(super) fn run(&self, supervisor: &mut Supervisor<'_>) -> Result<i32, Failure> {
        // Servers that another process runs now.
        let mut elsewhere = BTreeSet::new();
        loop {
            match supervisor.next() {
                Change::Asked { signal } => return Ok(signal),
                Change::Died(death) => {
                    tell(&self.obituary(death));
                    elsewhere.extend(death.successor.map(|_| death.role.id()));
                }
                Change::Called(call) => {
                    let Request::Restart { id } = call.request;
                    elsewhere.remove(&id);
                    let answer = self.restart(supervisor, id);
                    call.answer(answer);
                }
            }
            let is_left = !elsewhere.is_empty() || supervisor.running().any(|(role, _)| role.is_server());
            if !is_left {
                let again = again("up", self.globals, self.config);
                let text = format!("no server is left; their memory stays: start them again with {again}");
                return Err(Failure::new(Exit::UNAVAILABLE, "unavailable", text));
            }
        }
    }

    fn restart(&self, supervisor: &mut Supervisor<'_>, id: u32) -> Answer {
        match supervisor.restart(id, self.patience) {
            Ok(restarted) => {
                self.globals.note(format_args!("mcomp up: {restarted}"));
                Answer::Ok(restarted)
            }
            Err(error) => {
                let verdict = Verdict::of(&self.failure(id, error).into());
                tell(&format!("mcomp up: {}", verdict.sentence));
                Answer::fail(verdict.exit, verdict.kind, verdict.sentence)
            }
        }
    }

    /// Why a server was not restarted, and what to do.
    fn failure(&self, id: u32, error: RestartError) -> Failure {
        match error {
            RestartError::NotHere { ids } => {
                let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
                Failure::usage(format!("server {id} does not run here: this `mcomp up` has servers {}", ids.join(", ")))
            }
            RestartError::Program { path, source } => {
                Failure::io(format_args!("start server {id} as {}, so it was not stopped", path.display()), &source)
            }
            RestartError::Frozen { pid } => {
                let text = format!(
                    "server {id} (pid {pid}) is frozen by a signal and was left as it is: `kill -CONT {pid}` lets it \
                     go on, then ask again"
                );
                Failure::new(Exit::TRY_AGAIN, "busy", text)
            }
            RestartError::Stubborn { pid } => {
                let text = format!(
                    "server {id} (pid {pid}) has not stopped within {} s of being asked, and was not killed: see \
                     where it waits, or end it with `kill -9 {pid}` and ask again; its memory stays",
                    super::STOP_PATIENCE.as_secs()
                );
                Failure::new(Exit::TRY_AGAIN, "busy", text)
            }
            RestartError::Asked => {
                Failure::new(Exit::TRY_AGAIN, "interrupted", "`mcomp up` was asked to stop meanwhile")
            }
            RestartError::Launch(error) => launch_failure(error),
        }
    }

    /// What happened to a child, what it means, and what to do.
    fn obituary(&self, death: Death) -> String {
        let role = death.role;
        let way_out = match role {
            Role::Server(id) if self.has_desk => format!("up --restart {id}"),
            _ => format!("{} --id {}", role.subcommand(), role.id()),
        };
        let way_out = again(&way_out, self.globals, self.config);
        if death.successor.is_some() {
            return format!("mcomp up: {death}, which serves its memory now; take it back with {way_out}");
        }
        let loss = match role.is_server() {
            true => "its memory stays on this machine, and cannot be reached until it runs again",
            false => "until it runs again no snapshot can be made",
        };
        format!("mcomp up: {death}; {loss}; start it again with {way_out}")
    }
}

/// Why the new server is not there. The old one is gone.
fn launch_failure(error: LaunchError) -> Failure {
    let child_code = error.exit_code_of_child().filter(|code| *code != 0);
    match error {
        LaunchError::Died(death) => {
            let exit = child_code.map_or(Exit::UNAVAILABLE, Exit::from_code);
            let text = format!("{death} before it was ready; its message, among those of `mcomp up`, says why");
            Failure::new(exit, "start", format!("{text}; the memory stays"))
        }
        LaunchError::Late { role, pid, after } => {
            let after = after.as_secs();
            let text = format!("{role} (pid {pid}) was not ready within {after} s and was killed; its memory stays");
            Failure::new(Exit::UNAVAILABLE, "start", text)
        }
        error => error.into(),
    }
}
