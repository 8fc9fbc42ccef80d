//! The systems that save a gigabyte and bring it back: mcomp, and a plain copy, which is what the disk
//! and the memory can do.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::noise::{PART_BYTES, unnamed};
use super::{Saved, Stage};
use crate::bench::Bench;
use crate::mcomp;

/// The name of the rows that snapshots are compared with.
pub(crate) const COPY: &str = "copy with fsync";

/// A system that was filled with the noise.
pub(super) trait Saver {
    /// The column of the table.
    fn name(&self) -> &str;

    /// Writes all of it into a new file, and says how long it took until the disk had it.
    fn save(&mut self, bench: &Bench, stage: &Stage) -> anyhow::Result<Duration>;

    /// Brings it back from that file, says how long that took, and removes the file.
    fn restore(&mut self, bench: &Bench, stage: &Stage) -> anyhow::Result<Duration>;
}

/// From shared memory into a new file, and back into new shared memory, a MiB at a time, as `dd` does.
#[derive(Debug)]
pub(super) struct PlainCopy {
    path: PathBuf,
}

impl PlainCopy {
    /// Nothing is there yet.
    pub(super) fn new(bench: &Bench, stage: &Stage) -> PlainCopy {
        PlainCopy { path: stage.folder.path().join(bench.scratch.unique("copy")) }
    }
}

impl Saver for PlainCopy {
    fn name(&self) -> &str {
        COPY
    }

    fn save(&mut self, bench: &Bench, stage: &Stage) -> anyhow::Result<Duration> {
        let context = || format!("cannot write {}", self.path.display());
        let start = Instant::now();
        let mut file = File::create_new(&self.path).with_context(context)?;
        stage.noise.each_part(bench, |_, part| file.write_all(part).with_context(context))?;
        file.sync_all().with_context(context)?;
        Ok(start.elapsed())
    }

    fn restore(&mut self, bench: &Bench, _: &Stage) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut file = File::open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        let mut memory = unnamed(bench, "copy")?;
        let mut part = vec![0; PART_BYTES];
        loop {
            bench.check_asked()?;
            let received = file.read(&mut part).with_context(|| format!("cannot read {}", self.path.display()))?;
            if received == 0 {
                break;
            }
            memory.write_all(&part[..received]).context("cannot write to /dev/shm")?;
        }
        let elapsed = start.elapsed();
        fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))?;
        Ok(elapsed)
    }
}

/// `mcomp snapshot create` and `mcomp restore`, from their start to their end.
#[derive(Debug, Default)]
pub(super) struct Mcomp {
    saved: Option<Saved>,
}

impl Saver for Mcomp {
    fn name(&self) -> &str {
        mcomp::NAME
    }

    fn save(&mut self, bench: &Bench, stage: &Stage) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.saved = Some(stage.save(bench, false)?);
        Ok(start.elapsed())
    }

    fn restore(&mut self, bench: &Bench, stage: &Stage) -> anyhow::Result<Duration> {
        let saved = self.saved.take().context("there is no snapshot to restore")?;
        let start = Instant::now();
        stage.servers.command(bench, &["restore", &saved.path])?;
        let elapsed = start.elapsed();
        saved.remove()?;
        // A figure of wrong bytes is worth nothing.
        let cluster = stage.client()?;
        let mut found = vec![0; PART_BYTES];
        stage.noise.each_part(bench, |at, part| {
            let found = &mut found[..part.len()];
            cluster.read_at(at, found)?;
            ensure!(found == part, "the restore brought other bytes back between {at} and {}", at + part.len() as u64);
            Ok(())
        })?;
        Ok(elapsed)
    }
}
