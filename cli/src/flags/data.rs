//! Arguments of the commands that read and change memory.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::value;

/// `mcomp read`.
#[derive(Args, Debug)]
#[command(after_help = "\
Without --format, bytes go raw to a file or a pipe and as a hexdump to a terminal.

Examples:
  mcomp read 0 64
  mcomp read 64MiB 1KiB -o block.bin
  mcomp read 0x1000 5 --format text
  mcomp read results[0:64]
  mcomp read 0 1GiB | sha256sum")]
pub(crate) struct ReadArgs {
    /// The first address
    #[arg(value_name = "ADDR", value_parser = value::place)]
    pub(crate) addr: value::Place,
    /// How many bytes; may be left out behind a name, for all that it names
    #[arg(value_name = "LEN", value_parser = value::size)]
    pub(crate) len: Option<u64>,
    /// Write to this file, which appears whole or not at all; - is stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How the bytes look
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
}

/// How bytes look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// As they are.
    Raw,
    /// A hexdump with the addresses of the memory.
    Hex,
    /// UTF-8, with \xNN for what cannot be shown.
    Text,
}

/// `mcomp write`. A required group would stand before the address in the usage line.
#[derive(Args, Debug)]
#[command(override_usage = "mcomp write [OPTIONS] <ADDR> <DATA|--hex <HEX>|--file <FILE>>")]
#[command(after_help = "\
A source whose length is known is checked against the memory before its first byte is sent.

Examples:
  mcomp write 0x1000 hello
  mcomp write 0 --hex 'de ad be ef'
  mcomp write 64MiB --file image.bin
  tar c folder | mcomp write 0 -
  mcomp write 0 -- --dashes-first")]
pub(crate) struct WriteArgs {
    /// The first address
    #[arg(value_name = "ADDR", value_parser = value::place)]
    pub(crate) addr: value::Place,
    #[command(flatten)]
    pub(crate) source: SourceFlags,
}

/// Where the bytes of a write come from: exactly one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct SourceFlags {
    /// The bytes themselves; - reads stdin
    #[arg(value_name = "DATA")]
    typed: Option<OsString>,
    /// The bytes as pairs of hexadecimal digits; blanks and colons between pairs are ignored
    #[arg(long, value_name = "HEX", value_parser = value::hex)]
    hex: Option<value::Bytes>,
    /// The bytes of a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Where the bytes of a write come from, ready to be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Bytes(Vec<u8>),
    /// A file, or whatever stands at this path.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl SourceFlags {
    pub(crate) fn into_source(self) -> Source {
        use std::os::unix::ffi::OsStringExt;
        match (self.typed, self.hex, self.file) {
            (Some(typed), _, _) if typed == "-" => Source::Stdin,
            (Some(typed), _, _) => Source::Bytes(typed.into_vec()),
            (_, Some(hex), _) => Source::Bytes(hex.0),
            (_, _, Some(file)) if file.as_os_str() == "-" => Source::Stdin,
            (_, _, Some(file)) => Source::File(file),
            (None, None, None) => unreachable!("the group requires one of them"),
        }
    }
}

/// `mcomp fill`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mcomp fill 0 1MiB 0
  mcomp fill 0x1000 4096 0xff")]
pub(crate) struct FillArgs {
    /// The first address
    #[arg(value_name = "ADDR", value_parser = value::place)]
    pub(crate) addr: value::Place,
    /// How many bytes
    #[arg(value_name = "LEN", value_parser = value::size)]
    pub(crate) len: u64,
    /// The value of each, 0 to 255 or 0x00 to 0xff
    #[arg(value_name = "BYTE", value_parser = value::byte)]
    pub(crate) byte: u8,
}

/// `mcomp copy`.
#[derive(Args, Debug)]
#[command(after_help = "\
The ranges may overlap.

Examples:
  mcomp copy 0 64MiB 1MiB")]
pub(crate) struct CopyArgs {
    /// The first address to copy from
    #[arg(value_name = "FROM", value_parser = value::place)]
    pub(crate) from: value::Place,
    /// The first address to copy to
    #[arg(value_name = "TO", value_parser = value::place)]
    pub(crate) to: value::Place,
    /// How many bytes
    #[arg(value_name = "LEN", value_parser = value::size)]
    pub(crate) len: u64,
}

/// `mcomp compare`.
#[derive(Args, Debug)]
#[command(after_help = "\
Exits with 0 when they are equal. Otherwise prints the first address that differs, and exits with 1.

Examples:
  mcomp compare 64MiB image.bin")]
pub(crate) struct CompareArgs {
    /// The first address
    #[arg(value_name = "ADDR", value_parser = value::place)]
    pub(crate) addr: value::Place,
    /// What to compare with; - is stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `mcomp cas`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints the value that was there. Exits with 0 when it was OLD and is now NEW, and with 1 when it was \
another and stays. Values are little-endian numbers of 64 bits at a multiple of 8.

Examples:
  mcomp cas 64 0 1")]
pub(crate) struct CasArgs {
    /// The address, a multiple of 8
    #[arg(value_name = "ADDR", value_parser = value::place)]
    pub(crate) addr: value::Place,
    /// The value that must be there
    #[arg(value_name = "OLD", value_parser = value::number, allow_negative_numbers = true)]
    pub(crate) old: u64,
    /// The value that takes its place
    #[arg(value_name = "NEW", value_parser = value::number, allow_negative_numbers = true)]
    pub(crate) new: u64,
}

/// `mcomp add`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints the value that was there before. The sum wraps at 2^64.

Examples:
  mcomp add 64 1
  mcomp add 64 -1")]
pub(crate) struct AddArgs {
    /// The address, a multiple of 8
    #[arg(value_name = "ADDR", value_parser = value::place)]
    pub(crate) addr: value::Place,
    /// What to add; may be negative
    #[arg(value_name = "DELTA", value_parser = value::delta, allow_hyphen_values = true)]
    pub(crate) delta: u64,
}

/// `mcomp swap`.
#[derive(Args, Debug)]
#[command(after_help = "\
Prints the value that was there before.

Examples:
  mcomp swap 64 0xffff")]
pub(crate) struct SwapArgs {
    /// The address, a multiple of 8
    #[arg(value_name = "ADDR", value_parser = value::place)]
    pub(crate) addr: value::Place,
    /// The value that takes its place
    #[arg(value_name = "NEW", value_parser = value::number, allow_negative_numbers = true)]
    pub(crate) new: u64,
}
