//! All of the memory into a file and back: mcomp beside a plain copy, Redis and Valkey.

use std::time::Duration;

use super::redis::Redis;
use super::saver::{COPY, Mcomp, PlainCopy, Saver};
use super::{PATIENCE, Stage, result};
use crate::bench::Bench;
use crate::case::{Group, size_word};
use crate::mcomp;
use crate::process::on_path;
use crate::result::Unit;

const SAVE_ID: &str = "snapshot/save";
const RESTORE_ID: &str = "snapshot/restore";

/// The cases.
pub(super) const IDS: [&str; 2] = [SAVE_ID, RESTORE_ID];

/// A system, and what it took.
struct Measured {
    saver: Box<dyn Saver>,
    save_ms: Vec<f64>,
    restore_ms: Vec<f64>,
}

/// Measures every system in turn. One that fails is left out and reported.
pub(super) fn run(bench: &mut Bench, stage: &Stage) -> anyhow::Result<()> {
    let mut all = savers(bench, stage)?;
    bench.repeat("snapshot/", PATIENCE, |bench| {
        let mut failed = Vec::new();
        for measured in &mut all {
            bench.check_asked()?;
            if let Err(error) = measured.round(bench, stage) {
                failed.push((measured.saver.name().to_owned(), error));
            }
        }
        // What was interrupted has not failed.
        bench.check_asked()?;
        all.retain(|measured| !failed.iter().any(|(name, _)| name == measured.saver.name()));
        let tell = |(name, error): (String, anyhow::Error)| format!("snapshot/, {name}: {error:#}");
        bench.failures.extend(failed.into_iter().map(tell));
        Ok(())
    })?;
    let size = size_word(bench.settings.saved_bytes as usize);
    let mut add = |id: &str, title: String, took_ms: fn(&Measured) -> &[f64]| {
        let systems: Vec<_> = all.iter().map(|measured| (measured.saver.name(), took_ms(measured))).collect();
        let mut found = result(Group::Snapshot, id, title, Unit::Milliseconds, &systems);
        found.compare(|_| Some(COPY.to_owned()));
        bench.keep(found);
    };
    add(SAVE_ID, format!("save {size}"), |measured| &measured.save_ms);
    add(RESTORE_ID, format!("bring {size} back"), |measured| &measured.restore_ms);
    Ok(())
}

fn savers(bench: &mut Bench, stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let mut savers: Vec<Box<dyn Saver>> = vec![Box::new(PlainCopy::new(bench, stage))];
    if bench.wants_system(mcomp::NAME) {
        savers.push(Box::new(Mcomp::default()));
    }
    for (name, program) in [("Redis", "redis-server"), ("Valkey", "valkey-server")] {
        let Some(program) = on_path(program).filter(|_| bench.wants_system(name)) else { continue };
        match Redis::start(bench, stage, name, &program) {
            Ok(redis) => savers.push(Box::new(redis)),
            Err(error) => {
                bench.check_asked()?;
                bench.failures.push(format!("snapshot/, {name}: {error:#}"));
            }
        }
    }
    Ok(savers.into_iter().map(Measured::nothing_yet).collect())
}

impl Measured {
    fn nothing_yet(saver: Box<dyn Saver>) -> Measured {
        Measured { saver, save_ms: Vec::new(), restore_ms: Vec::new() }
    }

    fn round(&mut self, bench: &Bench, stage: &Stage) -> anyhow::Result<()> {
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        self.save_ms.push(ms(self.saver.save(bench, stage)?));
        self.restore_ms.push(ms(self.saver.restore(bench, stage)?));
        Ok(())
    }
}
