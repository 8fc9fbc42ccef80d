//! What `mcomp server` and `mcomp snapshotter` share: they run until a signal or the end of their
//! parent, and say on stdout when they are ready.

use std::io;

use mcomp_config::{Config, ConfigError, is_local_ip};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::signal_name;

use crate::exit::{Exit, Failure};
use crate::flags::ParentFlag;
use crate::globals::Globals;
use crate::output;

/// The signals that stop a process in good order. They are caught from the moment this is made, so
/// that one that comes while the process starts is not lost.
#[derive(Debug)]
pub(crate) struct StopSignals(Signals);

impl StopSignals {
    /// Catches the signals, and has the kernel send one when the parent ends.
    pub(crate) fn catch(parent: ParentFlag) -> anyhow::Result<StopSignals> {
        let signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| Failure::io("catch signals", &error))?;
        if let Some(pid) = parent.die_with {
            end_with(pid)?;
        }
        Ok(StopSignals(signals))
    }

    /// What ends the wait without a signal.
    pub(crate) fn closer(&self) -> Handle {
        self.0.handle()
    }

    /// Waits for the first of them. False when the wait was ended otherwise.
    pub(crate) fn wait(&mut self) -> bool {
        let signal = self.0.forever().next();
        if let Some(signal) = signal {
            tracing::info!(signal = signal_name(signal).unwrap_or("a signal"), "stopping");
        }
        signal.is_some()
    }

    /// Whether one has come since a wait that was ended otherwise. It is told once.
    pub(crate) fn has_come(&mut self) -> bool {
        self.0.pending().next().is_some()
    }

    /// Catches them anew, after a wait that was ended otherwise; none if one has come since.
    pub(crate) fn again(mut self) -> anyhow::Result<Option<StopSignals>> {
        let next = StopSignals::catch(ParentFlag { die_with: None })?;
        Ok(self.0.pending().next().is_none().then_some(next))
    }
}

fn end_with(parent: u32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|errno| Failure::io("tie this process to its parent", &io::Error::from(errno)))?;
    // A parent that ended before the call above will never be told of.
    let is_parent = getppid().map(Pid::as_raw_nonzero).is_some_and(|pid| u32::try_from(pid.get()) == Ok(parent));
    match is_parent {
        true => Ok(()),
        false => {
            let text = format!("process {parent} of --die-with is not the parent of this process, or has ended");
            Err(Failure::new(Exit::UNAVAILABLE, "unavailable", text).into())
        }
    }
}

/// The id that was said, or that of the one server whose address is this machine's.
pub(crate) fn own_id(config: &Config, said: Option<u32>) -> Result<u32, ConfigError> {
    match said {
        Some(id) => config.server(id).map(|_| id),
        None => config.own_id(is_local_ip),
    }
}

/// Says that the process serves. One whose stdout nobody reads serves all the same.
pub(crate) fn say_ready(globals: &Globals, text: &str, fields: &impl Serialize) {
    let _ = match globals.json {
        true => output::json(&output::Done::with(fields)),
        false => output::line(text),
    };
}
