//! The command line as typed: one struct for each subcommand, and nothing that runs.
//!
//! Promises
//! - What is wrong with a single argument is refused here, before any file or socket is touched,
//!   and always with exit code 64.
//! - Numbers, addresses, sizes and durations have the same grammar in every argument.
//!
//! Leaves out what takes the configuration to know, such as whether an address exists.

mod agreed;
mod bench;
mod data;
mod gateway;
mod process;
mod secret;
mod snapshot;
pub(crate) mod value;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mcomp_client::meta::Fence;
use mcomp_config::Endpoint;

pub(crate) use agreed::{AllocArgs, FreeArgs, GcArgs, LeaseArgs, LeaseCommand, LockArgs, ReallocArgs, StatArgs};
pub(crate) use bench::BenchArgs;
pub(crate) use data::{
    AddArgs, CasArgs, CompareArgs, CopyArgs, FillArgs, Format, ReadArgs, Source, SourceFlags, SwapArgs, WriteArgs,
};
pub(crate) use gateway::GatewayArgs;
pub(crate) use process::{DemoArgs, ParentFlag, ProcessArgs, ServerArgs, SnapshotterArgs, UpArgs};
pub(crate) use secret::{SecretArgs, SecretCommand, SecretRole};
pub(crate) use snapshot::{
    CreateArgs, ExportArgs, FileArgs, PruneArgs, RestoreArgs, SnapshotArgs, SnapshotCommand, UnsignedFlag, VerifyArgs,
};

const EXAMPLES: &str = "\
Examples:
  mcomp up                            start the cluster of ./mcomp.cfg on this machine
  mcomp write 0x1000 hello            store five bytes
  mcomp read 0x1000 5                 read them back
  mcomp snapshot create               save the whole memory to one file
  mcomp demo                          see all of it on a scratch cluster

Addresses are decimal or 0x hexadecimal; sizes take K, M, G, KiB, MiB, GiB, powers of two.
Exit codes: 0 done, 1 negative answer, 2 outcome unknown, 64 usage, 65 bad data, 69 unavailable, \
70 a bug in mcomp, 73 memory full, 74 local I/O, 75 try again, 76 protocol, 77 not permitted, \
78 configuration, 124 timed out.";

