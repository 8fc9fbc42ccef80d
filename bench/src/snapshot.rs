//! Snapshots of three servers full of noise, which no compressor makes smaller: a real cluster started
//! by `mcomp up`, saved and restored by `mcomp snapshot create` and `mcomp restore`, as a user does it.
//!
//! All files stand in one folder on the disk, and are removed as soon as they have been measured. What
//! was saved is read back from the page cache, by every system alike. It leaves out memory that
//! compresses well, and schedules.

mod incremental;
mod noise;
mod redis;
mod saver;
mod whole;
mod writers;

use std::time::Duration;

use anyhow::{Context, bail};
use mcomp_client::Cluster;
use mcomp_shm::BLOCK_BYTES;
use rustix::fs::FsWord;
use tempfile::TempDir;

use crate::bench::{Bench, free_bytes};
use crate::case::{Group, size_word};
use crate::mcomp;
use crate::measure::Sample;
use crate::peer::Transport;
use crate::placement::Placement;
use crate::result::{CaseResult, Row, Unit};
use crate::scratch::Scratch;
use crate::servers::Servers;
use noise::Noise;

pub(crate) use saver::COPY;

/// Servers of the cluster that is saved.
const SERVERS: u32 = 3;

/// After it no other round of a group begins, so that a slow disk does not take the whole run.
const PATIENCE: Duration = Duration::from_secs(30);

/// What of the folder's free bytes the memory may be: several files stand there at a time.
const SHARE_OF_DISK: u64 = 6;

/// Less memory than this says nothing.
const LEAST_BYTES: u64 = 16 << 20;

/// What statfs(2) says of a file system in memory.
const TMPFS_MAGIC: FsWord = 0x0102_1994;

/// A cluster, the bytes that fill it, and the folder of all files. The cluster ends first.
#[derive(Debug)]
struct Stage {
    servers: Servers,
    noise: Noise,
    folder: TempDir,
}

/// The cases of a group, and what measures them.
type Part = (&'static [&'static str], fn(&mut Bench, &Stage) -> anyhow::Result<()>);

/// Measures whole snapshots, incremental ones, and what writers notice of them. What fails is reported,
/// and does not take the rest of the run with it.
pub(crate) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let is_ours = bench.wants_system(mcomp::NAME);
    let wants = |ids: &[&str]| ids.iter().any(|id| bench.wants(id));
    let mut parts: Vec<Part> = Vec::new();
    if wants(&whole::IDS) {
        parts.push((&whole::IDS, whole::run));
    }
    let ours: [Part; 2] = [(&incremental::IDS, incremental::run), (&writers::IDS, writers::run)];
    parts.extend(ours.into_iter().filter(|(ids, _)| is_ours && wants(ids)));
    if parts.is_empty() {
        return Ok(());
    }
    match Stage::set(bench) {
        Ok(stage) => {
            for (ids, measure) in parts {
                let measured = measure(bench, &stage);
                bench.note_failure(ids[0], measured)?;
            }
            Ok(())
        }
        Err(error) => bench.note_failure("snapshots", Err(error)),
    }
}

impl Stage {
    /// Starts the cluster and fills it.
    fn set(bench: &mut Bench) -> anyhow::Result<Stage> {
        let folder = Scratch::disk_folder()?;
        fit_to_disk(bench, &folder)?;
        bench.cores.enter_server(Placement::Free)?;
        let k_bytes = bench.settings.saved_bytes / u64::from(SERVERS) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let noise = Noise::make(bench, k_bytes * u64::from(SERVERS))?;
        let servers = Servers::up(&bench.scratch, SERVERS, k_bytes, folder.path())?;
        bench.cores.enter_client(Placement::Free)?;
        let stage = Stage { servers, noise, folder };
        let cluster = stage.client()?;
        stage.noise.each_part(bench, |at, part| Ok(cluster.write_at(at, part)?))?;
        Ok(stage)
    }

    /// A client over TCP. A restore leaves those behind that were connected before.
    fn client(&self) -> anyhow::Result<Cluster> {
        self.servers.client(Transport::Tcp, 1)
    }

    /// Has a snapshot made, and waits for it.
    fn save(&self, bench: &Bench, is_incremental: bool) -> anyhow::Result<Saved> {
        let words = ["snapshot", "create", "--incremental"];
        let answer = self.servers.command(bench, if is_incremental { &words } else { &words[..2] })?;
        let count = |name: &str| {
            answer[name].as_u64().with_context(|| format!("`mcomp snapshot create` gave no {name}: {answer}"))
        };
        anyhow::ensure!(
            answer["full"] == !is_incremental,
            "the snapshot is not of the kind that was asked for: {answer}"
        );
        Ok(Saved {
            path: answer["path"].as_str().context("a snapshot has a path")?.to_owned(),
            file_bytes: count("file_bytes")?,
            hold_us: count("hold_us")?,
        })
    }
}

/// A snapshot that was made.
#[derive(Debug)]
struct Saved {
    path: String,
    file_bytes: u64,
    /// How long answers were held back for the cut.
    hold_us: u64,
}

impl Saved {
    /// Gives its bytes back to the disk.
    fn remove(self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path))
    }
}

/// Takes less memory where the disk is small, and says so where it is none.
fn fit_to_disk(bench: &mut Bench, folder: &TempDir) -> anyhow::Result<()> {
    let free = free_bytes(folder.path())?;
    let fitting = (free / SHARE_OF_DISK) >> 20 << 20;
    if fitting.min(bench.settings.saved_bytes) < LEAST_BYTES {
        bail!(
            "there is room for less than {} MiB of memory: {} MiB are free in the folder of the files, and TMPDIR \
             names another one",
            LEAST_BYTES >> 20,
            free >> 20
        );
    }
    if bench.settings.saved_bytes > fitting {
        bench.settings.saved_bytes = fitting;
        let (free, word) = (free >> 20, size_word(fitting as usize));
        bench
            .notes
            .push(format!("the disk has {free} MiB free: {word} of memory are saved; TMPDIR names another folder"));
    }
    let file_system = rustix::fs::statfs(folder.path()).context("cannot ask which file system the folder is on")?;
    if file_system.f_type == TMPFS_MAGIC {
        bench.notes.push("snapshots were written to memory (tmpfs): TMPDIR names a folder on a disk".to_owned());
    }
    Ok(())
}

/// A case whose systems were measured by hand.
fn result(group: Group, id: &str, title: String, unit: Unit, systems: &[(&str, &[f64])]) -> CaseResult {
    let rows = systems.iter().filter(|(_, values)| !values.is_empty()).map(|(name, values)| {
        let samples: Vec<Sample> = values.iter().map(|&value| Sample { value, ..Sample::default() }).collect();
        Row::of((*name).to_owned(), &samples)
    });
    let rows = rows.collect();
    CaseResult { group, id: id.to_owned(), title, placement: Placement::Free, unit, rows }
}
