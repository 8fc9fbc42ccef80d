//! What a connection costs a server that has nothing to do: private resident memory over a thousand
//! of them. Memory of the kernel is not in it.

use crate::bench::Bench;
use crate::case::Group;
use crate::measure::Sample;
use crate::peer::{Op, Peer, Transport, Work};
use crate::placement::Placement;
use crate::raw;
use crate::result::{CaseResult, Row, Unit};
use crate::usage;

/// How many connections are made.
const CONNECTIONS: usize = 1000;

/// The only case.
const ID: &str = "idle/1000";

/// Measures every system.
pub(crate) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.wants(ID) {
        return Ok(());
    }
    eprintln!("{ID}");
    let peers = bench.start_peers(Placement::Free)?;
    let mut rows = Vec::new();
    let is_plain = |peer: &dyn Peer| {
        let is_variant = peer.name().ends_with("range") || peer.name() == raw::SMALL_BUFFERS_NAME;
        peer.transport() == Transport::Tcp && !is_variant
    };
    for peer in peers.iter().map(AsRef::as_ref).filter(|peer| is_plain(*peer)) {
        bench.check_asked()?;
        match per_connection_kib(peer) {
            Ok(value) => rows.push(Row::of(peer.label(), &[Sample { value, ..Sample::default() }])),
            Err(error) => bench.failures.push(format!("{ID}, {}: {error:#}", peer.label())),
        }
    }
    bench.results.push(CaseResult {
        group: Group::Idle,
        id: ID.to_owned(),
        title: format!("{CONNECTIONS} connections after one write of 8 bytes each"),
        placement: Placement::Free,
        unit: Unit::Kibibytes,
        rows,
    });
    Ok(())
}

fn per_connection_kib(peer: &dyn Peer) -> anyhow::Result<f64> {
    let before_bytes = usage::private_bytes(peer.pid())?;
    let mut conns = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut conn = peer.connect(Work { op: Op::Set, size_bytes: 8, depth: 1, lane: 0 })?;
        conn.run()?;
        conns.push(conn);
    }
    let grown = usage::private_bytes(peer.pid())?.saturating_sub(before_bytes);
    Ok(grown as f64 / 1024.0 / CONNECTIONS as f64)
}
