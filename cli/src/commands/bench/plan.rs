//! What is to be measured, checked: the runs in their order, and the range of memory that they touch.
//!
//! Leaves out whether the servers can do it: only they know.

use std::ops::RangeInclusive;
use std::time::Duration;

use fastrand::Rng;
use mcomp_client::{Error, Space};
use mcomp_config::format_size;

use crate::exit::{Exit, Failure};
use crate::flags::BenchArgs;

const TIME: Duration = Duration::from_secs(3);

/// What the buffers and batches of one run may hold together.
const HELD_BYTES_MAX: u64 = 1 << 30;

/// Everything that is to be measured.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Each run, in order; at least one.
    pub(super) shapes: Vec<Shape>,
    pub(super) amount: Amount,
    pub(super) warm_up: Duration,
    /// How many of a hundred requests read.
    pub(super) reads_percent: u8,
    /// The range that is touched.
    pub(super) addr: u64,
    pub(super) len: u64,
    pub(super) seed: u64,
}

/// What is different from run to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) size_bytes: u64,
    /// Requests in one batch.
    pub(super) depth: u32,
    pub(super) connections: u32,
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    Time(Duration),
    /// This many requests, by all threads together.
    Count(u64),
}

/// The places that a request may go to.
///
/// Invariant: `count > 0`, and place number `i` is the `size_bytes` from `first + i * size_bytes` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    first: u64,
    count: u64,
    size_bytes: u64,
}

impl Plan {
    /// The plan, or what is wrong with it. Nothing has been asked of a server yet.
    pub(super) fn new(args: &BenchArgs, space: Space) -> anyhow::Result<Plan> {
        let addr = args.at.unwrap_or(0);
        let len = args.len.unwrap_or(space.size().saturating_sub(addr));
        space.check(addr, len).map_err(Error::from)?;
        let plan = Plan {
            shapes: shapes(args),
            amount: args.count.map_or(Amount::Time(args.time.unwrap_or(TIME)), Amount::Count),
            warm_up: args.warm_up,
            reads_percent: args.reads,
            addr,
            len,
            // Of 32 bits, so that it survives readers of JSON for whom every number is a fraction.
            seed: args.seed.unwrap_or_else(|| u64::from(fastrand::u32(..))),
        };
        for shape in &plan.shapes {
            plan.places(shape)?;
            shape.check_held()?;
        }
        Ok(plan)
    }

    /// Where the requests of a run may go.
    pub(super) fn places(&self, shape: &Shape) -> Result<Places, Failure> {
        let Plan { addr, len, .. } = *self;
        Places::new(addr, len, shape.size_bytes).ok_or_else(|| {
            let size = format_size(shape.size_bytes);
            Failure::usage(format!(
                "no multiple of {size} in the {len} bytes from address {addr} on has room for a request of {size}: \
                 choose a smaller --size, from 1 on, or a larger --len"
            ))
        })
    }

    /// The servers that hold the range.
    pub(super) fn servers(&self, space: Space) -> RangeInclusive<u32> {
        let last = self.addr + self.len - 1;
        // A place in the space is on one of its servers, whose number has 32 bits.
        (self.addr / space.k()) as u32..=(last / space.k()) as u32
    }
}

/// Refuses to overwrite memory that nobody offered, and to do locally what only servers can.
pub(super) fn check_flags(args: &BenchArgs) -> Result<(), Failure> {
    let reads = args.reads;
    if reads < 100 && (args.at.is_none() || args.len.is_none()) {
        let text = format!("--reads {reads} overwrites memory: say what may be lost with --at ADDR and --len LEN");
        return Err(Failure::usage(text));
    }
    let depth = args.depth.iter().find(|depth| **depth > 1);
    Err(Failure::usage(match depth {
        _ if !args.local => return Ok(()),
        _ if reads < 100 => format!("--reads {reads} writes, and writes go through the servers: leave --local out"),
        Some(depth) => format!("--depth {depth} is a batch, and batches go through the servers: leave --local out"),
        None => return Ok(()),
    }))
}

fn shapes(args: &BenchArgs) -> Vec<Shape> {
    let depths = match &args.depth[..] {
        [] if args.local => &[1][..],
        [] => &[1, 64],
        said => said,
    };
    let mut shapes = Vec::new();
    for &size_bytes in &args.size {
        for &depth in depths {
            shapes.extend(args.connections.iter().map(|&connections| Shape { size_bytes, depth, connections }));
        }
    }
    shapes
}

impl Shape {
    fn check_held(self) -> Result<(), Failure> {
        let Shape { size_bytes, depth, connections } = self;
        let each = size_bytes.saturating_mul(depth.into());
        if each.saturating_mul(connections.into()) <= HELD_BYTES_MAX {
            return Ok(());
        }
        let text = format!(
            "{connections} connections with {depth} requests of {} each hold more than {} at once: choose a smaller \
             --size, --depth or --connections",
            format_size(size_bytes),
            format_size(HELD_BYTES_MAX)
        );
        Err(Failure::new(Exit::USAGE, "too_large", text))
    }
}

