//! Clusters of mcomp for this run alone: real processes, ended and their memory removed when dropped.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use mcomp_client::{Cluster, Options, Space};
use mcomp_net::auth::Keyring;
use serde_json::Value;

use crate::bench::Bench;
use crate::limits::ADMITTED_CONNECTIONS;
use crate::peer::Transport;
use crate::process::Process;
use crate::scratch::Scratch;

/// What servers are made for.
#[derive(Clone, Copy, Debug)]
struct Shape {
    n: u32,
    k_bytes: u64,
    /// Copies of each block.
    replicas: u32,
}

/// A cluster of processes. Dropping it ends them and removes their memory.
#[derive(Debug)]
pub(crate) struct Servers {
    processes: Vec<Process>,
    cluster: String,
    addresses: Vec<String>,
    space: Space,
    replicas: u32,
    config: PathBuf,
    secret: Option<PathBuf>,
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

    /// Starts `n` servers that keep each block `replicas` times. They are not whole yet.
    pub(crate) fn start_replicated(scratch: &Scratch, n: u32, k_bytes: u64, replicas: u32) -> anyhow::Result<Servers> {
        let mut servers = Servers::configured(scratch, Shape { n, k_bytes, replicas }, scratch.folder(), false)?;
        for id in 0..n {
            servers.start_one(scratch, id)?;
        }
        Ok(servers)
    }

    /// Starts `n` servers whose configuration, and so whose metadata, stands in `folder`.
    pub(crate) fn start_in(scratch: &Scratch, n: u32, k_bytes: u64, folder: &Path) -> anyhow::Result<Servers> {
        let mut servers = Servers::configured(scratch, Shape { n, k_bytes, replicas: 1 }, folder, false)?;
        for id in 0..n {
            servers.start_one(scratch, id)?;
        }
        Ok(servers)
    }

    /// Starts server `id` again, which has ended.
    pub(crate) fn restart_one(&mut self, scratch: &Scratch, id: u32) -> anyhow::Result<()> {
        self.start_one(scratch, id)?;
        // It takes the place of the process that has ended.
        self.processes.swap_remove(id as usize);
        Ok(())
    }

    /// Starts one server with `k_bytes`, whose frames are sealed under a secret.
    pub(crate) fn start_sealed(scratch: &Scratch, k_bytes: u64) -> anyhow::Result<Servers> {
        let mut servers = Servers::prepare(scratch, 1, k_bytes)?;
        let secret = servers.config.with_extension("secret");
        Keyring::random()?.store(&secret, "", false)?;
        let mut config = OpenOptions::new().append(true).open(&servers.config)?;
        writeln!(config, "[security]\nsecret_file = \"{}\"", secret.display())?;
        servers.secret = Some(secret);
        servers.start_one(scratch, 0)?;
        Ok(servers)
    }

    /// Writes the configuration and starts nothing.
    pub(crate) fn prepare(scratch: &Scratch, n: u32, k_bytes: u64) -> anyhow::Result<Servers> {
        Servers::configured(scratch, Shape { n, k_bytes, replicas: 1 }, scratch.folder(), false)
    }

    /// Starts `n` servers and their snapshot processes with `mcomp up`. Snapshots go into `folder`.
    pub(crate) fn up(scratch: &Scratch, n: u32, k_bytes: u64, folder: &Path) -> anyhow::Result<Servers> {
        let mut servers = Servers::configured(scratch, Shape { n, k_bytes, replicas: 1 }, folder, true)?;
        servers.start_process(scratch, &["up"])?;
        Ok(servers)
    }

    /// The configuration stands in `folder`, because snapshots go beside it.
    fn configured(scratch: &Scratch, shape: Shape, folder: &Path, has_snapshots: bool) -> anyhow::Result<Servers> {
        let Shape { n, k_bytes, replicas } = shape;
        let cluster = scratch.unique("c");
        let mut text = format!("[cluster]\nname = \"{cluster}\"\nk = {k_bytes}\nn = {n}\nreplicas = {replicas}\n");
        let mut addresses = Vec::new();
        for _ in 0..n {
            let address = scratch.free_address()?.to_string();
            write!(text, "[[server]]\naddress = \"{address}\"\n")?;
            if has_snapshots {
                writeln!(text, "snapshot = \"{}\"", scratch.free_address()?)?;
            }
            addresses.push(address);
        }
        write!(text, "[snapshot]\nevery = \"off\"\n[limits]\nmax_connections = {ADMITTED_CONNECTIONS}\n")?;
        let config = folder.join(format!("{cluster}.cfg"));
        std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let space = Space::new(k_bytes, n).context("the address space does not fit into 64 bits")?;
        Ok(Servers {
            processes: Vec::new(),
            cluster,
            addresses,
            space,
            replicas,
            config,
            secret: None,
            program: program()?,
        })
    }

    /// Starts server `id` and waits until it serves.
    pub(crate) fn start_one(&mut self, scratch: &Scratch, id: u32) -> anyhow::Result<()> {
        self.start_process(scratch, &["server", "--id", &id.to_string()])
    }

    fn start_process(&mut self, scratch: &Scratch, words: &[&str]) -> anyhow::Result<()> {
        let process = Process::start_until_ready(scratch, "mcomp", &self.program, &self.args(words))?;
        self.processes.push(process);
        Ok(())
    }

    /// Runs a command of `mcomp` to its end, and gives its answer.
    pub(crate) fn command(&self, bench: &Bench, words: &[&str]) -> anyhow::Result<Value> {
        let args = self.args(&[words, &["--json"]].concat());
        let said = Process::run(&bench.scratch, "mcomp", &self.program, &args, || bench.check_asked())?;
        serde_json::from_str(&said).with_context(|| format!("`mcomp {}` answered {said:?}", words.join(" ")))
    }

    fn args(&self, words: &[&str]) -> Vec<String> {
        let config = ["--config".to_owned(), self.config.to_string_lossy().into_owned()];
        words.iter().map(|word| (*word).to_owned()).chain(config).collect()
    }

    /// A client that reaches them so, with one connection to each server per thread.
    pub(crate) fn client(&self, transport: Transport, threads: usize) -> anyhow::Result<Cluster> {
        let mut options = Options::new(self.cluster.as_str(), self.space, self.addresses.iter().map(String::as_str));
        options.replicas = self.replicas;
        options.max_connections = threads;
        options.unix = transport != Transport::Tcp;
        options.segment = transport == Transport::Segment;
        options.secret_file = self.secret.clone();
        Ok(Cluster::with_options(options)?)
    }

    /// The process of server `id`.
    pub(crate) fn pid(&self, id: usize) -> u32 {
        self.processes[id].pid()
    }

    /// The processes of all servers.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::pid).collect()
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
