//! A sequential gigabyte over three servers with one client, beside raw streams of the same number.
//!
//! In address order one server is busy at a time; with three threads, each goes through the part of
//! one server. Raw streams are measured with the kernel's own socket buffers and with small fixed
//! ones, because buffers decide bulk speed; mcomp is compared with the fastest of them.
//!
//! Those streams move the same hot megabyte from the cache, again and again. A server of memory moves
//! memory: the last raw rows do so too, with the client's parts as large as mcomp's.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use mcomp_client::Cluster;

use crate::bench::{Bench, System};
use crate::case::Group;
use crate::mcomp;
use crate::measure::Sample;
use crate::peer::{Op, Transport};
use crate::placement::Placement;
use crate::process::Process;
use crate::raw::{self, Raw};
use crate::raw_server::head;
use crate::result::{CaseResult, Row, Unit};
use crate::servers::Servers;
use crate::socket::{Address, Socket};
use crate::usage;

/// Servers, and threads of the wider case.
const SERVERS: usize = 3;

/// What the client holds of the range at a time, for each thread.
const PART_BYTES: usize = 4 << 20;

/// Socket buffers of the raw streams; none: the kernel's own choice.
const BUFFERS: [Option<usize>; 3] = [None, Some(64 << 10), Some(256 << 10)];

/// How the rows of raw servers with a memory begin.
const MEMORY_NAME: &str = "raw memory";

/// The case that reports what the client needs.
const MEMORY_ID: &str = "stream/client-memory";

/// The raw servers of one choice of buffers.
struct RawStreams {
    name: String,
    buffer_bytes: Option<usize>,
    part_bytes: usize,
    addresses: Vec<Address>,
    _processes: Vec<Process>,
}

/// Measures reads and writes, one after the other and side by side, and the memory of the client.
pub(crate) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let cases = [(Op::Get, 1), (Op::Get, SERVERS), (Op::Set, 1), (Op::Set, SERVERS)];
    let wanted: Vec<_> = cases.into_iter().filter(|&(op, threads)| bench.wants(&id(op, threads))).collect();
    if wanted.is_empty() && !bench.wants(MEMORY_ID) {
        return Ok(());
    }
    bench.cores.enter_server(Placement::Free)?;
    let k_bytes = bench.settings.large_bytes / SERVERS as u64 / PART_BYTES as u64 * PART_BYTES as u64;
    let servers = Servers::start(&bench.scratch, SERVERS as u32, k_bytes)?;
    let cluster = servers.client(Transport::Tcp, SERVERS)?;
    if bench.wants(MEMORY_ID) {
        let result = client_memory(&cluster)?;
        bench.results.push(result);
    }
    let hot = BUFFERS.into_iter().map(|bytes| (bytes, None));
    let cold = BUFFERS.into_iter().map(|bytes| (bytes, Some(k_bytes)));
    let raws = hot.chain(cold).map(|(buffer_bytes, memory_bytes)| start_raw(bench, buffer_bytes, memory_bytes));
    let raws = raws.collect::<anyhow::Result<Vec<_>>>()?;
    for (op, threads) in wanted {
        let result = run_case(bench, op, threads, &cluster, &raws)?;
        bench.results.push(result);
    }
    Ok(())
}

fn run_case(
    bench: &mut Bench,
    op: Op,
    threads: usize,
    cluster: &Cluster,
    raws: &[RawStreams],
) -> anyhow::Result<CaseResult> {
    let (k_bytes, full) = (cluster.space().k(), bench.settings.window);
    // The window that only warms up takes a part of the range.
    let bytes_of = move |window: Duration| if window < full { (k_bytes / 4).max(PART_BYTES as u64) } else { k_bytes };
    let mut systems: Vec<System<'_>> = Vec::new();
    for raw in raws {
        let measure = move |window| timed(threads, bytes_of(window), |server, bytes| raw.transfer(op, server, bytes));
        systems.push((raw.name.clone(), Box::new(measure)));
    }
    let measure = move |window| {
        timed(threads, bytes_of(window), |server, bytes| transfer(cluster, op, server as u64 * k_bytes, bytes))
    };
    systems.push((format!("{} TCP", mcomp::NAME), Box::new(measure)));
    let rows = bench.interleave(&id(op, threads), systems)?;
    let is_hot = |row: &&Row| row.system.starts_with(raw::NAME) && !row.system.starts_with(MEMORY_NAME);
    let best = rows.iter().filter(is_hot).max_by(|a, b| a.median.total_cmp(&b.median));
    let best = best.map(|row| row.system.clone());
    let title = match threads {
        1 => format!("{}, one server after the other", op.word()),
        _ => format!("{}, {SERVERS} servers side by side", op.word()),
    };
    let (group, placement, unit) = (Group::Stream, Placement::Free, Unit::GigabytesPerSecond);
    let mut result = CaseResult { group, id: id(op, threads), title, placement, unit, rows };
    result.compare(|_| best.clone());
    Ok(result)
}

