//! `mcomp demo`: the whole story on a scratch cluster, in some seconds, on any machine.
//!
//! Promises
//! - Every claim is checked as it is told, with real processes and a real file, and the first one
//!   that does not hold ends the demo with an error. Exit code 0 means that all of it was so.
//! - It leaves nothing: no process, no memory segment, no file, whether it ends well, with an error,
//!   by a signal or by a panic. Only SIGKILL can leave segments and a folder in the temporary folder,
//!   and the next demo of the same user removes those.
//! - It touches no cluster but its own: name, ports and folder are new each time, and neither
//!   mcomp.cfg nor `MCOMP_*` variables are looked at.

mod cast;
mod layout;
mod leftovers;
mod report;
mod scratch;
mod story;
mod writers;

use std::io::Write;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::emulate_default_handler;

use crate::exit::{Exit, Failure};
use crate::flags::DemoArgs;
use crate::globals::Globals;
use crate::up::{Events, signal_name};
use cast::Cast;
use leftovers::Removed;
use report::Report;
use scratch::Scratch;
use story::Story;

/// Tells the story.
pub(crate) fn run(globals: &Globals, _args: &DemoArgs) -> anyhow::Result<Exit> {
    let events =
        Events::listen(&[SIGINT, SIGTERM, SIGHUP]).map_err(|error| Failure::io("listen for signals", &error))?;
    let told = tell(globals, &events);
    let asked = events.asked();
    drop(events);
    match (told, asked) {
        (Err(_), Some(signal)) => {
            globals.note(format_args!("mcomp demo: stopped by {}; everything was removed", signal_name(signal)));
            // Whoever waits for this process is to see that the signal ended it.
            let _ = emulate_default_handler(signal);
            Ok(Exit::TRY_AGAIN)
        }
        (told, _) => told.map(|()| Exit::DONE),
    }
}

/// Everything that the story makes is gone when this returns.
fn tell(globals: &Globals, events: &Events) -> anyhow::Result<()> {
    tell_removed(globals, &leftovers::remove(&std::env::temp_dir()));
    let scratch = Scratch::create()?;
    let cast = Cast::new(&scratch, events)?;
    let mut report = Report::new(globals.json);
    let told = Story::new(&cast).and_then(|story| story.tell(&mut report));
    if told.is_err() && events.asked().is_none() {
        // The processes may know more than the step that failed.
        cast.messages().iter().for_each(|line| drop(writeln!(std::io::stderr(), "{line}")));
    }
    told?;
    report.finish()
}

fn tell_removed(globals: &Globals, removed: &Removed) {
    let Removed { segments, folders } = removed;
    if *segments > 0 {
        globals.note_to_person(format_args!("removed {segments} memory segments that a killed demo had left"));
    }
    for folder in folders {
        globals.note_to_person(format_args!("removed {}, which a killed demo had left", folder.display()));
    }
}
