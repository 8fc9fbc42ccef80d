//! Replicated memory: three servers that keep each block three times. It is measured beside the same servers without
//! copies, beside an etcd of three nodes, and beside the least that a client of a majority has to do; and with one
//! server dead or frozen.
//!
//! Clients go from one home to the next with each call, so that all servers have the same to do. They speak TCP.

mod cost;
mod faults;
mod majority;
mod rates;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use mcomp_client::Cluster;

use crate::bench::Bench;
use crate::peer::{Conn, Op, Transport, Work};
use crate::placement::Placement;
use crate::servers::Servers;

/// The rows of replicated memory, and those of the same servers without copies.
pub(crate) const REPLICATED: &str = "mcomp, 3 replicas";
pub(crate) const SINGLE: &str = "mcomp, 1 replica";

pub(crate) use faults::{DEAD, FROZEN, HEALTHY, HOME_DEATH};
pub(crate) use majority::MAJORITY;

const SERVERS: u32 = 3;
/// Bytes of one server.
const K_BYTES: u64 = 64 << 20;
/// Bytes of an operation where nothing else is said: a block.
const SIZE_BYTES: usize = 4096;
/// How long servers may take until all of them serve all of their memory.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured with two clusters that have done nothing else.
struct Case {
    id: &'static str,
    op: Op,
    clients: usize,
    measure: fn(&mut Bench, &Pair, &Case) -> anyhow::Result<()>,
}

const CASES: [Case; 10] = [
    Case { id: "replicas/get-4KiB-1", op: Op::Get, clients: 1, measure: rates::run },
    Case { id: "replicas/set-4KiB-1", op: Op::Set, clients: 1, measure: rates::run },
    Case { id: "replicas/get-4KiB-64", op: Op::Get, clients: 64, measure: rates::run },
    Case { id: "replicas/set-4KiB-64", op: Op::Set, clients: 64, measure: rates::run },
    Case { id: "replicas/majority-get-4KiB", op: Op::Get, clients: 1, measure: majority::run },
    Case { id: "replicas/majority-set-4KiB", op: Op::Set, clients: 1, measure: majority::run },
    Case { id: "replicas/cpu-get-4KiB", op: Op::Get, clients: 1, measure: cost::processor_time },
    Case { id: "replicas/cpu-set-4KiB", op: Op::Set, clients: 1, measure: cost::processor_time },
    Case { id: "replicas/get-1MiB", op: Op::Get, clients: 1, measure: cost::bulk },
    Case { id: "replicas/set-1MiB", op: Op::Set, clients: 1, measure: cost::bulk },
];

/// Measures every case. What fails is reported, and does not take the rest of the run with it.
pub(crate) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let wanted: Vec<Case> = CASES.into_iter().filter(|case| bench.wants(case.id)).collect();
    if !wanted.is_empty() {
        match Pair::start(bench) {
            Ok(pair) => {
                for case in wanted {
                    let measured = (case.measure)(bench, &pair, &case);
                    bench.note_failure(case.id, measured)?;
                }
            }
            Err(error) => bench.note_failure("replicas/", Err(error))?,
        }
    }
    faults::run(bench)
}

/// The same three servers twice.
struct Pair {
    replicated: Servers,
    single: Servers,
}

impl Pair {
    fn start(bench: &Bench) -> anyhow::Result<Pair> {
        Ok(Pair { replicated: start(bench, 3)?, single: start(bench, 1)? })
    }

    /// Each with the name of its row, if that is wanted.
    fn wanted(&self, bench: &Bench) -> Vec<(&'static str, &Servers)> {
        let both = [(SINGLE, &self.single), (REPLICATED, &self.replicated)];
        both.into_iter().filter(|(name, _)| bench.wants_system(name)).collect()
    }
}

/// Starts servers, and waits until they serve.
fn start(bench: &Bench, replicas: u32) -> anyhow::Result<Servers> {
    bench.cores.enter_client(Placement::Free)?;
    let servers = Servers::start_replicated(&bench.scratch, SERVERS, K_BYTES, replicas)?;
    await_serving(bench, &servers)?;
    Ok(servers)
}

/// Waits until every server serves all of its memory.
fn await_serving(bench: &Bench, servers: &Servers) -> anyhow::Result<()> {
    let cluster = servers.client(Transport::Tcp, 1)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = cluster.statuses().into_iter();
        let said: Vec<String> = said.map(|status| status.map_or_else(|error| error.to_string(), |s| s.state)).collect();
        if said.iter().all(|state| state == "serving") {
            return Ok(());
        }
        bench.check_asked()?;
        if Instant::now() >= deadline {
            bail!("after {} s the servers do not all serve; they say: {}", PATIENCE.as_secs(), said.join("; "));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A client of its own, with one connection to each server.
struct Client {
    cluster: Cluster,
    op: Op,
    /// Of the home that is next.
    addr: u64,
    buffer: Vec<u8>,
}

impl Client {
    /// All clients have blocks of their own.
    fn connect(servers: &Servers, work: Work) -> anyhow::Result<Client> {
        let cluster = servers.client(Transport::Tcp, 1)?;
        Ok(Client { cluster, op: work.op, addr: work.addr(), buffer: vec![0x5a; work.size_bytes] })
    }
}

/// So many of them, ready to be measured.
fn connect(servers: &Servers, op: Op, size_bytes: usize, clients: usize) -> anyhow::Result<Vec<Box<dyn Conn>>> {
    let one = |lane| {
        let mut client = Client::connect(servers, Work { op, size_bytes, depth: 1, lane })?;
        // Connected to every home before anything is measured.
        (0..SERVERS).try_for_each(|_| client.run())?;
        Ok(Box::new(client) as Box<dyn Conn>)
    };
    (0..clients).map(one).collect()
}

impl Conn for Client {
    fn run(&mut self) -> anyhow::Result<()> {
        match self.op {
            Op::Get => self.cluster.read_at(self.addr, &mut self.buffer)?,
            _ => self.cluster.write_at(self.addr, &self.buffer)?,
        }
        self.addr = (self.addr + K_BYTES) % (K_BYTES * u64::from(SERVERS));
        Ok(())
    }
}
