//! Arguments of the commands about saved memory: `snapshot` and `restore`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `mcomp snapshot`.
#[derive(Args, Debug)]
#[command(after_help = "\
FILE is a path, or the name of a file in the snapshot folder.

Examples:
  mcomp snapshot create
  mcomp snapshot ls
  mcomp snapshot verify snapshots/FILE
  mcomp snapshot export FILE -o memory.img")]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

/// What is done with snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Take one now and print its path
    #[command(after_help = "\
Prints the path of the file. Without a snapshot to build on, an incremental one is a full one.\n
Examples:\n  mcomp snapshot create\n  mcomp snapshot create --incremental --json")]
    Create(CreateArgs),
    /// List the files of the snapshot folder
    #[command(after_help = "\
Files that cannot be restored are listed too, with the reason.\n
Examples:\n  mcomp snapshot ls\n  mcomp snapshot ls --json")]
    Ls,
    /// Show what a file holds
    #[command(after_help = "\
Reads what the file says about itself, and not its memory: that is what verify does.\n
Examples:\n  mcomp snapshot show FILE")]
    Show(FileArgs),
    /// Check every byte of a file and of those it builds on
    #[command(after_help = "\
With a secret, each file must be signed with it. Exits with 65 when it is damaged or its MAC is wrong, and with 77 \
when it is not signed with a key of the secret.\n
Examples:\n  mcomp snapshot verify FILE")]
    Verify(VerifyArgs),
    /// Remove old files; the last complete one always stays
    #[command(after_help = "\
Prints the names of what it removed. What a kept snapshot builds on stays, broken files stay and are \
named, and what killed processes left unfinished goes.\n
Examples:\n  mcomp snapshot prune\n  mcomp snapshot prune --keep 3")]
    Prune(PruneArgs),
    /// Write the memory that a file holds as one flat image
    #[command(after_help = "\
The image appears whole or not at all.\n
Examples:\n  mcomp snapshot export FILE -o memory.img\n  mcomp snapshot export FILE -o - | sha256sum")]
    Export(ExportArgs),
}

/// `mcomp snapshot create`.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Save only what changed since the newest snapshot, if that is possible
    #[arg(long)]
    pub(crate) incremental: bool,
}

/// A snapshot file that is only read.
#[derive(Args, Debug)]
pub(crate) struct FileArgs {
    /// A path, or a name in the snapshot folder
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `mcomp snapshot verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// A path, or a name in the snapshot folder
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) unsigned: UnsignedFlag,
}

/// Says that somebody vouches for a file.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct UnsignedFlag {
    /// Accept files that are not signed with a key of the secret; a MAC that is wrong is always refused
    #[arg(long)]
    pub(crate) unsigned: bool,
}

/// `mcomp snapshot prune`.
#[derive(Args, Debug)]
pub(crate) struct PruneArgs {
    /// How many to keep; without it, snapshot.keep of the configuration
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
}

/// `mcomp snapshot export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// A path, or a name in the snapshot folder
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where the image goes; - is stdout
    #[arg(short, long, value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Replace OUT if it exists
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) unsigned: UnsignedFlag,
}

/// `mcomp restore`.
#[derive(Args, Debug)]
#[command(after_help = "\
The whole file is checked before any memory is touched. All or nothing: until it is done, the servers \
refuse everybody else.

Examples:
  mcomp restore FILE --dry-run
  mcomp restore snapshots/FILE")]
pub(crate) struct RestoreArgs {
    /// A path, or a name in the snapshot folder
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Check the file and print the plan, and touch nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) unsigned: UnsignedFlag,
}
