//! The machine and the systems that were measured, for the head of the report.

use std::process::Command;

use serde::Serialize;

use crate::process::on_path;
use crate::usage;

/// What a reader needs to judge the figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: u32,
    pub(crate) kernel: String,
    pub(crate) memory_bytes: u64,
    pub(crate) date: String,
    /// What else ran when the run began: the load average of the last minute.
    pub(crate) load: String,
    /// The command line, without the folder of the program.
    pub(crate) command: String,
    /// What each measured system calls itself.
    pub(crate) versions: Vec<String>,
}

impl Machine {
    /// This machine, now.
    pub(crate) fn found(cores: u32) -> Machine {
        let uname = rustix::system::uname();
        let (system, release) = (uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
        Machine {
            processor: processor().unwrap_or_else(|| "unknown".to_owned()),
            cores,
            kernel: format!("{system} {release}"),
            memory_bytes: usage::field("/proc/meminfo", "MemTotal:").unwrap_or(0),
            load: load().unwrap_or_else(|| "unknown".to_owned()),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            command: format!("mcomp-bench {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
            versions: versions(),
        }
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load() -> Option<String> {
    Some(std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.to_owned())
}

fn versions() -> Vec<String> {
    let own = format!("mcomp {}", env!("CARGO_PKG_VERSION"));
    let peers = ["redis-server", "valkey-server", "memcached", "etcd"].into_iter().map(|program| {
        let said = on_path(program).and_then(|program| Command::new(program).arg("--version").output().ok());
        let first = said.and_then(|said| Some(String::from_utf8_lossy(&said.stdout).lines().next()?.to_owned()));
        match first {
            // Redis goes on with its build.
            Some(line) => line.split(" sha=").next().unwrap_or(&line).to_owned(),
            None => format!("{program}: not installed"),
        }
    });
    std::iter::once(own).chain(peers).collect()
}
