//! What the figures depend on beside the plan: by which way each server is reached, and on which
//! cores this process may run.
//!
//! Each server is asked for the checksum of one byte. That finds out who answers, makes a server of
//! this machine offer its segment, and is not counted among the reads and writes that are measured.

use std::thread;
use std::time::{Duration, Instant};

use mcomp_client::{Cluster, Error, Options};
use mcomp_config::{Config, is_local_ip};
use rustix::thread::{CpuSet, sched_getaffinity};
use serde::Serialize;

use super::plan::Plan;
use crate::exit::{Exit, Failure};

/// How requests reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// Its memory, straight from the segment.
    Segment,
    /// A Unix socket.
    Unix,
    /// TCP.
    Tcp,
    /// It did not answer.
    None,
}

/// The ways to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Path {
    pub(super) server: u32,
    pub(super) reads: Way,
    pub(super) writes: Way,
    /// Whatever is in them, for they are done in order.
    pub(super) batches: Way,
}

impl Way {
    fn word(self) -> &'static str {
        match self {
            Way::Segment => "segment",
            Way::Unix => "unix",
            Way::Tcp => "tcp",
            Way::None => "none",
        }
    }
}

/// The ways to the servers of the plan's range. Fails when none of them answers: then there is nothing
/// to measure. One of several that is down is measured as it is.
pub(super) fn paths(config: &Config, options: &Options, plan: &Plan) -> Result<Vec<Path>, Error> {
    let cluster = &Cluster::with_options(options.clone())?;
    let asked: Vec<(Path, Result<(), Error>)> = thread::scope(|scope| {
        let ask = |server| scope.spawn(move || ask(config, options, cluster, plan, server));
        let threads: Vec<_> = plan.servers(cluster.space()).map(ask).collect();
        threads.into_iter().map(|thread| thread.join().expect("asking does not panic")).collect()
    });
    let answers = asked.iter().any(|(_, answer)| answer.is_ok());
    asked.into_iter().map(|(path, answer)| if answers { Ok(path) } else { answer.map(|()| path) }).collect()
}

fn ask(config: &Config, options: &Options, cluster: &Cluster, plan: &Plan, server: u32) -> (Path, Result<(), Error>) {
    let first = plan.addr.max(u64::from(server) * cluster.space().k());
    let answer = cluster.checksum(first, 1).map(drop);
    let socket = match answer {
        Err(_) => Way::None,
        // A server without a Unix socket is reached over TCP all the same; that cannot be told from here.
        Ok(()) if options.unix && is_near(config, server) => Way::Unix,
        Ok(()) => Way::Tcp,
    };
    let has_segment = answer.is_ok() && cluster.is_local(server).unwrap_or(false);
    (Path { server, reads: if has_segment { Way::Segment } else { socket }, writes: socket, batches: socket }, answer)
}

/// Refuses a server whose segment cannot be read from here.
pub(super) fn check_local(config: &Config, options: &Options, paths: &[Path]) -> anyhow::Result<()> {
    if !options.segment {
        let text = "--local reads segments, which --remote or client.segment of the configuration switches off";
        return Err(Failure::usage(text).into());
    }
    let Some(Path { server, .. }) = paths.iter().find(|path| path.reads != Way::Segment) else { return Ok(()) };
    let address = &config.server(*server)?.address;
    let text = format!(
        "the segment of server {server} at {address} cannot be read from here: the server is down, on another \
         machine, or another user's; choose the range of another server with --at and --len, or leave --local out"
    );
    Err(Failure::new(Exit::UNAVAILABLE, "unavailable", text).into())
}

fn is_near(config: &Config, server: u32) -> bool {
    let addresses = config.server(server).and_then(|server| server.address.resolve());
    addresses.is_ok_and(|addresses| addresses.iter().any(|address| is_local_ip(address.ip())))
}