impl Places {
    /// The multiples of `size_bytes` whose bytes lie inside the range, if there are any.
    fn new(addr: u64, len: u64, size_bytes: u64) -> Option<Places> {
        let first = addr.checked_next_multiple_of(size_bytes)?;
        let count = (addr + len).saturating_sub(first) / size_bytes;
        (count > 0).then_some(Places { first, count, size_bytes })
    }

    /// One of them, at random.
    pub(super) fn draw(&self, random: &mut Rng) -> u64 {
        self.first + random.u64(..self.count) * self.size_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Cli, Command};
    use clap::Parser;

    fn args(line: &str) -> BenchArgs {
        let cli = Cli::try_parse_from(["mcomp", "bench"].into_iter().chain(line.split_whitespace())).unwrap();
        let Command::Bench(args) = cli.command else { unreachable!("it is a bench") };
        args
    }

    fn plan(line: &str) -> anyhow::Result<Plan> {
        Plan::new(&args(line), Space::new(1 << 20, 3).unwrap())
    }

    #[test]
    fn every_combination_is_a_run() {
        let plan = plan("--size 8,16 --depth 1,2 --connections 3 --count 5").unwrap();
        let told: Vec<_> = plan.shapes.iter().map(|s| (s.size_bytes, s.depth, s.connections)).collect();
        assert_eq!(told, [(8, 1, 3), (8, 2, 3), (16, 1, 3), (16, 2, 3)]);
        assert_eq!((plan.amount, plan.addr, plan.len), (Amount::Count(5), 0, 3 << 20));
        let depths = |line| super::shapes(&args(line)).iter().map(|shape| shape.depth).collect::<Vec<_>>();
        assert_eq!(depths("--size 1 --connections 1"), [1, 64]);
        assert_eq!(depths("--size 1 --connections 1 --local"), [1]);
    }

    #[test]
    fn what_may_be_lost_has_to_be_said() {
        for line in ["--reads 99", "--reads 0 --at 0", "--reads 0 --len 8"] {
            let message = check_flags(&args(line)).unwrap_err().to_string();
            assert!(message.contains("--at") && message.contains("--len"), "{line}: {message}");
        }
        for line in ["", "--at 8", "--reads 100 --local", "--reads 0 --at 0 --len 8", "--local --depth 1"] {
            assert!(check_flags(&args(line)).is_ok(), "{line}");
        }
        for (line, part) in [("--reads 0 --at 0 --len 8 --local", "--reads 0"), ("--local --depth 1,9", "--depth 9")] {
            let message = check_flags(&args(line)).unwrap_err().to_string();
            assert!(message.starts_with(part) && message.contains("--local"), "{line}: {message}");
        }
    }

    #[test]
    fn the_range_lies_in_the_memory_and_has_room() {
        for line in ["--size 0", "--size 4MiB", "--at 3MiB", "--at 1 --len 15 --size 8,16", "--len 0", "--size 3"] {
            let fits = plan(line).is_ok();
            assert_eq!(fits, line == "--size 3", "{line}");
        }
        for line in ["--at 4MiB", "--at 1 --len 3MiB", "--at 0xffffffffffffffff --len 2"] {
            let error = plan(line).unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(Error::OutOfRange { .. })), "{line}: {error}");
        }
        let error = plan("--size 1MiB --depth 256 --connections 8").unwrap_err().to_string();
        assert!(error.contains("1 MiB each hold more than 1 GiB"), "{error}");
    }

    #[test]
    fn a_range_names_its_servers() {
        let space = Space::new(1 << 20, 3).unwrap();
        for (line, servers) in
            [("", 0..=2), ("--len 1MiB", 0..=0), ("--at 1MiB --len 1MiB", 1..=1), ("--at 2MiB", 2..=2)]
        {
            assert_eq!(plan(line).unwrap().servers(space), servers, "{line}");
        }
    }

    #[test]
    fn places_are_aligned_and_inside() {
        let mut random = Rng::with_seed(1);
        for (addr, len, size) in [(0, 8, 8), (1, 15, 8), (4095, 8194, 4096), (7, 100, 3), (5, 1, 1)] {
            let places = Places::new(addr, len, size).unwrap();
            for _ in 0..100 {
                let at = places.draw(&mut random);
                assert!(at.is_multiple_of(size) && at >= addr && at + size <= addr + len, "{at} in {addr} + {len}");
            }
        }
        for (addr, len, size) in [(1, 14, 8), (0, 0, 1), (0, 7, 8), (0, 8, 0), (u64::MAX - 1, 1, 4096)] {
            assert_eq!(Places::new(addr, len, size), None, "{addr} + {len} of {size}");
        }
    }
}
