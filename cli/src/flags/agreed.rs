//! Arguments of the commands about what the servers agree on: allocations, leases, locks.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};
use mcomp_client::meta::{Fence, is_name};
use uuid::Uuid;

use super::{SourceFlags, value};

/// `mcomp alloc`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints the address. The memory reads as zeros and stays until it is freed, by whoever, or until its lease has run \
out. Wherever an address is expected, NAME, NAME+64 and NAME[0:64] will do. Exits with 73 when there is no room.
Examples:
  mcomp alloc 1MiB
  mcomp alloc 64KiB --name results --meta owner=alice
  mcomp alloc 4096 --lease 5s --json")]
pub(crate) struct AllocArgs {
    /// How many bytes
    #[arg(value_name = "SIZE", value_parser = value::size)]
    pub(crate) size: u64,
    /// A name for it
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(crate) name: Option<String>,
    /// Free it by itself after this time, unless the lease is renewed
    #[arg(long, value_name = "DURATION", value_parser = value::timeout)]
    pub(crate) lease: Option<Duration>,
    /// Let anybody write to leased memory, not only who shows the lease
    #[arg(long, requires = "lease")]
    pub(crate) shared: bool,
    /// A note, shown by ls and stat; may be given several times
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = note)]
    pub(crate) notes: Vec<(String, String)>,
}

/// `mcomp free`.
#[derive(Args, Debug)]
#[command(after_help = "\
Any program may free what any other allocated, unless it is under a lease. Exits with 1 when nothing is allocated there.
Examples:
  mcomp free 0x10000
  mcomp free results")]
pub(crate) struct FreeArgs {
    /// Its first address, or its name
    #[arg(value_name = "ADDR|NAME", value_parser = value::place)]
    pub(crate) place: value::Place,
    /// Only if it is this generation, as alloc and ls show it
    #[arg(long, value_name = "NUMBER", value_parser = value::number)]
    pub(crate) generation: Option<u64>,
}

/// `mcomp realloc`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints the address: the same when there is room behind it, otherwise another one, with its bytes, name and lease.
Examples:
  mcomp realloc results 1MiB
  mcomp realloc 0x10000 100")]
pub(crate) struct ReallocArgs {
    /// Its first address, or its name
    #[arg(value_name = "ADDR|NAME", value_parser = value::place)]
    pub(crate) place: value::Place,
    /// How many bytes it is to have
    #[arg(value_name = "SIZE", value_parser = value::size)]
    pub(crate) size: u64,
}

/// `mcomp stat`.
#[derive(Args, Debug)]
#[command(after_help = "\
Without an argument, how the memory is used: bytes asked for and taken, the largest free run, by server. Exits with 1 when nothing is allocated there.
Examples:
  mcomp stat
  mcomp stat results
  mcomp stat 0x10010")]
pub(crate) struct StatArgs {
    /// An address or a name
    #[arg(value_name = "ADDR|NAME", value_parser = value::place)]
    pub(crate) place: Option<value::Place>,
}

/// `mcomp gc`.
#[derive(Args, Debug)]
#[command(after_help = "\
What a program allocated and did not free before it died belongs to nobody. Allocations of programs that ended in \
good order are kept.
Examples:
  mcomp gc --dry-run
  mcomp gc --yes")]
#[group(required = true, multiple = false)]
pub(crate) struct GcArgs {
    /// Only show what would be freed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Free it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `mcomp lease`.
#[derive(Args, Debug)]
#[command(after_help = "\
A lease is memory with a time to live. Whoever knows its id may read, write, renew and release it.
Examples:
  mcomp lease 4096 5s                 prints the id
  mcomp lease set ID hello
  mcomp lease get ID
  mcomp lease renew ID 10s
  mcomp lease release ID
  mcomp lease ls")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct LeaseArgs {
    #[command(subcommand)]
    pub(crate) command: Option<LeaseCommand>,
    /// How many bytes
    #[arg(value_name = "SIZE", required = true, value_parser = value::size)]
    pub(crate) size: Option<u64>,
    /// For how long
    #[arg(value_name = "DURATION", required = true, value_parser = value::timeout)]
    pub(crate) ttl: Option<Duration>,
}

/// What is done with a lease.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Print the bytes
    #[command(after_help = "Exits with 75 when the lease has run out.\n\nExamples:\n  mcomp lease get ID | hexdump -C")]
    Get {
        /// Its id
        id: Uuid,
    },
    /// Put bytes at its beginning
    #[command(after_help = "\
Exits with 64 when they are more than it holds, and with 75 when it has run out: nothing is written then.

Examples:
  mcomp lease set ID hello
  date | mcomp lease set ID -")]
    Set {
        /// Its id
        id: Uuid,
        #[command(flatten)]
        source: SourceFlags,
    },
    /// Let it live for so long from now on
    #[command(after_help = "Examples:\n  mcomp lease renew ID 10s")]
    Renew {
        /// Its id
        id: Uuid,
        /// For how long
        #[arg(value_name = "DURATION", value_parser = value::timeout)]
        ttl: Duration,
    },
    /// Free its memory now
    #[command(after_help = "Examples:\n  mcomp lease release ID")]
    Release {
        /// Its id
        id: Uuid,
    },
    /// List all that live
    #[command(after_help = "Examples:\n  mcomp lease ls --json")]
    Ls,
}

/// `mcomp lock`.
#[derive(Args, Debug)]
#[command(after_help = "\
Runs COMMAND while the lock is held, and exits as it does. $MCOMP_FENCE tells it the lock's fence, which mcomp write, \
fill, cas, add, swap and copy then show by themselves: should the lock be lost, they change nothing and exit with 75. \
Exits with 1 when the lock was not free in time.
Examples:
  mcomp lock nightly -- ./nightly.sh
  mcomp lock queue --timeout 10s -- sh -c 'mcomp add 64 1'
  mcomp lock pool --permits 4 -- ./worker")]
pub(crate) struct LockArgs {
    /// Its name
    #[arg(value_name = "NAME", value_parser = name)]
    pub(crate) name: String,
    /// How many may hold it at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) permits: u32,
    /// What to run
    #[arg(value_name = "COMMAND", required = true, last = true)]
    pub(crate) command: Vec<OsString>,
}

fn name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err("a name begins with a letter or _, and goes on with letters, digits and _ - . /".to_owned()),
    }
}

fn note(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a note is KEY=VALUE".to_owned()),
    }
}

/// A fence as `$MCOMP_FENCE` and `--fence` have it: `ID:NUMBER`.
pub(crate) fn fence(text: &str) -> Result<Fence, String> {
    let parsed = text.split_once(':').and_then(|(id, number)| Some((id.parse().ok()?, number.parse().ok()?)));
    let (id, number) = parsed.ok_or_else(|| format!("{text:?} is no fence: it is ID:NUMBER"))?;
    Ok(Fence { id, number })
}
