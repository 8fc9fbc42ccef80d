//! Why children are not running: how one ended, and why not all of them started.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::child::Role;
use crate::exit::{Exit, Failure};

/// The end of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    /// What it was.
    pub(crate) role: Role,
    /// What its process id was.
    pub(crate) pid: u32,
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// The process to which it has handed over, if it did.
    pub(crate) successor: Option<u32>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Death { role, pid, status, successor } = self;
        if let Some(successor) = successor {
            return write!(f, "{role} (pid {pid}) has handed over to process {successor}");
        }
        match (status.code(), status.signal()) {
            (Some(code), _) => write!(f, "{role} (pid {pid}) ended with exit code {code}"),
            (None, Some(signal)) => write!(f, "{role} (pid {pid}) was killed by {}", signal_name(signal)),
            (None, None) => write!(f, "{role} (pid {pid}) ended: {status}"),
        }
    }
}

/// The name and the number of a signal.
pub(crate) fn signal_name(signal: i32) -> String {
    match signal_hook::low_level::signal_name(signal) {
        Some(name) => format!("{name} ({signal})"),
        None => format!("signal {signal}"),
    }
}

/// Why the children are not all running. None of them is.
#[derive(Debug)]
pub(crate) enum LaunchError {
    /// The executable cannot be run.
    Spawn {
        /// What it would have been.
        role: Role,
        /// This executable.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A child ended before all were ready. Its own message says why.
    Died(Death),
    /// A child did not become ready in time.
    Late {
        /// What it is.
        role: Role,
        /// What its process id was.
        pid: u32,
        /// How long it was waited for.
        after: Duration,
    },
    /// This process was asked to stop meanwhile.
    Asked {
        /// By which signal.
        signal: i32,
    },
}

impl LaunchError {
    /// The exit code that the child chose for its own failure.
    pub(crate) fn exit_code_of_child(&self) -> Option<u8> {
        match self {
            LaunchError::Died(death) => death.status.code().and_then(|code| u8::try_from(code).ok()),
            _ => None,
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Failure {
        let child_code = error.exit_code_of_child();
        match error {
            LaunchError::Spawn { role, program, source } => {
                Failure::io(format_args!("start {role} as {}", program.display()), &source)
            }
            LaunchError::Died(death) => {
                // A child that ends with 0 before it is ready was told to by somebody else.
                let exit = child_code.filter(|code| *code != 0).map_or(Exit::UNAVAILABLE, Exit::from_code);
                let text = format!("{death} before it was ready, so everything was stopped; its own message says why");
                Failure::new(exit, "start", text)
            }
            LaunchError::Late { role, pid, after } => {
                let text = format!(
                    "{role} (pid {pid}) was not ready within {} s, so everything was stopped: \
                     run `mcomp {} --id {} -vv` to see where it waits",
                    after.as_secs(),
                    role.subcommand(),
                    role.id()
                );
                Failure::new(Exit::UNAVAILABLE, "start", text)
            }
            LaunchError::Asked { signal } => {
                Failure::new(Exit::TRY_AGAIN, "interrupted", format!("stopped by {}", signal_name(signal)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn died(wait_status: i32) -> LaunchError {
        let status = ExitStatus::from_raw(wait_status);
        LaunchError::Died(Death { role: Role::Server(1), pid: 7, status, successor: None })
    }

    fn exit_of(error: LaunchError) -> u8 {
        crate::exit::Verdict::of(&Failure::from(error).into()).exit.code()
    }

    #[test]
    fn the_code_of_a_child_that_failed_becomes_ours() {
        assert_eq!(exit_of(died(78 << 8)), 78);
        assert_eq!(exit_of(died(0)), 69);
        assert_eq!(exit_of(died(9)), 69);
    }

    #[test]
    fn a_death_says_who_and_how() {
        let LaunchError::Died(death) = died(9) else { unreachable!("that is what it makes") };
        assert_eq!(death.to_string(), "server 1 (pid 7) was killed by SIGKILL (9)");
        let death = Death { status: ExitStatus::from_raw(73 << 8), ..death };
        assert_eq!(death.to_string(), "server 1 (pid 7) ended with exit code 73");
        let death = Death { status: ExitStatus::from_raw(0), successor: Some(9), ..death };
        assert_eq!(death.to_string(), "server 1 (pid 7) has handed over to process 9");
    }
}
