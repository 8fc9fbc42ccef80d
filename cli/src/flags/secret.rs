//! `mcomp secret` as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `mcomp secret`.
#[derive(Args, Debug)]
#[command(after_help = "\
A secret is a file with keys for three roles: clients use the memory, nodes make snapshots of it, admins \
restore it. Name it in mcomp.cfg ([security] secret_file), and copy it to every machine of the cluster.

Without FILE it is the one that mcomp.cfg names, or mcomp.secret beside mcomp.cfg.

Examples:
  mcomp secret create
  mcomp secret export --role client -o client.secret
  mcomp secret rotate")]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    pub(crate) command: SecretCommand,
}

/// What is done with a secret.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Make new keys, in a file that is not there yet
    #[command(after_help = "Examples:\n  mcomp secret create\n  mcomp secret create /etc/mcomp/mcomp.secret")]
    Create(SecretFile),
    /// Put new keys in front of today's, which are still accepted
    #[command(after_help = "\
Copy the file to every machine and restart the servers and snapshot processes one after the other: \
whoever has the old file is served until `mcomp secret retire`.

Examples:
  mcomp secret rotate
  mcomp secret rotate --json")]
    Rotate(SecretFile),
    /// Drop the keys from before the last rotation
    #[command(after_help = "\
Do it when everybody has the rotated file: who has the old one is refused after the next restart.

Examples:
  mcomp secret retire")]
    Retire(SecretFile),
    /// Write the keys of some roles alone to another file
    #[command(after_help = "\
Examples:
  mcomp secret export --role client -o client.secret
  mcomp secret export --role client --role admin -o operator.secret")]
    Export(SecretExport),
    /// Print which roles have keys, and names of them that tell nothing of the keys
    #[command(after_help = "Examples:\n  mcomp secret show\n  mcomp secret show client.secret --json")]
    Show(SecretFile),
}

/// Which secret.
#[derive(Args, Debug)]
pub(crate) struct SecretFile {
    /// The secret
    pub(crate) file: Option<PathBuf>,
}

/// `mcomp secret export`.
#[derive(Args, Debug)]
pub(crate) struct SecretExport {
    /// Whose keys; may be given more than once
    #[arg(long = "role", value_name = "ROLE", value_enum, required = true)]
    pub(crate) roles: Vec<SecretRole>,
    /// The file to write; it must not be there yet
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The secret
    pub(crate) file: Option<PathBuf>,
}

/// Who has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SecretRole {
    /// Programs that use the memory.
    Client,
    /// Servers and snapshot processes.
    Node,
    /// Commands that make snapshots and restore them.
    Admin,
}
