//! `mcomp-bench`: mcomp measured beside the raw limits of this machine and its peers, in one run.
//!
//! All systems of a case are measured in turn, round after round, on the same cores, so that what
//! disturbs the machine disturbs all of them. Absolute figures of a shared machine are noise; ratios
//! inside one run are not. Peers are measured when they are on the PATH.
//!
//! It starts every server itself, on loopback addresses of its own, and ends and removes all of them,
//! also when it fails or is interrupted. It does not speak to other machines, and changes nothing that
//! it has not made; running clusters are not touched.

mod agree;
mod bench;
mod case;
mod etcd;
mod idle;
mod judge;
mod limits;
mod machine;
mod mcomp;
mod measure;
mod memcached;
mod memory;
mod peer;
mod placement;
mod process;
mod raw;
mod raw_server;
mod redis;
mod replicas;
mod report;
mod result;
mod scratch;
mod script;
mod servers;
mod snapshot;
mod socket;
mod sockets;
mod start;
mod stream;
mod table;
mod target;
mod usage;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::{Bench, Settings};
use clap::{Args, Parser, Subcommand};
use machine::Machine;
use report::Report;
use socket::Address;

/// Measures mcomp beside the raw limits of this machine and its peers
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  mcomp-bench peers
  mcomp-bench peers --quick --only trip/
  mcomp-bench peers --only trip/get-8B --system mcomp --rounds 1 --window-ms 20000   (for a profiler)"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure everything side by side
    Peers(PeersArgs),
    /// The raw limit as a server of its own
    #[command(hide = true)]
    RawServer {
        #[arg(long, value_name = "ADDRESS", value_parser = loopback_address)]
        tcp: Vec<SocketAddr>,
        #[arg(long, value_name = "NAME")]
        unix: Vec<String>,
        #[arg(long, value_name = "BYTES")]
        buffer_bytes: Option<usize>,
        /// Answers come from a memory of this size, and payloads go into it
        #[arg(long, value_name = "BYTES")]
        memory_bytes: Option<usize>,
    },
    /// Become a program that ends with its parent
    #[command(hide = true)]
    Tether {
        parent: u32,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// `mcomp-bench peers`.
#[derive(Args, Debug)]
struct PeersArgs {
    /// How often each system is measured in each case
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each time, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    window_ms: u64,
    /// A look in a minute or two: 3 rounds of 50 ms, and less memory
    #[arg(long, conflicts_with_all = ["rounds", "window_ms"])]
    quick: bool,
    /// Only cases whose name contains this, such as trip/get-8B
    #[arg(long, value_name = "CASE")]
    only: Option<String>,
    /// Only systems whose name contains this, and the raw ones
    #[arg(long, value_name = "SYSTEM")]
    system: Option<String>,
    /// Write everything to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace the part of this file between the marker lines, or make the file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl PeersArgs {
    fn settings(&self) -> Settings {
        let (rounds, window_ms) = if self.quick { (3, 50) } else { (self.rounds, self.window_ms) };
        Settings {
            rounds: rounds as usize,
            window: Duration::from_millis(window_ms),
            only: self.only.clone(),
            system: self.system.clone(),
            large_bytes: if self.quick { 256 << 20 } else { 1 << 30 },
            saved_bytes: if self.quick { 128 << 20 } else { 1 << 30 },
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Peers(args) => peers(&args),
        Command::RawServer { tcp, unix, buffer_bytes, memory_bytes } => {
            let addresses: Vec<Address> =
                tcp.into_iter().map(Address::Tcp).chain(unix.into_iter().map(Address::Abstract)).collect();
            raw_server::run(&addresses, buffer_bytes, memory_bytes).map(|()| ExitCode::SUCCESS)
        }
        Command::Tether { parent, program, args } => {
            process::tether(parent, &program, &args).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("mcomp-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn peers(args: &PeersArgs) -> anyhow::Result<ExitCode> {
    limits::raise_open_files();
    let mut bench = Bench::new(args.settings())?;
    let machine = Machine::found(bench.cores.count());
    // The client's memory is measured first, while this process is small.
    stream::run(&mut bench)?;
    sockets::run(&mut bench)?;
    memory::run(&mut bench)?;
    idle::run(&mut bench)?;
    start::run(&mut bench)?;
    snapshot::run(&mut bench)?;
    agree::run(&mut bench)?;
    replicas::run(&mut bench)?;
    if bench.results.is_empty() && bench.failures.is_empty() {
        let groups = case::Group::ALL.map(case::Group::word).join("/, ");
        anyhow::bail!(
            "no case contains {:?}: they begin with {groups}/, and a run prints their names",
            args.only.as_deref().unwrap_or("")
        );
    }
    let report = Report::new(machine, bench);
    // Whoever closes the pipe has seen enough; the files are still written.
    let _ = writeln!(std::io::stdout(), "{}", report.text());
    if let Some(path) = &args.markdown {
        report.write_markdown(path)?;
    }
    if let Some(path) = &args.json {
        report.write_json(path)?;
    }
    report.failures.iter().for_each(|failure| eprintln!("failed: {failure}"));
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The raw server checks nothing of what it is sent, so no other machine may reach it.
fn loopback_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error| format!("{error}: an address is 127.x.y.z:port"))?;
    if address.ip().is_loopback() { Ok(address) } else { Err(format!("{address} is not a loopback address")) }
}
