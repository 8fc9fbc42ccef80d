//! The groups that go through sockets: every case with every system that fits.

use std::time::Duration;

use crate::bench::{Bench, System};
use crate::case::{Case, socket_cases};
use crate::measure;
use crate::peer::{Conn, Peer, Work};
use crate::placement::Placement;
use crate::raw;
use crate::result::{CaseResult, Row, Unit};

/// Measures them all, placement by placement.
pub(crate) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for placement in Placement::ALL {
        let is_wanted = |case: &Case| case.placement == placement && bench.wants(&case.id());
        let cases: Vec<Case> = socket_cases().into_iter().filter(is_wanted).collect();
        if cases.is_empty() {
            continue;
        }
        if !bench.cores.allow(placement) {
            let word = placement.word();
            bench.notes.push(format!("there is one core only: the cases of placement {word:?} are left out"));
            continue;
        }
        let peers = bench.start_peers(placement)?;
        for case in cases {
            let result = run_case(bench, case, &peers)?;
            bench.results.push(result);
        }
    }
    Ok(())
}

fn run_case(bench: &mut Bench, case: Case, peers: &[Box<dyn Peer>]) -> anyhow::Result<CaseResult> {
    let id = case.id();
    let mut systems: Vec<System<'_>> = Vec::new();
    for peer in peers.iter().filter(|peer| case.fits(peer.as_ref())) {
        match connect(case, peer.as_ref()) {
            Err(error) => bench.failures.push(format!("{id}, {}: {error:#}", peer.label())),
            Ok(mut conns) => {
                let (pids, depth) = ([peer.pid()], case.work.depth);
                let measure = move |window: Duration| match case.is_trip() {
                    true => measure::trips(conns[0].as_mut(), &pids, window),
                    false => measure::rate(&mut conns, depth, &pids, window),
                };
                systems.push((peer.label(), Box::new(measure)));
            }
        }
    }
    let rows = bench.interleave(&id, systems)?;
    let unit = if case.is_trip() { Unit::Microseconds } else { Unit::KiloOperations };
    let Case { group, placement, .. } = case;
    let mut result = CaseResult { group, id, title: case.title(), placement, unit, rows };
    result.compare(baseline);
    Ok(result)
}

fn connect(case: Case, peer: &dyn Peer) -> anyhow::Result<Vec<Box<dyn Conn>>> {
    (0..case.connections).map(|lane| peer.connect(Work { lane, ..case.work })).collect()
}

/// The raw row of the same transport.
fn baseline(row: &Row) -> Option<String> {
    let transport = row.system.rsplit(' ').next()?;
    Some(format!("{} {transport}", raw::NAME))
}
