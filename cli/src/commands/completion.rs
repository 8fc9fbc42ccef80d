//! `mcomp completion`: the script that makes a shell complete this command line.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::exit::Exit;
use crate::flags::{Cli, CompletionArgs, CompletionShell};
use crate::output::Stdout;

pub(crate) fn run(args: &CompletionArgs) -> anyhow::Result<Exit> {
    let shell = match args.shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    // It panics when its writer fails, and a reader of stdout may leave: memory does not.
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "mcomp", &mut script);
    let mut stdout = Stdout::lock();
    stdout.write_all(&script)?;
    stdout.flush()?;
    Ok(Exit::DONE)
}
