//! What all servers have to agree on: allocations of a cluster of three servers, with their logs on the disk, beside the
//! puts of an etcd of three nodes on the same disk; and how long nobody decides after the leader was killed.
//!
//! mcomp's clients are the library that programs use, one session for each thread; etcd's are in [`crate::etcd`].

use std::time::{Duration, Instant};

use anyhow::Context;
use mcomp_client::meta::Allocate;
use mcomp_client::{Cluster, Session};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Bench, System};
use crate::case::Group;
use crate::etcd::{self, Etcd};
use crate::mcomp;
use crate::measure::Sample;
use crate::peer::{Conn, Op, Transport};
use crate::placement::Placement;
use crate::result::{CaseResult, Row, Unit};
use crate::scratch::Scratch;
use crate::servers::Servers;

const SERVERS: u32 = 3;
/// Bytes of one server.
const K_BYTES: u64 = 64 << 20;
/// Bytes of one allocation, and of one value of etcd.
const SIZE_BYTES: u64 = 64;
/// How long a cluster may take to decide for the first time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures one client and sixty-four, then the death of leaders.
pub(crate) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for clients in [1, 64] {
        let id = format!("agree/{clients}");
        if bench.wants(&id) {
            let measured = rates(bench, &id, clients);
            bench.note_failure(&id, measured)?;
        }
    }
    let id = "agree/failover";
    if bench.wants(id) && bench.wants_system(mcomp::NAME) {
        let measured = failover(bench, id);
        bench.note_failure(id, measured)?;
    }
    Ok(())
}

fn rates(bench: &mut Bench, id: &str, clients: usize) -> anyhow::Result<()> {
    bench.cores.enter_client(Placement::Free)?;
    let folder = Scratch::disk_folder()?;
    let servers = Servers::start_in(&bench.scratch, SERVERS, K_BYTES, folder.path())?;
    let cluster = servers.client(Transport::Tcp, clients)?;
    let sessions = sessions(&cluster, clients)?;
    let etcd = match bench.wants_system(etcd::NAME) {
        true => Etcd::start(&bench.scratch, folder.path(), SERVERS)?,
        false => None,
    };
    let mut systems: Vec<System<'_>> = Vec::new();
    if bench.wants_system(mcomp::NAME) {
        systems.push((mcomp::NAME.to_owned(), Box::new(|window| allocations(&sessions, window))));
    }
    if let Some(etcd) = &etcd {
        let connect = |number| etcd.connect(Op::Set, SIZE_BYTES as usize, number);
        let mut conns = (0..clients).map(connect).collect::<anyhow::Result<Vec<_>>>()?;
        systems.push((etcd::NAME.to_owned(), Box::new(move |window| puts(&mut conns, window))));
    }
    let rows = bench.interleave(id, systems)?;
    let title = format!("{clients} client{}, {SIZE_BYTES} bytes each", if clients == 1 { "" } else { "s" });
    let (group, placement, unit) = (Group::Agree, Placement::Free, Unit::KiloOperations);
    let mut result = CaseResult { group, id: id.to_owned(), title, placement, unit, rows };
    result.compare(|_| Some(etcd::NAME.to_owned()));
    bench.keep(result);
    Ok(())
}

/// One session for each client, as soon as the servers have a leader.
fn sessions(cluster: &Cluster, clients: usize) -> anyhow::Result<Vec<Session>> {
    let deadline = Instant::now() + PATIENCE;
    let first = loop {
        match cluster.session() {
            Ok(session) => break session,
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => {}
        }
    };
    let rest = (1..clients).map(|_| Ok(cluster.session()?));
    std::iter::once(Ok(first)).chain(rest).collect()
}

/// Allocations a second of all sessions together; what was allocated is freed behind the window.
fn allocations(sessions: &[Session], window: Duration) -> anyhow::Result<Sample> {
    let start = Instant::now();
    let one = |session: &Session| -> anyhow::Result<Vec<u64>> {
        let mut addrs = Vec::new();
        while start.elapsed() < window {
            addrs.push(session.allocate(Allocate { size: SIZE_BYTES, ..Allocate::default() })?.addr);
        }
        Ok(addrs)
    };
    let allocated: anyhow::Result<Vec<Vec<u64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = sessions.iter().map(|session| scope.spawn(move || one(session))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    });
    let (allocated, elapsed) = (allocated?, start.elapsed());
    let count: usize = allocated.iter().map(Vec::len).sum();
    std::thread::scope(|scope| {
        for (session, addrs) in sessions.iter().zip(&allocated) {
            // What is left takes room, and no more.
            scope.spawn(move || addrs.iter().for_each(|addr| drop(session.free(*addr, None))));
        }
    });
    Ok(Sample { value: count as f64 / elapsed.as_secs_f64() / 1e3, ..Sample::default() })
}

/// Puts a second of all clients together.
fn puts(conns: &mut [etcd::Client], window: Duration) -> anyhow::Result<Sample> {
    let start = Instant::now();
    let one = |conn: &mut etcd::Client| -> anyhow::Result<u64> {
        let mut count = 0;
        while start.elapsed() < window {
            conn.run()?;
            count += 1;
        }
        Ok(count)
    };
    let counts: anyhow::Result<Vec<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = conns.iter_mut().map(|conn| scope.spawn(move || one(conn))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    });
    let count: u64 = counts?.iter().sum();
    Ok(Sample { value: count as f64 / start.elapsed().as_secs_f64() / 1e3, ..Sample::default() })
}

/// Kills the leader, and asks until another one has decided. The killed server comes back for the next round.
fn failover(bench: &mut Bench, id: &str) -> anyhow::Result<()> {
    const KILLS: usize = 20;
    bench.cores.enter_client(Placement::Free)?;
    eprintln!("{id}");
    let folder = Scratch::disk_folder()?;
    let mut servers = Servers::start_in(&bench.scratch, SERVERS, K_BYTES, folder.path())?;
    let mut samples = Vec::new();
    for _ in 0..KILLS.min(bench.settings.rounds * 4) {
        bench.check_asked()?;
        let cluster = servers.client(Transport::Tcp, 1)?;
        drop(sessions(&cluster, 1)?);
        let leader = leader(&cluster).context("nobody leads")?;
        let pid = Pid::from_raw(servers.pid(leader as usize).cast_signed()).context("a process id")?;
        kill_process(pid, Signal::KILL)?;
        let killed = Instant::now();
        // Another client, which knows nothing of the one that died.
        drop(sessions(&servers.client(Transport::Tcp, 1)?, 1)?);
        samples.push(Sample { value: killed.elapsed().as_secs_f64() * 1e3, ..Sample::default() });
        servers.restart_one(&bench.scratch, leader)?;
    }
    let rows = vec![Row::of(mcomp::NAME.to_owned(), &samples)];
    let title = format!("kill -9 of the leader until a new one has decided, {} times", samples.len());
    let (group, placement, unit) = (Group::Agree, Placement::Free, Unit::Milliseconds);
    bench.keep(CaseResult { group, id: id.to_owned(), title, placement, unit, rows });
    Ok(())
}

fn leader(cluster: &Cluster) -> Option<u32> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let leader = (0..SERVERS).find_map(|id| cluster.consensus(id).ok()?.leader);
        if leader.is_some() {
            return leader;
        }
    }
    None
}
