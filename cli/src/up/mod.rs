//! `mcomp up`: every server and snapshot process of the configuration that is local, as children.
//!
//! Promises
//! - One line on stdout, and only when all of them serve. If one does not start, its error is shown,
//!   the others are stopped, and its exit code is ours. Memory that this start has made goes again;
//!   what was there before stays.
//! - Ctrl-C or SIGTERM stops all of them and is a success. The memory stays, for the next `up`.
//! - A child that dies later is reported with the way to start it again, and the others run on: the
//!   rest of the memory is still of use. Only when no server is left is there nothing to wait for, unless somebody had
//!   one killed and may have it revived.
//! - A server is restarted when that is asked for (`mcomp up --restart`), and a process killed, frozen, thawed and
//!   revived (`mcomp kill` and so on), over a socket that only the same user can make use of.
//!
//! Leaves out restarting what died by itself, and other machines.

mod child;
mod control;
mod death;
mod events;
mod faults;
mod fleet;
mod fresh;
mod program;
mod refusal;
mod restart;
mod supervisor;
mod watch;

pub(crate) use child::{Messages, Role};
pub(crate) use control::Request;
pub(crate) use death::{LaunchError, signal_name};
pub(crate) use events::Events;
pub(crate) use fleet::Fleet;
pub(crate) use supervisor::{Change, Launch, Supervisor};

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::Duration;

use mcomp_config::{Config, is_local_ip};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit::{Exit, Failure};
use crate::flags::value::WhichServer;
use crate::flags::{ProcessArgs, UpArgs};
use crate::globals::Globals;
use crate::output;
use control::{Desk, Visit, visit};
use fresh::{Cleared, Found};
use supervisor::STOP_PATIENCE;
use watch::Watch;

/// What a process gets to become ready, and more for each GiB of memory that has to be touched.
const READY_PATIENCE: Duration = Duration::from_secs(60);
const READY_PATIENCE_PER_GIB: Duration = Duration::from_secs(2);

/// Runs the local part of the cluster until a signal ends it.
pub(crate) fn run(globals: &Globals, args: &UpArgs) -> anyhow::Result<Exit> {
    if !args.restart.is_empty() {
        return restart(globals, &args.restart);
    }
    let config = globals.config_of_process()?;
    let fleet = Fleet::local(&config, is_local_ip)?;
    let events = Events::listen(&[SIGINT, SIGTERM]).map_err(|error| Failure::io("listen for signals", &error))?;
    let found = Found::look(&config)?;
    let mut supervisor = Supervisor::new(&events, launch(globals, &config)?);
    match supervisor.start(&fleet.roles(), patience(&fleet)) {
        Ok(()) => {}
        Err(LaunchError::Asked { signal }) => {
            tell_killed(&supervisor);
            return Ok(stopped(globals, &config, signal));
        }
        Err(error) => {
            tell_killed(&supervisor);
            tell_cleared(globals, &config, &found.clear(&fleet.roles(), &supervisor));
            return Err(Failure::from(error).into());
        }
    }
    let desk = open_desk(&config, &events);
    announce(globals, &fleet, &supervisor)?;
    let patience = patience(&fleet);
    let has_desk = desk.is_some();
    let mut watch = Watch { globals, config: &config, has_desk, patience, absent: BTreeMap::new() };
    let exit = watch.run(&mut supervisor);
    supervisor.stop();
    tell_killed(&supervisor);
    match exit {
        Ok(signal) => Ok(stopped(globals, &config, signal)),
        Err(failure) => Err(failure.into()),
    }
}

/// Has the `mcomp up` that runs restart servers.
fn restart(globals: &Globals, which: &[WhichServer]) -> anyhow::Result<Exit> {
    request(globals, |fleet| {
        let ids = which.iter().flat_map(|which| match which {
            WhichServer::One(id) => vec![*id],
            WhichServer::All => fleet.server_ids().to_vec(),
        });
        ids.map(|id| Request::Restart { id }).collect()
    })
}

/// Has the `mcomp up` that runs do `what` to one of its processes.
pub(crate) fn ask(globals: &Globals, what: fn(Role) -> Request, args: &ProcessArgs) -> anyhow::Result<Exit> {
    let role = if args.snapshotter { Role::Snapshotter(args.id) } else { Role::Server(args.id) };
    request(globals, |_| vec![what(role)])
}