fn id(op: Op, threads: usize) -> String {
    format!("stream/{}-{threads}", op.word())
}

/// Moves `bytes` to or from each server, one after the other or side by side.
fn timed(
    threads: usize,
    bytes: u64,
    transfer: impl Fn(usize, u64) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Sample> {
    let start = Instant::now();
    if threads == 1 {
        (0..SERVERS).try_for_each(|server| transfer(server, bytes))?;
    } else {
        let transfer = &transfer;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..SERVERS).map(|server| scope.spawn(move || transfer(server, bytes))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a measuring thread panicked"))?)
        })?;
    }
    let total = (bytes * SERVERS as u64) as f64;
    Ok(Sample { value: total / start.elapsed().as_secs_f64() / 1e9, ..Sample::default() })
}

/// Through the library, a part at a time.
fn transfer(cluster: &Cluster, op: Op, addr: u64, bytes: u64) -> anyhow::Result<()> {
    let mut part = vec![0x5a; PART_BYTES];
    for offset in (0..bytes).step_by(PART_BYTES) {
        let part = &mut part[..(bytes - offset).min(PART_BYTES as u64) as usize];
        match op {
            Op::Get => cluster.read_at(addr + offset, part)?,
            _ => cluster.write_at(addr + offset, part)?,
        }
    }
    Ok(())
}

/// The most that the client's memory grows while it reads and writes everything.
fn client_memory(cluster: &Cluster) -> anyhow::Result<CaseResult> {
    usage::forget_own_peak()?;
    let before_bytes = usage::own_bytes()?;
    let k_bytes = cluster.space().k();
    for op in [Op::Set, Op::Get] {
        timed(SERVERS, k_bytes, |server, bytes| transfer(cluster, op, server as u64 * k_bytes, bytes))?;
    }
    let grown = usage::own_peak_bytes()?.saturating_sub(before_bytes);
    let sample = Sample { value: grown as f64 / f64::from(1 << 20), ..Sample::default() };
    Ok(CaseResult {
        group: Group::Stream,
        id: MEMORY_ID.to_owned(),
        title: format!("most memory of the client, {SERVERS} threads"),
        placement: Placement::Free,
        unit: Unit::Mebibytes,
        rows: vec![Row::of(format!("{} TCP", mcomp::NAME), &[sample])],
    })
}

fn start_raw(bench: &Bench, buffer_bytes: Option<usize>, memory_bytes: Option<u64>) -> anyhow::Result<RawStreams> {
    let (mut addresses, mut processes) = (Vec::new(), Vec::new());
    for _ in 0..SERVERS {
        let address = Address::Tcp(bench.scratch.free_address()?);
        processes.push(Raw::server(&bench.scratch, std::slice::from_ref(&address), buffer_bytes, memory_bytes)?);
        addresses.push(address);
    }
    let buffers = buffer_bytes.map_or("system's buffers".to_owned(), |bytes| format!("{} KiB buffers", bytes >> 10));
    let (name, part_bytes) = match memory_bytes {
        None => (raw::NAME, PART_BYTES.min(1 << 20)),
        Some(_) => (MEMORY_NAME, PART_BYTES),
    };
    let name = format!("{name}, {buffers}");
    Ok(RawStreams { name, buffer_bytes, part_bytes, addresses, _processes: processes })
}

impl RawStreams {
    /// One request whose payload or answer is the whole range.
    fn transfer(&self, op: Op, server: usize, bytes: u64) -> anyhow::Result<()> {
        let mut socket = Socket::connect(&self.addresses[server], self.buffer_bytes)?;
        let mut part = vec![0x5a; self.part_bytes];
        let (to_send, to_receive) = if op == Op::Get { (0, bytes) } else { (bytes, 8) };
        socket.write_all(&head(to_send as usize, to_receive as usize))?;
        for offset in (0..to_send).step_by(part.len()) {
            socket.write_all(&part[..(to_send - offset).min(part.len() as u64) as usize])?;
        }
        let mut left = to_receive;
        while left > 0 {
            let room = left.min(part.len() as u64) as usize;
            let received = socket.read(&mut part[..room])? as u64;
            anyhow::ensure!(received > 0, "the raw server closed the connection");
            left -= received;
        }
        Ok(())
    }
}
