//! How long a server takes until it serves, beside writing as many bytes into fresh memory: the start
//! touches all of k, so that no later write meets a page that is not there.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::bench::Bench;
use crate::case::{Group, size_word};
use crate::mcomp;
use crate::measure::Sample;
use crate::placement::Placement;
use crate::result::{CaseResult, Row, Unit};
use crate::servers::Servers;

/// The row that the start is compared with: new memory of the same kind, written once.
const FRESH_FILE: &str = "write to /dev/shm";

/// Takes so many bytes into use, and says how long that took.
type Measure = fn(&Bench, u64) -> anyhow::Result<Duration>;

/// Measures a large segment and one of a quarter, which shows whether the cost is linear in k.
pub(crate) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for (name, bytes) in [("whole", bench.settings.large_bytes), ("quarter", bench.settings.large_bytes / 4)] {
        let id = format!("start/{name}");
        if bench.wants(&id) {
            let result = run_case(bench, id, bytes >> 12 << 12)?;
            bench.results.push(result);
        }
    }
    Ok(())
}

fn run_case(bench: &mut Bench, id: String, k_bytes: u64) -> anyhow::Result<CaseResult> {
    bench.cores.enter_client(Placement::Free)?;
    let mut rows = Vec::new();
    let measures: [(&str, Measure); 3] = [("memset", memset), (FRESH_FILE, write_fresh), (mcomp::NAME, start_server)];
    let mut samples = [const { Vec::new() }; 3];
    eprintln!("{id}");
    for _ in 0..bench.settings.rounds {
        for ((_, measure), samples) in measures.iter().zip(&mut samples) {
            bench.check_asked()?;
            let value = measure(bench, k_bytes)?.as_secs_f64() * 1e3;
            samples.push(Sample { value, ..Sample::default() });
        }
    }
    for ((name, _), samples) in measures.iter().zip(&samples) {
        rows.push(Row::of((*name).to_owned(), samples));
    }
    let title = format!("k = {}", size_word(k_bytes as usize));
    let (group, placement, unit) = (Group::Start, Placement::Free, Unit::Milliseconds);
    let mut result = CaseResult { group, id, title, placement, unit, rows };
    result.compare(|_| Some(FRESH_FILE.to_owned()));
    Ok(result)
}

/// Private memory, which the kernel may give in huge pages.
fn memset(_: &Bench, bytes: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let memory = std::hint::black_box(vec![0xa5_u8; bytes as usize]);
    let elapsed = start.elapsed();
    drop(memory);
    Ok(elapsed)
}

/// A new file of shared memory, written a MiB at a time.
fn write_fresh(bench: &Bench, bytes: u64) -> anyhow::Result<Duration> {
    let path = format!("/dev/shm/{}", bench.scratch.unique("fresh"));
    let part = vec![0xa5_u8; 1 << 20];
    let start = Instant::now();
    let written = File::create_new(&path).and_then(|mut file| {
        // Unlinked at once: its memory goes when this process closes it or ends.
        fs::remove_file(&path)?;
        (0..bytes)
            .step_by(part.len())
            .try_for_each(|at| file.write_all(&part[..(bytes - at).min(part.len() as u64) as usize]))?;
        Ok(start.elapsed())
    });
    written.with_context(|| format!("cannot write {path}"))
}

fn start_server(bench: &Bench, k_bytes: u64) -> anyhow::Result<Duration> {
    let mut servers = Servers::prepare(&bench.scratch, 1, k_bytes)?;
    let start = Instant::now();
    servers.start_one(&bench.scratch, 0)?;
    Ok(start.elapsed())
}
