//! Redis and Valkey: BGSAVE of the same bytes as values of a MiB, and a start from that file.
//!
//! Compression is off, which is the best for noise, and large values are the best for both. A start is
//! measured from the new process until it answers; the one before was ended first.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::Stage;
use super::saver::Saver;
use crate::bench::Bench;
use crate::process::Process;
use crate::redis::resp;
use crate::socket::{Address, Socket};

/// Between two looks at whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A server that takes longer to read its file is given up.
const LOAD_PATIENCE: Duration = Duration::from_secs(120);

/// A server with the noise in it.
#[derive(Debug)]
pub(super) struct Redis {
    name: &'static str,
    program: PathBuf,
    address: SocketAddr,
    file: PathBuf,
    process: Option<Process>,
}

impl Redis {
    /// Starts one and fills it. `name` is what tables call it.
    pub(super) fn start(bench: &Bench, stage: &Stage, name: &'static str, program: &Path) -> anyhow::Result<Redis> {
        let file = stage.folder.path().join(format!("{}.rdb", name.to_lowercase()));
        let (program, address) = (program.to_owned(), bench.scratch.free_address()?);
        let mut redis = Redis { name, program, address, file, process: None };
        let mut link = redis.start_process(bench)?;
        stage.noise.each_part(bench, |at, part| {
            let answer = link.call(&[b"SET", format!("part:{at}").as_bytes(), part])?;
            ensure!(answer == "+OK", "{name} answered a SET with {answer:?}");
            Ok(())
        })?;
        Ok(redis)
    }

    /// Starts the process, which reads the file if there is one, and waits until it answers.
    fn start_process(&mut self, bench: &Bench) -> anyhow::Result<Link> {
        let text = |path: Option<&Path>| path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let args = [
            ("--bind", self.address.ip().to_string()),
            ("--port", self.address.port().to_string()),
            ("--save", String::new()),
            ("--appendonly", "no".to_owned()),
            ("--rdbcompression", "no".to_owned()),
            // It looks for the end of a BGSAVE that often in a second; by default every 100 ms.
            ("--hz", "100".to_owned()),
            ("--dir", text(self.file.parent())),
            ("--dbfilename", text(self.file.file_name().map(Path::new))),
        ];
        let args: Vec<String> = args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let process = self.process.insert(Process::start(&bench.scratch, self.name, &self.program, &args)?);
        let address = Address::Tcp(self.address);
        process.await_connection(&address)?;
        let mut link = Link { stream: BufReader::new(Socket::connect(&address, None)?) };
        let deadline = Instant::now() + LOAD_PATIENCE;
        loop {
            match link.call(&[b"PING"])?.as_str() {
                "+PONG" => return Ok(link),
                answer if answer.starts_with("-LOADING") && Instant::now() < deadline => {}
                answer => bail!("{} does not get ready; it answers {answer:?}", self.name),
            }
            bench.check_asked()?;
            thread::sleep(LOOK_EVERY);
        }
    }

    fn link(&self) -> anyhow::Result<Link> {
        Ok(Link { stream: BufReader::new(Socket::connect(&Address::Tcp(self.address), None)?) })
    }
}

impl Saver for Redis {
    fn name(&self) -> &str {
        self.name
    }

    fn save(&mut self, bench: &Bench, _: &Stage) -> anyhow::Result<Duration> {
        let mut link = self.link()?;
        let start = Instant::now();
        let answer = link.call(&[b"BGSAVE"])?;
        ensure!(answer.starts_with("+Background saving"), "{} answered BGSAVE with {answer:?}", self.name);
        loop {
            let info = link.call(&[b"INFO", b"persistence"])?;
            if info.contains("rdb_bgsave_in_progress:0") {
                let elapsed = start.elapsed();
                ensure!(info.contains("rdb_last_bgsave_status:ok"), "BGSAVE of {} failed: {info}", self.name);
                return Ok(elapsed);
            }
            bench.check_asked()?;
            thread::sleep(LOOK_EVERY);
        }
    }

    fn restore(&mut self, bench: &Bench, stage: &Stage) -> anyhow::Result<Duration> {
        self.process = None;
        let start = Instant::now();
        let mut link = self.start_process(bench)?;
        let elapsed = start.elapsed();
        let (found, wanted) = (link.call(&[b"DBSIZE"])?, format!(":{}", stage.noise.parts()));
        ensure!(found == wanted, "{} has {found} values after its start, and not {wanted}", self.name);
        std::fs::remove_file(&self.file).with_context(|| format!("cannot remove {}", self.file.display()))?;
        Ok(elapsed)
    }
}

/// A connection that is asked one thing at a time.
#[derive(Debug)]
struct Link {
    stream: BufReader<Socket>,
}

impl Link {
    /// The answer without its line end: a line, or what follows the line that counts it.
    fn call(&mut self, words: &[&[u8]]) -> anyhow::Result<String> {
        self.stream.get_mut().write_all(&resp(words))?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        let Some(count) = line.strip_prefix('$') else { return Ok(line.to_owned()) };
        let count: u64 = count.parse().with_context(|| format!("unexpected answer {line:?}"))?;
        let mut body = Vec::new();
        (&mut self.stream).take(count + 2).read_to_end(&mut body)?;
        Ok(String::from_utf8_lossy(&body).trim_end().to_owned())
    }
}