/// Memory shared by many processes on many machines.
#[derive(Debug, Parser)]
#[command(name = "mcomp", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The flags that stand before or after any subcommand.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalFlags {
    /// The configuration; without it $MCOMP_CONFIG, ./mcomp.cfg, /etc/mcomp/mcomp.cfg
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where relative paths of the configuration begin, in place of its own folder
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON with stable names
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How long a request waits for a server without progress, such as 500ms or 5s
    #[arg(long, global = true, value_name = "DURATION", value_parser = value::timeout)]
    pub(crate) timeout: Option<Duration>,
    /// Talk to every server over TCP, as if it were on another machine
    #[arg(long, global = true)]
    pub(crate) remote: bool,
    /// Write only while this lease or lock holds, as ID:NUMBER; `mcomp lock` sets it for its command
    #[arg(long, global = true, value_name = "FENCE", env = "MCOMP_FENCE", hide_env_values = true, value_parser = agreed::fence)]
    pub(crate) fence: Option<Fence>,
    /// Print errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Log more: -v what a server or snapshot process does, -vv also every connection
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How log events on stderr look
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How log events look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start every server and snapshot process of the configuration that is local
    Up(UpArgs),
    /// Show the whole story on a scratch cluster, then clean up
    Demo(DemoArgs),
    /// Run one memory server
    Server(ServerArgs),
    /// Run one snapshot process
    Snapshotter(SnapshotterArgs),
    /// Answer HTTP for programs that speak nothing else
    Gateway(GatewayArgs),
    /// Read bytes
    Read(ReadArgs),
    /// Write bytes
    Write(WriteArgs),
    /// Set every byte of a range to one value
    Fill(FillArgs),
    /// Copy a range to another address
    Copy(CopyArgs),
    /// Compare memory with a file
    Compare(CompareArgs),
    /// Compare and swap the 8 bytes at an address
    Cas(CasArgs),
    /// Add to the 8 bytes at an address
    Add(AddArgs),
    /// Replace the 8 bytes at an address
    Swap(SwapArgs),
    /// Allocate memory, and print its address
    Alloc(AllocArgs),
    /// Give an allocation back
    Free(FreeArgs),
    /// Make an allocation longer or shorter
    Realloc(ReallocArgs),
    /// List the allocations
    #[command(after_help = LS_EXAMPLES)]
    Ls,
    /// Show an allocation, or how the memory is used
    Stat(StatArgs),
    /// Free what programs that died have left
    Gc(GcArgs),
    /// Allocate memory with a time to live, and use it
    Lease(LeaseArgs),
    /// Run a command while a lock is held
    Lock(LockArgs),
    /// Save the memory to a file, and look after the files
    Snapshot(SnapshotArgs),
    /// Bring the memory back from a snapshot
    Restore(RestoreArgs),
    /// Show what every server and snapshot process is doing
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// Show the servers that keep replicated blocks, and move them
    Member(MemberArgs),
    /// Kill a process of the `mcomp up` that runs, on the spot
    #[command(after_help = process::KILL_EXAMPLES)]
    Kill(ProcessArgs),
    /// Have a process of the `mcomp up` that runs stand still
    #[command(after_help = process::FREEZE_EXAMPLES)]
    Freeze(ProcessArgs),
    /// Let a frozen process go on
    #[command(after_help = process::THAW_EXAMPLES)]
    Thaw(ProcessArgs),
    /// Start a dead process again
    #[command(after_help = process::REVIVE_EXAMPLES)]
    Revive(ProcessArgs),
    /// Measure latency and throughput of a running cluster
    Bench(BenchArgs),
    /// Check or show the configuration
    Config(ConfigArgs),
    /// Make, change and show the keys with which everybody proves who he is
    Secret(SecretArgs),
    /// Find what will fail on this machine, and say what mends it
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor,
    /// Use the memory line by line, with short commands, history and completion
    #[command(after_help = process::REPL_EXAMPLES)]
    Repl,
    /// Take requests as JSON, one a line, and answer each with one line of JSON
    #[command(after_help = SHELL_EXAMPLES)]
    Shell,
    /// Print the completion script of a shell
    Completion(CompletionArgs),
    /// Remove this cluster's memory segments and metadata from this machine
    #[command(after_help = PURGE_EXAMPLES)]
    Purge,
}

const LS_EXAMPLES: &str = "\
Examples:
  mcomp ls
  mcomp ls --json | jq '.regions[] | select(.lease)'";

const STATUS_EXAMPLES: &str = "\
Exits with 69 when a server does not answer; all others are shown all the same.

Examples:
  mcomp status
  mcomp status --json | jq '.servers[].counters.ops'";

const DOCTOR_EXAMPLES: &str = "\
Looks at shared memory, segments, limits, addresses, other machines, clocks and the snapshot folder, and \
changes nothing. Each line is a check, what it is about and what was found: ok, warn (may fail), fail (will \
fail), or skipped; below a warn or a fail stands what mends it. -q leaves out all others, -v adds the segments \
of other clusters. Run it as the user who runs the servers.

Exits with 0 when nothing will fail, 1 when something will, 78 when the configuration is wrong.

Examples:
  mcomp doctor
  mcomp doctor -q --config /etc/mcomp/mcomp.cfg
  mcomp doctor --json | jq '.findings[] | select(.level == \"fail\")'";

const SHELL_EXAMPLES: &str = "\
A request has an \"op\", its fields, and an \"id\" that the answer repeats. Bytes are base64 (or \"text\" \
in a write), numbers are JSON integers. Every answer has \"outcome\": ok, fail or unknown.

