//! Bytes that no compressor makes smaller, in a file of shared memory: the same ones for every system.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use anyhow::Context;

use crate::bench::Bench;

/// What is read of them at a time.
pub(super) const PART_BYTES: usize = 1 << 20;

/// Makes the same bytes in every run: it is their number that matters.
const SEED: u64 = 0x6d63_6f6d_7062;

/// The bytes. Their file has no name any more: it goes when this process ends, however it ends.
#[derive(Debug)]
pub(super) struct Noise {
    file: File,
    pub(super) bytes: u64,
}

impl Noise {
    /// Makes so many.
    pub(super) fn make(bench: &Bench, bytes: u64) -> anyhow::Result<Noise> {
        let mut noise = Noise { file: unnamed(bench, "noise")?, bytes };
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut part = vec![0; PART_BYTES];
        for at in (0..bytes).step_by(PART_BYTES) {
            bench.check_asked()?;
            let part = &mut part[..(bytes - at).min(PART_BYTES as u64) as usize];
            random.fill(part);
            noise.file.write_all(part).context("cannot write noise to /dev/shm")?;
        }
        Ok(noise)
    }

    /// In how many parts they are given.
    pub(super) fn parts(&self) -> u64 {
        self.bytes.div_ceil(PART_BYTES as u64)
    }

    /// Fills `part` with the bytes at `at`.
    pub(super) fn read(&self, at: u64, part: &mut [u8]) -> anyhow::Result<()> {
        self.file.read_exact_at(part, at).context("cannot read noise from /dev/shm")
    }

    /// Gives all of them, a part at a time.
    pub(super) fn each_part(
        &self,
        bench: &Bench,
        mut take: impl FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut part = vec![0; PART_BYTES];
        for at in (0..self.bytes).step_by(PART_BYTES) {
            bench.check_asked()?;
            let part = &mut part[..(self.bytes - at).min(PART_BYTES as u64) as usize];
            self.read(at, part)?;
            take(at, part)?;
        }
        Ok(())
    }
}

/// A new file of shared memory that goes when it is closed.
pub(super) fn unnamed(bench: &Bench, what: &str) -> anyhow::Result<File> {
    let path = format!("/dev/shm/{}", bench.scratch.unique(what));
    let opened = File::options().read(true).write(true).create_new(true).open(&path);
    let file = opened.with_context(|| format!("cannot make {path}"))?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {path}"))?;
    Ok(file)
}
