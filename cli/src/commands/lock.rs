//! `mcomp lock`: a command that runs while a lock is held.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::exit::Exit;
use crate::flags::LockArgs;
use crate::globals::Globals;

/// How long a lock is waited for when nobody says: as long as it takes, which for the servers is a day.
const FOR_EVER: Duration = Duration::from_secs(86_400);

pub(crate) fn run(globals: &Globals, args: &LockArgs) -> anyhow::Result<Exit> {
    // The flag says how long to wait for the lock; the servers are given the configured time.
    let waits = Globals { timeout: None, ..globals.clone() };
    let session = waits.session(&waits.cluster()?)?;
    let wait = globals.timeout.unwrap_or(FOR_EVER);
    let lock = session.acquire(&args.name, args.permits, wait)?;
    let fence = lock.fence();
    let (program, rest) = args.command.split_first().expect("a command is required");
    let mut command = Command::new(program);
    command.args(rest).env("MCOMP_FENCE", format!("{}:{}", fence.id, fence.number));
    let status = command.status().with_context(|| format!("cannot run {}", program.display()));
    let is_lost = session.is_lost();
    // A lock that was lost is nothing to give back; otherwise it goes with the session.
    drop(lock);
    session.close()?;
    if is_lost {
        globals.note(format_args!("the lock {:?} was lost while the command ran", args.name));
    }
    let status = status?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(Exit::from_code(u8::try_from(code).unwrap_or(u8::MAX)))
}