Examples:
  echo '{\"id\":1,\"op\":\"write\",\"addr\":0,\"text\":\"hello\"}' | mcomp shell
  echo '{\"id\":2,\"op\":\"read\",\"addr\":0,\"len\":5}' | mcomp shell
  echo '{\"id\":3,\"op\":\"cas\",\"addr\":64,\"old\":0,\"new\":7}' | mcomp shell

The ops: read write fill copy checksum cas add swap status snapshot alloc free realloc renew release lock unlock";

const PURGE_EXAMPLES: &str = "\
The memory of the cluster on this machine is lost; only a snapshot brings it back. With it go the files of \
[metadata] dir, the server's part of the log of allocations, leases and locks: it gets a new one from the others, if \
most of them still have theirs. The segment and the file of a server that runs are left alone: stop the server first.

Examples:
  mcomp purge
  mcomp purge --json";

/// `mcomp config`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mcomp config check
  mcomp config show --config /etc/mcomp/mcomp.cfg
  MCOMP_CLIENT_TIMEOUT=1s mcomp config show --json")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

/// What is done with the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether it is valid, or all that is wrong with it
    #[command(after_help = "Exits with 78 when it is not.\n\nExamples:\n  mcomp config check --config new.cfg")]
    Check,
    /// Print every value in force and where it came from
    #[command(after_help = "Examples:\n  mcomp config show\n  MCOMP_CLIENT_TIMEOUT=1s mcomp config show --json")]
    Show,
}

/// `mcomp member`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mcomp member ls
  mcomp member replace 1 10.0.0.9:7001")]
pub(crate) struct MemberArgs {
    #[command(subcommand)]
    pub(crate) command: MemberCommand,
}

/// What is asked about the members.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List them: which life of its memory each one lives, and whether it is filled
    #[command(after_help = "A server whose memory was lost comes back under a new incarnation, and is filled by the \
others.\n\nExamples:\n  mcomp member ls\n  mcomp member ls --json")]
    Ls,
    /// Move a server of replicated blocks to another address
    #[command(after_help = "\
The new one is started by you, before or after this, with `mcomp server --id ID` and a mcomp.cfg in which ADDRESS is that \
of the server. It is given the log and takes the place of the old one, which ends if it still runs. Then it is filled by \
the other replicas, which is waited for. Whoever still has the old mcomp.cfg finds it; give all machines the new one \
soon. The server's present address gives up a move that has not come to pass.

Examples:
  mcomp member replace 1 10.0.0.9:7001
  mcomp member replace 1 10.0.0.9:7001 --no-wait")]
    Replace {
        /// The server, by its number in mcomp.cfg
        id: u32,
        /// Where it is to be: host:port
        address: Endpoint,
        /// Return when it is agreed on, before it has happened
        #[arg(long)]
        no_wait: bool,
    },
    /// Add a server at the end of the address space
    #[command(after_help = "\
Write the new mcomp.cfg first: n is one more, and ADDRESS that of the last server. Start `mcomp server` there with it, then \
add it. Where blocks are replicated, copies move to it, one step after the other, while all serve; then its own part of the \
address space begins. All servers begin anew with each step, which takes a moment. Who still has the old mcomp.cfg goes on \
with the memory that it knows; snapshots and restores need the new one, so start snapshot processes again with it.

Examples:
  mcomp member add 10.0.0.9:7001
  mcomp member add 10.0.0.9:7001 --no-wait")]
    Add {
        /// Where it runs: host:port
        address: Endpoint,
        /// Return when it is agreed on, before it has happened
        #[arg(long)]
        no_wait: bool,
    },
}

/// `mcomp completion`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mcomp completion bash > /etc/bash_completion.d/mcomp
  mcomp completion zsh > ~/.zfunc/_mcomp
  mcomp completion fish > ~/.config/fish/completions/mcomp.fish")]
pub(crate) struct CompletionArgs {
    /// For which shell
    #[arg(value_enum)]
    pub(crate) shell: CompletionShell,
}

/// The shells that there is a completion for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompletionShell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

#[cfg(test)]
mod tests;
