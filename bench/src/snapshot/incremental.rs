//! Snapshots of what has changed, beside a full one of the same round: each builds on the one before.
//! What changed stands in runs of a MiB, or in single blocks far from each other.

use std::time::Instant;

use mcomp_client::Cluster;
use mcomp_shm::BLOCK_BYTES;

use super::noise::PART_BYTES;
use super::{PATIENCE, Saved, Stage, result};
use crate::bench::Bench;
use crate::case::Group;
use crate::result::Unit;

const TIME_ID: &str = "incremental/time";
const BYTES_ID: &str = "incremental/bytes";

/// The cases.
pub(super) const IDS: [&str; 2] = [TIME_ID, BYTES_ID];

/// The column that the others are compared with.
const FULL: &str = "full";

/// What is written before a snapshot; none at all before a full one.
const STEPS: [(&str, Option<Change>); 7] = [
    (FULL, None),
    ("nothing", Some(Change { percent: 0, run_blocks: RUN_BLOCKS })),
    ("1 %", Some(Change { percent: 1, run_blocks: RUN_BLOCKS })),
    ("10 %", Some(Change { percent: 10, run_blocks: RUN_BLOCKS })),
    ("100 %", Some(Change { percent: 100, run_blocks: RUN_BLOCKS })),
    ("1 %, single blocks", Some(Change { percent: 1, run_blocks: 1 })),
    ("10 %, single blocks", Some(Change { percent: 10, run_blocks: 1 })),
];

/// Blocks side by side that are written together: a MiB.
const RUN_BLOCKS: usize = PART_BYTES / BLOCK_BYTES;

/// So many of a hundred blocks, in runs, evenly over all memory. Blocks that stand alone are the hardest:
/// a snapshot has to say where each of them belongs.
#[derive(Clone, Copy, Debug)]
struct Change {
    percent: usize,
    run_blocks: usize,
}

/// Measures them in turn.
pub(super) fn run(bench: &mut Bench, stage: &Stage) -> anyhow::Result<()> {
    let cluster = stage.client()?;
    let (mut times_ms, mut sizes_mib) = ([const { Vec::new() }; STEPS.len()], [const { Vec::new() }; STEPS.len()]);
    bench.repeat("incremental/", PATIENCE, |bench| {
        let mut files = Vec::new();
        for (index, (_, change)) in STEPS.into_iter().enumerate() {
            if let Some(change) = change {
                change.make(bench, stage, &cluster)?;
            }
            let start = Instant::now();
            let saved = stage.save(bench, change.is_some())?;
            times_ms[index].push(start.elapsed().as_secs_f64() * 1e3);
            sizes_mib[index].push(saved.file_bytes as f64 / f64::from(1 << 20));
            files.push(saved);
        }
        files.into_iter().try_for_each(Saved::remove)
    })?;
    for (id, title, unit, values) in
        [(TIME_ID, "time", Unit::Milliseconds, &times_ms), (BYTES_ID, "size of the file", Unit::Mebibytes, &sizes_mib)]
    {
        let systems: Vec<_> = STEPS.iter().zip(values).map(|((name, _), values)| (*name, values.as_slice())).collect();
        let mut found = result(Group::Incremental, id, title.to_owned(), unit, &systems);
        found.compare(|_| Some(FULL.to_owned()));
        bench.keep(found);
    }
    Ok(())
}

impl Change {
    /// The blocks, by their addresses.
    fn addresses(self, bytes: u64) -> Vec<u64> {
        if self.percent == 0 {
            return Vec::new();
        }
        let run_bytes = self.run_blocks * BLOCK_BYTES;
        let runs = (0..bytes).step_by(run_bytes * (100 / self.percent));
        let blocks = runs.flat_map(|run| (run..run + run_bytes as u64).step_by(BLOCK_BYTES));
        blocks.filter(|block| *block < bytes).collect()
    }

    /// Writes other noise into them.
    fn make(self, bench: &Bench, stage: &Stage, cluster: &Cluster) -> anyhow::Result<()> {
        let mut part = vec![0; PART_BYTES];
        for (index, some) in self.addresses(stage.noise.bytes).chunks(RUN_BLOCKS).enumerate() {
            bench.check_asked()?;
            // Shifted by a little, so that no block gets what it has.
            let at = (index * PART_BYTES) as u64 % (stage.noise.bytes - PART_BYTES as u64 - 1) + 1;
            stage.noise.read(at, &mut part)?;
            let mut batch = cluster.batch();
            for (addr, block) in some.iter().zip(part.chunks(BLOCK_BYTES)) {
                batch.write(*addr, block);
            }
            for outcome in batch.run() {
                outcome?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_as_large_as_it_says() {
        let bytes = 400 * PART_BYTES;
        for (name, change) in STEPS {
            let Some(change) = change else { continue };
            let mut found = change.addresses(bytes as u64);
            assert_eq!(found.len() * BLOCK_BYTES * 100, change.percent * bytes, "{name}");
            found.dedup();
            assert!(found.is_sorted() && found.last().is_none_or(|last| *last < bytes as u64), "{name}");
            assert_eq!(found.len() * BLOCK_BYTES * 100, change.percent * bytes, "{name}: each once");
        }
    }
}
