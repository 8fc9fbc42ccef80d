//! What a connection costs a server that has nothing to do, and how many are served at a time: private
//! resident memory over a thousand and over ten thousand of them. Memory of the kernel is not in it.
//!
//! Where this machine allows fewer, the row says how many there were and what ended it.

use crate::bench::Bench;
use crate::case::Group;
use crate::limits;
use crate::measure::Sample;
use crate::peer::{Conn, Op, Peer, Transport, Work};
use crate::placement::Placement;
use crate::raw;
use crate::result::{CaseResult, Row, Unit};
use crate::usage;

/// How many connections are made in each case.
const COUNTS: [usize; 2] = [1000, limits::MOST_CONNECTIONS];

/// Measures every system with every count.
pub(crate) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for count in COUNTS {
        let (memory, served) = (format!("idle/{count}"), format!("idle/{count}-served"));
        if bench.wants(&memory) || bench.wants(&served) {
            run_case(bench, count, memory, served)?;
        }
    }
    Ok(())
}

fn run_case(bench: &mut Bench, count: usize, memory: String, served: String) -> anyhow::Result<()> {
    eprintln!("{memory}");
    let peers = bench.start_peers(Placement::Free)?;
    let (mut costs, mut counts) = (Vec::new(), Vec::new());
    for peer in peers.iter().map(AsRef::as_ref).filter(|peer| is_plain(*peer)) {
        match hold(bench, peer, count) {
            Ok(held) => {
                let row = |value| Row::of(peer.label(), &[Sample { value, ..Sample::default() }]);
                let fewer = held.shortfall.as_ref().map(|_| format!("over {} of them", held.served));
                costs.push(Row { remark: fewer, ..row(held.kib_each) });
                counts.push(Row { remark: held.shortfall, ..row(held.served as f64) });
            }
            Err(error) => bench.failures.push(format!("{memory}, {}: {error:#}", peer.label())),
        }
        // What ended it may have been the signal.
        bench.check_asked()?;
    }
    let title = format!("{count} connections after one write of 8 bytes each");
    let result =
        |id, title, unit, rows| CaseResult { group: Group::Idle, id, title, placement: Placement::Free, unit, rows };
    bench.keep(result(memory, title, Unit::Kibibytes, costs));
    if count == limits::MOST_CONNECTIONS {
        let title = format!("{count} connections at a time, served");
        bench.keep(result(served, title, Unit::Connections, counts));
    }
    Ok(())
}

/// Small buffers and ranges say nothing about a connection.
fn is_plain(peer: &dyn Peer) -> bool {
    let is_variant = peer.name().ends_with("range") || peer.name() == raw::SMALL_BUFFERS_NAME;
    peer.transport() == Transport::Tcp && !is_variant
}

/// Connections that were open at a time.
#[derive(Debug)]
struct Held {
    /// How many of them were served while all were open.
    served: usize,
    /// What each costs the server.
    kib_each: f64,
    /// Why there are fewer than asked for.
    shortfall: Option<String>,
}

/// Opens as many as it can, and then serves one more write on each.
fn hold(bench: &Bench, peer: &dyn Peer, count: usize) -> anyhow::Result<Held> {
    let before_bytes = usage::private_bytes(peer.pid())?;
    let mut conns: Vec<Box<dyn Conn>> = Vec::with_capacity(count);
    let mut end = None;
    while conns.len() < count && end.is_none() {
        bench.check_asked()?;
        match open(peer) {
            Ok(conn) => conns.push(conn),
            // Without a single one it is no limit.
            Err(error) if conns.is_empty() => return Err(error),
            Err(error) => end = Some(error),
        }
    }
    let grown_bytes = usage::private_bytes(peer.pid())?.saturating_sub(before_bytes);
    let kib_each = grown_bytes as f64 / 1024.0 / conns.len() as f64;
    let mut served = 0;
    for conn in &mut conns {
        match conn.run() {
            Ok(()) => served += 1,
            Err(error) => end = end.or(Some(error)),
        }
    }
    let limit = limits::open_files();
    let shortfall = end.map(|error| format!("of {count}, with {limit} open files for a process: {error:#}"));
    Ok(Held { served, kib_each, shortfall })
}

fn open(peer: &dyn Peer) -> anyhow::Result<Box<dyn Conn>> {
    let mut conn = peer.connect(Work { op: Op::Set, size_bytes: 8, depth: 1, lane: 0 })?;
    conn.run()?;
    Ok(conn)
}
