//! Arguments of the commands that run processes: `up`, `demo`, `server`, `snapshotter`, `repl`; and of those that try them:
//! `kill`, `freeze`, `thaw`, `revive`.

use std::path::PathBuf;

use clap::Args;

use super::value::{self, WhichServer};

/// `mcomp up`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints one line on stdout when all of them are ready. Ctrl-C or SIGTERM stops them; the memory stays \
until `mcomp purge` or the next boot, and the next `mcomp up` takes it over.

--restart asks the `mcomp up` that runs to stop a server in good order, if it is not dead, and to start it again \
with the executable that stands at its path now. The memory stays, and clients go on. It prints one line for each \
when it is ready: the milliseconds since it was asked to stop, its process, and the one before.

Examples:
  mcomp up
  mcomp up --config /etc/mcomp/mcomp.cfg --data /var/lib/mcomp
  mcomp up --restart 0
  mcomp up --restart all --json")]
pub(crate) struct UpArgs {
    /// Have the `mcomp up` that runs restart this server, or `all` of its servers one by one; may be repeated
    #[arg(long, value_name = "ID", value_parser = value::which_server)]
    pub(crate) restart: Vec<WhichServer>,
}

/// `mcomp kill`, `freeze`, `thaw`, `revive`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ProcessArgs {
    /// Which memory server
    #[arg(value_name = "ID")]
    pub(crate) id: u32,
    /// Mean the snapshot process of this id, and not the server
    #[arg(long)]
    pub(crate) snapshotter: bool,
}

pub(super) const KILL_EXAMPLES: &str = "\
Sends SIGKILL to a process that the `mcomp up` on this machine runs, to see what a cluster makes of it. It stays \
dead until `mcomp revive`; the memory of a server stays, with every byte that was acknowledged. Exits with 0 also \
when it is dead already, with 64 when there is no such process here, and with 69 when no `mcomp up` runs.

Examples:
  mcomp kill 1
  mcomp kill 0 --snapshotter --json";

pub(super) const FREEZE_EXAMPLES: &str = "\
Sends SIGSTOP to a process that the `mcomp up` on this machine runs, and waits until all of it stands still. It \
keeps its memory, its connections and its addresses, and answers nobody until `mcomp thaw`. When `mcomp up` stops, \
it is thawed and stopped with the others.

Examples:
  mcomp freeze 1
  mcomp freeze 0 --snapshotter --json";

pub(super) const THAW_EXAMPLES: &str = "\
Sends SIGCONT to a frozen process that the `mcomp up` on this machine runs, whoever has frozen it. Exits with 0 \
also when it is not frozen, and with 69 when it is dead.

Examples:
  mcomp thaw 1
  mcomp thaw 0 --snapshotter --json";

pub(super) const REVIVE_EXAMPLES: &str = "\
Has the `mcomp up` on this machine start one of its processes that is dead, however it died, and waits until it is \
ready. A server finds its memory as it was. Exits with 0 also when it runs already, and with 75 when it is frozen.

Examples:
  mcomp revive 1
  mcomp revive 0 --snapshotter --json";

pub(super) const REPL_EXAMPLES: &str = "\
Takes the commands of mcomp without the word mcomp before them, and short ones for memory: h lists them. All lines \
are one session with the servers, which ends with the last line. Words are split as in a shell: quotes keep blanks \
together, # begins a comment; nothing is expanded. A line that fails says why, and the next one is taken.

At a terminal, lines can be edited and found again, TAB completes commands, names and files, Ctrl-C clears the line, \
Ctrl-D or exit ends with exit code 0. While a command runs, Ctrl-C stops its output, and a second one leaves it, \
with exit code 2. Lines are remembered in $XDG_STATE_HOME/mcomp/history, or in ~/.local/state/mcomp/history, but \
for those that begin with a blank. $NO_COLOR turns colours off, and so the suggestions from the history.

From a file or a pipe there is no prompt, all lines are done, also after one that failed, and the exit code is that \
of the first line that did not end with 0.

Examples:
  mcomp repl
  mcomp repl < commands.txt
  printf 'm 64KiB --name results\nw results 5 hello\nd results\n' | mcomp repl";

/// `mcomp demo`.
#[derive(Args, Debug)]
#[command(after_help = "\
Starts three servers on free loopback ports, stores a file, takes a snapshot while writers run, and \
restores it on two servers. Needs no configuration and leaves nothing behind.

Examples:
  mcomp demo
  mcomp demo --json")]
pub(crate) struct DemoArgs {}

/// `mcomp server`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints one line on stdout when it serves. SIGTERM stops it; the memory segment stays, and the next \
start takes it over with every byte.

Started over a running server of the same id, of the same user on this machine, it takes over from that one: what \
was received is answered, the other ends with exit code 0, and clients go on here. So a new version of mcomp \
replaces an old one. A frozen server and one of a version that cannot hand over are left alone (exit code 75).

--op-log, or op_log in [trace] of mcomp.cfg, appends one line for each data request, a refused one too:
  1700000000.123456 conn=7 op=write addr=4096 len=5 status=ok us=12
That is the time in seconds since 1970, the number of the connection, what was asked, the first address \
(of a copy, where it goes to; - when there is none), bytes, the outcome, and the microseconds it took.

Examples:
  mcomp server --id 0
  mcomp server --id 1 --op-log ops.log -v")]
pub(crate) struct ServerArgs {
    /// Which server of the configuration; without it, the one whose address is this machine's
    #[arg(long, value_name = "I")]
    pub(crate) id: Option<u32>,
    /// Log every operation to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) op_log: Option<PathBuf>,
    /// Do not ask a server that has the memory already to hand it over
    #[arg(long, hide = true)]
    pub(crate) no_takeover: bool,
    #[command(flatten)]
    pub(crate) parent: ParentFlag,
}

/// `mcomp snapshotter`.
#[derive(Args, Debug)]
#[command(after_help = "\
Runs on the machine of the server with the same id, and prints one line on stdout when it is ready.

Examples:
  mcomp snapshotter --id 0")]
pub(crate) struct SnapshotterArgs {
    /// Which snapshot process of the configuration; without it, that of this machine's server
    #[arg(long, value_name = "I")]
    pub(crate) id: Option<u32>,
    #[command(flatten)]
    pub(crate) parent: ParentFlag,
}

/// How a process that was started by another `mcomp` ends with it.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ParentFlag {
    /// Stop when the process with this id, which must be the parent, is gone
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) die_with: Option<u32>,
}
