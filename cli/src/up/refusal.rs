//! Why a request over the control socket was not done, and what whoever asked can do about it.

use std::io;
use std::path::PathBuf;

use rustix::process::Signal;

use super::Role;
use super::death::LaunchError;
use super::supervisor::STOP_PATIENCE;
use crate::exit::{Exit, Failure};

/// Why something was not done to a child.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such child.
    NotHere {
        /// Those that there are.
        ids: Vec<u32>,
    },
    /// There is nothing to start it with. It was left as it was.
    Program {
        /// Where the executable was.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is stopped by a signal, and cannot hear. It was left as it was.
    Frozen {
        /// Its process.
        pid: u32,
    },
    /// It is dead.
    Dead,
    /// Another process, which is not a child, has taken it over.
    Elsewhere {
        /// That one.
        pid: u32,
    },
    /// It has not done in time what a signal asks for, and may do so yet.
    Stubborn {
        /// Its process.
        pid: u32,
        /// Which signal.
        signal: Signal,
    },
    /// There is none any more, and the new one did not become ready.
    Launch(LaunchError),
    /// This process was asked to stop meanwhile.
    Asked,
}

impl Refusal {
    /// The sentence for `role`. `again` makes a command that can be typed from what follows `mcomp`.
    pub(super) fn failure(self, role: Role, again: impl Fn(&str) -> String) -> Failure {
        let word = role.argument();
        match self {
            Refusal::NotHere { ids } => Failure::usage(not_here(role, &ids)),
            Refusal::Program { path, source } => {
                Failure::io(format_args!("start {role} as {}, so it was left as it is", path.display()), &source)
            }
            Refusal::Frozen { pid } => {
                let thaw = again(&format!("thaw {word}"));
                let text = format!("{role} (pid {pid}) is frozen and was left as it is: {thaw} lets it go on");
                Failure::new(Exit::TRY_AGAIN, "busy", text)
            }
            Refusal::Dead => {
                let revive = again(&format!("revive {word}"));
                Failure::new(Exit::UNAVAILABLE, "unavailable", format!("{role} is dead: {revive} starts it again"))
            }
            Refusal::Elsewhere { pid } => {
                let back = again(&format!("revive {word}"));
                let text = format!(
                    "{role} has handed over to process {pid}, which this `mcomp up` has not started and leaves alone: \
                     {back} takes its memory back"
                );
                Failure::new(Exit::UNAVAILABLE, "unavailable", text)
            }
            Refusal::Stubborn { pid, signal } => {
                Failure::new(Exit::TRY_AGAIN, "busy", stubborn(role, pid, signal, again))
            }
            Refusal::Asked => Failure::new(Exit::TRY_AGAIN, "interrupted", "`mcomp up` was asked to stop meanwhile"),
            Refusal::Launch(error) => launch_failure(role, error),
        }
    }
}

fn not_here(role: Role, ids: &[u32]) -> String {
    let kind = if role.is_server() { "servers" } else { "snapshot processes" };
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    match ids.is_empty() {
        true => format!("{role} does not run here: this `mcomp up` has no {kind}"),
        false => format!("{role} does not run here: this `mcomp up` has {kind} {}", ids.join(", ")),
    }
}

fn stubborn(role: Role, pid: u32, signal: Signal, again: impl Fn(&str) -> String) -> String {
    let after = STOP_PATIENCE.as_secs();
    match signal {
        Signal::TERM => {
            let kill = again(&format!("kill {}", role.argument()));
            format!(
                "{role} (pid {pid}) has not stopped within {after} s of being asked, and was not killed: see where it \
                 waits, or end it with {kill} and ask again; its memory stays"
            )
        }
        _ => format!(
            "{role} (pid {pid}) has not obeyed a signal within {after} s: the kernel waits for something on its \
             behalf, such as a disk, and will have it obey after that"
        ),
    }
}

/// Why the new process is not there. The old one is gone.
fn launch_failure(role: Role, error: LaunchError) -> Failure {
    let loss = if role.is_server() { "; the memory stays" } else { "" };
    let child_code = error.exit_code_of_child().filter(|code| *code != 0);
    match error {
        LaunchError::Died(death) => {
            let exit = child_code.map_or(Exit::UNAVAILABLE, Exit::from_code);
            let text = format!("{death} before it was ready; its message, among those of `mcomp up`, says why{loss}");
            Failure::new(exit, "start", text)
        }
        LaunchError::Late { role, pid, after } => {
            let after = after.as_secs();
            let text = format!("{role} (pid {pid}) was not ready within {after} s and was killed{loss}");
            Failure::new(Exit::UNAVAILABLE, "start", text)
        }
        error => error.into(),
    }
}
