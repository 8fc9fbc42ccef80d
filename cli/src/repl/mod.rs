//! `mcomp repl`: the memory line by line, for a person at a terminal, or as a script.
//!
//! Promises
//! - Every command of mcomp that ends by itself is a line here, parsed and run by the same functions; the short ones
//!   are listed by `h`. A line that fails says why, and the next one is taken.
//! - All lines are one session with the servers, closed at the end: see [`crate::kept`].
//! - At a terminal it ends with 0. From a file or a pipe there is no prompt, and the exit code is that of the first line
//!   that did not end with 0, so that a script can tell; the lines behind it are run all the same.
//! - A reader of stdout that leaves ends it quietly.
//!
//! Leaves out variables, pipes and conditions: a shell has them, and can start mcomp.

mod assistant;
mod classic;
mod editor;
mod help;
mod history;
mod interrupt;
mod request;
mod words;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use anyhow::bail;
use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches};
use mcomp_config::format_size;

use crate::exit::{Exit, Failure, is_reader_gone};
use crate::flags::{Cli, Command};
use crate::globals::Globals;
use crate::kept::Kept;
use crate::output;
use crate::shell::line::{LINE_LEN_MAX, Line, Lines};
use editor::{Editor, Typed};
use interrupt::Interrupts;
use request::Request;

pub(crate) fn run(globals: &Globals) -> anyhow::Result<Exit> {
    let kept = Arc::new(Kept::new(globals.cluster()?));
    let globals = Globals { kept: Some(Arc::clone(&kept)), ..globals.clone() };
    let ended = match io::stdin().is_terminal() && io::stdout().is_terminal() {
        true => converse(&globals, &kept),
        false => follow(&globals),
    };
    if let Err(error) = kept.leave() {
        globals.note(format_args!(
            "the servers were not told that the session ends, and give it up by themselves: {error}"
        ));
    }
    ended
}

/// Takes lines from a person until he has had enough.
fn converse(globals: &Globals, kept: &Arc<Kept>) -> anyhow::Result<Exit> {
    let mut editor = Editor::new(kept.cluster())?;
    let interrupts = Interrupts::catch(kept)?;
    let (n, size) = (kept.cluster().space().n(), format_size(kept.cluster().size()));
    globals.note_to_person(format_args!("{size} on {n} servers; h lists the commands, exit or Ctrl-D ends"));
    while let Typed::Line(line) = editor.line()? {
        let busy = interrupts.expect();
        let done = obey(globals, &line);
        let is_hushed = busy.end();
        match done {
            Done::Ended => break,
            // Whoever reads stdout is the terminal, and it is there.
            Done::ReaderGone if !is_hushed => break,
            Done::With(_) | Done::ReaderGone => {}
        }
    }
    Ok(Exit::DONE)
}

/// Takes lines from a file or a pipe.
fn follow(globals: &Globals) -> anyhow::Result<Exit> {
    let mut ended = Exit::DONE;
    loop {
        // Not held while a line runs: one that reads stdin gets what follows it, as in a shell.
        let mut lines = Lines::new(io::stdin().lock());
        let line = match lines.next().map_err(|error| Failure::io("read stdin", &error))? {
            Some(line) => text_of(line),
            None => return Ok(ended),
        };
        drop(lines);
        let done = match line {
            Ok(line) => obey(globals, &line),
            Err(failure) => Done::With(crate::ended(globals.json, Err(failure.into()))),
        };
        match done {
            Done::With(exit) if ended == Exit::DONE => ended = exit,
            Done::With(_) => {}
            Done::Ended | Done::ReaderGone => return Ok(ended),
        }
    }
}

fn text_of(line: Line<'_>) -> Result<String, Failure> {
    match line {
        Line::Whole(bytes) => String::from_utf8(bytes.to_vec())
            .map_err(|_| Failure::usage("the line is not UTF-8: write bytes with `write ADDR --hex`, or from a file")),
        Line::TooLong => Err(Failure::usage(format!("the line is longer than {LINE_LEN_MAX} bytes: use a file"))),
    }
}

