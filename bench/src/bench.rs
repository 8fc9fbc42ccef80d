//! One run: its settings, its scratch folder, what it has found so far.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::measure::Sample;
use crate::peer::Peer;
use crate::placement::{Cores, Placement};
use crate::result::{CaseResult, Row};
use crate::scratch::Scratch;
use crate::{mcomp, memcached, process, raw, redis};

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How often each system is measured in each case.
    pub(crate) rounds: usize,
    /// How long each time.
    pub(crate) window: Duration,
    /// Only cases whose name contains this.
    pub(crate) only: Option<String>,
    /// Only systems whose name contains this, and the raw rows.
    pub(crate) system: Option<String>,
    /// Bytes of the large cases; less when /dev/shm has not four times as much free.
    pub(crate) large_bytes: u64,
    /// Bytes of memory that are saved, under the same condition.
    pub(crate) saved_bytes: u64,
}

/// A system's name, and how it is measured for so long.
pub(crate) type System<'a> = (String, Box<dyn FnMut(Duration) -> anyhow::Result<Sample> + 'a>);

/// One run.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) settings: Settings,
    pub(crate) scratch: Scratch,
    pub(crate) cores: Cores,
    pub(crate) results: Vec<CaseResult>,
    /// What was left out and why, for people.
    pub(crate) notes: Vec<String>,
    /// What should have been measured and was not.
    pub(crate) failures: Vec<String>,
    asked_to_stop: Arc<AtomicBool>,
}

impl Bench {
    /// Prepares a run. From now on SIGINT and SIGTERM end it between two windows.
    pub(crate) fn new(mut settings: Settings) -> anyhow::Result<Bench> {
        let asked_to_stop = Arc::<AtomicBool>::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&asked_to_stop)).context("cannot catch signals")?;
        }
        let mut notes = Vec::new();
        let free = free_bytes(Path::new("/dev/shm"))?;
        if settings.large_bytes > free / 4 {
            settings.large_bytes = (free / 4) >> 20 << 20;
            settings.saved_bytes = settings.saved_bytes.min(settings.large_bytes);
            notes.push(format!(
                "/dev/shm has {} MiB free: the large cases use {} MiB",
                free >> 20,
                settings.large_bytes >> 20
            ));
        }
        let (scratch, cores) = (Scratch::create()?, Cores::found()?);
        Ok(Bench { settings, scratch, cores, results: Vec::new(), notes, failures: Vec::new(), asked_to_stop })
    }

    /// An error when the run was asked to stop.
    pub(crate) fn check_asked(&self) -> anyhow::Result<()> {
        if self.asked_to_stop.load(Ordering::Relaxed) {
            bail!("interrupted: everything that was started has been ended");
        }
        Ok(())
    }

    /// What fails is reported, and does not take the rest of the run with it. An error only when the run was asked to
    /// stop.
    pub(crate) fn note_failure(&mut self, what: &str, measured: anyhow::Result<()>) -> anyhow::Result<()> {
        self.check_asked()?;
        if let Err(error) = measured {
            self.failures.push(format!("{what}: {error:#}"));
        }
        Ok(())
    }

    /// Whether a case is wanted.
    pub(crate) fn wants(&self, id: &str) -> bool {
        self.settings.only.as_ref().is_none_or(|only| id.contains(only.as_str()))
    }

    /// Keeps what was found, if that case is wanted: some cases can only be measured together.
    pub(crate) fn keep(&mut self, found: CaseResult) {
        if self.wants(&found.id) {
            self.results.push(found);
        }
    }

    /// Whether a system is wanted.
    pub(crate) fn wants_system(&self, label: &str) -> bool {
        let asked = self.settings.system.as_ref();
        asked.is_none_or(|system| label.to_lowercase().contains(&system.to_lowercase()) || label.starts_with(raw::NAME))
    }

    /// Measures all systems of one case in turn, round by round, after one short window each that
    /// does not count. A system that fails is left out and reported.
    pub(crate) fn interleave(&mut self, id: &str, systems: Vec<System<'_>>) -> anyhow::Result<Vec<Row>> {
        eprintln!("{id}");
        let window = self.settings.window;
        let mut measured: Vec<_> = systems.into_iter().map(|(name, measure)| (name, measure, Vec::new())).collect();
        for round in 0..=self.settings.rounds {
            let mut failed = Vec::new();
            for (name, measure, samples) in &mut measured {
                self.check_asked()?;
                // Round 0 warms caches, branch predictors and connections.
                match measure(if round == 0 { window / 4 } else { window }) {
                    Ok(sample) if round > 0 => samples.push(sample),
                    Ok(_) => {}
                    Err(error) => {
                        self.failures.push(format!("{id}, {name}: {error:#}"));
                        failed.push(name.clone());
                    }
                }
            }
            measured.retain(|(name, _, _)| !failed.contains(name));
        }
        Ok(measured.into_iter().map(|(name, _, samples)| Row::of(name, &samples)).collect())
    }

    /// Does a round as often as was asked for, at least once, and begins no other when they have taken
    /// longer than `patience` together.
    pub(crate) fn repeat(
        &mut self,
        id: &str,
        patience: Duration,
        mut round: impl FnMut(&mut Bench) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        eprintln!("{id}");
        let (start, wanted) = (Instant::now(), self.settings.rounds);
        for done in 0..wanted {
            if done > 0 && start.elapsed() > patience {
                self.notes.push(format!("{id}: {done} of {wanted} rounds, because they take long here"));
                break;
            }
            self.check_asked()?;
            round(self)?;
        }
        Ok(())
    }

    /// Starts every system that is there and wanted, where servers belong, and moves this thread to
    /// where clients belong.
    pub(crate) fn start_peers(&mut self, placement: Placement) -> anyhow::Result<Vec<Box<dyn Peer>>> {
        self.cores.enter_server(placement)?;
        let mut peers = raw::Raw::start(&self.scratch, raw::Buffers::System)?;
        peers.extend(raw::Raw::start(&self.scratch, raw::Buffers::Small)?);
        peers.extend(mcomp::Mcomp::start(&self.scratch)?);
        for (name, program) in [("Redis", "redis-server"), ("Valkey", "valkey-server")] {
            if let Some(program) =
                process::on_path(program).filter(|_| self.wants_system(&format!("{name} range TCP Unix")))
            {
                peers.extend(redis::Redis::start(&self.scratch, name, &program)?);
            }
        }
        if let Some(program) = process::on_path("memcached").filter(|_| self.wants_system("memcached TCP Unix")) {
            peers.extend(memcached::Memcached::start(&self.scratch, &program)?);
        }
        peers.retain(|peer| self.wants_system(&peer.label()));
        self.cores.enter_client(placement)?;
        Ok(peers)
    }
}

/// Bytes that the file system of `path` can still give.
pub(crate) fn free_bytes(path: &Path) -> anyhow::Result<u64> {
    let stat =
        rustix::fs::statvfs(path).with_context(|| format!("cannot ask {} for its free bytes", path.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}
