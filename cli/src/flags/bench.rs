//! Arguments of `mcomp bench`.

use std::time::Duration;

use clap::Args;
use mcomp_config::{format_duration, parse_duration};

use super::value;

const WARM_UP_MAX: Duration = Duration::from_secs(3600);

/// `mcomp bench`.
#[derive(Args, Debug)]
#[command(after_help = "\
Measures every combination of the sizes, depths and connections, one after the other, at random \
addresses that are multiples of the size. The time of a batch is the time of each request in it. A \
reading of the clock is part of every time; its price is printed too. The first requests of a run, \
which connect, are lost in its warm-up.

Memory is not changed unless --reads is below 100: then random bytes are written into the range of \
--at and --len, and what was there is lost.

Servers of this machine are read straight from their memory at a depth of 1. Writes and batches go \
through the servers.

Ctrl-C ends it early; what was measured until then is printed.

Examples:
  mcomp bench
  mcomp bench --size 8,4KiB,64KiB --depth 1 --connections 1,8,64 --time 10s
  mcomp bench --reads 70 --at 64MiB --len 1MiB
  mcomp bench --local --size 8,4KiB,1MiB
  mcomp bench --count 100000 --seed 7 --json")]
pub(crate) struct BenchArgs {
    /// Bytes of each request; a list with commas
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = value::size)]
    #[arg(default_value = "8,4KiB")]
    pub(crate) size: Vec<u64>,
    /// Requests in one batch; a list with commas [default: 1,64, or 1 with --local]
    #[arg(long, value_name = "DEPTHS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) depth: Vec<u32>,
    /// Threads, each with connections of its own; a list with commas
    #[arg(long, value_name = "COUNTS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    #[arg(default_value = "1,8")]
    pub(crate) connections: Vec<u32>,
    /// How many of a hundred requests read; the others write, and need --at and --len
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) reads: u8,
    /// The first address of the range; without it, the first of the memory
    #[arg(long, value_name = "ADDR", value_parser = value::address)]
    pub(crate) at: Option<u64>,
    /// The bytes of the range; without it, all to the end of the memory
    #[arg(long, value_name = "LEN", value_parser = value::size)]
    pub(crate) len: Option<u64>,
    /// Read only straight from the segments of this machine, or fail
    #[arg(long)]
    pub(crate) local: bool,
    /// How long each run is measured [default: 3s]
    #[arg(long, value_name = "DURATION", conflicts_with = "count", value_parser = value::timeout)]
    pub(crate) time: Option<Duration>,
    /// Measure this many requests in each run instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// How long each run goes on before it is measured
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = warm_up)]
    pub(crate) warm_up: Duration,
    /// The seed of the addresses, to repeat a run; without it, a random one
    #[arg(long, value_name = "N", value_parser = value::number)]
    pub(crate) seed: Option<u64>,
}

/// A duration that may be zero.
fn warm_up(text: &str) -> Result<Duration, String> {
    let warm_up = parse_duration(text).map_err(|error| error.to_string())?;
    match warm_up <= WARM_UP_MAX {
        true => Ok(warm_up),
        false => Err(format!("{text:?} is too long a warm-up: write at most {}", format_duration(WARM_UP_MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn parse(line: &str) -> Result<BenchArgs, clap::Error> {
        let cli = Cli::try_parse_from(["mcomp", "bench"].into_iter().chain(line.split_whitespace()))?;
        match cli.command {
            Command::Bench(args) => Ok(args),
            other => panic!("{other:?} is no bench"),
        }
    }

    #[test]
    fn lists_have_commas_and_defaults() {
        let args = parse("").unwrap();
        assert_eq!((args.size, args.depth, args.connections), (vec![8, 4096], vec![], vec![1, 8]));
        assert_eq!((args.reads, args.warm_up), (100, Duration::from_millis(500)));
        let args = parse("--size 1,2KiB,0x10 --depth 7 --connections 64,1 --warm-up 0s --count 9").unwrap();
        assert_eq!((args.size, args.depth, args.connections), (vec![1, 2048, 16], vec![7], vec![64, 1]));
        assert_eq!((args.warm_up, args.count), (Duration::ZERO, Some(9)));
    }

    #[test]
    fn wrong_values_are_refused() {
        for line in [
            "--size 8,x",
            "--size 8,",
            "--depth 0",
            "--depth -1",
            "--connections 0",
            "--connections 1025",
            "--reads 101",
            "--reads -1",
            "--count 0",
            "--count 1 --time 1s",
            "--time 0s",
            "--time 3",
            "--warm-up 2h",
            "--warm-up 5",
            "--seed -1",
            "5",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
