//! mcomp as a peer: real `mcomp server` processes, and the client library as a program uses it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, bail};
use mcomp_client::{Cluster, Options, Space};

use crate::peer::{Conn, Op, Peer, Transport, Work};
use crate::process::Process;
use crate::scratch::Scratch;

/// The name of mcomp's rows.
pub(crate) const NAME: &str = "mcomp";

/// Bytes of a server in cases that need no more.
const SMALL_K_BYTES: u64 = 64 << 20;

/// A cluster of processes. Dropping it ends them and removes their memory.
#[derive(Debug)]
pub(crate) struct Servers {
    processes: Vec<Process>,
    cluster: String,
    addresses: Vec<String>,
    space: Space,
    config: PathBuf,
    program: PathBuf,
}

impl Servers {
    /// Starts `n` servers with `k_bytes` each.
    pub(crate) fn start(scratch: &Scratch, n: u32, k_bytes: u64) -> anyhow::Result<Servers> {
        let mut servers = Servers::prepare(scratch, n, k_bytes)?;
        for id in 0..n {
            servers.start_one(scratch, id)?;
        }
        Ok(servers)
    }

    /// Writes the configuration and starts nothing.
    pub(crate) fn prepare(scratch: &Scratch, n: u32, k_bytes: u64) -> anyhow::Result<Servers> {
        let cluster = scratch.unique("c");
        let mut text = format!("[cluster]\nname = \"{cluster}\"\nk = {k_bytes}\nn = {n}\n");
        let mut addresses = Vec::new();
        for _ in 0..n {
            let address = scratch.free_address()?.to_string();
            write!(text, "[[server]]\naddress = \"{address}\"\n")?;
            addresses.push(address);
        }
        text.push_str("[snapshot]\nevery = \"off\"\n");
        let config = scratch.path(&format!("{cluster}.cfg"));
        std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let space = Space::new(k_bytes, n).context("the address space does not fit into 64 bits")?;
        Ok(Servers { processes: Vec::new(), cluster, addresses, space, config, program: program()? })
    }

    /// Starts server `id` and waits until it serves.
    pub(crate) fn start_one(&mut self, scratch: &Scratch, id: u32) -> anyhow::Result<()> {
        let config = self.config.to_string_lossy().into_owned();
        let args = ["server", "--id", &id.to_string(), "--config", &config].map(str::to_owned);
        self.processes.push(Process::start_until_ready(scratch, "mcomp", &self.program, &args)?);
        Ok(())
    }

    /// A client that reaches them so, with one connection to each server per thread.
    pub(crate) fn client(&self, transport: Transport, threads: usize) -> anyhow::Result<Cluster> {
        let mut options = Options::new(self.cluster.as_str(), self.space, self.addresses.iter().map(String::as_str));
        options.max_connections = threads;
        options.unix = transport != Transport::Tcp;
        options.segment = transport == Transport::Segment;
        Ok(Cluster::with_options(options)?)
    }

    /// The process of server `id`.
    pub(crate) fn pid(&self, id: usize) -> u32 {
        self.processes[id].pid()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.processes.clear();
        if let Err(error) = mcomp_shm::purge(&self.cluster) {
            eprintln!("the memory of cluster {} was not removed: {error}", self.cluster);
        }
    }
}

/// The `mcomp` that belongs to this executable. It is built when it is not there.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    let program = own.with_file_name("mcomp");
    if program.is_file() {
        return Ok(program);
    }
    let release = if cfg!(debug_assertions) { None } else { Some("--release") };
    eprintln!("{} does not exist: building it with cargo", program.display());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace is above this package")?;
    let mut build = Command::new("cargo");
    build.args(["build", "--locked", "-p", "mcomp-cli"]).args(release).current_dir(workspace);
    let built = build.status().is_ok_and(|status| status.success());
    if !built || !program.is_file() {
        bail!("{} cannot be built: run `cargo build --release -p mcomp-cli -p mcomp-bench`", program.display());
    }
    Ok(program)
}

/// One way to one server.
#[derive(Debug)]
pub(crate) struct Mcomp {
    servers: Rc<Servers>,
    transport: Transport,
}

impl Mcomp {
    /// Starts one server and gives both ways to it that go through a socket.
    pub(crate) fn start(scratch: &Scratch) -> anyhow::Result<Vec<Box<dyn Peer>>> {
        let servers = Rc::new(Servers::start(scratch, 1, SMALL_K_BYTES)?);
        let peer = |transport| Box::new(Mcomp { servers: Rc::clone(&servers), transport }) as Box<dyn Peer>;
        Ok([Transport::Tcp, Transport::Unix].into_iter().map(peer).collect())
    }
}

impl Peer for Mcomp {
    fn name(&self) -> &str {
        NAME
    }

    fn transport(&self) -> Transport {
        self.transport
    }

    fn pid(&self) -> u32 {
        self.servers.pid(0)
    }

    fn does(&self, _: Op) -> bool {
        true
    }

    fn connect(&self, work: Work) -> anyhow::Result<Box<dyn Conn>> {
        let cluster = self.servers.client(self.transport, 1)?;
        Ok(Box::new(Link { cluster, work, addr: work.addr(), buffer: vec![0x5a; work.size_bytes], value: 0 }))
    }
}

/// A client of its own with one connection.
#[derive(Debug)]
struct Link {
    cluster: Cluster,
    work: Work,
    addr: u64,
    buffer: Vec<u8>,
    /// What a compare-and-swap expects: what it put there last.
    value: u64,
}

impl Conn for Link {
    fn run(&mut self) -> anyhow::Result<()> {
        if self.work.depth > 1 {
            return self.run_batch();
        }
        match self.work.op {
            Op::Get => self.cluster.read_at(self.addr, &mut self.buffer)?,
            Op::Set => self.cluster.write_at(self.addr, &self.buffer)?,
            Op::Add => {
                self.cluster.fetch_add(self.addr, 1)?;
            }
            Op::Exchange => {
                let found = self.cluster.compare_exchange(self.addr, self.value, self.value + 1)?;
                self.value = if found.swapped { self.value + 1 } else { found.previous };
            }
        }
        Ok(())
    }
}

impl Link {
    fn run_batch(&self) -> anyhow::Result<()> {
        let mut batch = self.cluster.batch();
        for index in 0..self.work.depth {
            let addr = self.addr + (index * self.work.size_bytes) as u64;
            match self.work.op {
                Op::Get => batch.read(addr, self.work.size_bytes as u64),
                _ => batch.write(addr, self.buffer.as_slice()),
            };
        }
        for outcome in batch.run() {
            outcome?;
        }
        Ok(())
    }
}