fn request(globals: &Globals, requests: impl Fn(&Fleet<'_>) -> Vec<Request>) -> anyhow::Result<Exit> {
    let config = globals.config()?;
    let fleet = Fleet::local(&config, is_local_ip)?;
    // What the other side may need, and as long again for what it is doing when it is asked.
    let patience = globals.timeout.unwrap_or(2 * (STOP_PATIENCE + patience(&fleet)));
    let start = again("up", globals, &config);
    visit(&Visit { globals, config: &config, patience, start: &start }, &requests(&fleet))
}

/// Opens the control socket. Without it the cluster runs all the same: somebody else may sit on its name.
fn open_desk(config: &Config, events: &Events) -> Option<Desk> {
    let opened = Desk::open(config, events.sender());
    opened
        .inspect_err(|error| {
            tell(&format!(
                "mcomp up: `mcomp up --restart`, `kill`, `freeze`, `thaw` and `revive` will not work here, because the \
                 control socket cannot be had: {error}"
            ));
        })
        .ok()
}

fn launch(globals: &Globals, config: &Config) -> Result<Launch, Failure> {
    let program = program::path().map_err(|error| Failure::io("find this executable", &error))?;
    let flags = globals.child_flags(config);
    Ok(Launch { program, flags, hidden_variables: Vec::new(), messages: Messages::Shown })
}

fn patience(fleet: &Fleet<'_>) -> Duration {
    let gib = u32::try_from(fleet.memory_bytes() >> 30).unwrap_or(u32::MAX);
    READY_PATIENCE + READY_PATIENCE_PER_GIB.saturating_mul(gib)
}

/// Says on stdout that everything is ready. A reader that left after an earlier line is no reason to
/// stop serving.
fn announce(globals: &Globals, fleet: &Fleet<'_>, supervisor: &Supervisor<'_>) -> anyhow::Result<()> {
    let printed = match globals.json {
        true => output::json(&fleet.json(supervisor.running())),
        false => output::line(format_args!("mcomp up: ready: {fleet}")),
    };
    printed.or_else(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::io("print the ready line", &error).into()),
    })
}

/// The command, as it can be typed from any folder.
fn again(subcommand: &str, globals: &Globals, config: &Config) -> String {
    let path = std::path::absolute(config.path()).unwrap_or_else(|_| config.path().to_path_buf());
    let mut words = vec![format!("mcomp {subcommand} --config {}", quoted(path.as_os_str()))];
    if globals.data.is_some() {
        words.push(format!("--data {}", quoted(config.folder().as_os_str())));
    }
    format!("`{}`", words.join(" "))
}

/// A path as a shell takes it.
fn quoted(path: &OsStr) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match text.chars().all(is_plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn stopped(globals: &Globals, config: &Config, signal: i32) -> Exit {
    let purge = again("purge", globals, config);
    globals.note(format_args!(
        "mcomp up: stopped by {}; the memory stays until the machine restarts, or {purge} removes it",
        signal_name(signal)
    ));
    Exit::DONE
}

/// Names those that did not stop when they were asked to.
fn tell_killed(supervisor: &Supervisor<'_>) {
    for (role, pid) in supervisor.killed() {
        let loss = if role.is_server() { "; its memory stays" } else { "" };
        tell(&format!("mcomp up: {role} (pid {pid}) did not stop when it was asked to, and was killed{loss}"));
    }
}

/// Says what became of the memory that a failed start had made.
fn tell_cleared(globals: &Globals, config: &Config, cleared: &Cleared) {
    match cleared.removed {
        0 => {}
        1 => globals.note("mcomp up: the memory segment that this start had made was removed again"),
        removed => globals
            .note(format_args!("mcomp up: the {removed} memory segments that this start had made were removed again")),
    }
    for path in &cleared.left {
        let purge = again("purge", globals, config);
        tell(&format!("mcomp up: {} was made by this start and is left: {purge} removes it", path.display()));
    }
}

/// A message that `--quiet` does not hush. Who closed stderr does not want to hear it.
fn tell(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(quoted(OsStr::new("/etc/mcomp/mcomp.cfg")), "/etc/mcomp/mcomp.cfg");
        assert_eq!(quoted(OsStr::new("/my data/it's")), r"'/my data/it'\''s'");
    }
}