/// The ways that the runs of a plan take, in words: "unix", or "reads segment, batches unix".
pub(super) fn told(paths: &[Path], plan: &Plan) -> String {
    let (mut kinds, mut has_batches) = (Vec::new(), false);
    for shape in &plan.shapes {
        has_batches |= shape.depth > 1;
        if shape.depth == 1 && kinds.is_empty() {
            kinds.extend((plan.reads_percent > 0).then(|| ("reads", of_kind(paths, |path| path.reads))));
            kinds.extend((plan.reads_percent < 100).then(|| ("writes", of_kind(paths, |path| path.writes))));
        }
    }
    kinds.extend(has_batches.then(|| ("batches", of_kind(paths, |path| path.batches))));
    match kinds.iter().all(|(_, ways)| *ways == kinds[0].1) {
        true => kinds.swap_remove(0).1,
        false => kinds.iter().map(|(kind, ways)| format!("{kind} {ways}")).collect::<Vec<_>>().join(", "),
    }
}

/// "segment", or "segment to servers 0-1 and tcp to server 2".
fn of_kind(paths: &[Path], way: impl Fn(&Path) -> Way) -> String {
    let mut ways: Vec<Way> = paths.iter().map(&way).collect();
    ways.sort_unstable();
    ways.dedup();
    if let [only] = ways[..] {
        return only.word().to_owned();
    }
    let part = |one: &Way| {
        let servers: Vec<u32> = paths.iter().filter(|path| way(path) == *one).map(|path| path.server).collect();
        let plural = if servers.len() == 1 { "" } else { "s" };
        format!("{} to server{plural} {}", one.word(), ranges(&servers))
    };
    ways.iter().map(part).collect::<Vec<_>>().join(" and ")
}

/// What a reading of the clock costs: it is part of every latency. The median of many.
pub(super) fn clock() -> Duration {
    let mut prices = [Duration::ZERO; 1001];
    for price in &mut prices {
        let began = Instant::now();
        *price = began.elapsed();
    }
    prices.sort_unstable();
    prices[prices.len() / 2]
}

/// The cores that this process may run on. Empty when the system does not say.
pub(super) fn cores() -> Vec<u32> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).zip(0..).filter(|(core, _)| set.is_set(*core)).map(|(_, core)| core).collect()
}

/// Rising numbers in few words: "0-3, 6".
pub(super) fn ranges(numbers: &[u32]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let told = runs.map(|run| match run {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => unreachable!("a chunk holds something"),
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Amount, Shape};
    use super::*;

    #[test]
    fn neighbours_are_one_range() {
        for (numbers, text) in [(&[][..], ""), (&[3], "3"), (&[0, 1, 2, 3, 6], "0-3, 6"), (&[0, 2, 3], "0, 2-3")] {
            assert_eq!(ranges(numbers), text);
        }
    }

    #[test]
    fn this_process_runs_somewhere() {
        let cores = cores();
        assert!(!cores.is_empty() && cores.is_sorted(), "{cores:?}");
    }

    #[test]
    fn ways_that_differ_name_their_servers() {
        let path = |server, reads| Path { server, reads, writes: Way::Tcp, batches: Way::Tcp };
        let mut paths = vec![path(0, Way::Segment), path(1, Way::Segment)];
        let shape = |depth| Shape { size_bytes: 8, depth, connections: 1 };
        let plan = |depths: &[u32], reads_percent| Plan {
            shapes: depths.iter().map(|depth| shape(*depth)).collect(),
            amount: Amount::Count(1),
            warm_up: Duration::ZERO,
            reads_percent,
            addr: 0,
            len: 8,
            seed: 0,
        };
        assert_eq!(told(&paths, &plan(&[1], 100)), "segment");
        assert_eq!(told(&paths, &plan(&[1, 1], 0)), "tcp");
        assert_eq!(told(&paths, &plan(&[8], 50)), "tcp");
        assert_eq!(told(&paths, &plan(&[1, 8], 50)), "reads segment, writes tcp, batches tcp");
        paths.push(path(2, Way::Tcp));
        assert_eq!(told(&paths, &plan(&[1], 100)), "segment to servers 0-1 and tcp to server 2");
    }
}
