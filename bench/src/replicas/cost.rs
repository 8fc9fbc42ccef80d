//! What three copies cost beside one: processor time of a quiet operation, and the speed of large transfers.

use anyhow::Context;

use crate::bench::{Bench, System};
use crate::case::{Group, size_word};
use crate::measure::{self, Sample};
use crate::placement::Placement;
use crate::replicas::{Case, Pair, SINGLE, SIZE_BYTES, connect};
use crate::result::{CaseResult, Unit};

/// Bytes of a large transfer.
const LARGE_BYTES: usize = 1 << 20;

/// Processor time of one operation, that of all servers and of the client together.
pub(super) fn processor_time(bench: &mut Bench, pair: &Pair, case: &Case) -> anyhow::Result<()> {
    bench.cores.enter_client(Placement::Free)?;
    let mut systems: Vec<System<'_>> = Vec::new();
    for (name, servers) in pair.wanted(bench) {
        let mut conns = connect(servers, case.op, SIZE_BYTES, case.clients)?;
        let servers = servers.pids();
        let all: Vec<u32> = servers.iter().copied().chain([std::process::id()]).collect();
        let measure = move |window| {
            let sample = measure::trips(conns[0].as_mut(), &all, window)?;
            let value = sample.server_us.context("the processes have used no time")?;
            Ok(Sample { value, ..Sample::default() })
        };
        systems.push((name.to_owned(), Box::new(measure)));
    }
    let title = format!("{} {}, 1 client, processor time of all", case.op.word(), size_word(SIZE_BYTES));
    keep(bench, case, title, Unit::Microseconds, systems)
}

/// One client, one large transfer after the other.
pub(super) fn bulk(bench: &mut Bench, pair: &Pair, case: &Case) -> anyhow::Result<()> {
    bench.cores.enter_client(Placement::Free)?;
    let mut systems: Vec<System<'_>> = Vec::new();
    for (name, servers) in pair.wanted(bench) {
        let mut conns = connect(servers, case.op, LARGE_BYTES, case.clients)?;
        let pids = servers.pids();
        let measure = move |window| {
            let sample = measure::rate(&mut conns, 1, &pids, window)?;
            Ok(Sample { value: sample.value * 1e3 * LARGE_BYTES as f64 / 1e9, ..sample })
        };
        systems.push((name.to_owned(), Box::new(measure)));
    }
    let title = format!("{} {}, 1 client", case.op.word(), size_word(LARGE_BYTES));
    keep(bench, case, title, Unit::GigabytesPerSecond, systems)
}

fn keep(bench: &mut Bench, case: &Case, title: String, unit: Unit, systems: Vec<System<'_>>) -> anyhow::Result<()> {
    let rows = bench.interleave(case.id, systems)?;
    let (group, id, placement) = (Group::Replicas, case.id.to_owned(), Placement::Free);
    let mut result = CaseResult { group, id, title, placement, unit, rows };
    result.compare(|_| Some(SINGLE.to_owned()));
    bench.keep(result);
    Ok(())
}