/// How a line ended.
enum Done {
    /// So.
    With(Exit),
    /// It asked for the end.
    Ended,
    /// Nobody reads what it prints.
    ReaderGone,
}

/// Does what a line says, and tells what went wrong.
fn obey(globals: &Globals, line: &str) -> Done {
    let result = match Request::parse(line) {
        Ok(Request::Exit) => return Done::Ended,
        Ok(Request::Nothing) => return Done::With(Exit::DONE),
        Ok(Request::Help) => output::line(help::HELP).map(|()| Exit::DONE).map_err(Into::into),
        Ok(Request::Command(words)) => return command(globals, &words),
        Ok(request) => classic::run(globals, request),
        Err(failure) => Err(failure.into()),
    };
    judged(globals, globals.json, result)
}

/// Runs a command line of mcomp.
fn command(globals: &Globals, words: &[String]) -> Done {
    // What $MCOMP_FENCE says, the REPL itself has been told.
    let parser = Cli::command().mut_arg("fence", |fence| fence.env(Resettable::Reset));
    let matches = parser.try_get_matches_from(std::iter::once("mcomp").chain(words.iter().map(String::as_str)));
    let Cli { global, command } = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let json = globals.json || crate::was_json_asked_for(words.iter());
            return Done::With(crate::report_usage(&error, json));
        }
    };
    let line = globals.with_line(global);
    judged(globals, line.json, run_command(&line, command))
}

fn run_command(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    if let Some(sentence) = help::refused(&command) {
        bail!(Failure::usage(sentence));
    }
    let restores = matches!(command, Command::Restore(_));
    let done = crate::run(globals, command)?;
    if let Some(kept) = globals.kept.as_ref().filter(|_| restores) {
        // Who restores the memory knows that it is another one.
        kept.cluster().reconnect();
    }
    Ok(done)
}

fn judged(globals: &Globals, json: bool, result: anyhow::Result<Exit>) -> Done {
    if let Err(error) = &result {
        if is_reader_gone(error) {
            return Done::ReaderGone;
        }
        // Whoever sends the next line has been told that the memory was restored.
        let is_fenced = |cause: &(dyn std::error::Error + 'static)| {
            matches!(cause.downcast_ref(), Some(mcomp_client::Error::Fenced { .. }))
        };
        if let Some(kept) = globals.kept.as_ref().filter(|_| error.chain().any(is_fenced)) {
            kept.cluster().reconnect();
        }
    }
    Done::With(crate::ended(json, result))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::GlobalFlags;

    fn flags(line: &str) -> GlobalFlags {
        Cli::from_arg_matches(&Cli::command().get_matches_from(line.split_whitespace())).unwrap().global
    }

    #[test]
    fn a_line_that_means_another_cluster_keeps_nothing() {
        let config = "[cluster]\nname = \"repl\"\nk = \"4KiB\"\nn = 1\n[[server]]\naddress = \"127.0.0.1:7401\"\n";
        let config = mcomp_config::Config::parse(config, "mcomp.cfg".as_ref(), &Default::default()).unwrap();
        let kept = Arc::new(Kept::new(mcomp_client::Cluster::connect(&config).unwrap()));
        let repl = Globals { kept: Some(kept), ..Globals::from(flags("mcomp --quiet --timeout 3s repl")) };
        for (line, keeps) in [
            ("mcomp ls", true),
            ("mcomp ls --json -v", true),
            ("mcomp ls --remote", false),
            ("mcomp ls --timeout 1s", false),
            ("mcomp ls --config other.cfg", false),
            ("mcomp ls --data elsewhere", false),
        ] {
            let globals = repl.with_line(flags(line));
            assert_eq!(globals.kept.is_some(), keeps, "{line}");
            assert!(globals.quiet && globals.timeout.is_some(), "{line}");
        }
    }
}
