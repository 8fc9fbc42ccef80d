//! What the REPL says about itself: the list of its commands, and why some are not for it.

use crate::flags::Command;

/// What `h` prints.
pub(super) const HELP: &str = "\
h                     this list; h COMMAND is the help of one command
t                     table of the allocations
m SIZE                allocate, and print the address (--name, --lease and --meta as in alloc)
f ADDR                free an allocation
w ADDR SIZE DATA      write DATA, with zeros behind it up to SIZE
w ADDR FILE [SIZE]    write a file, or its first SIZE bytes
r ADDR SIZE           read, as text
r ADDR FILE [SIZE]    read to a file; without SIZE, to the end of the allocation
d ADDR                hexdump of the allocation that holds ADDR, or of 256 bytes where there is none
d net                 the servers: address, state, and whom they take for the leader
kill ID, revive ID    kill a server of the `mcomp up` that runs here, start it again
exit                  the end, as Ctrl-D

ADDR is a number, NAME, NAME+64 or NAME[0:64]. A SIZE is a number with K, M, G, KiB … or without; what reads as one
behind the ADDR of w and r is one: write ./64 for a file of that name. Quotes keep words with blanks together.

By their long names, with all their flags:
  read write fill copy compare cas add swap      bytes
  alloc free realloc ls stat gc lease lock       allocations, leases, locks
  snapshot restore status member bench           the whole memory
  kill freeze thaw revive                        processes
  config secret doctor completion purge          what is around it";

/// The commands that are refused.
const REFUSED: [&str; 7] = ["repl", "shell", "up", "server", "snapshotter", "gateway", "demo"];

/// Whether a command of mcomp may be a line of the REPL.
pub(super) fn is_for_lines(name: &str) -> bool {
    !REFUSED.contains(&name)
}

/// Why a command is not for a line of the REPL, if it is not.
pub(super) fn refused(command: &Command) -> Option<&'static str> {
    Some(match command {
        Command::Repl => "this is the REPL: `repl` in it would be another one",
        Command::Shell => "`shell` takes lines of its own: start `mcomp shell` from a shell",
        // Those who only ask the one that runs are answered, and done.
        Command::Up(args) if args.restart.is_empty() => {
            "`up` runs until it is stopped: start `mcomp up` in a terminal of its own"
        }
        Command::Server(_) => "`server` runs until it is stopped: start `mcomp server` in a terminal of its own",
        Command::Snapshotter(_) => {
            "`snapshotter` runs until it is stopped: start `mcomp snapshotter` in a terminal of its own"
        }
        Command::Gateway(_) => "`gateway` runs until it is stopped: start `mcomp gateway` in a terminal of its own",
        Command::Demo(_) => "`demo` brings a cluster of its own: start `mcomp demo` from a shell",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::flags::Cli;

    #[test]
    fn every_command_is_listed_or_refused() {
        let (_, long) = HELP.split_once("long names").expect("they are set apart");
        let words: Vec<&str> = long.split_whitespace().collect();
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert_eq!(words.contains(&name), is_for_lines(name), "{name}");
        }
    }
}
