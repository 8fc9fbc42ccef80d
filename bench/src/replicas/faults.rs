//! What a dead or a frozen server costs: the rate of clients that have had a moment to notice it, and how long the
//! blocks of a home that was killed answer nobody.
//!
//! Another server is hit in each round. Clients are new in each part of it, and connected before the server is hit.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::Bench;
use crate::case::{Group, size_word};
use crate::measure::{self, Sample};
use crate::peer::{Conn, Op, Transport};
use crate::placement::Placement;
use crate::replicas::{K_BYTES, PATIENCE, REPLICATED, SERVERS, SIZE_BYTES, await_serving, connect, start};
use crate::result::{CaseResult, Row, Unit};
use crate::servers::Servers;

/// The rows of these cases.
pub(crate) const HEALTHY: &str = "mcomp, all three";
pub(crate) const FROZEN: &str = "mcomp, one frozen";
pub(crate) const DEAD: &str = "mcomp, one dead";

/// The case whose value is the time that blocks were not there.
pub(crate) const HOME_DEATH: &str = "replicas/home-death";

const CLIENTS: usize = 8;
/// Windows that clients have to notice, and those in which they are measured: a client asks a frozen server again from
/// time to time, and waits for it.
const TO_NOTICE: u32 = 8;
const TO_MEASURE: u32 = 12;
/// After it no other round begins.
const ENOUGH: Duration = Duration::from_secs(40);

/// The rates of one kind of operation.
struct Rates {
    id: &'static str,
    op: Op,
    samples: [Vec<Sample>; 3],
}

/// Measures the rates, and then the deaths of homes.
pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.wants_system(REPLICATED) {
        return Ok(());
    }
    for (id, op) in [("replicas/faults-get-4KiB-8", Op::Get), ("replicas/faults-set-4KiB-8", Op::Set)] {
        if bench.wants(id) {
            let measured = rates(bench, Rates { id, op, samples: Default::default() });
            bench.note_failure(id, measured)?;
        }
    }
    if bench.wants(HOME_DEATH) {
        let measured = home_death(bench);
        bench.note_failure(HOME_DEATH, measured)?;
    }
    Ok(())
}

fn rates(bench: &mut Bench, mut found: Rates) -> anyhow::Result<()> {
    let mut servers = start(bench, SERVERS)?;
    let mut hit = 0;
    bench.repeat(found.id, ENOUGH, |bench| {
        hit = (hit + 1) % SERVERS;
        let pid = Pid::from_raw(servers.pid(hit as usize).cast_signed()).context("a process id")?;
        found.samples[0].push(rate(bench, &servers, found.op, || Ok(()))?);
        let mut frozen = None;
        found.samples[1].push(rate(bench, &servers, found.op, || {
            frozen = Some(Frozen::stop(pid)?);
            Ok(())
        })?);
        drop(frozen);
        await_serving(bench, &servers)?;
        found.samples[2].push(rate(bench, &servers, found.op, || Ok(kill_process(pid, Signal::KILL)?))?);
        servers.restart_one(&bench.scratch, hit)?;
        await_serving(bench, &servers)
    })?;
    let rows = [HEALTHY, FROZEN, DEAD].into_iter().zip(&found.samples);
    let rows = rows.map(|(name, samples)| Row::of(name.to_owned(), samples)).collect();
    let title = format!("{} {}, {CLIENTS} clients", found.op.word(), size_word(SIZE_BYTES));
    let (group, id) = (Group::Replicas, found.id.to_owned());
    let mut result = CaseResult { group, id, title, placement: Placement::Free, unit: Unit::KiloOperations, rows };
    result.compare(|_| Some(HEALTHY.to_owned()));
    bench.keep(result);
    Ok(())
}

/// What new clients do after `hit`, and after some time to notice.
fn rate(bench: &Bench, servers: &Servers, op: Op, hit: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Sample> {
    bench.check_asked()?;
    let mut conns: Vec<Box<dyn Conn>> = connect(servers, op, SIZE_BYTES, CLIENTS)?;
    hit()?;
    measure::rate(&mut conns, 1, &[], bench.settings.window * TO_NOTICE)?;
    bench.check_asked()?;
    measure::rate(&mut conns, 1, &[], bench.settings.window * TO_MEASURE)
}

/// A process that stands still until this is dropped.
struct Frozen(Pid);

impl Frozen {
    fn stop(pid: Pid) -> anyhow::Result<Frozen> {
        kill_process(pid, Signal::STOP)?;
        Ok(Frozen(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Kills one server after the other, and writes and reads one of its blocks until it answers: a client that knows it
/// and was about to ask it.
fn home_death(bench: &mut Bench) -> anyhow::Result<()> {
    let mut servers = start(bench, SERVERS)?;
    let mut samples = Vec::new();
    bench.repeat(HOME_DEATH, ENOUGH, |bench| {
        (0..SERVERS).try_for_each(|home| {
            samples.push(Sample { value: death_ms(&servers, home)?, ..Sample::default() });
            servers.restart_one(&bench.scratch, home)?;
            await_serving(bench, &servers)
        })
    })?;
    let rows = vec![Row::of(REPLICATED.to_owned(), &samples)];
    let title = format!("kill -9 of a home until one of its blocks is written and read, {} times", samples.len());
    let (group, id, placement, unit) = (Group::Replicas, HOME_DEATH.to_owned(), Placement::Free, Unit::Milliseconds);
    bench.keep(CaseResult { group, id, title, placement, unit, rows });
    Ok(())
}

fn death_ms(servers: &Servers, home: u32) -> anyhow::Result<f64> {
    let (cluster, addr) = (servers.client(Transport::Tcp, 1)?, u64::from(home) * K_BYTES);
    let mut buffer = vec![0x5a; SIZE_BYTES];
    cluster.write_at(addr, &buffer)?;
    kill_process(Pid::from_raw(servers.pid(home as usize).cast_signed()).context("a process id")?, Signal::KILL)?;
    let killed = Instant::now();
    while let Err(error) = cluster.write_at(addr, &buffer).and_then(|()| cluster.read_at(addr, &mut buffer)) {
        if killed.elapsed() > PATIENCE {
            bail!("the blocks of server {home}, which was killed, do not answer: {error}");
        }
    }
    Ok(killed.elapsed().as_secs_f64() * 1e3)
}
