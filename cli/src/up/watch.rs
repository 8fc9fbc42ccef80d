//! What a running `mcomp up` does: it tells of deaths, does what it is asked to over its control socket, and waits for
//! its end.

use std::collections::BTreeMap;
use std::time::Duration;

use mcomp_config::Config;

use super::control::{Answer, Condition, Life, Outcome, Request};
use super::death::Death;
use super::refusal::Refusal;
use super::supervisor::{Change, Supervisor};
use super::{Role, again, tell};
use crate::exit::{Exit, Failure, Verdict};
use crate::globals::Globals;

/// The time from the ready line to the end.
pub(super) struct Watch<'a> {
    pub(super) globals: &'a Globals,
    pub(super) config: &'a Config,
    /// Whether somebody can ask for something.
    pub(super) has_desk: bool,
    /// What a process that is started gets to become ready.
    pub(super) patience: Duration,
    /// Servers that do not run here and are not lost.
    pub(super) absent: BTreeMap<u32, Absence>,
}

/// Why a server does not run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// It has handed over to this process.
    Elsewhere(u32),
    /// Somebody had it killed, and may have it started again.
    Killed,
}

impl Watch<'_> {
    /// Waits until a signal comes, which is the good end, or no server is left.
    pub(super) fn run(&mut self, supervisor: &mut Supervisor<'_>) -> Result<i32, Failure> {
        loop {
            match supervisor.next() {
                Change::Asked { signal } => return Ok(signal),
                Change::Died(death) => {
                    tell(&self.obituary(death));
                    self.absent.extend(death.successor.map(|pid| (death.role.id(), Absence::Elsewhere(pid))));
                }
                Change::Called(call) => {
                    let answer = self.answer(supervisor, call.request);
                    call.answer(answer);
                }
            }
            let is_left = !self.absent.is_empty() || supervisor.running().any(|(role, _)| role.is_server());
            if !is_left {
                let again = self.again("up");
                let text = format!("no server is left; their memory stays: start them again with {again}");
                return Err(Failure::new(Exit::UNAVAILABLE, "unavailable", text));
            }
        }
    }

    /// Does what is asked, and says so here too.
    fn answer(&mut self, supervisor: &mut Supervisor<'_>, request: Request) -> Answer {
        let role = request.role();
        match self.obey(supervisor, request) {
            Ok(outcome) => {
                self.note(&outcome);
                Answer::Ok(outcome)
            }
            Err(refusal) => {
                let failure = refusal.failure(role, |subcommand| self.again(subcommand));
                let verdict = Verdict::of(&failure.into());
                tell(&format!("mcomp up: {}", verdict.sentence));
                Answer::fail(verdict.exit, verdict.kind, verdict.sentence)
            }
        }
    }

    fn obey(&mut self, supervisor: &mut Supervisor<'_>, request: Request) -> Result<Outcome, Refusal> {
        let role = request.role();
        let outcome = match request {
            Request::Restart { id } => supervisor.restart(id, self.patience).map(Outcome::Restarted)?,
            Request::Revive(role) => supervisor.revive(role, self.patience).map(Outcome::Is)?,
            Request::Kill(role) => supervisor.kill(self.ours(role)?).map(Outcome::Is)?,
            Request::Freeze(role) => supervisor.freeze(self.ours(role)?).map(Outcome::Is)?,
            Request::Thaw(role) => supervisor.thaw(self.ours(role)?).map(Outcome::Is)?,
        };
        self.count(role, &outcome);
        Ok(outcome)
    }

    /// The same role, unless another process plays it, to which no signal of ours is due.
    fn ours(&self, role: Role) -> Result<Role, Refusal> {
        match (role, self.absent.get(&role.id())) {
            (Role::Server(_), Some(&Absence::Elsewhere(pid))) => Err(Refusal::Elsewhere { pid }),
            _ => Ok(role),
        }
    }

    /// Keeps in mind which servers are not lost, although they do not run here.
    fn count(&mut self, role: Role, outcome: &Outcome) {
        let is_dead = matches!(outcome, Outcome::Is(Condition { state: Life::Dead, .. }));
        match role {
            Role::Server(id) if is_dead => drop(self.absent.insert(id, Absence::Killed)),
            Role::Server(id) => drop(self.absent.remove(&id)),
            Role::Snapshotter(_) => {}
        }
    }

    /// Tells whoever watches what others have asked for.
    fn note(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Restarted(restarted) => self.globals.note(format_args!("mcomp up: {restarted}")),
            Outcome::Is(condition) if condition.changed => {
                let word = condition.role.argument();
                let way_out = match condition.state {
                    Life::Dead => format!("; {} starts it again", self.again(&format!("revive {word}"))),
                    Life::Frozen => format!("; {} lets it go on", self.again(&format!("thaw {word}"))),
                    Life::Running => String::new(),
                };
                self.globals.note(format_args!("mcomp up: {condition} on request{way_out}"));
            }
            Outcome::Is(_) => {}
        }
    }

    fn again(&self, subcommand: &str) -> String {
        again(subcommand, self.globals, self.config)
    }

    /// What happened to a child, what it means, and what to do.
    fn obituary(&self, death: Death) -> String {
        let role = death.role;
        let way_out = match role {
            Role::Server(id) if self.has_desk => format!("up --restart {id}"),
            Role::Snapshotter(_) if self.has_desk => format!("revive {}", role.argument()),
            _ => format!("{} --id {}", role.subcommand(), role.id()),
        };
        let way_out = self.again(&way_out);
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
