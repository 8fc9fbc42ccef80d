//! The `mcomp` command: flags as typed, then ready to run, then calls into the programs' crates.
//!
//! Promises
//! - stdout is data and stderr is messages. An error is one sentence that names the value and the
//!   way out; with `--json` it is also one object on stdout.
//! - The exit code is one of the contract's, see [`exit`]. A panic is a bug and ends with 70.
//! - A reader of stdout that leaves early ends the command quietly.
//!
//! Leaves out everything that another program could want too: that is in the libraries.

mod commands;
mod demo;
mod exit;
mod flags;
mod gateway;
mod globals;
mod hint;
mod kept;
mod output;
mod repl;
mod shell;
mod up;

use std::any::Any;
use std::env;
use std::ffi::OsStr;
use std::io::Write;
use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use clap::error::ErrorKind;
use serde_json::json;
use signal_hook::consts::SIGXFSZ;

use crate::exit::{Exit, Verdict, is_reader_gone};
use crate::flags::{Cli, Command};
use crate::globals::Globals;

fn main() -> ExitCode {
    panic::set_hook(Box::new(report_bug));
    survive_file_size_limit();
    let exit = panic::catch_unwind(parse_and_run).unwrap_or_else(|panic| {
        // The hook has told the person already. What the command did is not known.
        let sentence = format!("a bug in mcomp: {}", panic_message(&*panic));
        report_json(was_json_asked_for(env::args_os().skip(1)), "unknown", "bug", &sentence);
        Exit::BUG
    });
    ExitCode::from(exit.code())
}

/// Has a write beyond the limit on file sizes (`ulimit -f`) fail with an error that is told, where the
/// signal that comes with it would end the process, and a snapshot process with it.
fn survive_file_size_limit() {
    // Nobody looks at the flag: catching the signal is all. Where it cannot be caught, nothing is lost.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

fn parse_and_run() -> Exit {
    let Cli { global, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error, was_json_asked_for(env::args_os().skip(1))),
    };
    let globals = Globals::from(global);
    output::logging::start(&globals);
    ended(globals.json, run(&globals, command))
}

fn ended(json: bool, result: anyhow::Result<Exit>) -> Exit {
    match result {
        Ok(exit) => exit,
        Err(error) if is_reader_gone(&error) => Exit::DONE,
        Err(error) => {
            let exit = report(json, &Verdict::of(&error));
            if let Some(hint) = hint::about(&error) {
                say_plain(&format!("{hint}\n"));
            }
            exit
        }
    }
}

fn run(globals: &Globals, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Up(args) => up::run(globals, &args),
        Command::Demo(args) => demo::run(globals, &args),
        Command::Server(args) => commands::server::run(globals, &args),
        Command::Snapshotter(args) => commands::snapshotter::run(globals, &args),
        Command::Gateway(args) => commands::gateway::run(globals, &args),
        Command::Read(args) => commands::read::run(globals, &args),
        Command::Write(args) => commands::write::run(globals, args),
        Command::Fill(args) => commands::range::fill(globals, &args),
        Command::Copy(args) => commands::range::copy(globals, &args),
        Command::Compare(args) => commands::compare::run(globals, &args),
        Command::Cas(args) => commands::atomic::cas(globals, &args),
        Command::Add(args) => commands::atomic::add(globals, &args),
        Command::Swap(args) => commands::atomic::swap(globals, &args),
        Command::Alloc(args) => commands::agreed::alloc(globals, args),
        Command::Free(args) => commands::agreed::free(globals, &args),
        Command::Realloc(args) => commands::agreed::realloc(globals, &args),
        Command::Ls => commands::agreed::ls(globals),
        Command::Stat(args) => commands::agreed::stat(globals, &args),
        Command::Gc(args) => commands::agreed::gc(globals, &args),
        Command::Member(args) => commands::member::run(globals, &args),
        Command::Lease(args) => commands::lease::run(globals, args),
        Command::Lock(args) => commands::lock::run(globals, &args),
        Command::Snapshot(args) => commands::snapshot::run(globals, &args),
        Command::Restore(args) => commands::restore::run(globals, &args),
        Command::Status => commands::status::run(globals),
        Command::Kill(args) => up::ask(globals, up::Request::Kill, &args),
        Command::Freeze(args) => up::ask(globals, up::Request::Freeze, &args),
        Command::Thaw(args) => up::ask(globals, up::Request::Thaw, &args),
        Command::Revive(args) => up::ask(globals, up::Request::Revive, &args),
        Command::Bench(args) => commands::bench::run(globals, &args),
        Command::Doctor => commands::doctor::run(globals),
        Command::Config(args) => commands::config::run(globals, &args),
        Command::Secret(args) => commands::secret::run(globals, &args),
        Command::Repl => repl::run(globals),
        Command::Shell => shell::run(globals),
        Command::Completion(args) => commands::completion::run(&args),
        Command::Purge => commands::purge::run(globals),
    }
}

fn report(json: bool, verdict: &Verdict) -> Exit {
    say(&verdict.sentence);
    report_json(json, verdict.outcome(), verdict.kind, &verdict.sentence);
    verdict.exit
}

fn report_json(json: bool, outcome: &str, kind: &str, sentence: &str) {
    if json {
        // With stdout gone there is nobody left to tell.
        let _ = output::json(&json!({"outcome": outcome, "kind": kind, "error": sentence}));
    }
}

/// What clap has to say: help and version, which were asked for, or that the command line is wrong.
fn report_usage(error: &clap::Error, json: bool) -> Exit {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return ended(false, print(&text)),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => say_plain(&text),
        _ => say(text.trim_start_matches("error: ").trim_end()),
    }
    let first_line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    report_json(json, "fail", "usage", first_line);
    Exit::USAGE
}

fn print(text: &str) -> anyhow::Result<Exit> {
    let mut stdout = output::Stdout::lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(Exit::DONE)
}

/// Whether `--json` stands on a command line, also on one that cannot be parsed.
fn was_json_asked_for(mut args: impl Iterator<Item = impl AsRef<OsStr>>) -> bool {
    args.find(|arg| arg.as_ref() == "--json" || arg.as_ref() == "--").is_some_and(|arg| arg.as_ref() == "--json")
}

fn report_bug(info: &PanicHookInfo<'_>) {
    let at = info.location().map(|location| format!(" at {location}")).unwrap_or_default();
    let message = panic_message(info.payload()).replace('\n', " ");
    say(&format!("a bug in mcomp{at}: {message}; please report it with what you did"));
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let literal = payload.downcast_ref::<&str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn say(sentence: &str) {
    say_plain(&format!("mcomp: {sentence}\n"));
}

/// A stderr that is closed is no reason to fail.
fn say_plain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_seen_on_a_line_that_does_not_parse() {
        assert!(was_json_asked_for(["read", "--jsn", "--json"].iter()));
        assert!(!was_json_asked_for(["read", "0"].iter()));
        assert!(!was_json_asked_for(["write", "0", "--", "--json"].iter()));
    }

    #[test]
    fn panics_keep_their_message() {
        assert_eq!(panic_message(&"literal"), "literal");
        assert_eq!(panic_message(&"formatted".to_owned()), "formatted");
        assert_eq!(panic_message(&5), "no message");
    }
}
